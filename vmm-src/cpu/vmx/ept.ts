/**
 * Extended page tables: what of the machine's memory an instance can reach.
 *
 *  63    52 51              12 11 8  7   6  5..3   2 1 0
 * |  ign.  | frame            | ign | L |PAT| type | X W R |   (SDM Vol. 3C, 29.3.2)
 *
 * Pages are 1 GiB, 2 MiB or 4 KiB, the largest that a range allows; a larger page
 * is split when part of it changes. Each instance has a pool of tables, so that
 * nothing is ever allocated elsewhere.
 */
import { PTE_ADDRESS, PTE_LARGE, PageTable, SIZE_1G, SIZE_2M, SIZE_512G, PAGE_SIZE } from '../../machine/registers.ts';
import { memoryType, uniformType } from '../../machine/mtrr.ts';

export const EPT_READ: u64 = 1n;
export const EPT_WRITE: u64 = 2n;
export const EPT_EXECUTE: u64 = 4n;
export const EPT_ALL: u64 = 7n;
const EPT_TYPE_SHIFT: u64 = 3n;
/** Of a table entry, as opposed to a page: all permissions, no type. */
const EPT_TABLE: u64 = 7n;
/** EPTP: write-back tables, page walk of length 4 (SDM Vol. 3C, 26.6.11). */
const EPTP_WRITE_BACK_4_LEVELS: u64 = 0x1en;

const POOL_TABLES = 96;
const pools: FixedArray<FixedArray<PageTable, 96>, 2> = zeroed(4096);
const used: FixedArray<u32, 2> = zeroed();

/** Empties an instance's (from 1) map. */
export function resetEpt(instance: u32): void {
  used[instance - 1] = 1;
  fillBytes(addressOf(pools[instance - 1][0]), 0, PAGE_SIZE);
}

export function eptPointer(instance: u32): u64 {
  return addressOf(pools[instance - 1][0]) | EPTP_WRITE_BACK_4_LEVELS;
}

/** Tables still free in an instance's pool. */
export function eptTablesFree(instance: u32): u32 {
  return POOL_TABLES - used[instance - 1];
}

/** Tables that one mapRange or unmapRange can need at most: one of each level at either end. */
export const EPT_TABLES_PER_RANGE: u32 = 6;

function newTable(instance: u32): PageTable {
  const index = used[instance - 1];
  assert(index < POOL_TABLES);
  used[instance - 1] = index + 1;
  const table = pools[instance - 1][index];
  fillBytes(addressOf(table), 0, PAGE_SIZE);
  return table;
}

/** The table below an entry; splits a large page into one of the next size. */
function tableBelow(instance: u32, table: PageTable, index: u32, childSize: u64): PageTable {
  const entry = table[index];
  if ((entry & EPT_ALL) !== 0n && (entry & PTE_LARGE) === 0n) return at<PageTable>(entry & PTE_ADDRESS);
  const child = newTable(instance);
  if ((entry & EPT_ALL) !== 0n) {
    const flags: u64 = childSize === PAGE_SIZE ? entry & 0x7fn : entry & 0xffn;
    for (let i: u32 = 0; i < 512; i++) {
      child[i] = ((entry & PTE_ADDRESS) + u64(i) * childSize) | flags;
    }
  }
  table[index] = addressOf(child) | EPT_TABLE;
  return child;
}

/** The entry for the page of `size` bytes at an address. */
function setEntry(instance: u32, address: GuestPhysical, size: u64, entry: u64): void {
  const root = pools[instance - 1][0];
  const level3 = tableBelow(instance, root, wrapU32(address >> 39n) & 511, SIZE_1G);
  const index3: u32 = wrapU32(address >> 30n) & 511;
  if (size === SIZE_1G) {
    level3[index3] = entry;
    return;
  }
  const level2 = tableBelow(instance, level3, index3, SIZE_2M);
  const index2: u32 = wrapU32(address >> 21n) & 511;
  if (size === SIZE_2M) {
    level2[index2] = entry;
    return;
  }
  const level1 = tableBelow(instance, level2, index2, PAGE_SIZE);
  level1[wrapU32(address >> 12n) & 511] = entry;
}

/** The largest page that starts at both addresses, ends in the range and has one memory type. */
function pageSize(guest: GuestPhysical, host: HostPhysical, left: u64): u64 {
  const both: u64 = u64(guest) | u64(host);
  if ((both & (SIZE_1G - 1n)) === 0n && left >= SIZE_1G && uniformType(host, SIZE_1G)) return SIZE_1G;
  if ((both & (SIZE_2M - 1n)) === 0n && left >= SIZE_2M && uniformType(host, SIZE_2M)) return SIZE_2M;
  return PAGE_SIZE;
}

/** Maps guest-physical [guest, guest + size) to host-physical [host, …) with `permissions`, types from the MTRRs. */
export function mapRange(instance: u32, guest: GuestPhysical, host: HostPhysical, size: u64, permissions: u64): void {
  let offset: u64 = 0n;
  while (offset < size) {
    const page = pageSize(guest + offset, host + offset, size - offset);
    const large: u64 = page === PAGE_SIZE ? 0n : PTE_LARGE;
    const type: u64 = u64(memoryType(host + offset)) << EPT_TYPE_SHIFT;
    setEntry(instance, guest + offset, page, (host + offset) | type | large | permissions);
    offset += page;
  }
}

/** Maps [address, address + size) onto itself: guest-physical is host-physical. */
export function mapIdentical(instance: u32, address: HostPhysical, size: u64, permissions: u64): void {
  mapRange(instance, u64(address), address, size, permissions);
}

/** Takes guest-physical [guest, guest + size) away. */
export function unmapRange(instance: u32, guest: u64, size: u64): void {
  let offset: u64 = 0n;
  while (offset < size) {
    const page = pageSize(guest + offset, guest + offset, size - offset);
    setEntry(instance, guest + offset, page, 0n);
    offset += page;
  }
}

const SMALL_STEP: u64 = 0x4000000n;
const SMALL_STEPS: u32 = 64;
const LARGE_STEP: u64 = 0x400000000n;
const LARGE_STEPS: u32 = 32;
export const IDENTITY_STEPS: u32 = SMALL_STEPS + LARGE_STEPS;

/** Maps the first 512 GiB onto themselves in IDENTITY_STEPS steps of bounded work: 64 MiB each below 4 GiB, 16 GiB each above. */
export function mapIdentityStep(instance: u32, step: u32): void {
  if (step < SMALL_STEPS) {
    const base: u64 = u64(step) * SMALL_STEP;
    mapIdentical(instance, base, SMALL_STEP, EPT_ALL);
    return;
  }
  const base: u64 = u64(step - SMALL_STEPS) * LARGE_STEP;
  const low: u64 = SMALL_STEP * u64(SMALL_STEPS);
  if (base >= low) mapIdentical(instance, base, LARGE_STEP, EPT_ALL);
  else mapIdentical(instance, low, LARGE_STEP - low, EPT_ALL);
}

/** The whole identity map at once, for an instance that is given everything. */
export function mapIdentity(instance: u32): void {
  for (let step: u32 = 0; step < IDENTITY_STEPS; step++) mapIdentityStep(instance, step);
}

/** Beyond what the identity map covers, memory-mapped devices are mapped when touched. */
export function isBeyondIdentity(address: GuestPhysical): boolean {
  return address >= SIZE_512G;
}
