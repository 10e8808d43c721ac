/**
 * Memory maps: what of the machine's memory an instance can reach, in the form
 * that the processor walks (#processor/page-format.ts), and once more in the form
 * that an IOMMU walks for its devices, if there is one. Tables of four levels with
 * pages of 1 GiB, 2 MiB or 4 KiB, the largest that a range allows; a larger page
 * is split when part of it changes, and the tables below one that takes their
 * place are free again. Each map has a pool of tables, so that nothing is
 * ever allocated elsewhere.
 *
 * A shared view (cpu/cpu.ts) of an instance's map is the same but for one page, the
 * local APIC's: there it has nothing, or a page that stands in for it. The four tables on the way there are its own, all others the map's:
 *
 *   root ─┬─▶ … ─┬─▶ … ─┬─▶ page table ─▶ pages
 *   view's│      │      │
 *   root ─┴─▶ …' ┴─▶ …' ┴─▶ page table' ─▶ the same pages but one
 */
import { MAX_INSTANCES } from '../abi.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import { PAGE_SIZE, PTE_ADDRESS, PTE_LARGE, PageTable, SIZE_1G, SIZE_2M, SIZE_512G } from '../machine/registers.ts';
import { IoFormat, ioPageBits, ioTableBits } from './io-page-format.ts';
import { MAP_ALL, MAP_EXECUTE, MAP_READ, MAP_WRITE } from './permissions.ts';
import { TABLE_BITS, fitsOnePage, pageBits, pointerTo } from '#processor/page-format.ts';

/** Set in an entry that maps something, in every format. */
const PRESENT: u64 = 1n;
/** What tables of four levels cover. */
const ADDRESS_BITS: u64 = 48n;

/**
 * Maps by number: 1 and 2 are the instances' for processors, MAX_INSTANCES more are for their devices. Each has a pool
 * of tables; the first instance's is larger, for the single pages that are write-protected in it.
 */
const POOL_FIRST: FixedArray<u32, 4> = [0, 320, 416, 512];
const POOL_TABLES: FixedArray<u32, 4> = [320, 96, 96, 96];
const tables: FixedArray<PageTable, 608> = zeroed(4096);
/** Tables of each pool that have been used so far; the first is the root. */
const used: FixedArray<u32, 4> = zeroed();
/** Of those, the ones that are free again: a list through their first entries, and its length. */
const freed: FixedArray<u64, 4> = zeroed();
const freedCount: FixedArray<u32, 4> = zeroed();
/** Tables of the devices' maps that are out of use, but that a unit may still have looked up. */
const retired: FixedArray<FixedArray<u64, 96>, 2> = zeroed();
const retiredCount: FixedArray<u32, 2> = zeroed();

const VIEW_LEVELS: u32 = 4;
/** Of each instance's view, the tables on the way to the missing page, from the root. */
const viewTables: FixedArray<FixedArray<PageTable, 4>, 2> = zeroed(4096);
const viewed: FixedArray<boolean, 2> = zeroed();
/** What it has there instead; 0 for nothing. */
const standIns: FixedArray<u64, 2> = zeroed();

/** How the machine's IOMMUs want their tables. */
let ioFormat: IoFormat = IoFormat.NONE;
/** Whether the instances have changed their maps for devices. */
let ioSwapped: boolean = false;

/** Maps that are made from here on are made for devices too, unless the format is NONE. */
export function setIoFormat(format: IoFormat): void {
  ioFormat = format;
  ioSwapped = false;
}

/**
 * An instance that runs on, and whose map is about to be made anew, makes the one
 * for its devices where the stopped other instance had its own: devices stop for
 * nothing, and have the old one until the IOMMU is told of the new.
 */
export function swapIoMaps(): void {
  ioSwapped = !ioSwapped;
}

function ioMap(instance: u32): u32 {
  return MAX_INSTANCES + (ioSwapped ? MAX_INSTANCES + 1 - instance : instance);
}

function clearMap(map: u32): void {
  used[map - 1] = 1;
  freed[map - 1] = 0n;
  freedCount[map - 1] = 0;
  if (map > MAX_INSTANCES) retiredCount[map - 1 - MAX_INSTANCES] = 0;
  fillBytes(addressOf(rootOf(map)), 0, PAGE_SIZE);
}

/** Empties an instance's (from 1) map. */
export function resetMap(instance: u32): void {
  closeView(instance);
  clearMap(instance);
  clearMap(ioMap(instance));
}

function rootOf(map: u32): PageTable {
  return tables[POOL_FIRST[map - 1]];
}

/** Where a walk of an instance's tables for devices starts: at the root of four levels, or at the table of its first 512 GiB. */
export function ioRoot(instance: u32, levels: u32): HostPhysical {
  const root = rootOf(ioMap(instance));
  return levels === 4 ? u64(addressOf(root)) : root[0] & PTE_ADDRESS;
}

/** What the processor is told of an instance's map, or of its shared view. */
export function mapPointer(view: u32): u64 {
  const root = view > MAX_INSTANCES ? viewTables[view - MAX_INSTANCES - 1][0] : rootOf(view);
  return pointerTo(u64(addressOf(root)), view);
}

/** Tables still free in an instance's pool. The map for devices never needs more: no memory type divides its pages. */
export function mapTablesFree(instance: u32): u32 {
  return POOL_TABLES[instance - 1] - used[instance - 1] + freedCount[instance - 1];
}

/** Tables that one mapRange or unmapRange can need at most: one of each level at either end. */
export const MAP_TABLES_PER_RANGE: u32 = 6;

function newTable(map: u32): PageTable {
  const pool = map - 1;
  const first = freed[pool];
  if (first !== 0n) {
    freed[pool] = load64(first);
    freedCount[pool]--;
    fillBytes(first, 0, PAGE_SIZE);
    return at<PageTable>(first);
  }
  const index = used[pool];
  assert(index < POOL_TABLES[pool]);
  used[pool] = index + 1;
  const table = tables[POOL_FIRST[pool] + index];
  fillBytes(addressOf(table), 0, PAGE_SIZE);
  return table;
}

function isTable(entry: u64): boolean {
  return (entry & PRESENT) !== 0n && (entry & PTE_LARGE) === 0n;
}

function putBack(pool: u32, address: HostVirtual): void {
  store64(address, freed[pool]);
  freed[pool] = address;
  freedCount[pool]++;
}

/** A table is out of use. One for devices keeps what is in it until the units are told: as another table they would take its entries for something else. */
function freeTable(map: u32, entry: u64): void {
  if (map <= MAX_INSTANCES) {
    putBack(map - 1, entry & PTE_ADDRESS);
    return;
  }
  const own: u32 = map - 1 - MAX_INSTANCES;
  retired[own][retiredCount[own]] = entry & PTE_ADDRESS;
  retiredCount[own]++;
}

/** The units have forgotten what they had looked up: tables that have gone out of use may become others. */
export function reuseIoTables(): void {
  for (let own: u32 = 0; own < MAX_INSTANCES; own++) {
    for (let i: u32 = 0; i < retiredCount[own]; i++) putBack(MAX_INSTANCES + own, retired[own][i]);
    retiredCount[own] = 0;
  }
}

/** Frees the page directory that an entry points at, with its page tables. */
function freeDirectory(map: u32, entry: u64): void {
  const directory = at<PageTable>(entry & PTE_ADDRESS);
  for (let i: u32 = 0; i < 512; i++) {
    if (isTable(directory[i])) freeTable(map, directory[i]);
  }
  freeTable(map, entry);
}

/** Of an entry that points at a table of pages of `childSize`. */
function tableBits(map: u32, childSize: u64): u64 {
  if (map <= MAX_INSTANCES) return TABLE_BITS;
  return ioTableBits(ioFormat, childSize === SIZE_1G ? 3n : childSize === SIZE_2M ? 2n : 1n);
}

/** The table below an entry; splits a large page into one of the next size. */
function tableBelow(map: u32, table: PageTable, index: u32, childSize: u64): PageTable {
  const entry = table[index];
  if (isTable(entry)) return at<PageTable>(entry & PTE_ADDRESS);
  const child = newTable(map);
  if ((entry & PRESENT) !== 0n) {
    const bits: u64 = entry & ~PTE_ADDRESS & (childSize === PAGE_SIZE ? ~PTE_LARGE : ~0n);
    for (let i: u32 = 0; i < 512; i++) {
      child[i] = ((entry & PTE_ADDRESS) + u64(i) * childSize) | bits;
    }
  }
  table[index] = addressOf(child) | tableBits(map, childSize);
  return child;
}

/** The entry for the page of `size` bytes at an address. */
function setEntry(map: u32, address: GuestPhysical, size: u64, entry: u64): void {
  const level3 = tableBelow(map, rootOf(map), wrapU32(address >> 39n) & 511, SIZE_1G);
  const index3: u32 = wrapU32(address >> 30n) & 511;
  if (size === SIZE_1G) {
    if (isTable(level3[index3])) freeDirectory(map, level3[index3]);
    level3[index3] = entry;
    return;
  }
  const level2 = tableBelow(map, level3, index3, SIZE_2M);
  const index2: u32 = wrapU32(address >> 21n) & 511;
  if (size === SIZE_2M) {
    if (isTable(level2[index2])) freeTable(map, level2[index2]);
    level2[index2] = entry;
    return;
  }
  const level1 = tableBelow(map, level2, index2, PAGE_SIZE);
  level1[wrapU32(address >> 12n) & 511] = entry;
}

/** A processor's page has one memory type; devices know none. */
function mayBeOnePage(map: u32, host: HostPhysical, size: u64): boolean {
  return map > MAX_INSTANCES || fitsOnePage(host, size);
}

/** The largest page that starts at both addresses, ends in the range and is one to who walks the map. */
function pageSize(map: u32, guest: GuestPhysical, host: HostPhysical, left: u64): u64 {
  const both: u64 = u64(guest) | u64(host);
  if ((both & (SIZE_1G - 1n)) === 0n && left >= SIZE_1G && mayBeOnePage(map, host, SIZE_1G)) return SIZE_1G;
  if ((both & (SIZE_2M - 1n)) === 0n && left >= SIZE_2M && mayBeOnePage(map, host, SIZE_2M)) return SIZE_2M;
  return PAGE_SIZE;
}

function mapPages(map: u32, guest: GuestPhysical, host: HostPhysical, size: u64, permissions: u64): void {
  let offset: u64 = 0n;
  while (offset < size) {
    const page = pageSize(map, guest + offset, host + offset, size - offset);
    const large: u64 = page === PAGE_SIZE ? 0n : PTE_LARGE;
    const bits: u64 = map > MAX_INSTANCES ? ioPageBits(ioFormat, permissions) : pageBits(host + offset, permissions);
    setEntry(map, guest + offset, page, (host + offset) | large | bits);
    offset += page;
  }
}

/** Makes an instance's view what its map is by now; entries change one by one, under processors that walk them. */
function updateView(instance: u32): void {
  if (!viewed[instance - 1]) return;
  const hole: u64 = u64(APIC_DEFAULT_BASE);
  const standIn: HostPhysical = standIns[instance - 1];
  let table = rootOf(instance);
  for (let level: u32 = 0; level < VIEW_LEVELS; level++) {
    const own = viewTables[instance - 1][level];
    const way: u32 = wrapU32(hole >> u64(39 - 9 * level)) & 511;
    for (let i: u32 = 0; i < 512; i++) {
      if (i !== way) own[i] = table[i];
    }
    if (level === VIEW_LEVELS - 1) own[way] = standIn === 0n ? 0n : standIn | pageBits(standIn, MAP_READ | MAP_WRITE);
    else {
      own[way] = addressOf(viewTables[instance - 1][level + 1]) | TABLE_BITS;
      table = tableBelow(instance, table, way, level === 0 ? SIZE_1G : level === 1 ? SIZE_2M : PAGE_SIZE);
    }
  }
}

/** Makes the shared view of an instance's map, with a page that may be read and written in the missing one's place, or with 0; false if there is one. */
export function openView(instance: u32, standIn: HostPhysical): boolean {
  if (viewed[instance - 1]) return false;
  viewed[instance - 1] = true;
  standIns[instance - 1] = standIn;
  updateView(instance);
  return true;
}

/** Nobody walks the view any more. */
export function closeView(instance: u32): void {
  viewed[instance - 1] = false;
}

/** Maps guest-physical [guest, guest + size) to host-physical [host, …) with `permissions`, MAP_*. */
export function mapRange(instance: u32, guest: GuestPhysical, host: HostPhysical, size: u64, permissions: u64): void {
  mapPages(instance, guest, host, size, permissions);
  if (ioFormat !== IoFormat.NONE) mapPages(ioMap(instance), guest, host, size, permissions);
  updateView(instance);
}

/** Maps [address, address + size) onto itself: guest-physical is host-physical. */
export function mapIdentical(instance: u32, address: HostPhysical, size: u64, permissions: u64): void {
  mapRange(instance, u64(address), address, size, permissions);
}

function unmapPages(map: u32, guest: u64, size: u64): void {
  let offset: u64 = 0n;
  while (offset < size) {
    const page = pageSize(map, guest + offset, guest + offset, size - offset);
    setEntry(map, guest + offset, page, 0n);
    offset += page;
  }
}

/** Takes guest-physical [guest, guest + size) away. */
export function unmapRange(instance: u32, guest: u64, size: u64): void {
  unmapPages(instance, guest, size);
  if (ioFormat !== IoFormat.NONE) unmapPages(ioMap(instance), guest, size);
  updateView(instance);
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
    mapIdentical(instance, base, SMALL_STEP, MAP_ALL);
    return;
  }
  const base: u64 = u64(step - SMALL_STEPS) * LARGE_STEP;
  const low: u64 = SMALL_STEP * u64(SMALL_STEPS);
  if (base >= low) mapIdentical(instance, base, LARGE_STEP, MAP_ALL);
  else mapIdentical(instance, low, LARGE_STEP - low, MAP_ALL);
}

/** The whole identity map at once, for an instance that is given everything. */
export function mapIdentity(instance: u32): void {
  for (let step: u32 = 0; step < IDENTITY_STEPS; step++) mapIdentityStep(instance, step);
}

/** Whether an instance's processors reach a page, and at its own address. */
export function isIdentical(instance: u32, address: HostPhysical): boolean {
  let table = rootOf(instance);
  for (let shift: u64 = 39n; shift >= 12n; shift -= 9n) {
    const entry = table[wrapU32(u64(address) >> shift) & 511];
    if ((entry & PRESENT) === 0n) return false;
    if (shift === 12n || !isTable(entry)) return (entry & PTE_ADDRESS) >> shift === u64(address) >> shift;
    table = at<PageTable>(entry & PTE_ADDRESS);
  }
  return false;
}

/** Beyond what the identity map covers, memory-mapped devices are mapped when touched. */
export function isBeyondIdentity(address: GuestPhysical): boolean {
  return address >= SIZE_512G;
}

/**
 * The entry that an instance's map for devices has for the page of `level` (1: 4 KiB, each next one 512 times as large)
 * at an address, in the units' form: of a page, made up where the map has a larger one; of a table of smaller ones; or 0.
 */
export function ioEntry(instance: u32, address: HostPhysical, level: u32): u64 {
  if ((address >> ADDRESS_BITS) !== 0n || level < 1 || level > 4) return 0n;
  let table = rootOf(ioMap(instance));
  for (let here: u32 = 4; here > 0; here--) {
    const shift: u64 = 12n + 9n * u64(here - 1);
    const entry = table[wrapU32(address >> shift) & 511];
    if ((entry & PRESENT) === 0n || here === level) return entry;
    if (here === 1 || !isTable(entry)) {
      const within: u64 = ((1n << shift) - 1n) & ~((1n << (12n + 9n * u64(level - 1))) - 1n);
      return (level === 1 ? entry & ~PTE_LARGE : entry) | (address & within);
    }
    table = at<PageTable>(entry & PTE_ADDRESS);
  }
  return 0n;
}

/** What a processor may do with the page at an address: MAP_READ if it is mapped, and MAP_WRITE. Both are where they are in either processor's form. */
export function permissionsAt(instance: u32, address: GuestPhysical): u64 {
  if ((u64(address) >> ADDRESS_BITS) !== 0n) return 0n;
  let table = rootOf(instance);
  for (let shift: u64 = 39n; ; shift -= 9n) {
    const entry = table[wrapU32(u64(address) >> shift) & 511];
    if (shift === 12n || !isTable(entry)) return entry & (MAP_READ | MAP_WRITE);
    table = at<PageTable>(entry & PTE_ADDRESS);
  }
}

/**
 * Forbids or allows an instance's processors, not its devices, to write a page that is mapped, without another change.
 * Whoever forbids makes the processors forget what they have looked up. Allowing needs no table.
 */
export function allowWrites(instance: u32, page: HostPhysical, allow: boolean): void {
  const permissions = permissionsAt(instance, u64(page));
  if (permissions !== (allow ? MAP_READ : MAP_READ | MAP_WRITE)) return;
  setEntry(instance, u64(page), PAGE_SIZE, page | pageBits(page, allow ? MAP_ALL : MAP_READ | MAP_EXECUTE));
  updateView(instance);
}

/** Whether all of a table's pages are mapped to themselves with every permission, so that one large page could be. */
function isPlain(table: PageTable, base: u64): boolean {
  for (let i: u32 = 0; i < 512; i++) {
    const page: u64 = base + u64(i) * PAGE_SIZE;
    if (table[i] !== (page | pageBits(page, MAP_ALL))) return false;
  }
  return true;
}

/**
 * Makes large pages again of an instance's RAM that was divided for pages that may be written by now. Its processors
 * are made to forget what they have looked up before a table is made that takes another's place.
 */
export function joinPages(instance: u32): void {
  const root = rootOf(instance);
  if (!isTable(root[0])) return;
  const level3 = at<PageTable>(root[0] & PTE_ADDRESS);
  for (let i: u32 = 0; i < 512; i++) {
    if (!isTable(level3[i])) continue;
    const level2 = at<PageTable>(level3[i] & PTE_ADDRESS);
    for (let j: u32 = 0; j < 512; j++) {
      const base: u64 = u64(i) * SIZE_1G + u64(j) * SIZE_2M;
      if (!isTable(level2[j]) || !isPlain(at<PageTable>(level2[j] & PTE_ADDRESS), base) || !fitsOnePage(base, SIZE_2M)) continue;
      const entry = level2[j];
      level2[j] = base | PTE_LARGE | pageBits(base, MAP_ALL);
      updateView(instance);
      freeTable(instance, entry);
    }
  }
}
