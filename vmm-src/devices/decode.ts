/**
 * The few instructions with which kernels reach memory-mapped registers and write
 * page tables in 64-bit mode: MOV to and from memory, MOV of an immediate, MOVZX,
 * XCHG, CMPXCHG. The faulting address comes from the processor, so ModRM and SIB
 * are only measured, not evaluated (SDM Vol. 2A, chapter 2).
 */
import "../../compiler/core/dialect.mjs";

export enum AccessKind { READ = 0, WRITE = 1, WRITE_IMMEDIATE = 2, EXCHANGE = 3, COMPARE_EXCHANGE = 4 }

export class Access extends Struct {
  kind: AccessKind;
  /** Bytes in memory: 1, 2, 4 or 8. */
  size: u32;
  /** Bytes of the register that a read replaces: size, or more by zero extension. */
  registerSize: u32;
  /** Register number of the operand, and 1 if it is AH, CH, DH or BH. */
  register: u32;
  highByte: u32;
  /** Instruction length in bytes. */
  length: u32;
  immediate: u64;
}
assertLayout<Access>(32);

const REX_W: u32 = 8;
const REX_R: u32 = 4;

function isPrefix(byte: u32): boolean {
  return byte === 0x66 || byte === 0x2e || byte === 0x36 || byte === 0x3e || byte === 0x26 || byte === 0x64 || byte === 0x65 || byte === 0x67 || byte === 0xf0;
}

/** Bytes of ModRM, SIB and displacement from `at`; 0 for a register operand, which is no memory access. */
function modrmLength(bytes: FixedArray<u8, 16>, at: u32): u32 {
  const modrm: u32 = u32(bytes[at & 15]);
  const mod: u32 = modrm >> 6;
  const rm: u32 = modrm & 7;
  if (mod === 3) return 0;
  let length: u32 = 1;
  let base: u32 = rm;
  if (rm === 4) {
    length = 2;
    base = u32(bytes[(at + 1) & 15]) & 7;
  }
  if (mod === 0 && base === 5) return length + 4;
  if (mod === 1) return length + 1;
  if (mod === 2) return length + 4;
  return length;
}

function readImmediate(bytes: FixedArray<u8, 16>, at: u32, count: u32): u64 {
  let value: u64 = 0n;
  for (let i: u32 = 0; i < count; i++) value |= u64(bytes[(at + i) & 15]) << u64(8 * i);
  return value;
}

/** Decodes `count` bytes; false for any other instruction. */
export function decodeAccess(bytes: FixedArray<u8, 16>, count: u32, out: Access): boolean {
  let at: u32 = 0;
  let operand16 = false;
  let rex: u32 = 0;
  while (at < count && isPrefix(u32(bytes[at & 15]))) {
    if (bytes[at & 15] === 0x66) operand16 = true;
    at++;
  }
  if ((bytes[at & 15] & 0xf0) === 0x40) {
    rex = u32(bytes[at & 15]);
    at++;
  }
  let opcode: u32 = u32(bytes[at & 15]);
  at++;
  if (opcode === 0x0f) {
    opcode = 0x100 | u32(bytes[at & 15]);
    at++;
  }
  const wide: u32 = (rex & REX_W) !== 0 ? 8 : operand16 ? 2 : 4;
  out.size = wide;
  out.registerSize = wide;
  out.kind = AccessKind.READ;
  let immediateBytes: u32 = 0;
  switch (opcode) {
    case 0x88: out.size = 1; out.kind = AccessKind.WRITE; break;
    case 0x89: out.kind = AccessKind.WRITE; break;
    case 0x8a: out.size = 1; out.registerSize = 1; break;
    case 0x8b: break;
    case 0x86: out.size = 1; out.registerSize = 1; out.kind = AccessKind.EXCHANGE; break;
    case 0x87: out.kind = AccessKind.EXCHANGE; break;
    case 0xc6: out.size = 1; out.kind = AccessKind.WRITE_IMMEDIATE; immediateBytes = 1; break;
    case 0xc7: out.kind = AccessKind.WRITE_IMMEDIATE; immediateBytes = wide === 2 ? 2 : 4; break;
    case 0x1b0: out.size = 1; out.registerSize = 1; out.kind = AccessKind.COMPARE_EXCHANGE; break;
    case 0x1b1: out.kind = AccessKind.COMPARE_EXCHANGE; break;
    case 0x1b6: out.size = 1; break;
    case 0x1b7: out.size = 2; break;
    default: return false;
  }
  const operands = modrmLength(bytes, at);
  if (operands === 0) return false;
  const register: u32 = ((u32(bytes[at & 15]) >> 3) & 7) | ((rex & REX_R) << 1);
  const high = (out.size === 1 && out.registerSize === 1 || opcode === 0x88) && rex === 0 && register >= 4;
  out.highByte = high ? 1 : 0;
  out.register = high ? register - 4 : register;
  at += operands;
  out.immediate = signExtend(readImmediate(bytes, at, immediateBytes), immediateBytes, wide);
  out.length = at + immediateBytes;
  return out.length <= count;
}

/** The 32-bit immediate of a 64-bit MOV is sign-extended. */
function signExtend(value: u64, bytes: u32, wide: u32): u64 {
  if (bytes === 4 && wide === 8 && (value & 0x80000000n) !== 0n) return value | 0xffffffff00000000n;
  return value;
}

/** The low `size` bytes of a value. */
export function truncateTo(value: u64, size: u32): u64 {
  return size === 8 ? value : value & ((1n << u64(size * 8)) - 1n);
}

/** A register after `bytes` bytes of it were loaded: 32-bit loads clear the upper half (SDM Vol. 1, 3.4.1.1). */
export function mergeRegister(before: u64, value: u64, bytes: u32, highByte: boolean): u64 {
  if (highByte) return (before & ~0xff00n) | ((value & 0xffn) << 8n);
  if (bytes >= 4) return truncateTo(value, bytes);
  const mask: u64 = (1n << u64(bytes * 8)) - 1n;
  return (before & ~mask) | (value & mask);
}
