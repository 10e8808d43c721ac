import { describe, expect, test } from "vitest";
import { type Call, expectSameInNodeAndC } from "./both.ts";

const SAMPLES = {
  u8: [0, 1, 2, 7, 8, 127, 128, 200, 255],
  u16: [0, 1, 3, 16, 255, 256, 32767, 32768, 65535],
  u32: [0, 1, 5, 31, 32, 65536, 0x7fffffff, 0x80000000, 0xdeadbeef, 0xffffffff],
  u64: [0n, 1n, 7n, 63n, 64n, 0xffffffffn, 0x100000000n, 0x7fffffffffffffffn, 0x8000000000000000n, 0xfedcba9876543210n, 0xffffffffffffffffn],
  i8: [-128, -127, -3, -1, 0, 1, 5, 126, 127],
  i16: [-32768, -32767, -129, -1, 0, 1, 17, 32767],
  i32: [-0x80000000, -0x7fffffff, -65537, -1, 0, 1, 3, 33, 0x7fffffff],
  i64: [-(2n ** 63n), -(2n ** 63n) + 1n, -0x100000001n, -1n, 0n, 1n, 9n, 65n, 2n ** 63n - 1n],
} as const;
type Flavour = keyof typeof SAMPLES;
const FLAVOURS = Object.keys(SAMPLES) as Flavour[];
const OPERATORS = { add: "+", sub: "-", mul: "*", div: "/", rem: "%", and: "&", or: "|", xor: "^", shl: "<<", shr: ">>" };
const COMPARISONS = { eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">=" };

function pairs(names: string[], type: Flavour): Call[] {
  return names.flatMap((name) => SAMPLES[type].flatMap((a) => SAMPLES[type].map((b): Call => [name, a, b])));
}

describe("integers are the same in Node and in C", () => {
  test.each(FLAVOURS)("%s: every operator on every pair of edge values, with no undefined behaviour in C", (type) => {
    const functions = Object.entries(OPERATORS).map(([name, op]) => `export function ${name}(a: ${type}, b: ${type}): ${type} { return a ${op} b; }`);
    expectSameInNodeAndC(functions.join("\n"), pairs(Object.keys(OPERATORS), type), ["-O0", "-fsanitize=undefined", "-fno-sanitize-recover"]);
  });

  test.each(FLAVOURS)("%s: comparisons, unary operators, compound assignments", (type) => {
    const compared = Object.entries(COMPARISONS).map(([name, op]) => `export function ${name}(a: ${type}, b: ${type}): boolean { return a ${op} b; }`);
    const one = type.endsWith("64") ? "1n" : "1";
    const source = `${compared.join("\n")}
      export function neg(a: ${type}): ${type} { return -a; }
      export function not(a: ${type}): ${type} { return ~a; }
      export function compound(a: ${type}, b: ${type}): ${type} { let x = a; x += b; x *= b; x ^= a; x <<= ${one}; x -= ${one}; x >>= ${one}; x++; x |= b; x--; return x; }`;
    const unary = ["neg", "not"].flatMap((name) => SAMPLES[type].map((a): Call => [name, a]));
    expectSameInNodeAndC(source, [...pairs([...Object.keys(COMPARISONS), "compound"], type), ...unary]);
  });

  test.each(FLAVOURS)("%s: conversions to every other width, checked and wrapped", (from) => {
    const source = FLAVOURS.flatMap((to) => [
      `export function ${to}From(a: ${from}): ${to} { return ${to}(a); }`,
      `export function ${to}Wrap(a: ${from}): ${to} { return wrap${to.toUpperCase()}(a); }`,
    ]).join("\n");
    const calls = FLAVOURS.flatMap((to) => [`${to}From`, `${to}Wrap`].flatMap((name) => SAMPLES[from].map((a): Call => [name, a])));
    expectSameInNodeAndC(source, calls);
  });

  test("shift counts are taken modulo the width, whatever type they have", () => {
    const source = `
      export function by8(a: u32, n: u8): u32 { return a << n; }
      export function byI32(a: u32, n: i32): u32 { return a >> n; }
      export function wide(a: i64, n: u64): i64 { return a >> n; }
      export function narrow(a: u8, n: u32): u8 { return a << n; }`;
    expect(expectSameInNodeAndC(source, [
      ["by8", 1, 31], ["by8", 1, 33], ["byI32", 0x80000000, 35], ["byI32", 0x80000000, -1], ["wide", -16n, 66n], ["narrow", 3, 9],
    ])).toEqual(["2147483648", "2", "268435456", "1", "-4", "6"]);
  });

  test("division and remainder by zero trap with their place", () => {
    const source = "export function f(a: u32, b: u32): u32 { return a / b; }\nexport function g(a: i64, b: i64): i64 {\n  return a % b; }";
    expect(expectSameInNodeAndC(source, [["f", 1, 0], ["g", 1n, 0n], ["f", 7, 2]])).toEqual([
      "trap snippet.ts:1:49: division by zero", "trap snippet.ts:3:10: division by zero", "3",
    ]);
  });

  test("constants are exact until they meet a type", () => {
    const source = `
      const PAGE = 1 << 12;
      const MASK = ~(PAGE - 1);
      const TOP = 1n << 63n;
      const LOW: u64 = ~0xfffn;
      enum Bit { A = 1 << 31, B }
      export function mask(a: u32): u32 { return a & MASK; }
      export function mask64(a: u64): u64 { return a & LOW & ~TOP; }
      export function bits(): u32 { return Bit.B | 4; }
      export function narrow(a: u8): u8 { return a & ~0xf; }
      export function choice(c: boolean): u8 { return c ? 200 : PAGE >> 8; }
      export function flag(c: boolean): u64 { return u64(c) + 1n; }
      export function bit(n: u64): u64 { return 1n << n; }`;
    expect(expectSameInNodeAndC(source, [
      ["mask", 0x12345678], ["mask64", 0xffffffffffffffffn], ["bits"], ["narrow", 0xab], ["choice", true], ["choice", false], ["flag", true], ["bit", 40n],
    ])).toEqual([String(0x12345000), String(0x7ffffffffffff000n), String(0x80000005), "160", "200", "16", "2", String(1n << 40n)]);
  });
});
