/** The module that all random programs of a batch import: storage, types, generics and functions over them. */
import { INTS, LENGTH } from "./choices.ts";

const ARRAYS = INTS.map((type) => `a_${type}`);
const PLACES = ["one", "two", "outers", "tight", "matrix", "entry", "either", "shared", ...ARRAYS];

/** What a program imports of it. */
export const IMPORTS = [
  "Aligned64", "Box", "Fault", "Frame", "Inner", "Kind", "NAME", "Option", "Ordered", "Outer", "Pair", "Ring", "TABLE", "Verdict", ...ARRAYS, "digestSlice", "either", "entry",
  "firstOf", "follow", "frameOf", "judge", "larger", "least", "matrix", "maybe", "one", "outers", "pick", "reset", "same", "shared", "spell", "stop", "swapAt", "tight", "total", "two", "worldHash",
];

export const WORLD = `
export enum Kind { A, B = 3, C, D = 0x80000000 }
/** @mustUse */
export enum Fault { NONE, RANGE = 2, PARITY }
export class Inner extends Struct { a: u16; b: i8; flag: boolean; c: u32; before(other: Inner): boolean { return this.c < other.c; } }
export class Outer extends Struct {
  wide: u64; list: FixedArray<i32, ${LENGTH}>; inner: Inner; next: Outer | null; kind: Kind; s: i32; inners: FixedArray<Inner, 2>;
}
export class Tight extends Packed {
  x: u8; y: u32; z: i64; w: u16;
  mixed(by: u32): u32 { this.w ^= wrapU16(by); this.y += by; return this.y ^ u32(this.x); }
}
export class Entry extends BitField<u64> {
  present: Bit<0>; level: BitRange<7, 4, u8>; frame: BitRange<51, 12, u64>; type: BitRange<62, 52, u16>; top: Bit<63>;
  raised(by: u8): u64 { this.level = by & 7; this.present = !this.present; this.frame += u64(by); return this.bits; }
}
export class Either extends Union { wide: u64; halves: FixedArray<u32, 2>; bytes: FixedArray<u8, 8>; flag: boolean; }
export class Aligned64 extends Aligned<64> { count: u32; reserved: FixedArray<u8, 60>; }
assertLayout<Outer>(80, { wide: 0, list: 8, inner: 40, next: 48, kind: 56, s: 60, inners: 64 });
assertLayout<Tight>(15, { x: 0, y: 1, z: 5, w: 13 });
export type Frame = Newtype<u64, "Frame">;
export function frameOf(address: HostPhysical): Frame { return address >> 12n; }

export type Option<T> = { some: true; value: T } | { some: false };
export type Pair<A, B> = { first: A; second: B };
export class Box<T> extends Struct { full: boolean; item: T; count: u8; }
export class Ring<T, N extends number> extends Struct {
  items: FixedArray<T, N>; head: u32; count: u32;
  push(item: T): boolean {
    if (this.count >= this.items.length) return false;
    this.items[(this.head + this.count) % this.items.length] = item;
    this.count++;
    return true;
  }
  pop(): Option<T> {
    if (this.count === 0) return { some: false };
    const item = this.items[this.head % this.items.length];
    this.head = (this.head + 1) % this.items.length;
    this.count--;
    return { some: true, value: item };
  }
  rest(): Slice<T> { return sliceOf(this.items, this.head % this.items.length); }
}
export interface Ordered<T> { before(other: T): boolean }
export function least<T extends Ordered<T>>(list: Slice<T>): T | null {
  let found: T | null = null;
  for (const one of list) if (found === null || one.before(found)) found = one;
  return found;
}
export function same<T>(value: T): T { return value; }
export function pick<T>(first: boolean, a: T, b: T): T { return first ? a : b; }
export function larger<T extends number | bigint>(a: T, b: T): T { return a > b ? a : b; }
export function firstOf<T>(list: Slice<T>): Option<T> {
  if (list.length === 0) return { some: false };
  return { some: true, value: list[0] };
}
export function total<T extends number>(list: Slice<T>, start: T): T {
  let sum = start;
  for (let i: u32 = 0; i < list.length; i++) sum = (sum + list[i]) as T;
  return sum;
}
export function swapAt<T, N extends number>(list: FixedArray<T, N>, a: u32, b: u32): void {
  const kept = list[a];
  list[a] = list[b];
  list[b] = kept;
}
export function digestSlice<T extends number | bigint>(list: Slice<T>): u64 {
  let h: u64 = u64(list.length);
  for (const one of list) h = h * 31n + wrapU64(one);
  return h;
}

/** @mustUse */
export enum Verdict { OK, ODD, LARGE }
export function judge(value: u32): Verdict { return value > 1000 ? Verdict.LARGE : (value & 1) === 0 ? Verdict.OK : Verdict.ODD; }
export const NAME = "naïve\\n";
export function spell(text: string, at: u32): u8 { return byteAt(text, at) ^ byteAt("z", 0); }
export function stop(): never { unreachable(); }
export function maybe(outer: Outer | null, by: i32): i32 {
  if (outer === null) return by;
  outer.s += by;
  return outer.s;
}
${INTS.map((type) => `export const a_${type}: FixedArray<${type}, ${LENGTH}> = zeroed();`).join("\n")}
export const TABLE: FixedArray<u16, ${LENGTH}> = [1, 2, 0xffff, 0x8000, 5, 0, 7, 300];
export const one: Outer = zeroed();
export const two: Outer = zeroed(256);
export const tight: Tight = zeroed();
export const entry: Entry = zeroed();
export const either: Either = zeroed();
export const shared: FixedArray<Aligned64, 2> = zeroed();
export const outers: FixedArray<Outer, ${LENGTH}> = zeroed();
export const matrix: FixedArray<FixedArray<u8, 4>, 4> = zeroed();
export function follow(outer: Outer): Outer | null { return outer.next; }
function mix(seed: u64, at: HostVirtual, size: u64): u64 {
  let h = seed;
  for (let i: u64 = 0n; i < size; i++) h = (h ^ u64(load8(at + i))) * 0x100000001b3n;
  return h;
}
/** Of everything; pointers are dropped first, since addresses differ between the two worlds. */
export function worldHash(): u64 {
  one.next = null;
  two.next = null;
  for (let i: u32 = 0; i < ${LENGTH}; i++) outers[i].next = null;
  let h: u64 = (addressOf(two) & 255n) + (addressOf(shared[1]) & 63n);
  ${PLACES.map((name) => `h = mix(h, addressOf(${name}), SIZE_OF_${name});`).join("\n  ")}
  return h;
}
export function reset(): void {
  ${PLACES.map((name) => `fillBytes(addressOf(${name}), 0, SIZE_OF_${name});`).join("\n  ")}
}
const SIZE_OF_one: u64 = u64(sizeOf<Outer>());
const SIZE_OF_two: u64 = u64(sizeOf<Outer>());
const SIZE_OF_outers: u64 = u64(sizeOf<FixedArray<Outer, ${LENGTH}>>());
const SIZE_OF_tight: u64 = u64(sizeOf<Tight>());
const SIZE_OF_matrix: u64 = 16n;
const SIZE_OF_entry: u64 = u64(sizeOf<Entry>());
const SIZE_OF_either: u64 = u64(sizeOf<Either>());
const SIZE_OF_shared: u64 = u64(sizeOf<FixedArray<Aligned64, 2>>());
${INTS.map((type) => `const SIZE_OF_a_${type}: u64 = u64(sizeOf<FixedArray<${type}, ${LENGTH}>>());`).join("\n")}
`;
