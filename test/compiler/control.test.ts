import { describe, expect, test } from "vitest";
import { expectSameInNodeAndC } from "./both.ts";

describe("control flow", () => {
  test("loops with break and continue", () => {
    const source = `
      export function f(n: u32): u32 {
        let sum: u32 = 0;
        for (let i: u32 = 0, j: u32 = n; i < j; i++, j--) { if (i === 3) continue; sum += i * j; }
        let k = n;
        while (true) { if (k === 0) break; k = k / 2; sum++; }
        do { sum += 1000; k++; } while (k < 3);
        for (;;) { sum++; if (sum > 10) return sum; }
      }`;
    expectSameInNodeAndC(source, [["f", 0], ["f", 1], ["f", 9], ["f", 100]]);
  });

  test("names that hide others", () => {
    const source = `
      let count: u32 = 1;
      export function f(x: u32): u32 {
        let sum: u32 = x;
        { const x: u64 = 5n; sum += u32(x); { const x: u32 = 7; const y = x + sum; sum += y; } }
        for (let x: u32 = 0; x < 3; x++) { const sum_ = x; for (let x: u8 = 0; x < 2; x++) sum += sum_ + u32(x); }
        for (let i: u32 = 0; i < 3; i++) sum += i;
        for (let i: u64 = 0n; i < 3n; i++) { const count = i + 1n; sum += u32(count); }
        switch (sum & 1) { case 0: { const sum = count; count += sum; break; } default: { const sum: u8 = 3; count += u32(sum); } }
        return sum * 100 + x + count;
      }`;
    expectSameInNodeAndC(source, [["f", 4], ["f", 5]]);
  });

  test("names that stand for one thing inside a block and another outside", () => {
    const source = `
      const LIMIT: u32 = 5;
      class T extends Struct { a: u32; }
      const storage: T = zeroed();
      export function inside(n: u32): u32 { let sum = LIMIT; { const LIMIT: u32 = n; sum += LIMIT * 10; } return sum + LIMIT * 100; }
      export function outside(): u32 { return LIMIT; }
      function first<T>(list: Slice<T>): T { return list[0]; }
      const bytes: FixedArray<u8, 2> = [7, 8];
      export function generic(): u8 { return first(sliceOf(bytes)); }
      export function plain(): u32 { const one: T = storage; one.a = LIMIT; return one.a; }`;
    expect(expectSameInNodeAndC(source, [["inside", 2], ["outside"], ["generic"], ["plain"], ["inside", 3]])).toEqual(["525", "5", "7", "5", "535"]);
  });

  test("switch over integers and enumerations", () => {
    const source = `
      enum Reason { CPUID = 10, HLT = 12, MSR = 31 }
      export function over(r: u32): u32 {
        const reason = r as Reason;
        switch (reason) {
          case Reason.CPUID: return 1;
          case Reason.HLT:
          case Reason.MSR: { const x = r * 2; return x; }
        }
      }
      export function plain(x: u64): i32 {
        let result: i32 = -1;
        for (let i: u32 = 0; i < 3; i++) {
          switch (x) {
            case 0n: result = 7; break;
            case 1n << 40n: continue;
            default: if (i === 1) { result = 9; break; } result--;
          }
          result++;
        }
        return result;
      }`;
    expect(expectSameInNodeAndC(source, [["over", 10], ["over", 12], ["over", 31], ["over", 11], ["plain", 0n], ["plain", 1n << 40n], ["plain", 5n]]))
      .toEqual(["1", "24", "62", "trap snippet.ts:5:17: not a member of Reason", "8", "-1", "10"]);
  });

  test("assert, unreachable and conversions trap with what and where", () => {
    const source = `
      export function a(n: u32): u32 { assert(n < 5 && n !== 2); return n; }
      export function b(n: u32): u32 { if (n > 5) unreachable(); return u32(u8(n * 100)); }
      export function c(n: u32): void { if (n === 3) assert(false); }`;
    expect(expectSameInNodeAndC(source, [["a", 1], ["a", 2], ["b", 6], ["b", 2], ["b", 3], ["c", 3], ["c", 2]])).toEqual([
      "1", "trap snippet.ts:2:40: assertion failed: n < 5 && n !== 2",
      "trap snippet.ts:3:51: unreachable", "200", "trap snippet.ts:3:77: value outside u8",
      "trap snippet.ts:4:54: assertion failed: false", "done",
    ]);
  });

  test("operands are evaluated from left to right", () => {
    const source = `
      export declare function print(text: string): void;
      let state: u32 = 1;
      const list: FixedArray<u32, 4> = zeroed();
      class Box extends Struct { list: FixedArray<u32, 4>; next: Box | null; }
      const box: Box = zeroed();
      const other: Box = zeroed();
      function a(): u32 { print("a"); state = state * 2; return state; }
      function b(): u32 { print("b"); state = state + 3; return state; }
      function three(x: u32, y: u32, z: u32): u32 { return x * 10000 + y * 100 + z; }
      function move(): u32 { box.next = other; print("m"); return 5; }
      export function args(): u32 { return three(a(), state, b()); }
      export function sum(): u32 { return state + a() * 3 - b(); }
      export function element(): u32 { list[a() & 3] = b(); return list[2] * 1000 + list[state & 3]; }
      export function compound(): u32 { state += a(); return state; }
      export function compared(): boolean { return a() < b() && state === b(); }
      export function place(): u32 { box.next = box; box.next.list[1] = move(); return box.list[1] * 10 + other.list[1]; }
      export function once(): u32 { list[a() & 3] += 7; return list[state & 3]; }
      export function loop(): u32 { let n: u32 = 0; while (state < a() + b()) { n++; if (n > 2) break; } return n; }`;
    expect(expectSameInNodeAndC(source, [["args"], ["sum"], ["element"], ["compound"], ["compared"], ["place"], ["once"], ["loop"]])[0]).toBe("ab20205");
  });

  test("strings: parameters, constants, choices, bytes", () => {
    const source = `
      export declare function print(text: string): void;
      const HELLO = "hello\\t\\"world\\" \\\\ ??/ ü\\n";
      enum E { A, B }
      function name(e: E): string { switch (e) { case E.A: return "A"; case E.B: return HELLO; } }
      export function say(n: u32): string { print(name(n as E)); const text = n === 0 ? "zero" : "other"; return text; }
      export function byte(text: string, i: u32): u8 { return byteAt(text, i); }
      export function count(text: string): u32 { let n: u32 = 0; while (byteAt(text, n) !== 0) n++; return n; }
      export function site(n: u32): string { return trapText(n); }`;
    expectSameInNodeAndC(source, [["say", 0], ["say", 1], ["byte", "abc", 1], ["byte", "abc", 3], ["byte", "abc", 9], ["count", "twelve bytes"], ["site", 0], ["site", 99]]);
  });

  test("memory: copies that overlap, fills, atomics", () => {
    const source = `
      const bytes: FixedArray<u8, 32> = zeroed();
      let counter: u32 = 5;
      let wide: u64 = 0xffffffffffffffffn;
      export function prepare(): void { for (let i: u32 = 0; i < 32; i++) bytes[i] = wrapU8(i); }
      export function copy(to: u64, from: u64, count: u64): void { copyBytes(addressOf(bytes) + to, addressOf(bytes) + from, count); }
      export function fill(at: u64, value: u8, count: u64): void { fillBytes(addressOf(bytes) + at, value, count); }
      export function hash(): u64 { let h: u64 = 7n; for (let i: u32 = 0; i < 32; i++) h = h * 31n + u64(bytes[i]); return h; }
      export function atomics(): u64 {
        const before = atomicAdd(counter, 3);
        atomicStore(counter, atomicLoad(counter) * 2);
        return u64(before) + u64(atomicExchange(counter, 1)) * 100n + atomicAdd(wide, 2n) + wide + u64(counter);
      }`;
    expectSameInNodeAndC(source, [
      ["prepare"], ["copy", 4n, 0n, 10n], ["hash"], ["copy", 0n, 3n, 20n], ["hash"], ["fill", 5n, 0xab, 9n], ["hash"], ["copy", 0n, 8n, 0n], ["hash"], ["atomics"],
    ]);
  });
});
