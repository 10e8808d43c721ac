/** Random wrong programs: the compiler refuses them or knows what they mean; it never fails itself, and is never silent. */
import fc from "fast-check";
import { emitC } from "../../compiler/emit-c/program.ts";
import { placeStatics } from "../../compiler/emit-js/frame.ts";
import { emitJs } from "../../compiler/emit-js/program.ts";
import { moduleOf } from "./differential.ts";
import { Choices } from "./generate/choices.ts";
import { WORLD } from "./generate/world.ts";
import { compileModules } from "./worlds.ts";

const choices = fc.array(fc.nat(0xffff), { minLength: 40, maxLength: 250, size: "max" });

/** What stands in no function, whatever is around it. */
export const WRONG = [
  "const bad: u8 = g_u32 + g_u32;", "g_u8 = 256;", "g_u32 = -1;", "g_u64 = 1;", "g_u32 += g_u8;", "if (g_u32) g_u32++;", "g_u32 = g_boolean;",
  "g_u32 = a_u32[8];", "g_u32 = a_u32[g_u64];", "g_u32 = a_u32;", "one = two;", "one.next = 5;", "one.nothing = 1;", "let bad = 5;", "var bad: u32 = 1;",
  "g_u32 = g_u32 << 32;", "g_u32 = g_u32 / 0;", "g_u32 = g_u32 === 1;", "TABLE[0] = 1;", "g_u32;", "follow;", "follow(one, two);", "follow(null);",
  "const bad = () => 1;", "throw one;", "for (let bad of a_u32) g_u32++;", "for (const bad of g_u32) g_u32++;", "g_u32 = g_u32 > 1 ? 1 : null;", "g_u32 = one.next.s;", "nothing();",
  "g_u32 = u32(1.5);", "g_i32 = wrapI32(one);", "one.kind = 5;", "one.kind = g_u32;", "switch (one.kind) { case Kind.A: break; }", "g_u32 = g_u32 + g_i32;",
  "if (g_u32 < g_i32) g_u32++;", "const bad: Outer = zeroed; g_u32++;", "return 'text';", "g_boolean = !g_u32;", "g_u32 = sizeOf<nothing>();",
  "const bad: Slice<u8> = sliceOf(a_u32);", "const bad: Slice<u32> = a_u32;", "g_u32 = sliceOf(a_u32, 1, 99)[0];", "g_u32 = sliceOf(a_u32)[g_u64];",
  "const bad: Status<u32> = { ok: false };", "const bad: Status<u32> = { ok: true }; g_u32 = bad.error;", "const bad: Status<u8> = { ok: false, error: g_u32 };",
  "const bad: Status<u8> = { ok: true }; bad.ok = false;", "g_u32 = { ok: true };", "const bad: Status<nothing> = { ok: true };", "sliceOf<u32>(a_u32);",
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

export function mutate(text: string, choose: Choices): string {
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

/** Compiles a text that may be wrong: the lines of the errors, and what the compiler did that it must not do, if anything. */
export function judge(text: string): { lines: number[]; what: string | null } {
  try {
    const { program, errors } = compileModules({ "world.ts": WORLD, "m.ts": text });
    if (errors.length === 0) {
      emitC(program);
      new Function("rt", emitJs(program, placeStatics(program.statics, 0x1000)));
    }
    return { lines: errors.map((error) => error.loc.source.position(error.loc.start).line), what: null };
  } catch (error) {
    return { lines: [], what: `the compiler failed: ${(error as Error).stack ?? String(error)}` };
  }
}

/** Two wrong programs of a seed: one changed at random, one with a wrong statement in it. What is wrong about how they were judged. */
export function misjudged(seed: number): { text: string; what: string } | null {
  const [list = [], changes = []] = fc.sample(choices, { numRuns: 2, seed });
  const choose = new Choices(changes);
  const right = moduleOf(list, "m");
  const changed = mutate(right, choose);
  const { what } = judge(changed);
  if (what) return { text: changed, what };
  const lines = right.split("\n");
  const within = lines.flatMap((line, i) => (/^  +g_\w+ = |^  +\w+\[.*\] = /.test(line) ? [i] : []));
  if (within.length === 0) return null;
  const at = choose.of(within);
  const wrong = choose.of(WRONG);
  const text = lines.with(at, `${lines[at]} { ${wrong} }`).join("\n");
  const found = judge(text);
  if (found.what) return { text, what: found.what };
  return found.lines.includes(at + 1) ? null : { text, what: `line ${at + 1}, ${wrong} is not reported` };
}
