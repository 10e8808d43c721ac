/**
 * What the IOMMU drivers share: pages for the tables and queues that the units
 * read, and the answer to whose a device's accesses are.
 */
import { ANNEX_PAGES, annex } from '../../machine/annex.ts';
import { PAGE_SIZE } from '../../machine/registers.ts';
import { FREE, findFunction, functionAt, functionTotal, isHeld } from '../../partition.ts';

/** How many pages are the units', from the annex's start on, and of these how many are taken. */
let reserved: u32 = 0;
let taken: u32 = 0;

/** All pages are free again, and so many are for the units; what is left has shadows of I/O page tables. */
export function reserveTables(count: u32): void {
  assert(count > 0 && count < ANNEX_PAGES);
  reserved = count;
  taken = 0;
}

export function reservedTables(): u32 {
  return reserved;
}

/** Zeroed pages that follow each other; there must be as many. */
export function takeTables(count: u32): HostPhysical {
  assert(count > 0 && count <= reserved - taken);
  const first: u64 = addressOf(annex().pages) + u64(taken) * PAGE_SIZE;
  taken += count;
  fillBytes(first, 0, u64(count) * PAGE_SIZE);
  return first;
}

/** Whether a function on a bus is another instance's than `holder`'s, or nobody's. */
function isShared(bus: u32, holder: u32): boolean {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (u32(fn.bdf >> 8) === bus && fn.owner !== holder) return true;
  }
  return false;
}

/**
 * The instance whose memory a requester may reach, if any. One that is no known
 * function is the platform holder's (virtual functions are not scanned for), but
 * on a bus below a bridge where it could speak for a function that is not.
 */
export function requesterOwner(bdf: u32, holder: u32): u32 {
  const index = findFunction(wrapU16(bdf));
  if (index < functionTotal()) return functionAt(index).owner;
  const bus: u32 = bdf >> 8;
  return bus !== 0 && isShared(bus, holder) ? FREE : holder;
}

/** The same, as an event has it: 0 for nobody. */
export function requesterInstance(bdf: u32, holder: u32): u32 {
  const owner = requesterOwner(bdf, holder);
  return isHeld(owner) ? owner : 0;
}

/** Whether a known function is on a bus. */
export function isBusUsed(bus: u32): boolean {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    if (u32(functionAt(i).bdf >> 8) === bus) return true;
  }
  return false;
}
