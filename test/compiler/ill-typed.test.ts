/** Random wrong programs: the compiler refuses them or knows what they mean; it never fails itself, and is never silent. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emitC } from "../../compiler/emit-c/program.ts";
import { emitJs } from "../../compiler/emit-js/program.ts";
import { placeStatics } from "../../compiler/emit-js/frame.ts";
import { compileModules } from "./both.ts";
import { Choices, Program, WORLD } from "./generate.ts";

const COUNT = Number(process.env.FUZZ_PROGRAMS ?? 16);
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
const choices = fc.array(fc.nat(0xffff), { minLength: 100, maxLength: 300, size: "max" });

/** What stands in no function, whatever is around it. */
const WRONG = [
  "const bad: u8 = g_u32 + g_u32;", "g_u8 = 256;", "g_u32 = -1;", "g_u64 = 1;", "g_u32 += g_u8;", "if (g_u32) g_u32++;", "g_u32 = g_boolean;",
  "g_u32 = a_u32[8];", "g_u32 = a_u32[g_u64];", "g_u32 = a_u32;", "one = two;", "one.next = 5;", "one.nothing = 1;", "let bad = 5;", "var bad: u32 = 1;",
  "g_u32 = g_u32 << 32;", "g_u32 = g_u32 / 0;", "g_u32 = g_u32 === 1;", "TABLE[0] = 1;", "g_u32;", "follow;", "follow(one, two);", "follow(null);",
  "const bad = () => 1;", "throw one;", "for (const bad of a_u32) g_u32++;", "g_u32 = g_u32 > 1 ? 1 : null;", "g_u32 = one.next.s;", "nothing();",
  "g_u32 = u32(1.5);", "g_i32 = wrapI32(one);", "one.kind = 5;", "one.kind = g_u32;", "switch (one.kind) { case Kind.A: break; }", "g_u32 = g_u32 + g_i32;",
  "if (g_u32 < g_i32) g_u32++;", "const bad: Outer = zeroed; g_u32++;", "return 'text';", "g_boolean = !g_u32;", "g_u32 = sizeOf<nothing>();",
];

/** Changes of a text that keep it TypeScript often enough. */
const SWAPS: [RegExp, string[]][] = [
  [/\b[ui](8|16|32|64)\b/g, ["u8", "u16", "u32", "u64", "i8", "i32", "boolean", "string", "Outer", "Kind", "any", "number"]],
  [/[-+*&|^]|<<|>>|===|!==|<=|>=|&&|\|\|/g, ["+", "-", "*", "/", "%", "<<", ">>", "===", "<", "&&", "||", ",", "=", "**", ">>>", "??"]],
  [/\b\d+n?\b/g, ["0", "0n", "-1", "1.5", "300", "null", "0xffffffffffffffffffn", "'x'", "[1]", "{}"]],
  [/\b(one|two|tight|outers|matrix|TABLE|g_\w+|a_\w+|p\d|v\d+)\b/g, ["one", "two.next", "outers", "matrix[1]", "TABLE", "g_u32", "a_i64", "follow", "Kind", "Outer", "this", "u32"]],
  [/\b(if|while|return|const|let|break|continue|case|default)\b/g, ["if", "while", "return", "const", "let", "var", "break", "continue", "throw", "new", "typeof"]],
  [/[;(){}[\]]/g, ["", ";", "(", ")", "{", "}", "[0]"]],
];

function mutate(text: string, choose: Choices): string {
  let changed = text;
  for (let count = 1 + choose.below(2); count > 0; count--) {
    const [pattern, values] = choose.of(SWAPS);
    const places = [...changed.matchAll(pattern)];
    if (places.length === 0) continue;
    const { index, 0: found } = choose.of(places);
    changed = changed.slice(0, index) + choose.of(values) + changed.slice(index + found.length);
  }
  return changed;
}

function moduleOf(list: number[]): string {
  return new Program(new Choices(list), "m").toString();
}

describe(`random wrong programs (FUZZ_SEED=${SEED})`, () => {
  test(`${COUNT} mutated programs are refused, or printed by both back ends`, () => {
    const outcomes = { refused: 0, accepted: 0 };
    fc.assert(fc.property(choices, choices, (list, changes) => {
      const { program, errors } = compileModules({ "world.ts": WORLD, "m.ts": mutate(moduleOf(list), new Choices(changes)) });
      outcomes[errors.length > 0 ? "refused" : "accepted"]++;
      if (errors.length > 0) return;
      emitC(program);
      new Function("rt", emitJs(program, placeStatics(program.statics, 0x1000)));
    }), { numRuns: COUNT, seed: SEED });
    expect(outcomes.refused).toBeGreaterThan(0);
  }, Math.max(60_000, COUNT * 1000));

  test("a wrong statement is reported wherever it stands", () => {
    const lists = fc.sample(choices, { numRuns: Math.max(1, COUNT >> 3), seed: SEED });
    const places = new Choices(fc.sample(choices, { numRuns: 1, seed: SEED })[0]!);
    for (const list of lists) {
      const lines = moduleOf(list).split("\n");
      const within = lines.flatMap((line, i) => (/^  +g_\w+ = |^  +\w+\[.*\] = /.test(line) ? [i] : []));
      if (within.length === 0) continue;
      for (const wrong of [places.of(WRONG), places.of(WRONG)]) {
        const at = places.of(within);
        const text = lines.with(at, `${lines[at]} { ${wrong} }`).join("\n");
        const { errors } = compileModules({ "world.ts": WORLD, "m.ts": text });
        expect(errors.map((error) => error.loc.source.position(error.loc.start).line), `${wrong}\n${text}`).toContain(at + 1);
      }
    }
  }, Math.max(60_000, COUNT * 1000));
});

test("every wrong statement is reported", () => {
  const functions = WRONG.map((wrong, i) => `export function f${i}(): u32 { { ${wrong} } return 1; }`);
  const header = moduleOf([0]).split("\n").slice(0, 10);
  const { errors } = compileModules({ "world.ts": WORLD, "m.ts": [...header, ...functions].join("\n") });
  const reported = new Set(errors.map((error) => error.loc.source.position(error.loc.start).line - header.length - 1));
  expect(WRONG.filter((_, i) => !reported.has(i))).toEqual([]);
});
