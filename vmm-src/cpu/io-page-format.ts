/**
 * What an entry of an IOMMU's page tables looks like. Bit 7 marks a large page in
 * both forms; AMD's unit ignores the bit and goes by the next level, 0 for a page.
 *
 *  63  62 61 60 59  52 51              12 11   9 8  7 6    2  1  0
 * |ign.        |      | frame            | ign.   | L| ign. | W| R|   VT-d (4.1, 9.8: second-stage entries)
 * |ign.|IW|IR|FC| 0   | frame            | next   |  | ign. |  | P|   AMD-Vi (rev. 3.08, 2.2.3)
 */
import "../../compiler/core/dialect.mjs";
import { PTE_ADDRESS, PTE_LARGE } from '../machine/registers.ts';
import { MAP_WRITE } from './permissions.ts';

/** Which tables the machine's IOMMUs walk. */
export enum IoFormat { NONE = 0, VTD = 1, AMD = 2 }

const VTD_READ: u64 = 1n;
const VTD_WRITE: u64 = 2n;
/** Pages of 512 GiB and more do not exist. */
const VTD_LARGEST: u32 = 3;
const AMD_PRESENT: u64 = 1n;
const AMD_NEXT_LEVEL_SHIFT: u64 = 9n;
const AMD_NEXT_LEVEL: u64 = 7n;
/** Next level of a page whose size is in its address (2.2.3, table 13). */
const AMD_SIZE_IN_ADDRESS: u32 = 7;
const AMD_FORCE_COHERENT: u64 = 0x1000000000000000n;
const AMD_READ: u64 = 0x2000000000000000n;
const AMD_WRITE: u64 = 0x4000000000000000n;

/** Of an entry that points at a table of `level`, 1 for one of 4 KiB pages: all permissions. */
export function ioTableBits(format: IoFormat, level: u64): u64 {
  if (format === IoFormat.VTD) return VTD_READ | VTD_WRITE;
  return AMD_PRESENT | AMD_READ | AMD_WRITE | (level << AMD_NEXT_LEVEL_SHIFT);
}

/** Of a page: MAP_* permissions; whatever may be mapped may be read. */
export function ioPageBits(format: IoFormat, permissions: u64): u64 {
  const writable = (permissions & MAP_WRITE) !== 0n;
  if (format === IoFormat.VTD) return writable ? VTD_READ | VTD_WRITE : VTD_READ;
  return AMD_PRESENT | AMD_READ | AMD_FORCE_COHERENT | (writable ? AMD_WRITE : 0n);
}

/** The permissions of an entry, where the format has them. */
function permissionBits(format: IoFormat): u64 {
  return format === IoFormat.VTD ? VTD_READ | VTD_WRITE : AMD_READ | AMD_WRITE;
}

/** An entry with those of its permissions only that `allowed` has too; 0 if none is left. */
export function withPermissions(format: IoFormat, entry: u64, allowed: u64): u64 {
  const bits = permissionBits(format);
  const left: u64 = entry & allowed & bits;
  return left === 0n ? 0n : (entry & ~bits) | left;
}

/** Whether an entry's permissions allow a write, or a read. */
export function ioAllows(format: IoFormat, permissions: u64, write: boolean): boolean {
  const read: u64 = format === IoFormat.VTD ? VTD_READ : AMD_READ;
  return (permissions & (write ? permissionBits(format) & ~read : read)) !== 0n;
}

/** Bytes that one entry of a table of `level` covers, as a power of two. */
export function ioShift(level: u32): u64 {
  return 12n + 9n * u64(level - 1);
}

export enum IoEntryKind { NOTHING = 0, TABLE = 1, PAGE = 2 }

/** What an operating system's entry says: of a table its level, of a page where the part of it lies that the entry's place stands for. */
export class IoEntry extends Struct {
  kind: IoEntryKind;
  level: u32;
  address: HostPhysical;
  permissions: u64;
}

/** Bytes of a page whose size is in its address, as a power of two: the lowest clear bit tells it. */
function sizeInAddress(entry: u64): u64 {
  let shift: u64 = 12n;
  while (shift < 52n && (entry >> shift & 1n) !== 0n) shift++;
  return shift + 1n;
}

function readAmdEntry(level: u32, index: u32, entry: u64, out: IoEntry): void {
  const next: u32 = wrapU32(entry >> AMD_NEXT_LEVEL_SHIFT & AMD_NEXT_LEVEL);
  const shift = ioShift(level);
  if ((entry & AMD_PRESENT) === 0n) return;
  if (next !== 0 && next < level) {
    out.kind = IoEntryKind.TABLE;
    out.level = next;
  } else if (next === 0) {
    out.kind = IoEntryKind.PAGE;
    out.address = out.address & ~((1n << shift) - 1n);
  } else if (next === AMD_SIZE_IN_ADDRESS) {
    const size = sizeInAddress(entry);
    if (size < shift || size > shift + 9n) return;
    const within: u64 = (1n << size) - 1n;
    out.kind = IoEntryKind.PAGE;
    out.address = (out.address & ~within) | ((u64(index) << shift) & within);
  }
}

/** Reads entry `index` of an operating system's table of `level`. What the unit would refuse, too, is NOTHING. */
export function readIoEntry(format: IoFormat, level: u32, index: u32, entry: u64, out: IoEntry): void {
  out.kind = IoEntryKind.NOTHING;
  out.level = level - 1;
  out.address = entry & PTE_ADDRESS;
  out.permissions = entry & permissionBits(format);
  if (format === IoFormat.AMD) {
    readAmdEntry(level, index, entry, out);
    return;
  }
  if (out.permissions === 0n) return;
  if (level > 1 && (entry & PTE_LARGE) === 0n) out.kind = IoEntryKind.TABLE;
  else if (level <= VTD_LARGEST) {
    out.kind = IoEntryKind.PAGE;
    out.address = out.address & ~((1n << ioShift(level)) - 1n);
  }
}
