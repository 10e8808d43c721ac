/**
 * Random programs say the same in Node and in C, whoever compiles the C. `make fuzz-compiler N=50000` tries that many,
 * others each time; FUZZ_SEED chooses. A failing program is made small before it is shown.
 */
import fs from "node:fs";
import { describe, expect, test } from "vitest";
import { BATCH, batchOf, choicesOf, difference, smallest } from "./differential.ts";

const PROGRAMS = 1000;
/** Choices to a program, a sixth of what `make fuzz-compiler` allows: these run each time. */
const LONGEST = 50;
/** The same each time, so that a test that fails has something to do with a change; new programs are the fuzzer's. */
const SEED = Number(process.env.FUZZ_SEED ?? 5000);
const SEEDS = "test/compiler/fixtures/programs";
const minutes = 60_000;

describe("random programs", () => {
  test.each(Array.from({ length: PROGRAMS / BATCH }, (_, i) => SEED + i))(`${BATCH} say the same in Node and in C (FUZZ_SEED=%i)`, async (seed) => {
    const lists = choicesOf(seed, BATCH, LONGEST);
    const found = await difference(batchOf(lists));
    if (!found) return;
    const small = await smallest(lists);
    throw new Error(small ? `${small.what}\n${small.text}` : `${found}\n(no program of the batch alone)`);
  }, 5 * minutes);

  test.each(fs.existsSync(SEEDS) ? fs.readdirSync(SEEDS) : [])("that once differed: %s", async (name) => {
    expect(await difference(new Map([["m", fs.readFileSync(`${SEEDS}/${name}`, "utf8")]]))).toBeNull();
  });
});
