/** What the generated JavaScript stands on. Twin of emit-c/runtime.h. */
import { alignUp } from "../layout.ts";
import { type Memory, addressNumber } from "./memory.ts";

/** A failed check: where and what. */
export class DialectTrap extends Error {
  override readonly name = "DialectTrap";
  constructor(readonly site: number, readonly text: string) {
    super(text);
  }
}

/** Where its elements lie and how many they are. */
export interface Slice { readonly data: number; readonly length: number }

export class Runtime {
  /** Where the next frame begins. */
  stack: number;
  private readonly encoded = new Map<string, Uint8Array>();

  constructor(
    readonly memory: Memory,
    readonly externals: Record<string, (...args: never[]) => unknown>,
    private readonly texts: string[],
    stack: number,
  ) {
    this.stack = stack;
  }

  trap(site: number): never {
    throw new DialectTrap(site, this.trapText(site));
  }

  trapText(site: number): string {
    return this.texts[site] ?? "unknown trap";
  }

  checkIndex(index: number, length: number, site: number): number {
    if (index >= length) this.trap(site);
    return index;
  }

  checkNull(pointer: number, site: number): number {
    if (pointer === 0) this.trap(site);
    return pointer;
  }

  checkSlice(from: number, to: number, length: number, site: number): number {
    if (from > to || to > length) this.trap(site);
    return from;
  }

  loadSlice(at: number): Slice {
    return { data: this.memory.getAddress(at), length: this.memory.get32(at + 8) };
  }

  storeSlice(at: number, { data, length }: Slice): void {
    this.memory.setAddress(at, data);
    this.memory.set32(at + 8, length);
  }

  /** For numbers and bigints alike. */
  checkRange<T extends number | bigint>(value: T, min: T, max: T, site: number): T {
    if (value < min || value > max) this.trap(site);
    return value;
  }

  nonZero<T extends number | bigint>(value: T, site: number): T {
    if (!value) this.trap(site);
    return value;
  }

  // Stack storage of the function that runs.

  enter(size: number, align: number): number {
    const frame = alignUp(this.stack, align);
    this.stack = frame + size;
    return frame;
  }

  // The core library.

  load8 = (address: bigint): number => this.memory.get8(addressNumber(address));
  load16 = (address: bigint): number => this.memory.get16(addressNumber(address));
  load32 = (address: bigint): number => this.memory.get32(addressNumber(address));
  load64 = (address: bigint): bigint => this.memory.get64(addressNumber(address));
  store8 = (address: bigint, value: number): void => this.memory.set8(addressNumber(address), value);
  store16 = (address: bigint, value: number): void => this.memory.set16(addressNumber(address), value);
  store32 = (address: bigint, value: number): void => this.memory.set32(addressNumber(address), value);
  store64 = (address: bigint, value: bigint): void => this.memory.set64(addressNumber(address), value);

  copyBytes(to: bigint, from: bigint, count: bigint): void {
    this.memory.copy(addressNumber(to), addressNumber(from), addressNumber(count));
  }

  fillBytes(at: bigint, value: number, count: bigint): void {
    this.memory.fill(addressNumber(at), value, addressNumber(count));
  }

  address(value: bigint): number {
    return addressNumber(value);
  }

  byteAt(text: string, index: number): number {
    let bytes = this.encoded.get(text);
    if (!bytes) {
      bytes = new TextEncoder().encode(text.split("\0", 1)[0]);
      this.encoded.set(text, bytes);
    }
    return bytes[index] ?? 0;
  }

  atomicLoad32 = (at: number): number => this.memory.get32(at);
  atomicLoad64 = (at: number): bigint => this.memory.get64(at);
  atomicStore32 = (at: number, value: number): void => this.memory.set32(at, value);
  atomicStore64 = (at: number, value: bigint): void => this.memory.set64(at, value);

  atomicAdd32(at: number, value: number): number {
    const before = this.memory.get32(at);
    this.memory.set32(at, (before + value) >>> 0);
    return before;
  }

  atomicAdd64(at: number, value: bigint): bigint {
    const before = this.memory.get64(at);
    this.memory.set64(at, BigInt.asUintN(64, before + value));
    return before;
  }

  atomicExchange32(at: number, value: number): number {
    const before = this.memory.get32(at);
    this.memory.set32(at, value);
    return before;
  }

  atomicExchange64(at: number, value: bigint): bigint {
    const before = this.memory.get64(at);
    this.memory.set64(at, value);
    return before;
  }
}
