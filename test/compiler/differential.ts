/**
 * Random programs (generate.ts), run in Node and in C as several compilers make it: what each says has to be the same.
 * Programs come in batches, many to one C file, and each batch has a seed of its own, so that it can be repeated alone.
 */
import fc from "fast-check";
import { emitC } from "../../compiler/emit-c/program.ts";
import type { Program as Compiled } from "../../compiler/ir.ts";
import { reportAll } from "../../compiler/report.ts";
import { Choices } from "./generate/choices.ts";
import { Program } from "./generate/program.ts";
import { WORLD } from "./generate/world.ts";
import { ALL_C, CATCH_TRAPS, type CWorld, type Call, compileModules, runC, runNode } from "./worlds.ts";

/** Programs to one C file. */
export const BATCH = 100;
/** How long a failing program may be made smaller. */
const SHRINK_MS = 60_000;

/** Arguments that each program is run with, and after each run a look at all storage. */
const ARGUMENTS: [a: number, b: bigint, c: number][] = [
  [5, 3n, -1], [0xffffffff, 0x8000000000000000n, -0x80000000], [7, 1n << 33n, 100], [0, 0n, 0], [12345, 0xffffffffffffffffn, 0x7fffffff],
];

/** Programs by name. */
export type Batch = Map<string, string>;

const LONGEST = 300;
const choices = (minLength: number, maxLength = LONGEST): fc.Arbitrary<number[]> => fc.array(fc.nat(0xffff), { minLength, maxLength, size: "max" });

export function moduleOf(list: number[], id: string): string {
  return new Program(new Choices(list), id).toString();
}

/** The choices that a seed stands for: those of `count` programs, each of so many at most, and of a fifth of that at least. */
export function choicesOf(seed: number, count: number, longest = LONGEST): number[][] {
  return fc.sample(choices(longest / 5, longest), { numRuns: count, seed });
}

export function batchOf(lists: number[][]): Batch {
  return new Map(lists.map((list, i) => [`m${i}`, moduleOf(list, `m${i}`)]));
}

/** How two worlds differ on these programs, or null. The C compilers work side by side, and beside the caller until it awaits. */
export async function difference(programs: Batch, worlds: CWorld[] = ALL_C): Promise<string | null> {
  const { program, errors } = compileModules({ "world.ts": WORLD, ...Object.fromEntries([...programs].map(([id, text]) => [`${id}.ts`, text])) });
  if (errors.length > 0) return reportAll(errors);
  const ids = [...programs.keys()];
  const code = `${emitC(program)}\n${main(program, ids)}`;
  const inC = worlds.map((world) => runC(code, world).then((said) => said.map(lineOnly), (error: Error) => error));
  const calls = ids.flatMap(callsOf);
  const inNode = runNode(program, calls).map(lineOnly);
  for (const [i, said] of (await Promise.all(inC)).entries()) {
    if (said instanceof Error) return said.message.slice(0, 2000);
    const at = inNode.findIndex((one, n) => one !== said[n]);
    const { compiler, flags } = worlds[i]!;
    if (at >= 0) return `${compiler} ${flags.join(" ")}: ${calls[at]!.join(" ")} gives ${said[at]}, in Node ${inNode[at]}`;
  }
  return null;
}

/** The first program of a batch that differs alone, as small as fast-check can make it, with what is wrong. */
export async function smallest(lists: number[][]): Promise<{ text: string; what: string } | null> {
  const fails = (list: number[]): Promise<string | null> => difference(new Map([["m", moduleOf(list, "m")]]));
  const culprit = await firstOf(lists);
  if (culprit && (await fails(culprit))) {
    const holds = fc.asyncProperty(choices(1), async (list) => (await fails(list)) === null);
    const run = await fc.check(holds, { examples: [[culprit]], numRuns: 1, interruptAfterTimeLimit: SHRINK_MS });
    const list = run.counterexample?.[0] ?? culprit;
    return { text: moduleOf(list, "m"), what: (await fails(list))! };
  }
  return null;
}

/** The first of the programs, which differ together, that differs by itself; found by halves. */
async function firstOf(lists: number[][]): Promise<number[] | null> {
  if (lists.length <= 1) return lists[0] ?? null;
  const half = lists.slice(0, lists.length >> 1);
  return firstOf((await difference(batchOf(half))) ? half : lists.slice(half.length));
}

function callsOf(id: string): Call[] {
  return ARGUMENTS.flatMap((list): Call[] => [[`${id}run`, ...list], [`${id}hash`]]);
}

/** Of two checks that fail in one statement either may be the one that traps. */
function lineOnly(said: string): string {
  return said.replace(/^trap (\S+?:\d+):.*/s, "trap $1");
}

/** Makes the calls of `callsOf` from a table: all programs look alike, which C compilers take fast. */
function main(program: Compiled, ids: string[]): string {
  const cName = (name: string): string => program.funcs.find((func) => func.name === name)!.cName;
  return `${CATCH_TRAPS}
static const struct { uint64_t (*run)(uint32_t, uint64_t, int32_t); uint64_t (*hash)(void); } programs[] = {
${ids.map((id) => `  {${cName(`${id}run`)}, ${cName(`${id}hash`)}},`).join("\n")}
};
static const struct { uint32_t a; uint64_t b; int32_t c; } lists[] = {
${ARGUMENTS.map(([a, b, c]) => `  {${a}u, ${b}u, (int32_t)(${c}l)},`).join("\n")}
};
int main(void) {
  static unsigned i, j;
  for (i = 0; i < ${ids.length}; i++) {
    for (j = 0; j < ${ARGUMENTS.length}; j++) {
      if (setjmp(escape) == 0) printf("%llu", (unsigned long long)programs[i].run(lists[j].a, lists[j].b, lists[j].c));
      putchar(0);
      if (setjmp(escape) == 0) printf("%llu", (unsigned long long)programs[i].hash());
      putchar(0);
    }
  }
  return 0;
}
`;
}
