import { describe, expect, test } from "vitest";
import { type View, viewOf, loadModules } from "./vmm.ts";
import { Machine } from "./machine.ts";

const HOLDER = 0, TENANT = 1;
const NONE = 0, CALL = 1, YIELD = 2;
const TSC_KHZ = 2_000_000;
/** 8 ms and 100 µs of a 2 GHz clock. */
const PERIOD = 16_000_000n;
const LEAST = 200_000n;

/** A schedule in the machine's memory, and what the two on the processor do: run on, or sleep until a time. */
class Turns {
  readonly loaded = loadModules(new Machine([0]), ["instance/schedule.ts"]);
  readonly schedule = 0x2000_0000n;
  readonly view: View;
  now = 1_000_000n;
  turn = HOLDER;
  /** Ticks that each has had. */
  readonly had = [0n, 0n];

  constructor(weights = [1, 1]) {
    this.view = viewOf(this.loaded, "Schedule", this.schedule);
    this.loaded.call.resetSchedule!(this.schedule, this.now, TSC_KHZ);
    weights.forEach((weight, turn) => this.loaded.call.setWeight!(this.schedule, turn, weight));
  }

  account(turn: number): View {
    return viewOf(this.loaded, "Account", this.view.accounts + BigInt(turn * this.loaded.layout("Account").size));
  }

  decide(holder: boolean, tenant: boolean, call = NONE): number {
    this.turn = this.loaded.call.decide!(this.schedule, this.now, this.turn, holder, tenant, call);
    return this.turn;
  }

  pass(ticks: bigint): void {
    this.now += ticks;
    this.had[this.turn]! += ticks;
  }

  /** Both want the processor for so long. */
  contend(ticks: bigint): void {
    const end = this.now + ticks;
    this.decide(true, true);
    while (this.now < end) {
      this.pass(this.view.turnEnd - this.now);
      this.decide(true, true);
    }
  }
}

describe("turns", () => {
  test.each([[[1, 1]], [[3, 1]], [[1, 3]], [[7, 2]], [[100, 1]]])("are by the weights %j, within one per cent, and nobody waits longer than a round", (weights) => {
    const turns = new Turns(weights);
    turns.contend(1000n * PERIOD);
    const share = Number(turns.had[HOLDER]) / Number(turns.had[HOLDER]! + turns.had[TENANT]!);
    expect(share).toBeCloseTo(weights[0]! / (weights[0]! + weights[1]!), 2);
    for (const turn of [HOLDER, TENANT]) expect(turns.account(turn).worstWait).toBeLessThanOrEqual(PERIOD + LEAST);
    expect(turns.account(HOLDER).ran + turns.account(TENANT).ran).toBe(turns.had[HOLDER]! + turns.had[TENANT]!);
  });

  test("are by other weights from the moment that these are given", () => {
    const turns = new Turns();
    turns.contend(100n * PERIOD);
    turns.loaded.call.setWeight!(turns.schedule, TENANT, 4);
    turns.had.fill(0n);
    turns.contend(1000n * PERIOD);
    expect(Number(turns.had[TENANT]) / Number(turns.had[HOLDER])).toBeCloseTo(4, 1);
  });

  test("are the other's at once if one has nothing to do, and the holder's if nobody has", () => {
    const turns = new Turns();
    expect([turns.decide(false, true), turns.decide(true, false), turns.decide(false, false)]).toEqual([TENANT, HOLDER, HOLDER]);
  });

  test("pass to one that has slept as soon as it wakes, and it has saved up no more than half a round", () => {
    const turns = new Turns();
    turns.decide(true, false);
    turns.pass(1000n * PERIOD);
    expect(turns.decide(true, true)).toBe(TENANT);
    expect(turns.view.turnEnd - turns.now).toBeLessThanOrEqual(PERIOD / 2n);
    turns.pass(turns.view.turnEnd - turns.now);
    expect(turns.decide(true, true)).toBe(HOLDER);
  });

  test("are the holder's when its interrupt arrives, if only for a moment when it has had its share", () => {
    const turns = new Turns();
    turns.decide(true, true);
    turns.pass(PERIOD);
    expect(turns.decide(true, true)).toBe(TENANT);
    turns.pass(LEAST);
    expect(turns.decide(true, true, CALL)).toBe(HOLDER);
    expect(turns.view.turnEnd - turns.now).toBe(LEAST);
    turns.pass(LEAST);
    expect(turns.decide(true, true)).toBe(TENANT);
  });

  test("wake a holder that sleeps for its interrupt", () => {
    const turns = new Turns();
    turns.decide(false, true);
    turns.pass(PERIOD);
    expect([turns.decide(false, true), turns.decide(false, true, CALL)]).toEqual([TENANT, HOLDER]);
  });

  test("can be given away", () => {
    const turns = new Turns();
    turns.decide(true, true);
    turns.pass(LEAST);
    expect(turns.decide(true, true, YIELD)).toBe(TENANT);
  });

  test("interrupts at any rate take from the tenant no more than a moment each", () => {
    const turns = new Turns([1, 1]);
    turns.decide(true, true);
    for (let i = 0; i < 1000; i++) {
      turns.pass(PERIOD / 10n);
      if (turns.turn === TENANT) turns.decide(true, true, CALL);
      turns.pass(turns.view.turnEnd > turns.now ? turns.view.turnEnd - turns.now : 1n);
      turns.decide(true, true);
    }
    expect(Number(turns.had[TENANT]) / Number(turns.had[HOLDER]! + turns.had[TENANT]!)).toBeGreaterThan(0.4);
  });
});
