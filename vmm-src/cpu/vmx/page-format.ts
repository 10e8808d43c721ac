/**
 * What an entry of the extended page tables looks like:
 *
 *  63    52 51              12 11 8  7   6  5..3   2 1 0
 * |  ign.  | frame            | ign | L |PAT| type | X W R |   (SDM Vol. 3C, 29.3.2)
 */
import { memoryType, uniformType } from '../../machine/mtrr.ts';

const TYPE_SHIFT: u64 = 3n;
/** EPTP: write-back tables, page walk of length 4 (SDM Vol. 3C, 26.6.11). */
const WRITE_BACK_4_LEVELS: u64 = 0x1en;

/** Of an entry that points at a table: all permissions, no type. */
export const TABLE_BITS: u64 = 7n;

/** Of a page at `host`: MAP_* permissions are EPT's own, the memory type is the MTRRs'. */
export function pageBits(host: HostPhysical, permissions: u64): u64 {
  return (u64(memoryType(host)) << TYPE_SHIFT) | permissions;
}

/** Whether one page may map [host, host + size): it can have only one memory type. */
export function fitsOnePage(host: HostPhysical, size: u64): boolean {
  return uniformType(host, size);
}

/** What the processor is told of an instance's map: its EPT pointer. */
export function pointerTo(root: HostPhysical, _instance: u32): u64 {
  return root | WRITE_BACK_4_LEVELS;
}
