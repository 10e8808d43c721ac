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
 */
import { EventType } from '../../abi.ts';
import { IoEntry, IoEntryKind, IoFormat, ioPageBits, ioShift, ioTableBits, readIoEntry, withPermissions } from '../../cpu/io-page-format.ts';
import { flushOthers } from '../../cpu/kick.ts';
import { allowWrites, ioEntry, isBeyondIdentity, joinPages, mapIdentical, mapTablesFree, permissionsAt } from '../../cpu/memory-map.ts';
import { MAP_ALL } from '../../cpu/permissions.ts';
import { record } from '../../events.ts';
import { SHADOWS, annex } from '../../machine/annex.ts';
import { writeBackLine } from '../../machine/intrinsics.ts';
import { PAGE_SIZE, PTE_ADDRESS, PTE_LARGE, SIZE_1G } from '../../machine/registers.ts';
import { holdsMemory } from '../../partition.ts';
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
  /** Of the list that it is in, by its table's number: the next one, from 1; 0 at the end. */
  next: u32;
}

const shadows: FixedArray<Shadow, typeof SHADOWS> = zeroed();
const LISTS: u32 = 64;
const lists: FixedArray<u32, 64> = zeroed();
const counts: FixedArray<u32, 7> = zeroed();

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

/** No table has a shadow: from here on those of `instance` get them, for units of a kind. */
export function resetShadows(kind: IoFormat, instance: u32, isCoherent: boolean): void {
  format = kind;
  owner = instance;
  coherent = isCoherent;
  incomplete = false;
  told = false;
  open = false;
  for (let i: u32 = 0; i < SHADOWS; i++) shadows[i].state = State.FREE;
  for (let i: u32 = 0; i < LISTS; i++) lists[i] = 0;
  for (let i: u32 = 0; i < counts.length; i++) counts[i] = 0;
  counts[State.FREE] = SHADOWS;
}

function setState(shadow: Shadow, state: State): void {
  counts[shadow.state]--;
  counts[state]++;
  shadow.state = state;
}

function addressOfShadow(index: u32): HostPhysical {
  return addressOf(annex().shadows) + u64(index) * PAGE_SIZE;
}

/** Number of the shadow at an address, or SHADOWS. */
function shadowAt(address: HostPhysical): u32 {
  const first: u64 = addressOf(annex().shadows);
  return address >= first && address - first < u64(SHADOWS) * PAGE_SIZE ? wrapU32((address - first) / PAGE_SIZE) : SHADOWS;
}

function listOf(table: HostPhysical): u32 {
  return wrapU32(table >> 12n) % LISTS;
}

/** Number of a table's next shadow in its list: the first one for `after` 0, else behind the one with number after - 1. SHADOWS at the end. */
function nextOf(table: HostPhysical, after: u32): u32 {
  let at: u32 = after === 0 ? lists[listOf(table)] : shadows[after - 1].next;
  while (at !== 0 && shadows[at - 1].table !== table) at = shadows[at - 1].next;
  return at === 0 ? SHADOWS : at - 1;
}

function removeFromList(index: u32): void {
  const list = listOf(shadows[index].table);
  const next = shadows[index].next;
  if (lists[list] === index + 1) {
    lists[list] = next;
    return;
  }
  let at: u32 = lists[list];
  while (at !== 0 && shadows[at - 1].next !== index + 1) at = shadows[at - 1].next;
  if (at !== 0) shadows[at - 1].next = next;
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
  record(EventType.IO_TABLES, owner, 0, u64(SHADOWS), 0n);
}

/** The kernel's tables are too many: units may have its own from here on, as if there were no shadows, and an event says so. */
export function openShadows(): void {
  const instance = owner;
  dropShadows();
  open = true;
  record(EventType.IO_TABLES, instance, 0, u64(SHADOWS), 1n);
}

/** Whether there has been room for all tables since they were complete. */
export function hasRoom(): boolean {
  return !told;
}

/** Whether the kernel's tables, all of which have been read for the first time, leave room for as many more. Where they don't, openShadows. */
export function settleForShadows(): boolean {
  if (!incomplete && counts[State.FREE] >= SHADOWS / 2) return true;
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

/** Number of a new shadow, empty; SHADOWS if there is no room. */
function newShadow(table: HostPhysical, level: u32): u32 {
  for (let i: u32 = 0; counts[State.FREE] !== 0 && i < SHADOWS; i++) {
    const shadow = shadows[i];
    if (shadow.state !== State.FREE) continue;
    shadow.table = table;
    shadow.level = level;
    shadow.references = 0;
    shadow.next = lists[listOf(table)];
    lists[listOf(table)] = i + 1;
    setState(shadow, State.FRESH);
    fillBytes(addressOfShadow(i), 0, PAGE_SIZE);
    writeBack(addressOfShadow(i), PAGE_SIZE);
    return i;
  }
  tellOfNoRoom();
  return SHADOWS;
}

/** The shadow of a table at a level, which one more points at; 0 if there is no room, or the table is not the kernel's. */
function refer(table: HostPhysical, level: u32): HostPhysical {
  if (!holdsMemory(owner, table, PAGE_SIZE)) return 0n;
  let index = nextOf(table, 0);
  while (index !== SHADOWS && shadows[index].level !== level) index = nextOf(table, index + 1);
  if (index === SHADOWS) index = newShadow(table, level);
  if (index === SHADOWS) return 0n;
  shadows[index].references++;
  return addressOfShadow(index);
}

/** One less points at a shadow; nothing if there is none at the address. */
function forget(address: HostPhysical): void {
  const index = format === IoFormat.NONE ? SHADOWS : shadowAt(address);
  if (index === SHADOWS) return;
  const shadow = shadows[index];
  shadow.references--;
  if (shadow.references === 0) setState(shadow, State.DYING);
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
function setEntry(index: u32, at: u32, value: u64): void {
  const entry: IoEntry = zeroed();
  readIoEntry(format, shadows[index].level, at, value, entry);
  let right: u64 = 0n;
  if (entry.kind === IoEntryKind.PAGE) right = confinedPage(entry.address, shadows[index].level, entry.permissions);
  else if (entry.kind === IoEntryKind.TABLE) {
    const table = refer(entry.address, entry.level);
    if (table !== 0n) right = withPermissions(format, table | ioTableBits(format, u64(entry.level)), entry.permissions);
    if (right === 0n) forget(table);
  }
  const page = annex().shadows[index];
  const before = page[at];
  if (before !== right) {
    page[at] = right;
    writeBack(addressOfShadow(index) + u64(at) * 8n, 8n);
  }
  forget(before & PTE_ADDRESS);
}

function setEmpty(index: u32): void {
  const page = annex().shadows[index];
  for (let i: u32 = 0; i < ENTRIES; i++) {
    if (page[i] !== 0n) setEntry(index, i, 0n);
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
  while (counts[State.DYING] !== 0) {
    for (let i: u32 = 0; i < SHADOWS; i++) {
      const shadow = shadows[i];
      if (shadow.state !== State.DYING) continue;
      if (shadow.references !== 0) {
        setState(shadow, State.FRESH);
        continue;
      }
      const page = annex().shadows[i];
      for (let at: u32 = 0; at < ENTRIES; at++) forget(page[at] & PTE_ADDRESS);
      removeFromList(i);
      setState(shadow, State.DEAD);
      if (nextOf(shadow.table, 0) === SHADOWS) unprotect(shadow.table);
    }
  }
}

/** Reads a table once no processor can write it without an exit. */
function readTable(index: u32): void {
  const table = shadows[index].table;
  setState(shadows[index], State.LIVE);
  for (let i: u32 = 0; i < ENTRIES; i++) {
    const place: HostPhysical = table + u64(i) * 8n;
    setEntry(index, i, place === pending ? pendingValue : load64(place));
  }
}

/** All shadows follow their tables when this returns, those that are found on the way included. */
function settle(): void {
  bury();
  while (counts[State.FRESH] !== 0) {
    for (let i: u32 = 0; i < SHADOWS; i++) {
      if (shadows[i].state !== State.FRESH) continue;
      const isProtected = protect(shadows[i].table);
      setState(shadows[i], isProtected ? State.READING : State.LOST);
      if (!isProtected) setEmpty(i);
    }
    flushOthers(owner);
    for (let i: u32 = 0; i < SHADOWS; i++) {
      if (shadows[i].state === State.READING) readTable(i);
    }
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
  return format !== IoFormat.NONE && instance === owner && nextOf(page, 0) !== SHADOWS;
}

/** The kernel is about to write an 8-byte entry of one of its tables: the shadows have it when this returns. */
export function writeShadows(place: HostPhysical, value: u64): void {
  const table: u64 = place & PTE_ADDRESS;
  pending = place;
  pendingValue = value;
  for (let i = nextOf(table, 0); i !== SHADOWS; i = nextOf(table, i + 1)) setEntry(i, wrapU32(place >> 3n) & (ENTRIES - 1), value);
  settle();
  pending = NOWHERE;
}

/** A table is written in a way that is not understood: it maps nothing until all are read again, and may be written. */
export function loseTable(table: HostPhysical): void {
  for (let i = nextOf(table, 0); i !== SHADOWS; i = nextOf(table, i + 1)) {
    setEmpty(i);
    if (shadows[i].state !== State.DYING) setState(shadows[i], State.LOST);
  }
  unprotect(table);
  incomplete = true;
  bury();
}

/** Reads all tables again: what their instance reaches has changed, or they have. */
export function readTables(): void {
  incomplete = false;
  for (let i: u32 = 0; i < SHADOWS; i++) {
    if (shadows[i].state === State.LIVE || shadows[i].state === State.LOST) setState(shadows[i], State.FRESH);
  }
  settle();
  if (!incomplete) told = false;
}

/** Whether shadows wait for reuseShadows, and few others are left. */
export function mayReuseShadows(): boolean {
  return counts[State.DEAD] !== 0 && counts[State.FREE] < SHADOWS / 4;
}

/** The units have forgotten all that they had looked up. */
export function reuseShadows(): void {
  for (let i: u32 = 0; i < SHADOWS; i++) {
    if (shadows[i].state === State.DEAD) setState(shadows[i], State.FREE);
  }
}

/** The kernel's tables are its own again; the units have them, and no shadow. */
export function dropShadows(): void {
  for (let i: u32 = 0; i < SHADOWS; i++) {
    if (shadows[i].state !== State.FREE && shadows[i].state !== State.DEAD) unprotect(shadows[i].table);
  }
  resetShadows(IoFormat.NONE, 0, true);
}
