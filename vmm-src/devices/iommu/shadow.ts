/**
 * Shadows of the I/O page tables that the kernel which holds the platform has for
 * its own devices: the units walk the shadows, never the kernel's. An entry of a
 * shadow maps what the kernel's entry says as far as the instance itself reaches
 * it (cpu/memory-map.ts), and no more, whatever a kernel writes, when, and by which
 * way. Its tables are write-protected in its memory map, so that the VMM learns of
 * a change; one that it misses stops a device, and lets none through.
 *
 * A table has a shadow for each level that it is used at, and each shadow counts
 * the entries that point at it. Levels descend, so that there are no circles. One
 * that nobody points at any more is DEAD until the units have forgotten it: they
 * would take what is put there next for what was there before.
 *
 * Each is in the list of its state, so that no store of the kernel's has to look at
 * all of them, however many there are.
 */
import { EventType } from '../../abi.ts';
import { IoEntry, IoEntryKind, IoFormat, ioPageBits, ioShift, ioTableBits, readIoEntry, withPermissions } from '../../cpu/io-page-format.ts';
import { flushOthers } from '../../cpu/kick.ts';
import { allowWrites, ioEntry, isBeyondIdentity, joinPages, mapIdentical, mapTablesFree, permissionsAt } from '../../cpu/memory-map.ts';
import { MAP_ALL } from '../../cpu/permissions.ts';
import { record } from '../../events.ts';
import { ANNEX_PAGES, annex } from '../../machine/annex.ts';
import { writeBackLine } from '../../machine/intrinsics.ts';
import { PAGE_SIZE, PTE_ADDRESS, PTE_LARGE, SIZE_1G } from '../../machine/registers.ts';
import { holdsMemory } from '../../partition.ts';
import { reservedTables } from './tables.ts';
import { NOWHERE } from './walk.ts';

/**
 * FRESH: to be protected and read. READING: protected, and about to be read. LIVE: follows its table. LOST: empty; its
 * table could not be protected, or was written in a way that is not understood. DYING: nobody points at it.
 */
enum State { FREE = 0, FRESH = 1, READING = 2, LIVE = 3, LOST = 4, DYING = 5, DEAD = 6 }

class Shadow extends Struct {
  /** The kernel's table, and its level: 1 is one of 4 KiB pages. */
  table: HostPhysical;
  level: u32;
  state: State;
  /** Entries and roots that point here. */
  references: u32;
  /** The next one whose table has the same chain. */
  chained: u32;
  /** Its neighbours in the list of its state. */
  next: u32;
  previous: u32;
}

/** By the number of their page in the annex. Its first pages are the units' (tables.ts): number 0 is none. */
const shadows: FixedArray<Shadow, typeof ANNEX_PAGES> = zeroed();
let first: u32 = ANNEX_PAGES;
/** The first of each state, and how many there are. */
const firsts: FixedArray<u32, 7> = zeroed();
const counts: FixedArray<u32, 7> = zeroed();
/** The first of each chain, by the table's address. */
const CHAINS: u32 = 256;
const chains: FixedArray<u32, 256> = zeroed();

const MAX_LEVELS: u32 = 6;
const ENTRIES: u32 = 512;
const LINE: u64 = 64n;
/** Tables of the memory map that are left for launches and hand-overs. */
const MAP_TABLES_RESERVED: u32 = 64;

let format: IoFormat = IoFormat.NONE;
/** Whose kernel has the tables. */
let owner: u32 = 0;
/** Whether the units see what is in the processors' caches. */
let coherent: boolean = true;
/** Something was left out, which may be complete at another try. */
let incomplete: boolean = false;
/** There was no room, and the event says so. */
let told: boolean = false;
/** There never was: the units have the kernel's tables. */
let open: boolean = false;
/** The entry that the kernel is about to write, and its value: tables that are read meanwhile have it. Otherwise NOWHERE. */
let pending: u64 = NOWHERE;
let pendingValue: u64 = 0n;

/** No table has a shadow: from here on those of `instance` get them, for units of a kind, whose own tables have room. */
export function resetShadows(kind: IoFormat, instance: u32, isCoherent: boolean): void {
  format = kind;
  owner = instance;
  coherent = isCoherent;
  incomplete = false;
  told = false;
  open = false;
  fillBytes(addressOf(shadows), 0, u64(sizeOf<Shadow>()) * u64(ANNEX_PAGES));
  for (let i: u32 = 0; i < CHAINS; i++) chains[i] = 0;
  for (let i: u32 = 0; i < counts.length; i++) {
    firsts[i] = 0;
    counts[i] = 0;
  }
  first = kind === IoFormat.NONE ? ANNEX_PAGES : reservedTables();
  for (let number: u32 = ANNEX_PAGES; number > first; number--) enlist(number - 1, State.FREE);
}

/** Into the list of a state. */
function enlist(number: u32, state: State): void {
  const shadow = shadows[number];
  const next = firsts[state];
  shadow.state = state;
  shadow.next = next;
  shadow.previous = 0;
  if (next !== 0) shadows[next].previous = number;
  firsts[state] = number;
  counts[state]++;
}

/** From the list of its state into that of another. */
function setState(number: u32, state: State): void {
  const shadow = shadows[number];
  const next = shadow.next;
  const previous = shadow.previous;
  if (next !== 0) shadows[next].previous = previous;
  if (previous !== 0) shadows[previous].next = next;
  else firsts[shadow.state] = next;
  counts[shadow.state]--;
  enlist(number, state);
}

/** All of one state get another. */
function setStates(from: State, to: State): void {
  while (firsts[from] !== 0) setState(firsts[from], to);
}

/** How many tables there is room for. */
function total(): u32 {
  return ANNEX_PAGES - first;
}

function addressOfShadow(number: u32): HostPhysical {
  return addressOf(annex().pages) + u64(number) * PAGE_SIZE;
}

/** Number of the shadow at an address; 0 if there is none. */
function shadowAt(address: HostPhysical): u32 {
  const isShadow = address >= addressOfShadow(first) && address < addressOfShadow(ANNEX_PAGES);
  return isShadow ? wrapU32((address - addressOf(annex().pages)) / PAGE_SIZE) : 0;
}

function chainOf(table: HostPhysical): u32 {
  return wrapU32(table >> 12n) % CHAINS;
}

/** Number of a table's next shadow: the first one for `after` 0, else behind that number. 0 at the end. */
function nextOf(table: HostPhysical, after: u32): u32 {
  let at: u32 = after === 0 ? chains[chainOf(table)] : shadows[after].chained;
  while (at !== 0 && shadows[at].table !== table) at = shadows[at].chained;
  return at;
}

function unchain(number: u32): void {
  const chain = chainOf(shadows[number].table);
  const rest = shadows[number].chained;
  if (chains[chain] === number) {
    chains[chain] = rest;
    return;
  }
  let at: u32 = chains[chain];
  while (at !== 0 && shadows[at].chained !== number) at = shadows[at].chained;
  if (at !== 0) shadows[at].chained = rest;
}

function writeBack(from: HostPhysical, size: u64): void {
  if (coherent) return;
  for (let at: u64 = 0n; at < size; at += LINE) writeBackLine(from + at);
}

/** There is no room: not for a shadow, or not in the memory map for a protected page. */
function tellOfNoRoom(): void {
  incomplete = true;
  if (told) return;
  told = true;
  record(EventType.IO_TABLES, owner, 0, u64(total()), 0n);
}

/** The kernel's tables are too many: units may have its own from here on, as if there were no shadows, and an event says so. */
export function openShadows(): void {
  const instance = owner;
  const room = total();
  dropShadows();
  open = true;
  record(EventType.IO_TABLES, instance, 0, u64(room), 1n);
}

/** Whether there has been room for all tables since they were complete. */
export function hasRoom(): boolean {
  return !told;
}

/** Whether the kernel's tables, all of which have been read for the first time, leave room for as many more. Where they don't, openShadows. */
export function settleForShadows(): boolean {
  if (!incomplete && counts[State.FREE] >= total() / 2) return true;
  openShadows();
  return false;
}

/** Whether the units have the kernel's own tables, for want of room. */
export function isOpen(): boolean {
  return open;
}

/** Whether all that the kernel's tables map is in the shadows, as far as it may be. */
export function isComplete(): boolean {
  return !incomplete;
}

/** Number of a new shadow, empty; 0 if there is no room. */
function newShadow(table: HostPhysical, level: u32): u32 {
  const number = firsts[State.FREE];
  if (number === 0) {
    tellOfNoRoom();
    return 0;
  }
  const shadow = shadows[number];
  shadow.table = table;
  shadow.level = level;
  shadow.references = 0;
  shadow.chained = chains[chainOf(table)];
  chains[chainOf(table)] = number;
  setState(number, State.FRESH);
  fillBytes(addressOfShadow(number), 0, PAGE_SIZE);
  writeBack(addressOfShadow(number), PAGE_SIZE);
  return number;
}

/** The shadow of a table at a level, which one more points at; 0 if there is no room, or the table is not the kernel's. */
function refer(table: HostPhysical, level: u32): HostPhysical {
  if (!holdsMemory(owner, table, PAGE_SIZE)) return 0n;
  let number = nextOf(table, 0);
  while (number !== 0 && shadows[number].level !== level) number = nextOf(table, number);
  if (number === 0) number = newShadow(table, level);
  if (number === 0) return 0n;
  shadows[number].references++;
  return addressOfShadow(number);
}

/** One less points at a shadow; nothing if there is none at the address. */
function forget(address: HostPhysical): void {
  const number = format === IoFormat.NONE ? 0 : shadowAt(address);
  if (number === 0) return;
  const shadow = shadows[number];
  shadow.references--;
  if (shadow.references === 0) setState(number, State.DYING);
}

/** The entry that lets devices through to a page as far as the instance reaches it. */
function confinedPage(address: HostPhysical, level: u32, permissions: u64): u64 {
  const own = ioEntry(owner, address, level);
  if (own !== 0n) return withPermissions(format, own, permissions);
  // RAM beyond the identity map is mapped when a processor touches it.
  if (level > 3 || !isBeyondIdentity(u64(address)) || !holdsMemory(owner, address, 1n << ioShift(level))) return 0n;
  return withPermissions(format, address | (level > 1 ? PTE_LARGE : 0n) | ioPageBits(format, MAP_ALL), permissions);
}

/** Makes an entry of a shadow what the kernel's entry allows it to be. */
function setEntry(number: u32, at: u32, value: u64): void {
  const entry: IoEntry = zeroed();
  readIoEntry(format, shadows[number].level, at, value, entry);
  let right: u64 = 0n;
  if (entry.kind === IoEntryKind.PAGE) right = confinedPage(entry.address, shadows[number].level, entry.permissions);
  else if (entry.kind === IoEntryKind.TABLE) {
    const table = refer(entry.address, entry.level);
    if (table !== 0n) right = withPermissions(format, table | ioTableBits(format, u64(entry.level)), entry.permissions);
    if (right === 0n) forget(table);
  }
  const page = annex().pages[number];
  const before = page[at];
  if (before !== right) {
    page[at] = right;
    writeBack(addressOfShadow(number) + u64(at) * 8n, 8n);
  }
  forget(before & PTE_ADDRESS);
}

function setEmpty(number: u32): void {
  const page = annex().pages[number];
  for (let i: u32 = 0; i < ENTRIES; i++) {
    if (page[i] !== 0n) setEntry(number, i, 0n);
  }
}

/** Write-protects a table; false if that can't be done. */
function protect(table: HostPhysical): boolean {
  if (!holdsMemory(owner, table, PAGE_SIZE)) return false;
  if (mapTablesFree(owner) <= MAP_TABLES_RESERVED) {
    joinPages(owner);
    flushOthers(owner);
  }
  if (mapTablesFree(owner) <= MAP_TABLES_RESERVED) {
    tellOfNoRoom();
    return false;
  }
  // A processor's first touch would map it otherwise.
  if (isBeyondIdentity(u64(table)) && permissionsAt(owner, u64(table)) === 0n) mapIdentical(owner, table & ~(SIZE_1G - 1n), SIZE_1G, MAP_ALL);
  allowWrites(owner, table, false);
  return true;
}

function unprotect(table: HostPhysical): void {
  if (holdsMemory(owner, table, PAGE_SIZE)) allowWrites(owner, table, true);
}

/** Shadows that nobody points at end, and with them those that only they point at. */
function bury(): void {
  while (firsts[State.DYING] !== 0) {
    const number = firsts[State.DYING];
    const shadow = shadows[number];
    if (shadow.references !== 0) {
      setState(number, State.FRESH);
      continue;
    }
    const page = annex().pages[number];
    for (let at: u32 = 0; at < ENTRIES; at++) {
      if (page[at] !== 0n) forget(page[at] & PTE_ADDRESS);
    }
    unchain(number);
    setState(number, State.DEAD);
    if (nextOf(shadow.table, 0) === 0) unprotect(shadow.table);
  }
}

/** Reads a table once no processor can write it without an exit. */
function readTable(number: u32): void {
  const table = shadows[number].table;
  const page = annex().pages[number];
  setState(number, State.LIVE);
  for (let i: u32 = 0; i < ENTRIES; i++) {
    const place: HostPhysical = table + u64(i) * 8n;
    const value: u64 = place === pending ? pendingValue : load64(place);
    if (value !== 0n || page[i] !== 0n) setEntry(number, i, value);
  }
}

/** All shadows follow their tables when this returns, those that are found on the way included. */
function settle(): void {
  bury();
  while (firsts[State.FRESH] !== 0) {
    while (firsts[State.FRESH] !== 0) {
      const number = firsts[State.FRESH];
      const isProtected = protect(shadows[number].table);
      setState(number, isProtected ? State.READING : State.LOST);
      if (!isProtected) setEmpty(number);
    }
    flushOthers(owner);
    while (firsts[State.READING] !== 0) readTable(firsts[State.READING]);
    bury();
  }
}

/** What a unit is to have for a kernel's tables of so many levels, until forgetTables: the root of their shadows; 0 where there can be none. */
export function shadowTables(root: HostPhysical, levels: u32): HostPhysical {
  if (open) return root;
  if (levels < 1 || levels > MAX_LEVELS) return 0n;
  const shadow = refer(root, levels);
  settle();
  return shadow;
}

/** A unit is not told of these tables any more, if they are shadows. */
export function forgetTables(root: HostPhysical): void {
  forget(root);
  settle();
}

/** Whether an instance's page is a table that has a shadow. */
export function isShadowed(instance: u32, page: HostPhysical): boolean {
  return format !== IoFormat.NONE && instance === owner && nextOf(page, 0) !== 0;
}

/** The kernel is about to write an 8-byte entry of one of its tables: the shadows have it when this returns. */
export function writeShadows(place: HostPhysical, value: u64): void {
  const table: u64 = place & PTE_ADDRESS;
  pending = place;
  pendingValue = value;
  for (let number = nextOf(table, 0); number !== 0; number = nextOf(table, number)) setEntry(number, wrapU32(place >> 3n) & (ENTRIES - 1), value);
  settle();
  pending = NOWHERE;
}

/** A table is written in a way that is not understood: it maps nothing until all are read again, and may be written. */
export function loseTable(table: HostPhysical): void {
  for (let number = nextOf(table, 0); number !== 0; number = nextOf(table, number)) {
    setEmpty(number);
    if (shadows[number].state !== State.DYING) setState(number, State.LOST);
  }
  unprotect(table);
  incomplete = true;
  bury();
}

/** Reads all tables again: what their instance reaches has changed, or they have. */
export function readTables(): void {
  incomplete = false;
  setStates(State.LIVE, State.FRESH);
  setStates(State.LOST, State.FRESH);
  settle();
  if (!incomplete) told = false;
}

/** Whether shadows wait for reuseShadows, and few others are left. */
export function mayReuseShadows(): boolean {
  return counts[State.DEAD] !== 0 && counts[State.FREE] < total() / 4;
}

/** The units have forgotten all that they had looked up. */
export function reuseShadows(): void {
  setStates(State.DEAD, State.FREE);
}

/** The kernel's tables are its own again; the units have them, and no shadow. */
export function dropShadows(): void {
  for (let number: u32 = 0; number < ANNEX_PAGES; number++) {
    if (shadows[number].state !== State.FREE && shadows[number].state !== State.DEAD) unprotect(shadows[number].table);
  }
  resetShadows(IoFormat.NONE, 0, true);
}
