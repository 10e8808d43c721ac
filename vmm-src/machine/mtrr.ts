/**
 * Memory types from the MTRRs (SDM Vol. 3A, 13.11). Read once; the types only say
 * how the extended page tables map memory, so they have to agree with what the
 * operating system was given by its firmware.
 */
import { readMsr } from './intrinsics.ts';
import {
  IA32_MTRRCAP, IA32_MTRR_DEF_TYPE, IA32_MTRR_FIX16K_80000, IA32_MTRR_FIX4K_C0000, IA32_MTRR_FIX64K_00000,
  IA32_MTRR_PHYSBASE0, IA32_MTRR_PHYSMASK0,
} from './msr.ts';
import { PTE_ADDRESS } from './registers.ts';

export const MEMORY_UC: u32 = 0;
export const MEMORY_WT: u32 = 4;
export const MEMORY_WB: u32 = 6;

const DEF_TYPE_FIXED_ENABLE: u64 = 0x400n;
const DEF_TYPE_ENABLE: u64 = 0x800n;
const MASK_VALID: u64 = 0x800n;
const CAP_COUNT: u64 = 0xffn;
/** Bits of PHYSMASK above this machine's width read as zero; they count as set. */
const ALL_ADDRESS_BITS: u64 = 0xffffffffffffn;

class VariableRange extends Struct { base: u64; size: u64; type: u32; reserved: u32 }

const variable: FixedArray<VariableRange, 16> = zeroed();
let variableCount: u32 = 0;
let defaultType: u32 = 0;
let fixedEnabled: boolean = false;
/** 88 types: 8 of 64 KiB, 16 of 16 KiB, 64 of 4 KiB. */
const fixedTypes: FixedArray<u64, 11> = zeroed();
const FIXED_END: u64 = 0x100000n;

/** Reads the MTRRs. */
export function readMtrrs(): void {
  const definition = readMsr(IA32_MTRR_DEF_TYPE);
  variableCount = 0;
  fixedEnabled = false;
  if ((definition & DEF_TYPE_ENABLE) === 0n) {
    defaultType = MEMORY_UC;
    return;
  }
  defaultType = wrapU32(definition & 0xffn);
  const count = wrapU32(readMsr(IA32_MTRRCAP) & CAP_COUNT);
  for (let i: u32 = 0; i < 16; i++) {
    if (i >= count) break;
    const mask = readMsr(IA32_MTRR_PHYSMASK0 + 2 * i);
    if ((mask & MASK_VALID) === 0n) continue;
    const base = readMsr(IA32_MTRR_PHYSBASE0 + 2 * i);
    const range = variable[variableCount & 15];
    range.base = base & PTE_ADDRESS & mask;
    range.size = lowestBit(mask & PTE_ADDRESS);
    range.type = wrapU32(base & 0xffn);
    variableCount++;
  }
  fixedEnabled = (definition & DEF_TYPE_FIXED_ENABLE) !== 0n;
  if (!fixedEnabled) return;
  fixedTypes[0] = readMsr(IA32_MTRR_FIX64K_00000);
  for (let i: u32 = 0; i < 2; i++) fixedTypes[1 + i] = readMsr(IA32_MTRR_FIX16K_80000 + i);
  for (let i: u32 = 0; i < 8; i++) fixedTypes[3 + i] = readMsr(IA32_MTRR_FIX4K_C0000 + i);
}

function lowestBit(value: u64): u64 {
  return value & (~value + 1n) & ALL_ADDRESS_BITS;
}

function fixedType(address: u64): u32 {
  let index: u32 = 0;
  if (address < 0x80000n) index = wrapU32(address >> 16n);
  else if (address < 0xc0000n) index = 8 + wrapU32((address - 0x80000n) >> 14n);
  else index = 24 + wrapU32((address - 0xc0000n) >> 12n);
  return wrapU32(fixedTypes[index >> 3] >> u64((index & 7) * 8)) & 0xff;
}

/** Memory type of the page at a physical address; overlaps by the rules of 13.11.4.1. */
export function memoryType(address: HostPhysical): u32 {
  if (address < FIXED_END && fixedEnabled) return fixedType(address);
  let type: u32 = 0xff;
  for (let i: u32 = 0; i < variableCount; i++) {
    const range = variable[i & 15];
    if (address < range.base || address >= range.base + range.size) continue;
    if (type === 0xff) type = range.type;
    else if (type !== range.type) {
      type = type === MEMORY_UC || range.type === MEMORY_UC ? MEMORY_UC : MEMORY_WT;
    }
  }
  return type === 0xff ? defaultType : type;
}

/** Whether [address, address + size) has one type; size a power of two, address a multiple of it. */
export function uniformType(address: HostPhysical, size: u64): boolean {
  if (address < FIXED_END) {
    if (fixedEnabled) return false;
  }
  for (let i: u32 = 0; i < variableCount; i++) {
    const range = variable[i & 15];
    const end: u64 = range.base + range.size;
    const startsInside = range.base > address && range.base < address + size;
    const endsInside = end > address && end < address + size;
    if (startsInside || endsInside) return false;
  }
  return true;
}
