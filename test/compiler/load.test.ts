import { describe, expect, test } from "vitest";
import { DialectTrap, Memory, loadSource } from "../../compiler/emit-js/load.ts";

describe("dialect programs in Node", () => {
  test("externals get and give checked values; strings are strings, references addresses", () => {
    const seen: unknown[] = [];
    const { call, addressOf, memory } = loadSource(`
      class Regs extends Struct { a: u32; b: u32; }
      const regs: Regs = zeroed();
      export declare function cpuid(leaf: u32, out: Regs): u64;
      export declare function print(text: string): void;
      export function run(leaf: u32): u64 { print("leaf"); const x = cpuid(leaf, regs); return x + u64(regs.b); }
      export function first(): Regs { return regs; }
    `, {
      externals: {
        cpuid: (leaf: number, out: bigint) => { seen.push(leaf, out); memory.write(out + 4n, 4, 9n); return 100n; },
        print: (text: string) => { seen.push(text); },
      },
    });
    expect(call.run!(5)).toBe(109n);
    expect(seen).toEqual(["leaf", 5, addressOf("regs")]);
    expect(call.first!()).toBe(addressOf("regs"));
  });

  test("says what is missing or wrong in a test", () => {
    const { call, addressOf, layout } = loadSource(`
      export declare function readMsr(index: u32): u64;
      export function run(x: u32): u64 { return readMsr(x); }
      export function wide(x: u64): u64 { return x; }`);
    expect(() => call.run!(0x1b)).toThrow("the program called readMsr(27), which this test does not supply");
    expect(() => call.nothing!()).toThrow("the program has no exported function nothing; it has run, wide");
    expect(() => call.run!(-1)).toThrow("run: x has to be u32, not -1");
    expect(() => call.run!()).toThrow("run takes 1 arguments, not 0");
    expect(() => call.wide!(5)).toThrow("wide: x has to be u64, not 5");
    expect(() => addressOf("nope")).toThrow("no static storage nope");
    expect(() => layout("Nope")).toThrow("no struct Nope");
    expect(() => loadSource("export function f(): u32 { return 1n; }")).toThrow("snippet.ts:1:35: error: a bigint constant where u32 is needed [US2021]");
  });

  test("what an external returns is checked", () => {
    const { call } = loadSource("export declare function small(): u8;\nexport function run(): u32 { return u32(small()); }", { externals: { small: () => 256 } });
    expect(() => call.run!()).toThrow("what small returned has to be u8, not 256");
  });

  test("a failed check throws a DialectTrap with its text", () => {
    const { call } = loadSource("export function f(x: u32): u32 {\n  assert(x > 1);\n  return x;\n}");
    expect(() => call.f!(1)).toThrow(DialectTrap);
    expect(() => call.f!(1)).toThrow("snippet.ts:2:3: assertion failed: x > 1");
  });

  test("records are objects, slices addresses with a length", () => {
    const { call, addressOf } = loadSource(`
      enum Kind { NONE, SOME }
      type Part = { kind: Kind.NONE } | { kind: Kind.SOME; list: Slice<u16>; flag: boolean; sum: u64 };
      const list: FixedArray<u16, 4> = [1, 2, 3, 4];
      export function part(n: u32): Part { return n === 0 ? { kind: Kind.NONE } : { kind: Kind.SOME, list: sliceOf(list, n), flag: n > 1, sum: u64(n) }; }
      export function total(part: Part): u64 {
        if (part.kind === Kind.NONE) return 0n;
        let sum = part.flag ? part.sum : 0n;
        for (const one of part.list) sum += u64(one);
        return sum;
      }`);
    const part = { kind: 1, list: { address: addressOf("list") + 4n, length: 2 }, flag: true, sum: 2n };
    expect([call.part!(0), call.part!(2)]).toEqual([{ kind: 0 }, part]);
    expect([call.total!({ kind: 0 }), call.total!(part)]).toEqual([0n, 9n]);
    expect(() => call.total!({ ...part, sum: 2 })).toThrow("total: part.sum has to be u64, not 2");
    expect(() => call.total!({ kind: 7 })).toThrow("total: part has to be Part");
  });

  test("memory is sparse, little-endian, and has devices in it", () => {
    const memory = new Memory();
    const written: [bigint, number, bigint][] = [];
    memory.mapDevice({
      start: 0xfee00020n, size: 0x10n,
      read: (address, bytes) => address + BigInt(bytes),
      write: (address, bytes, value) => { written.push([address, bytes, value]); },
    });
    const { call } = loadSource(`
      export function get(a: u64): u32 { return load32(a); }
      export function set(a: u64, v: u32): void { store32(a, v); }
      export function set64(a: u64, v: u64): void { store64(a, v); }
      export function get64(a: u64): u64 { return load64(a); }`, { memory });
    expect(call.get!(0xfee00020n)).toBe(0xfee00024);
    call.set!(0xfee0002cn, 0xdeadbeef);
    expect(written).toEqual([[0xfee0002cn, 4, 0xdeadbeefn]]);
    call.set!(0xfee00010n, 7);
    expect(call.get!(0xfee00010n)).toBe(7);
    call.set64!(0xffcn, 0x1122334455667788n);
    expect(call.get64!(0xffcn)).toBe(0x1122334455667788n);
    expect(memory.readBytes(0xffen, 4)).toEqual(new Uint8Array([0x66, 0x55, 0x44, 0x33]));
    memory.writeBytes(0x3f_ffff_f000n, new Uint8Array([1, 2, 3, 4]));
    expect(call.get!(0x3f_ffff_f000n)).toBe(0x04030201);
    expect(() => call.get!(0xffff_8000_0000_0000n)).toThrow("beyond the simulated memory");
  });
});
