import { describe, expect, test } from "vitest";
import { loadSource } from "../../compiler/emit-js/load.ts";
import { compileSource, expectSameInNodeAndC } from "./both.ts";

describe("structs and arrays", () => {
  test("fields of every kind, embedded structs and nested arrays", () => {
    const source = `
      enum Kind { A = 1, B = 0x80000000 }
      class Inner extends Struct { x: u16; y: i16; z: u32; }
      class Outer extends Struct {
        a: u8; flag: boolean; b: u16; kind: Kind;
        inner: Inner; s: i64; rows: FixedArray<FixedArray<u16, 2>, 4>; list: FixedArray<Inner, 3>;
      }
      const outer: Outer = zeroed();
      export function fill(n: u32): void {
        outer.a = wrapU8(n); outer.flag = n > 5; outer.b = 0xffff; outer.kind = Kind.B;
        outer.inner.y = -3; outer.s = -5n; outer.rows[n & 3][1] = 77;
        const third = outer.list[2];
        third.z = n; third.x = 9;
        outer.list[1].y--;
      }
      export function flag(): boolean { return outer.flag; }
      export function kind(): u32 { return u32(outer.kind); }
      export function y(): i16 { return outer.inner.y; }
      export function s(): i64 { return outer.s * 3n; }
      export function row(i: u32, j: u32): u16 { return outer.rows[i][j]; }
      export function third(): u32 { return outer.list[2].z + u32(outer.list[2].x); }
      export function second(): i16 { return outer.list[1].y; }
      export function length(): u32 { return outer.rows.length * outer.rows[0].length; }
      export function byte(i: u64): u8 { return load8(addressOf(outer) + i); }`;
    const bytes = Array.from({ length: 64 }, (_, i) => ["byte", BigInt(i)] as [string, bigint]);
    expect(expectSameInNodeAndC(source, [
      ["flag"], ["fill", 7], ["flag"], ["kind"], ["y"], ["s"], ["row", 3, 1], ["row", 3, 2], ["row", 4, 0], ["third"], ["second"], ["length"], ...bytes,
    ]).slice(0, 12)).toEqual([
      "false", "done", "true", "2147483648", "-3", "-15", "77",
      "trap snippet.ts:20:71: index outside 2 elements", "trap snippet.ts:20:68: index outside 4 elements", "16", "-1", "8",
    ]);
  });

  test("lengths have names, and are constants wherever the array is", () => {
    const source = `
      const COUNT = 3;
      type Length = typeof COUNT;
      type Same = Length;
      class List extends Struct { items: FixedArray<u8, Same>; capacity(): u32 { return this.items.length; } }
      const table: FixedArray<FixedArray<u16, Length>, 5> = zeroed();
      const list: List = zeroed();
      export function length(i: u32): u32 { const row = table[1]; return table[i].length * 10 + row.length; }
      export function fill(): u32 { table[1][2] = 1; list.items[1] = 2; return u32(table[1][2]) + list.capacity(); }`;
    expect(expectSameInNodeAndC(source, [["length", 4], ["fill"]])).toEqual(["33", "4"]);
  });

  test("a packed struct has no padding, and its fields may be unaligned", () => {
    const source = `
      class Rsdp extends Packed { revision: u8; address: u32; long: u64; table: FixedArray<u32, 2>; last: u16; }
      assertLayout<Rsdp>(23, { address: 1, long: 5, table: 13, last: 21 });
      const rsdp: Rsdp = zeroed();
      export function run(): u64 {
        rsdp.address = 0xfee00000; rsdp.long = 0x1122334455667788n; rsdp.table[1] = 0xabcd; rsdp.last = 0xffff;
        const table = rsdp.table;
        table[0] = 5;
        return load64(addressOf(rsdp) + 1n) ^ u64(rsdp.table[1]) ^ load64(addressOf(rsdp) + 15n);
      }`;
    expectSameInNodeAndC(source, [["run"]]);
  });

  test("pointers: null, narrowing, lists, at and addressOf", () => {
    const source = `
      class Node extends Struct { value: u64; next: Node | null; }
      const nodes: FixedArray<Node, 4> = zeroed();
      let head: Node | null = null;
      export function build(): void {
        for (let i: u32 = 0; i < nodes.length; i++) {
          const node = nodes[i];
          node.value = u64(i) * 10n;
          node.next = head;
          head = node;
        }
      }
      export function sum(): u64 {
        let total: u64 = 0n;
        for (let node: Node | null = head; node !== null; node = node.next) total += node.value;
        return total;
      }
      export function second(): u64 {
        if (head === null || head.next === null) return 0n;
        return head.next.value;
      }
      function clear(): void { head = null; }
      export function stale(): u64 {
        if (head === null) return 1n;
        clear();
        return head.value;
      }
      export function same(): boolean { return head === nodes[3]; }
      export function through(): u64 {
        const node = at<Node>(addressOf(nodes) + 16n);
        node.value += 1n;
        return nodes[1].value + addressOf(nodes[1].value) - addressOf(nodes[0]);
      }
      export function pick(first: boolean): u64 { const n = first ? nodes[2] : nodes[1]; return n.value; }
      export function last(n: Node | null): Node | null { return n === null ? null : n.next; }`;
    expect(expectSameInNodeAndC(source, [
      ["sum"], ["build"], ["sum"], ["second"], ["same"], ["through"], ["pick", true], ["last", null], ["stale"], ["sum"],
    ])).toEqual(["0", "done", "60", "20", "true", "27", "20", "null", "trap snippet.ts:26:16: null", "0"]);
  });

  test("storage on the stack is zeroed each time and passed by reference", () => {
    const source = `
      class Pair extends Struct { a: u32; b: u32; }
      function swap(p: Pair): void { const a = p.a; p.a = p.b; p.b = a; }
      export function run(n: u32): u32 {
        let result: u32 = 0;
        for (let i: u32 = 0; i < 3; i++) {
          const p: Pair = zeroed();
          const buffer: FixedArray<u8, 16> = zeroed(64);
          p.b += n + i;
          buffer[i] = 1;
          swap(p);
          result = result * 100 + p.a + u32(buffer[0]) + u32(addressOf(buffer) & 63n);
        }
        return result;
      }
      export function scalar(): u32 {
        let x: u32 = 5;
        store32(addressOf(x), 6);
        x++;
        return load32(addressOf(x));
      }`;
    expect(expectSameInNodeAndC(source, [["run", 4], ["scalar"]])).toEqual(["50506", "7"]);
  });

  test("references to nested arrays, names that C reserves, addressed parameters", () => {
    const source = `
      type Row = FixedArray<u8, 4>;
      class S extends Struct { int: u32; default_: u32; rows: FixedArray<Row, 3>; r: u32; p: FixedArray<u64, 2> | null; }
      const s: S = zeroed();
      const words: FixedArray<u64, 2> = zeroed();
      const T2: FixedArray<FixedArray<i16, 2>, 2> = [[1, -2], [3, -32768]];
      function rows(x: S): FixedArray<Row, 3> { return x.rows; }
      function row(r: FixedArray<Row, 3>, i: u32): Row { return r[i]; }
      export function f(n: u32, register: u8): u64 {
        store32(addressOf(n), load32(addressOf(n)) + 1);
        const r = row(rows(s), n & 1);
        r[3] = register;
        rows(s)[2][n & 3]++;
        s.p = words;
        if (s.p !== null) s.p[1] += 5n;
        const p: FixedArray<u64, 2> | null = s.p;
        let auto: i32 = -2147483648;
        auto -= 1;
        const unused = n + 1;
        let later: u32;
        if (n > 5) later = 3; else later = 4;
        s.int = later;
        return u64(s.rows[n & 1][3]) + (p === null ? 0n : p[1]) + u64(auto) + wrapU64(T2[1][n & 1]) + u64(s.int);
      }`;
    expectSameInNodeAndC(source, [["f", 4, 9], ["f", 5, 8]]);
  });

  test("bounds checks vanish where the index is proved", () => {
    const source = `
      const list: FixedArray<u32, 8> = zeroed();
      const COUNT = 5;
      export function f(a: u8, n: u32): u32 {
        for (let i: u32 = 0; i < COUNT; i++) list[i] = i;
        for (let i: u32 = 0; i < list.length; i++) list[i] += 1;
        const masked = n & 7;
        return list[7] + list[n & 3] + list[n % 8] + list[a >> 5] + list[masked] + list[n < 1 ? 4 : 2];
      }`;
    expect(compileSource(source)).toMatchObject({ errors: "", program: { sites: [] } });
    const changed = `${source}
      export function g(n: u32): void {
        for (let i: u32 = 0; i < COUNT; i++) { list[i] = 1; if (n === i) i += n; }
        for (let i: u32 = 0; i < n; i++) list[i] = 1;
      }`;
    expect(compileSource(changed).program.sites).toHaveLength(2);
  });

  test("statics lie in memory as in C, where a test can see and change them", () => {
    const { call, memory, addressOf, layout, constants, enums } = loadSource(`
      export const LIMIT = 3;
      export enum Color { RED, GREEN = 5 }
      class Entry extends Struct { key: u32; flags: u32; base: u64; }
      const entries: FixedArray<Entry, typeof LIMIT> = zeroed(4096);
      let count: u32 = 7;
      const TABLE: FixedArray<u16, 4> = [1, 2, 3, 0xffff];
      export function set(i: u32, base: u64): void { entries[i].base = base; count++; }
      export function sum(): u32 { let s: u32 = 0; for (let i: u32 = 0; i < 4; i++) s += u32(TABLE[i]); return s + count; }
    `);
    call.set!(1, 0x1122334455667788n);
    expect(addressOf("entries") % 4096n).toBe(0n);
    expect(layout("Entry")).toEqual({ size: 16, offsets: { key: 0, flags: 4, base: 8 }, sizes: { key: 4, flags: 4, base: 8 } });
    expect(memory.read(addressOf("entries") + 16n + 8n, 8)).toBe(0x1122334455667788n);
    memory.write(addressOf("count"), 4, 100n);
    expect(call.sum!()).toBe(65541 + 100);
    expect([constants.LIMIT, enums.Color!.GREEN]).toEqual([3n, 5]);
  });
});
