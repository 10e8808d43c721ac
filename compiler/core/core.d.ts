/**
 * The dialect's core library. It stands in for TypeScript's own `lib` files
 * (`noLib`), so whatever is not declared here does not exist in the dialect.
 * Semantics are in docs/language.md.
 */

// Types the TypeScript checker itself insists on. None of their members is in the dialect.
interface Array<T> { readonly length: number; [index: number]: T; [Symbol.iterator](): Iterator<T, void, void> }
interface Boolean {}
interface CallableFunction {}
interface Function {}
interface IArguments {}
interface NewableFunction {}
interface Number {}
interface BigInt {}
interface Object {}
interface RegExp {}
interface String {}
interface Symbol {}

// What for…of stands on for the TypeScript checker.
interface SymbolConstructor { readonly iterator: unique symbol }
declare var Symbol: SymbolConstructor;
interface IteratorYieldResult<T> { done?: false; value: T }
interface IteratorReturnResult<T> { done: true; value: T }
type IteratorResult<T, R> = IteratorYieldResult<T> | IteratorReturnResult<R>;
interface Iterator<T, R = any, N = any> { next(...value: [] | [N]): IteratorResult<T, R> }
interface Iterable<T, R = any, N = any> { [Symbol.iterator](): Iterator<T, R, N> }
interface IterableIterator<T, R = any, N = any> extends Iterator<T, R, N> { [Symbol.iterator](): IterableIterator<T, R, N> }

// Integers. A flavour keeps widths apart without casts: u8 and u32 do not mix.
type u8 = number & { readonly __w?: 'u8' };
type u16 = number & { readonly __w?: 'u16' };
type u32 = number & { readonly __w?: 'u32' };
type i8 = number & { readonly __w?: 'i8' };
type i16 = number & { readonly __w?: 'i16' };
type i32 = number & { readonly __w?: 'i32' };
type u64 = bigint & { readonly __w?: 'u64' };
type i64 = bigint & { readonly __w?: 'i64' };

/** A size or offset in memory. */
type usize = u64;

/** An integer that does not mix with others of its width: `type FrameNumber = Newtype<u64, "FrameNumber">`. The plain one becomes it and back. */
type Newtype<T extends number | bigint, Name extends string> = T & { readonly __a?: Name };

/** A physical address of the machine. */
type HostPhysical = u64 & { readonly __a?: 'HostPhysical' };
/** An address that can be dereferenced. Memory is mapped at its own address, so a HostPhysical is one too. */
type HostVirtual = u64 & { readonly __a?: 'HostVirtual' | 'HostPhysical' };
/** A physical address as an instance sees it; not to be dereferenced without a translation. */
type GuestPhysical = u64 & { readonly __a?: 'GuestPhysical' };

/** Converts; a value outside the target's range traps. */
declare function u8(value: number | bigint | boolean): u8;
declare function u16(value: number | bigint | boolean): u16;
declare function u32(value: number | bigint | boolean): u32;
declare function u64(value: number | bigint | boolean): u64;
declare function i8(value: number | bigint | boolean): i8;
declare function i16(value: number | bigint | boolean): i16;
declare function i32(value: number | bigint | boolean): i32;
declare function i64(value: number | bigint | boolean): i64;

/** Converts by keeping the low bits; never traps. */
declare function wrapU8(value: number | bigint): u8;
declare function wrapU16(value: number | bigint): u16;
declare function wrapU32(value: number | bigint): u32;
declare function wrapU64(value: number | bigint): u64;
declare function wrapI8(value: number | bigint): i8;
declare function wrapI16(value: number | bigint): i16;
declare function wrapI32(value: number | bigint): i32;
declare function wrapI64(value: number | bigint): i64;

/** Base of a struct with C's natural layout. Padding has to be written out as fields. */
declare abstract class Struct { private readonly __struct: never }
/** Base of a struct without padding and with alignment 1. */
declare abstract class Packed extends Struct { private readonly __packed: never }

/** Base of a struct that lies at multiples of `N` bytes, a power of two. */
declare abstract class Aligned<N extends number> extends Struct { private readonly __aligned: N }

/** Base of a struct whose fields all lie at its start. */
declare abstract class Union extends Struct { private readonly __union: never }
/** Base of a word whose bits have names: `present: Bit<0>; frame: BitRange<51, 12, u64>`, numbered as in datasheets. */
declare abstract class BitField<T extends number | bigint> extends Struct { bits: T }
type Bit<N extends number> = boolean;
type BitRange<High extends number, Low extends number, T extends number | bigint> = T;

/** `N` elements of `T`, embedded where it is declared. Every index is checked or proved. */
interface FixedArray<T, N extends number> {
  /** N, a compile-time constant. */
  readonly length: u32;
  [index: number]: T;
  [Symbol.iterator](): Iterator<T, void, void>;
  readonly __n?: N;
}

/**
 * Some elements of an array: where they are, and how many at run time. Every index is checked or proved.
 * It refers to the array's elements, so that writing one writes the array.
 */
interface Slice<T> {
  readonly length: u32;
  [index: number]: T;
  [Symbol.iterator](): Iterator<T, void, void>;
  readonly __slice?: T;
}
/** All of an array or slice, or its elements from `from` to before `to`; a range that is not inside traps. */
declare function sliceOf<T>(list: FixedArray<T, number> | Slice<T>, from?: u32, to?: u32): Slice<T>;
/** `length` elements of type `T` at an address: a door from addresses to types, as `at` is. */
declare function sliceAt<T>(address: HostVirtual, length: u32): Slice<T>;

/**
 * What may go wrong gives one of these: a value, or why there is none.
 * @mustUse
 */
type Result<T, E> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E };

/**
 * What may go wrong and gives no value.
 * @mustUse
 */
type Status<E> = { readonly ok: true } | { readonly ok: false; readonly error: E };

/** Storage that starts as zeroes: static at module level (aligned to `align` bytes), on the stack in a function. */
declare function zeroed(align?: number): any;

/** A constant table that `fill` writes at compile time: it may use constants, constant tables and storage of its own. */
declare function filled<T>(fill: (table: T) => void): T;

/** Size of a type in bytes, a compile-time constant. */
declare function sizeOf<T>(): u32;
/** Offset of a field in bytes, a compile-time constant. */
declare function offsetOf<T>(field: keyof T): u32;
/** Fails the build unless `T` has this size and these field offsets. Module level only. */
declare function assertLayout<T>(size: number, offsets?: { [K in keyof T]?: number }): void;
/** Fails the build unless the constant condition holds. Module level only. */
declare function assertStatic(condition: boolean): void;

/** The address of a struct, an array, or a variable or field. */
declare function addressOf(place: unknown): HostVirtual;
/** The struct or array of type `T` at an address. The one door from addresses to types: keep its uses few. */
declare function at<T>(address: HostVirtual): T;

/** Raw memory access: exactly one access of that width, never reordered or elided (volatile). */
declare function load8(address: HostVirtual): u8;
declare function load16(address: HostVirtual): u16;
declare function load32(address: HostVirtual): u32;
declare function load64(address: HostVirtual): u64;
declare function store8(address: HostVirtual, value: u8): void;
declare function store16(address: HostVirtual, value: u16): void;
declare function store32(address: HostVirtual, value: u32): void;
declare function store64(address: HostVirtual, value: u64): void;
/** Copies `count` bytes; the ranges may overlap. */
declare function copyBytes(to: HostVirtual, from: HostVirtual, count: u64): void;
declare function fillBytes(at: HostVirtual, value: u8, count: u64): void;

/** Sequentially consistent operations on a u32 or u64 variable or field that another CPU uses too. */
declare function atomicLoad<T extends number | bigint>(place: T): T;
declare function atomicStore<T extends number | bigint>(place: T, value: T): void;
/** Returns the value before. */
declare function atomicAdd<T extends number | bigint>(place: T, value: T): T;
declare function atomicExchange<T extends number | bigint>(place: T, value: T): T;

/** Arithmetic that traps where + - * would wrap. */
declare function checkedAdd<T extends number | bigint>(a: T, b: T): T;
declare function checkedSub<T extends number | bigint>(a: T, b: T): T;
declare function checkedMul<T extends number | bigint>(a: T, b: T): T;

/** Drops a result that may not be ignored otherwise. */
declare function ignore(result: unknown): void;

/** Traps unless the condition holds. */
declare function assert(condition: boolean): asserts condition;
/** Traps. */
declare function unreachable(): never;
/** "file:line:col: what" of a trap site; what a panic prints. */
declare function trapText(site: u32): string;

/** Four ASCII characters as a little-endian u32, a compile-time constant. */
declare function fourCC(text: string): u32;
/** Byte `index` of a string's UTF-8 form; 0 at and after its end. */
declare function byteAt(text: string, index: u32): u8;
