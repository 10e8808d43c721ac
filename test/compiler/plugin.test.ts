import { beforeEach, describe, expect, test } from "vitest";
import { machine } from "../../compiler/emit-js/shared.ts";

/** Not a literal, since these files have other types than this one. */
const FIXTURES = "./fixtures/modules";
const load = (name: string): Promise<any> => import(`${FIXTURES}/${name}.ts`);

describe("a dialect module that a test imports", () => {
  beforeEach(() => machine.reset());

  test("wraps as on the machine, and shares its storage with the modules that import it", async () => {
    const [counter, { twice }] = await Promise.all([load("counter"), load("twice")]);
    expect([counter.add(250), counter.add(10), twice(1)]).toEqual([250, 4, 206]);
    expect(machine.memory.read(machine.program.addressOf("count"), 1)).toBe(6n);
  });

  test("has its constants and enumerations, and starts afresh after a reset", async () => {
    const { LIMIT, STEP, State, add } = await load("counter");
    expect([LIMIT, STEP, State]).toEqual([200, 1n << 40n, { IDLE: 0, BUSY: 5 }]);
    expect(add(1)).toBe(1);
  });

  test("reaches the hardware that the test supplies", async () => {
    const { stamp } = await load("counter");
    machine.externals.readClock = () => 7n;
    expect(stamp()).toBe((1n << 40n) + 7n);
  });

  test("by a way around the plugin is refused, since it would neither wrap nor trap", async () => {
    const stray: string = "./fixtures/stray/wraps.ts";
    await expect(import(stray)).rejects.toThrow(/fixtures\/stray\/wraps\.ts is a module of the dialect.*dialect\(\[.*"test\/compiler\/fixtures\/stray"\]\)/);
  });

  test("has to be one that Node refuses where there is no plugin", async () => {
    await expect(load("unguarded")).rejects.toThrow(/unguarded\.ts:2:17: error: Node would run this module .* \[US4015\]/);
  });

  test("that does not compile fails the import with what is wrong", async () => {
    await expect(load("wrong")).rejects.toThrow(/wrong\.ts:1:44: error: u8 where u32 is needed \[US2002\]/);
  });
});
