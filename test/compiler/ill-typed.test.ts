/** Random wrong programs are refused where they are wrong; `make fuzz-compiler` tries more of them. */
import { describe, expect, test } from "vitest";
import { moduleOf } from "./differential.ts";
import { WORLD } from "./generate/world.ts";
import { WRONG, misjudged } from "./wrong.ts";
import { compileModules } from "./worlds.ts";

const COUNT = 100;
/** The same each time; others are the fuzzer's. */
const SEED = Number(process.env.FUZZ_SEED ?? 9000);

describe("wrong programs", () => {
  test(`${COUNT} random ones never bring the compiler down, and are reported where they are wrong (FUZZ_SEED=${SEED})`, () => {
    for (let i = 0; i < COUNT; i++) {
      const found = misjudged(SEED + i);
      if (found) throw new Error(`FUZZ_SEED=${SEED + i}: ${found.what}\n${found.text}`);
    }
  });

  test("every wrong statement is reported", () => {
    const functions = WRONG.map((wrong, i) => `export function f${i}(): u32 { { ${wrong} } return 1; }`);
    const header = moduleOf([0], "m").split("\n").slice(0, 10);
    const { errors } = compileModules({ "world.ts": WORLD, "m.ts": [...header, ...functions].join("\n") });
    const reported = new Set(errors.map((error) => error.loc.source.position(error.loc.start).line - header.length - 1));
    expect(WRONG.filter((_, i) => !reported.has(i))).toEqual([]);
  });
});
