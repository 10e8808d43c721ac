import { test } from "vitest";
import { type Call, expectSameInNodeAndC } from "./both.ts";

const TYPES = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"] as const;
type Flavour = (typeof TYPES)[number];

/** A small generator of random numbers with a seed, so that a failure can be repeated. */
class Random {
  constructor(private state: number) {}

  below(limit: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 2 ** 32) * limit);
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  value(type: Flavour): bigint {
    const bits = Number(type.slice(1));
    const raw = this.of([0n, 1n, -1n, 1n << BigInt(bits - 1), (1n << BigInt(bits - 1)) - 1n, BigInt(this.below(2 ** 32)) * BigInt(this.below(2 ** 32)), BigInt(this.below(100))]);
    return type.startsWith("u") ? BigInt.asUintN(bits, raw) : BigInt.asIntN(bits, raw);
  }
}

function literal(type: Flavour, value: bigint): string {
  return `${type}(${value}${type.endsWith("64") ? "n" : ""})`;
}

/** An expression of a type over the parameters a (of that type) and p0…p7 (of each type). */
function expression(random: Random, type: Flavour, depth: number): string {
  const inner = (of: Flavour): string => expression(random, of, depth - 1);
  if (depth === 0) return random.below(3) === 0 ? literal(type, random.value(type)) : `p${TYPES.indexOf(type)}`;
  switch (random.below(9)) {
    case 0: return `(${condition(random, depth - 1)} ? ${inner(type)} : ${inner(type)})`;
    case 1: return `wrap${type.toUpperCase()}(${inner(random.of(TYPES))})`;
    case 2: return `(${random.of(["-", "~"])}${inner(type)})`;
    case 3: return `(${inner(type)} ${random.of(["<<", ">>"])} ${count(random, type, depth)})`;
    case 4: return `(${inner(type)} ${random.of(["/", "%"])} (${inner(type)} | ${literal(type, 1n)}))`;
    default: return `(${inner(type)} ${random.of(["+", "-", "*", "&", "|", "^"])} ${inner(type)})`;
  }
}

/** A shift count of any type of the same JavaScript kind; not a constant, which the compiler would judge. */
function count(random: Random, type: Flavour, depth: number): string {
  const of = random.of(TYPES.filter((other) => other.endsWith("64") === type.endsWith("64")));
  return `(${expression(random, of, depth - 1)} ^ p${TYPES.indexOf(of)})`;
}

function condition(random: Random, depth: number): string {
  const type = random.of(TYPES);
  const side = (): string => expression(random, type, Math.max(0, depth - 1));
  const comparison = `${side()} ${random.of(["===", "!==", "<", "<=", ">", ">="])} ${side()}`;
  return depth > 1 && random.below(3) === 0 ? `(${comparison}) ${random.of(["&&", "||"])} !(${condition(random, depth - 1)})` : comparison;
}

/** FUZZ_SEEDS=100 tries a hundred programs instead of two. */
const SEEDS = Array.from({ length: Number(process.env.FUZZ_SEEDS ?? 2) }, (_, i) => i + 1);

test.each(SEEDS)("random expressions give the same in Node and in C, without undefined behaviour (seed %i)", (seed) => {
  const random = new Random(seed);
  const functions: string[] = [];
  const calls: Call[] = [];
  for (let i = 0; i < 50; i++) {
    const type = random.of(TYPES);
    const params = TYPES.map((one, index) => `p${index}: ${one}`).join(", ");
    const text = expression(random, type, 4);
    functions.push(`export function f${i}(${params}): ${type} { return ${text}; }`);
    for (let j = 0; j < 6; j++) {
      const args = TYPES.map((one) => (one.endsWith("64") ? random.value(one) : Number(random.value(one))));
      calls.push([`f${i}`, ...args]);
    }
  }
  expectSameInNodeAndC(functions.join("\n"), calls, ["-O0", "-fsanitize=undefined", "-fno-sanitize-recover"]);
}, 30_000);
