import { describe, expect, test } from "vitest";
import { compileSource, expectSameInNodeAndC } from "./both.ts";
import { emitC } from "../../compiler/emit-c/program.ts";

describe("bit fields", () => {
  const ENTRY = `
      enum Memory { UNCACHED, WRITE_BACK = 6 }
      /** Page-table entry (SDM Vol. 3A, table 5-20). */
      class Entry extends BitField<u64> { present: Bit<0>; writable: Bit<1>; memory: BitRange<5, 3, u8>; frame: BitRange<51, 12, u64>; noExecute: Bit<63>; }
      class Status extends BitField<u8> { ready: Bit<7>; code: BitRange<6, 4, u8>; low: BitRange<3, 0, u8>; }
      class Pair extends Struct { entry: Entry; status: Status; reserved: FixedArray<u8, 7>; }
      assertLayout<Pair>(16, { status: 8 });
      const pair: Pair = zeroed();
      const table: FixedArray<Entry, 4> = zeroed();`;

  test("are read and written by name, the others stay", () => {
    const source = `${ENTRY}
      export function set(i: u32, frame: u64, memory: u8): u64 {
        const e = table[i];
        e.bits = 0xffff000000000004n;
        e.present = true;
        e.frame = frame;
        e.memory = memory;
        e.noExecute = !e.writable && e.frame === 5n;
        e.memory += 1;
        e.frame++;
        return e.bits;
      }
      export function read(bits: u64): u64 {
        pair.entry.bits = bits;
        return (pair.entry.present ? 1n : 0n) + pair.entry.frame * 2n + u64(pair.entry.memory) * 3n + (pair.entry.noExecute ? 7n : 0n);
      }
      function change(): u8 { pair.status.low = 9; return 5; }
      export function small(code: u8): u32 {
        pair.status.bits = 0x21;
        pair.status.ready = pair.status.code === 2;
        pair.status.code = change();
        pair.status.low |= code;
        return u32(pair.status.bits);
      }`;
    expect(expectSameInNodeAndC(source, [
      ["set", 1, 5n, 3], ["set", 1, 4n, 3], ["set", 1, 1n << 40n, 3], ["set", 1, 1n, 8], ["set", 1, 1n, 7], ["set", 1, (1n << 40n) - 1n, 1],
      ["read", 0xfffffffffffff001n], ["read", 0x8000000000005018n], ["small", 2], ["small", 16],
    ])).toEqual([
      (0x7fff000000000000n & ~0x000ffffffffff000n | 0xfff0000000000000n | 6n << 12n | 4n << 3n | 5n).toString(),
      (0x7ff0000000000000n | 5n << 12n | 4n << 3n | 5n).toString(),
      "trap snippet.ts:14:9: value outside 40 bits", "trap snippet.ts:15:9: value outside 3 bits", "trap snippet.ts:17:9: value outside 3 bits", "trap snippet.ts:18:9: value outside 40 bits",
      String(1n + 0xfffffffffffn % (1n << 40n) * 0n + ((1n << 40n) - 1n) * 2n + 7n), String(5n * 2n + 9n + 7n), String(0x80 | 5 << 4 | 11), "trap snippet.ts:30:9: value outside 4 bits",
    ]);
  });

  test("are shifts and masks in C", () => {
    const { program } = compileSource(`${ENTRY}
      export function f(e: Entry, on: boolean): u64 { e.writable = on; e.present = true; e.noExecute = false; return e.frame; }`);
    expect(emitC(program)).toContain("e->bits = (e->bits & 0xfffffffffffffffdul) | ((uint64_t)on << 1ul); e->bits = (e->bits & 0xfffffffffffffffeul) | 1ul;");
  });
});

test("methods: functions with the struct before the other arguments", () => {
  const source = `
      class Ring extends Struct {
        head: u32;
        tail: u32;
        slots: FixedArray<u32, 4>;
        size(): u32 { return this.head - this.tail; }
        push(value: u32): boolean {
          if (this.size() === this.slots.length) return false;
          this.slots[this.head & 3] = value;
          this.head++;
          return true;
        }
        pop(): u32 { assert(this.size() > 0); const value = this.slots[this.tail & 3]; this.tail++; return value; }
        self(): Ring { return this; }
      }
      class Flags extends BitField<u8> { on: Bit<0>; level: BitRange<7, 4, u8>; raise(by: u8): u8 { this.on = true; this.level += by; return this.bits; } }
      const ring: Ring = zeroed();
      const rings: FixedArray<Ring, 2> = zeroed();
      function size(): u32 { return 1; }
      export function push(value: u32): boolean { rings[1].push(value); return ring.self().push(value); }
      export function pop(): u32 { return ring.pop() * 10 + rings[1].size() + size(); }
      export function flags(by: u8): u8 { const f: Flags = zeroed(); f.level = 3; return f.raise(by); }`;
  expect(expectSameInNodeAndC(source, [["pop"], ["push", 5], ["push", 6], ["pop"], ["push", 7], ["push", 8], ["push", 9], ["push", 10], ["flags", 4], ["flags", 13]])).toEqual([
    "trap snippet.ts:13:22: assertion failed: this.size() > 0", "true", "true", "53", "true", "true", "true", "false", String(0x71), "trap snippet.ts:16:117: value outside 4 bits",
  ]);
});

test("unions: every field at the start", () => {
  const source = `
      class Halves extends Struct { low: u32; high: u32; }
      class Word extends Union { wide: u64; halves: Halves; bytes: FixedArray<u8, 8>; flag: boolean; }
      assertLayout<Word>(8, { wide: 0, halves: 0, bytes: 0 });
      const word: Word = zeroed();
      export function f(x: u64): u32 { word.wide = x; word.bytes[1] = 0xaa; return word.halves.low ^ word.halves.high; }
      export function g(): boolean { return word.flag; }`;
  expect(expectSameInNodeAndC(source, [["f", 0x1122334455667788n], ["g"]])).toEqual([String(0x5566aa88 ^ 0x11223344), "true"]);
});

test("checked arithmetic traps where the operators wrap", () => {
  const types = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];
  const source = types.map((type) => ["Add", "Sub", "Mul"].map((name) => `export function ${type}${name}(a: ${type}, b: ${type}): ${type} { return checked${name}(a, b); }`).join("\n")).join("\n");
  const calls = types.flatMap((type) => {
    const bits = Number(type.slice(1));
    const [min, max] = type.startsWith("u") ? [0n, (1n << BigInt(bits)) - 1n] : [-(1n << BigInt(bits - 1)), (1n << BigInt(bits - 1)) - 1n];
    const values = [min, max, 0n, 1n, max / 2n, max / 2n + 1n, min < 0n ? -1n : 3n];
    const as = (value: bigint) => (bits === 64 ? value : Number(value));
    return ["Add", "Sub", "Mul"].flatMap((name) => values.flatMap((a) => values.map((b): [string, number | bigint, number | bigint] => [`${type}${name}`, as(a), as(b)])));
  });
  const said = expectSameInNodeAndC(source, calls, ["-O1", "-fsanitize=undefined"]);
  calls.forEach(([name, a, b], i) => {
    const type = /^(.\d+)(...)$/.exec(name)!;
    const exact = { Add: BigInt(a) + BigInt(b), Sub: BigInt(a) - BigInt(b), Mul: BigInt(a) * BigInt(b) }[type[2] as "Add"];
    const fits = (type[1]!.startsWith("u") ? BigInt.asUintN : BigInt.asIntN)(Number(type[1]!.slice(1)), exact) === exact;
    if (fits) expect(said[i], `${name} ${a} ${b}`).toBe(String(exact));
    else expect(said[i], `${name} ${a} ${b}`).toContain(`overflow of ${type[1]}`);
  });
});

test("a result that must be used: compared, or ignored by name", () => {
  const source = `
      /** @mustUse */
      enum Result { OK, FULL }
      let used: u32 = 0;
      function take(n: u32): Result { if (used + n > 3) return Result.FULL; used += n; return Result.OK; }
      export function f(n: u32): u32 { if (take(n) !== Result.OK) return 100; ignore(take(1)); return used; }`;
  expect(expectSameInNodeAndC(source, [["f", 1], ["f", 5], ["f", 1]])).toEqual(["2", "100", "3"]);
});
