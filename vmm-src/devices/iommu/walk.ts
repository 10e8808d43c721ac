/** The walk of a unit through an operating system's own I/O page tables, for the events that tell what was in the way. */
import { IoEntry, IoEntryKind, IoFormat, ioAllows, ioShift, readIoEntry } from '../../cpu/io-page-format.ts';
import { PAGE_SIZE } from '../../machine/registers.ts';
import { holdsMemory } from '../../partition.ts';

/** No address. */
export const NOWHERE: u64 = 0xffffffffffffffffn;
const MAX_LEVELS: u32 = 6;

/**
 * The page of memory that tables of an instance's kernel map an address to, for an access that they allow; NOWHERE if
 * they don't. Where a unit has refused such an access, it was not the kernel that kept the device from that page.
 */
export function keptFrom(format: IoFormat, instance: u32, root: HostPhysical, levels: u32, address: u64, isWrite: boolean): u64 {
  const entry: IoEntry = zeroed();
  let table: u64 = root;
  let level: u32 = levels <= MAX_LEVELS ? levels : 0;
  while (level > 0 && holdsMemory(instance, table, PAGE_SIZE)) {
    const index: u32 = wrapU32(address >> ioShift(level)) & 511;
    readIoEntry(format, level, index, load64(table + u64(index) * 8n), entry);
    if (entry.kind === IoEntryKind.NOTHING || !ioAllows(format, entry.permissions, isWrite)) return NOWHERE;
    if (entry.kind === IoEntryKind.PAGE) return (entry.address | (address & ((1n << ioShift(level)) - 1n))) & ~(PAGE_SIZE - 1n);
    table = entry.address;
    level = entry.level;
  }
  return NOWHERE;
}
