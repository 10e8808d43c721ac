/**
 * Random programs say the same in Node and in C, however the C is compiled. `make fuzz-compiler N=50000` tries that
 * many; FUZZ_SEED repeats a run. A failing program is made small before it is shown.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emitC } from "../../compiler/emit-c/program.ts";
import { reportAll } from "../../compiler/report.ts";
import { type Call, compileModules, runC, runNode } from "./both.ts";
import { Choices, Program, WORLD } from "./generate.ts";

const PROGRAMS = Number(process.env.FUZZ_PROGRAMS ?? 25);
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
/** Programs to one C file. */
const BATCH = 50;
const SANITIZERS = ["-O2", "-fsanitize=undefined,address", "-fno-sanitize=alignment", "-fno-sanitize-recover"];
const COMPILERS: [compiler: string, flags: string[]][] = [["gcc", ["-O0"]], ["gcc", SANITIZERS], ["clang", ["-O2"]]];
const INSTALLED = COMPILERS.filter(([compiler]) => spawnSync(compiler, ["--version"]).status === 0);
const SEEDS = "test/compiler/fixtures/programs";

const choices = (minLength: number): fc.Arbitrary<number[]> => fc.array(fc.nat(0xffff), { minLength, maxLength: 600, size: "max" });

function moduleOf(list: number[], id: string): string {
  return new Program(new Choices(list), id).toString();
}

/** Calls with all kinds of arguments, each followed by a look at all storage. */
function callsOf(id: string): Call[] {
  const runs: Call[] = [[`${id}run`, 5, 3n, -1], [`${id}run`, 0xffffffff, 0x8000000000000000n, -2147483648], [`${id}run`, 7, 1n << 33n, 100]];
  return runs.flatMap((call): Call[] => [call, [`${id}hash`]]);
}

/** Of two checks that fail in one statement either may be the one that traps. */
function lineOnly(said: string): string {
  return said.replace(/^trap (\S+?:\d+):.*/s, "trap $1");
}

/** How two worlds differ on these programs, or null. */
function difference(programs: Map<string, string>): string | null {
  const { program, errors } = compileModules({ "world.ts": WORLD, ...Object.fromEntries([...programs].map(([id, text]) => [`${id}.ts`, text])) });
  if (errors.length > 0) return reportAll(errors);
  const calls = [...programs.keys()].flatMap(callsOf);
  const inNode = runNode(program, calls).map(lineOnly);
  const code = emitC(program);
  for (const [compiler, flags] of INSTALLED) {
    const inC = attempt(() => runC(code, program, calls, flags, compiler).map(lineOnly));
    if (typeof inC === "string") return `${compiler} ${flags.join(" ")}: ${inC}`;
    const at = inNode.findIndex((said, i) => said !== inC[i]);
    if (at >= 0) return `${compiler} ${flags.join(" ")}: ${calls[at]!.join(" ")} gives ${inC[at]}, in Node ${inNode[at]}`;
  }
  return null;
}

function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    return (error as Error).message.slice(0, 2000);
  }
}

describe("random programs", () => {
  test(`${PROGRAMS} say the same in Node and in C (FUZZ_SEED=${SEED})`, () => {
    const lists = fc.sample(choices(300), { numRuns: PROGRAMS, seed: SEED });
    for (let start = 0; start < lists.length; start += BATCH) {
      const batch = lists.slice(start, start + BATCH);
      const programs = new Map(batch.map((list, i) => [`m${i}`, moduleOf(list, `m${i}`)]));
      const found = difference(programs);
      if (found) throw new Error(`programs ${start} to ${start + batch.length - 1}: ${found}\n${smallest(batch)}`);
    }
  }, Math.max(60_000, PROGRAMS * 1000));

  test.each(fs.existsSync(SEEDS) ? fs.readdirSync(SEEDS) : [])("that once differed: %s", (name) => {
    const text = fs.readFileSync(`${SEEDS}/${name}`, "utf8");
    expect(difference(new Map([["m", text]]))).toBeNull();
  });
});

/** The program of a batch that differs, as small as fast-check can make it. */
function smallest(batch: number[][]): string {
  const fails = (list: number[]): string | null => difference(new Map([["m", moduleOf(list, "m")]]));
  const culprit = batch.find(fails);
  if (!culprit) return "(none of them alone)";
  const run = fc.check(fc.property(choices(1), (list) => fails(list) === null), { examples: [[culprit]], numRuns: 1, interruptAfterTimeLimit: 120_000 });
  const list = run.counterexample?.[0] ?? culprit;
  return `${fails(list)}\n${moduleOf(list, "m")}`;
}
