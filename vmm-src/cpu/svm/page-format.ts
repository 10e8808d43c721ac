/**
 * What an entry of the nested page tables looks like: that of any page table, in
 * which every guest access counts as a user's (APM Vol. 2, 15.25.5).
 *
 *   63 62   52 51              12 11 9  8  7  6 5  4  3   2 1 0
 * |NX|  ign. | frame            | ign | G| L| D A|PCD PWT U W P |
 *
 * The memory type is the guest's own and the MTRRs'; nested entries leave it alone.
 */
import "../../../compiler/core/dialect.mjs";
import { PTE_NX } from '../../machine/registers.ts';
import { MAP_EXECUTE, MAP_WRITE } from '../permissions.ts';

const PRESENT_USER: u64 = 5n;
const WRITE: u64 = 2n;
/** Set from the start, so that the processor has nothing to write. */
const ACCESSED_DIRTY: u64 = 0x60n;

/** Of an entry that points at a table: all permissions. */
export const TABLE_BITS: u64 = 0x27n;

/** Of a page: MAP_* permissions; whatever may be mapped may be read. */
export function pageBits(_host: HostPhysical, permissions: u64): u64 {
  const write: u64 = (permissions & MAP_WRITE) !== 0n ? WRITE : 0n;
  const execute: u64 = (permissions & MAP_EXECUTE) !== 0n ? 0n : PTE_NX;
  return PRESENT_USER | ACCESSED_DIRTY | write | execute;
}

/** Whether one page may map [host, host + size): the processor looks at the MTRRs page by page itself. */
export function fitsOnePage(_host: HostPhysical, _size: u64): boolean {
  return true;
}

/** What the processor is told of an instance's map: nested CR3. */
export function pointerTo(root: HostPhysical, _instance: u32): u64 {
  return root;
}
