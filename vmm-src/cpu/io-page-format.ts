/**
 * What an entry of an IOMMU's page tables looks like. Bit 7 marks a large page in
 * both forms; AMD's unit ignores the bit and goes by the next level, 0 for a page.
 *
 *  63  62 61 60 59  52 51              12 11   9 8  7 6    2  1  0
 * |ign.        |      | frame            | ign.   | L| ign. | W| R|   VT-d (4.1, 9.8: second-stage entries)
 * |ign.|IW|IR|FC| 0   | frame            | next   |  | ign. |  | P|   AMD-Vi (rev. 3.08, 2.2.3)
 */
import "../../compiler/core/dialect.mjs";
import { MAP_WRITE } from './permissions.ts';

/** Which tables the machine's IOMMUs walk. */
export enum IoFormat { NONE = 0, VTD = 1, AMD = 2 }

const VTD_READ: u64 = 1n;
const VTD_WRITE: u64 = 2n;
const AMD_PRESENT: u64 = 1n;
const AMD_NEXT_LEVEL_SHIFT: u64 = 9n;
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
