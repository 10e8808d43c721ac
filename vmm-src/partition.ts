/**
 * The partition map: who owns which physical memory, processor and PCI function.
 * Owners are instance numbers from 1; FREE is nobody, VMM is the VMM itself.
 * A PCI function that was plugged in meanwhile is SHIELDED: no instance sees it
 * before the hand-over. One that is to leave the machine is HIDDEN, from then on.
 * Ownership is the central fact; page tables and bitmaps follow from it.
 */
import "../compiler/core/dialect.mjs";
import { FunctionStatus, MAX_CPUS, MAX_INSTANCES, MemoryRange, ResourceKind, Result, SHIELDED } from './abi.ts';

export const FREE: u32 = 0;
export const VMM: u32 = 255;

/** E820 types (ACPI 6.5, table 15-4). */
export const E820_RAM: u32 = 1;
export const E820_RESERVED: u32 = 2;
export const E820_ACPI: u32 = 3;

/** The first MiB: RAM up to the extended BIOS data area, then firmware. */
export const LOW_RAM_END: u64 = 0x9f000n;
export const LOW_END: u64 = 0x100000n;

/** A piece of RAM with one owner; pieces are sorted and do not overlap. */
export class Piece extends Struct { base: u64; size: u64; owner: u32; reserved: u32 }
const MAX_PIECES = 128;
const pieces: FixedArray<Piece, 128> = zeroed();
let pieceCount: u32 = 0;

const cpuOwners: FixedArray<u32, 32> = zeroed();
/** Who has a share of a processor that another instance owns; FREE: nobody. */
const cpuTenants: FixedArray<u32, 32> = zeroed();

export class PciFunction extends Struct {
  bdf: u16;
  /** 1: plugged in since the capture; nobody's means shielded then. */
  late: u16;
  owner: u32;
  /** Configuration space as it was when the function was found. */
  config: FixedArray<u8, 256>;
}
const MAX_FUNCTIONS_HELD = 64;
const functions: FixedArray<PciFunction, 64> = zeroed();
let functionCount: u32 = 0;

/** Forgets everything; processors from `cpuCount` on do not exist, so they are never free. */
export function resetPartition(cpuCount: u32): void {
  pieceCount = 0;
  functionCount = 0;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    cpuOwners[i] = i < cpuCount ? FREE : VMM;
    cpuTenants[i] = FREE;
  }
}

/** Adds RAM of one owner; addresses ascend from call to call. */
export function addMemory(base: HostPhysical, size: u64, owner: u32): Result {
  if (pieceCount >= MAX_PIECES) return Result.MEMORY;
  const piece = pieces[pieceCount];
  piece.base = base;
  piece.size = size;
  piece.owner = owner;
  pieceCount++;
  return Result.OK;
}

export function pieceTotal(): u32 {
  return pieceCount;
}

export function pieceAt(index: u32): Piece {
  return pieces[index];
}

/** Owner of the byte at a physical address; FREE where there is no RAM. */
export function ownerOf(address: HostPhysical): u32 {
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (address >= piece.base && address - piece.base < piece.size) return piece.owner;
  }
  return FREE;
}

/** Whether any byte of [base, base + size) is RAM, whoever's. */
export function touchesMemory(base: u64, size: u64): boolean {
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (base < piece.base + piece.size && piece.base < base + size) return true;
  }
  return false;
}

/** Whether [base, base + size) is RAM of one owner, all of it. */
export function holdsMemory(owner: u32, base: HostPhysical, size: u64): boolean {
  if (base + size < base) return false;
  let next: u64 = base;
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (next < piece.base || next - piece.base >= piece.size) continue;
    if (piece.owner !== owner) return false;
    next = piece.base + piece.size;
    if (next - base >= size) return true;
  }
  return size === 0n;
}

function insertPiece(index: u32): void {
  for (let i: u32 = pieceCount; i > index; i--) {
    const to = pieces[i];
    const from = pieces[i - 1];
    to.base = from.base;
    to.size = from.size;
    to.owner = from.owner;
  }
  pieceCount++;
}

/** Splits the piece that contains `address` so that one starts there. */
function splitAt(address: u64): void {
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (address <= piece.base || address - piece.base >= piece.size) continue;
    const first: u64 = address - piece.base;
    insertPiece(i);
    const second = pieces[i + 1];
    second.base = address;
    second.size = second.size - first;
    pieces[i].size = first;
    return;
  }
}

/** Whether a piece lies on both sides of an address. */
function isInside(address: u64): boolean {
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (address > piece.base && address - piece.base < piece.size) return true;
  }
  return false;
}

/** Gives RAM that `from` owns entirely to `to`; otherwise nothing changes. What was moved can be moved back. */
export function moveMemory(base: HostPhysical, size: u64, from: u32, to: u32): Result {
  if (size === 0n || !holdsMemory(from, base, size)) return Result.MEMORY;
  let needed = pieceCount;
  if (isInside(base)) needed++;
  if (isInside(base + size)) needed++;
  if (needed > MAX_PIECES) return Result.MEMORY;
  splitAt(base);
  splitAt(base + size);
  for (let i: u32 = 0; i < pieceCount; i++) {
    const piece = pieces[i];
    if (piece.base >= base && piece.base - base < size) piece.owner = to;
  }
  mergePieces();
  return Result.OK;
}

/** Joins neighbours of one owner. */
function mergePieces(): void {
  let kept: u32 = 0;
  for (let i: u32 = 1; i < pieceCount; i++) {
    const last = pieces[kept];
    const piece = pieces[i];
    if (last.owner === piece.owner && last.base + last.size === piece.base) {
      last.size += piece.size;
      continue;
    }
    kept++;
    const target = pieces[kept];
    target.base = piece.base;
    target.size = piece.size;
    target.owner = piece.owner;
  }
  if (pieceCount > 0) pieceCount = kept + 1;
}

/** Everything that `from` owns becomes `to`'s: memory, processors, functions. */
export function moveEverything(from: u32, to: u32): void {
  for (let i: u32 = 0; i < pieceCount; i++) {
    if (pieces[i].owner === from) pieces[i].owner = to;
  }
  mergePieces();
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (cpuOwners[i] === from) cpuOwners[i] = to;
  }
  for (let i: u32 = 0; i < functionCount; i++) {
    const fn = functions[i];
    if (fn.owner === from) fn.owner = to === FREE && fn.late !== 0 ? SHIELDED : to;
  }
}

/** RAM of an owner in bytes. */
export function memoryOf(owner: u32): u64 {
  let total: u64 = 0n;
  for (let i: u32 = 0; i < pieceCount; i++) {
    if (pieces[i].owner === owner) total += pieces[i].size;
  }
  return total;
}

/** Fills in an owner's RAM; returns how many ranges. */
export function listMemory(owner: u32, out: FixedArray<MemoryRange, 64>): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < pieceCount; i++) {
    if (pieces[i].owner !== owner || count >= out.length) continue;
    const range = out[count];
    range.base = pieces[i].base;
    range.size = pieces[i].size;
    range.type = E820_RAM;
    count++;
  }
  return count;
}

export function cpuOwner(cpu: u32): u32 {
  return cpuOwners[cpu];
}

export function setCpuOwner(cpu: u32, owner: u32): void {
  cpuOwners[cpu] = owner;
}

/** The instance that has a share of a processor beside its owner, or FREE. */
export function cpuTenant(cpu: u32): u32 {
  return cpuTenants[cpu];
}

export function setCpuTenant(cpu: u32, tenant: u32): void {
  cpuTenants[cpu] = tenant;
}

/** Processors of an owner, bit by number. */
export function cpusOf(owner: u32): u64 {
  let mask: u64 = 0n;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (cpuOwners[i] === owner) mask |= 1n << u64(i);
  }
  return mask;
}

/** Whether an owner is an instance. */
export function isHeld(owner: u32): boolean {
  return owner !== FREE && owner <= MAX_INSTANCES;
}

/** Forgets every known function. */
export function resetFunctions(): void {
  functionCount = 0;
}

/** A new function of an owner, its configuration snapshot to be filled in; the last slot again when the table is full. */
export function addFunction(bdf: u16, owner: u32): PciFunction {
  if (functionCount < MAX_FUNCTIONS_HELD) functionCount++;
  const fn = functions[functionCount - 1];
  fn.bdf = bdf;
  fn.owner = owner;
  fn.late = owner === SHIELDED ? 1 : 0;
  return fn;
}

/** Forgets one function, which has left the machine; those behind it move up. */
export function removeFunction(index: u32): void {
  if (index >= functionCount) return;
  functionCount--;
  for (let i: u32 = index; i < functionCount; i++) {
    copyBytes(addressOf(functions[i]), addressOf(functions[i + 1]), u64(sizeOf<PciFunction>()));
  }
}

export function functionTotal(): u32 {
  return functionCount;
}

export function functionAt(index: u32): PciFunction {
  return functions[index];
}

/** Index of a function by bus, device and function; functionTotal() if unknown. */
export function findFunction(bdf: u16): u32 {
  for (let i: u32 = 0; i < functionCount; i++) {
    if (functions[i].bdf === bdf) return i;
  }
  return functionCount;
}

/** Fills in the status of every known function; returns how many. */
export function listFunctions(out: FixedArray<FunctionStatus, 64>): u32 {
  for (let i: u32 = 0; i < functionCount; i++) {
    const fn = functions[i];
    const status = out[i];
    status.bdf = fn.bdf;
    status.instance = wrapU16(fn.owner);
    status.id = load32(addressOf(fn.config));
    status.classCode = load32(addressOf(fn.config) + 8n) >> 8;
  }
  return functionCount;
}

/** How many resources of a kind an owner has: bytes for memory. */
export function amountOf(owner: u32, kind: ResourceKind): u64 {
  if (kind === ResourceKind.MEMORY) return memoryOf(owner);
  let count: u64 = 0n;
  if (kind === ResourceKind.FUNCTION) {
    for (let i: u32 = 0; i < functionCount; i++) {
      if (functions[i].owner === owner) count++;
    }
  }
  return count;
}
