/** What a random program is made from: a list of numbers, one for each choice, and the types of its values by name. */

export const INTS = ["u32", "u64", "u8", "u16", "i8", "i16", "i32", "i64"] as const;
export type Int = (typeof INTS)[number];

/** A type as it is written: "u32", "boolean", "Kind", "Slice<u8>", "Outer | null", or a record's name. */
export type TypeName = string;

/** Elements of the arrays that all programs have. */
export const LENGTH = 8;

/** 0 is the simplest choice, and a list that has ended goes on with it, so that fast-check can make a failing program small. */
export class Choices {
  private next = 0;
  constructor(private readonly list: readonly number[]) {}

  below(limit: number): number {
    return (this.list[this.next++] ?? 0) % limit;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** True once in `n`. */
  rarely(n: number): boolean {
    return this.below(n) === n - 1;
  }
}

export function isInt(type: TypeName): type is Int {
  return (INTS as readonly string[]).includes(type);
}

/** Whether values are bigints. */
export function wide(type: Int): boolean {
  return type.endsWith("64");
}

/** What a Slice has elements of, or null. */
export function elementOf(type: TypeName): TypeName | null {
  return /^Slice<(.*)>$/.exec(type)?.[1] ?? null;
}

/** A constant of the type; the choice picks small ones, limits and patterns. */
export function literal(type: Int, choice: number): string {
  const bits = BigInt(type.slice(1));
  const patterns = [0n, 1n, -1n, 1n << (bits - 1n), (1n << (bits - 1n)) - 1n, 0x5555555555555555n];
  const raw = choice < 256 ? BigInt(choice) : patterns[choice % patterns.length]! + BigInt(choice & 7);
  const value = type.startsWith("u") ? BigInt.asUintN(Number(bits), raw) : BigInt.asIntN(Number(bits), raw);
  return `${type}(${value}${wide(type) ? "n" : ""})`;
}

export function indented(lines: readonly string[]): string[] {
  return lines.map((line) => line.split("\n").map((one) => `  ${one}`).join("\n"));
}
