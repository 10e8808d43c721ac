/**
 * AMD's IOMMU while the VMM is there. All units share the VMM's device table. A
 * requester of another instance than the one that holds the platform has that
 * instance's memory map, and a table of interrupts of the VMM's; one of the holder's that
 * its kernel left untranslated has the holder's map. Where that kernel translates,
 * its own entry stands in the VMM's table, with shadows of its page tables (shadow.ts).
 */
import {
  AMD_4_LEVELS, AMD_ADDRESS, AMD_DEVICE_TLB, AMD_DOMAIN, AMD_ENABLE, AMD_ENTRY, AMD_ENTRY_VALID, AMD_FEATURES, AMD_FEATURE_INVALIDATE_ALL, AMD_GUEST, AMD_LEVELS, AMD_LEVELS_SHIFT,
  AMD_PERMISSIONS, AMD_REMAPS, AMD_SEGMENTS, AMD_TABLE_PAGES, AMD_TRANSLATES, AMD_VALID,
} from '../../machine/amd-iommu.ts';
import { MAX_INSTANCES } from '../../abi.ts';
import { IoFormat } from '../../cpu/io-page-format.ts';
import { ioRoot } from '../../cpu/memory-map.ts';
import { functionAt, functionTotal, holdsMemory, isHeld } from '../../partition.ts';
import { clearAmdEntry, clearOwnInterrupts, forgetEntries, hasWideEntries, ownInterrupts, setAmdEntry } from './amd-interrupts.ts';
import { AmdUnit, amdForgetInDevice, amdInvalidate, amdRead, keepAmdForm, lookAtAmd, returnAmd, takeAmd, turnOffAmd } from './amd-unit.ts';
import { dropShadows, forgetTables, resetShadows, reuseShadows, settleForShadows, shadowTables } from './shadow.ts';
import { requesterOwner, reserveTables, takeTables } from './tables.ts';
import { keptFrom } from './walk.ts';

const MAX_UNITS: u32 = 16;
const units: FixedArray<AmdUnit, 16> = zeroed();
let unitCount: u32 = 0;
/** The VMM's device table while it stands, else 0, and how many requesters it has entries for. */
let table: HostPhysical = 0n;
let requesters: u32 = 0;
/** As whom the IOAPIC makes requests. */
let ioapicRequester: u32 = 0;

const PAGES_PER_BUS: u32 = 2;
/** Of each unit: commands, events. */
const RINGS: u32 = 2;
const BUS_FUNCTIONS: u32 = 256;
const FIRST_DOMAIN: u64 = 0xffffn;
const ALL_REQUESTERS: u32 = 0xffff;

/** An entry's words. */
class Entry extends Struct { translation: u64; domain: u64; interrupts: u64; attributes: u64 }
assertLayout<Entry>(32);

export function resetAmd(): void {
  unitCount = 0;
  table = 0n;
  keepAmdForm(false);
}

/** A unit that the tables name; false where there are too many. Tables name one several times. */
export function addAmd(base: HostPhysical): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && units[i].base === base) return true;
  }
  if (unitCount >= MAX_UNITS) return false;
  units[unitCount].base = base;
  units[unitCount].first = ALL_REQUESTERS;
  units[unitCount].last = 0;
  unitCount++;
  return true;
}

/** The unit at an address is for requesters up to `bdf`, or from there on. */
export function addAmdRequester(base: HostPhysical, bdf: u32): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount || units[i].base !== base) continue;
    if (bdf < units[i].first) units[i].first = bdf;
    if (bdf > units[i].last) units[i].last = bdf;
  }
}

export function setIoapicRequester(bdf: u32): void {
  ioapicRequester = bdf;
}

export function amdTotal(): u32 {
  return unitCount;
}

export function amdAt(index: u32): AmdUnit {
  return units[index % MAX_UNITS];
}

/** Whether the holder's kernel has the units on. They all have its one table. */
function isOsOn(): boolean {
  return (units[0].osControl & AMD_ENABLE) !== 0n;
}

/** Where the holder's kernel has a requester's entry; 0 for none. */
function osEntry(bdf: u32, holder: u32): HostPhysical {
  const size: u64 = ((units[0].osTable & AMD_TABLE_PAGES) + 1n) << 12n;
  const offset: u64 = u64(bdf) * AMD_ENTRY;
  const place: u64 = (units[0].osTable & AMD_ADDRESS) + offset;
  return isOsOn() && offset < size && holdsMemory(holder, place, AMD_ENTRY) ? place : 0n;
}

/** Whether an entry lets a requester reach memory as it is: it is not valid, or has a table of no levels. */
function isUntranslated(entry: Entry): boolean {
  if ((entry.translation & AMD_ENTRY_VALID) === 0n) return true;
  return (entry.translation & AMD_TRANSLATES) !== 0n && (entry.translation & (AMD_LEVELS | AMD_GUEST)) === 0n;
}

/** Whether a requester's accesses go by page tables of the holder's own kernel. */
export function isTranslatedByAmdOs(bdf: u32, holder: u32): boolean {
  if (requesterOwner(bdf, holder) !== holder) return false;
  const entry = osEntry(bdf, holder);
  return entry !== 0n && !isUntranslated(at<Entry>(entry));
}

function levelsOf(translation: u64): u32 {
  return wrapU32((translation & AMD_LEVELS) >> AMD_LEVELS_SHIFT);
}

/** Where in memory an access by page tables of the holder's own kernel would go that the VMM does not let through; NOWHERE if there is no such place. */
export function amdKeptFrom(bdf: u32, address: u64, isWrite: boolean, holder: u32): u64 {
  const entry = osEntry(bdf, holder);
  const translation: u64 = entry === 0n ? 0n : at<Entry>(entry).translation;
  return keptFrom(IoFormat.AMD, holder, translation & AMD_ADDRESS, levelsOf(translation), address, isWrite);
}

/**
 * What a requester's own entry says of translation, with shadows behind it; where only a guest's tables do, with the
 * memory map behind those (2.2.3: nested). One that names a domain of the VMM's would have a unit mistake its pages for those.
 */
function translated(own: Entry, holder: u32): u64 {
  const isTaken = (own.domain & AMD_DOMAIN) > FIRST_DOMAIN - u64(MAX_INSTANCES) - 1n;
  if (isTaken || (own.translation & AMD_TRANSLATES) === 0n) return AMD_VALID;
  const rest: u64 = own.translation & ~(AMD_ADDRESS | AMD_LEVELS);
  const levels = levelsOf(own.translation);
  if (levels === 0) return rest | AMD_4_LEVELS | ioRoot(holder, 4);
  const root = shadowTables(own.translation & AMD_ADDRESS, levels);
  return root === 0n ? AMD_VALID : rest | (own.translation & AMD_LEVELS) | root;
}

/** The entry that is right for a requester now. */
function rightEntry(bdf: u32, holder: u32, out: Entry): void {
  const owner = requesterOwner(bdf, holder);
  // Valid, with a table of no levels, and no permission: nothing is reached.
  out.translation = AMD_VALID;
  if (!isHeld(owner)) return;
  if (owner !== holder) out.interrupts = ownInterrupts();
  let permissions: u64 = AMD_PERMISSIONS;
  if (owner === holder && isOsOn()) {
    const place = osEntry(bdf, holder);
    if (place === 0n) return;
    // Read once: another processor of the kernel's may change it meanwhile.
    copyBytes(addressOf(out), place, AMD_ENTRY);
    if (!isUntranslated(out)) {
      out.translation = translated(out, holder);
      return;
    }
    if ((out.translation & AMD_ENTRY_VALID) !== 0n) permissions = out.translation & AMD_PERMISSIONS;
  }
  out.translation = AMD_VALID | AMD_4_LEVELS | permissions | ioRoot(owner, 4);
  // A device that its kernel lets keep translations goes on to ask for them.
  out.domain = (out.domain & AMD_DEVICE_TLB) | (FIRST_DOMAIN - u64(owner));
}

/** Gives a requester the entry that is right; whether it had another. It is never without: one that is not valid lets everything through. */
function updateRequester(bdf: u32, holder: u32): boolean {
  const right: Entry = zeroed();
  rightEntry(bdf, holder, right);
  const entry = at<Entry>(table + u64(bdf) * AMD_ENTRY);
  const isSame = entry.translation === right.translation && entry.domain === right.domain
    && entry.interrupts === right.interrupts && entry.attributes === right.attributes;
  const before: u64 = entry.translation & AMD_ADDRESS;
  if (isSame) {
    forgetTables(before);
    return false;
  }
  if (entry.translation !== right.translation) entry.translation = AMD_VALID;
  entry.domain = right.domain;
  entry.interrupts = right.interrupts;
  entry.attributes = right.attributes;
  entry.translation = right.translation;
  forgetTables(before);
  return true;
}

/** The units forget all that they have looked up. */
export function invalidateAmd(): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount) amdInvalidate(units[i]);
  }
  reuseShadows();
}

function updateAll(holder: u32): void {
  for (let bdf: u32 = 0; bdf < requesters; bdf++) updateRequester(bdf, holder);
}

/** All devices forget what they keep of translations; the units have, so that they don't tell them the same again. */
function forgetInDevices(): void {
  for (let bdf: u32 = 0; bdf < requesters; bdf++) {
    if ((at<Entry>(table + u64(bdf) * AMD_ENTRY).domain & AMD_DEVICE_TLB) === 0n) continue;
    for (let i: u32 = 0; i < MAX_UNITS; i++) {
      if (i < unitCount && bdf >= units[i].first && bdf <= units[i].last) amdForgetInDevice(units[i], bdf);
    }
  }
}

/** Makes every entry what it is to be, and the units and devices look at them anew. */
export function updateAmd(holder: u32): void {
  updateAll(holder);
  invalidateAmd();
  forgetInDevices();
}

/** The same for one requester. */
export function updateAmdRequester(bdf: u32, holder: u32): void {
  if (bdf < requesters && updateRequester(bdf, holder)) invalidateAmd();
}

/** Whether a unit can do what is needed, and all have the table of the first. */
function isUsable(unit: AmdUnit): boolean {
  const isAlike = ((unit.osControl ^ units[0].osControl) & AMD_ENABLE) === 0n && unit.osTable === units[0].osTable;
  return isAlike && (amdRead(unit, AMD_FEATURES) & AMD_FEATURE_INVALIDATE_ALL) !== 0n && (unit.osControl & AMD_SEGMENTS) === 0n;
}

function busesUsed(): u32 {
  let last: u32 = 0;
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const bus: u32 = u32(functionAt(i).bdf >> 8);
    if (bus > last) last = bus;
  }
  return last + 1;
}

/**
 * Takes the units over from the kernel of `holder`, which does not run meanwhile;
 * false if one of them can't be, and all are as before.
 */
export function engageAmd(holder: u32): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    lookAtAmd(units[i]);
    if (!isUsable(units[i])) return false;
  }
  const pages: u32 = PAGES_PER_BUS * busesUsed();
  reserveTables(pages + RINGS * unitCount);
  resetShadows(IoFormat.AMD, holder, true);
  table = takeTables(pages);
  clearOwnInterrupts();
  requesters = busesUsed() * BUS_FUNCTIONS;
  updateAll(holder);
  if (!settleForShadows()) updateAll(holder);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    units[i].commands = takeTables(1);
    units[i].events = takeTables(1);
    takeAmd(units[i], table | u64(pages - 1));
  }
  forgetInDevices();
  return true;
}

/** The units are as the holder's kernel has told them to be. */
export function disengageAmd(): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount) returnAmd(units[i]);
  }
  dropShadows();
  table = 0n;
}

/** For a kernel that was never told of the units: to it they are off, as after reset. */
export function forgetAmdOwner(): void {
  keepAmdForm(false);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    const unit = units[i];
    unit.osTable = 0n;
    unit.osCommands = 0n;
    unit.osCommandTail = 0n;
    unit.osEvents = 0n;
    unit.osEventHead = 0n;
    unit.osEventTail = 0n;
    unit.osControl = 0n;
  }
}

/** The same for units that were never taken over: their kernel is gone. */
export function turnOffAmdUnits(): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount) turnOffAmd(units[i]);
  }
}

/** Whether the IOAPIC's interrupts are remapped by tables of the holder's kernel. */
export function amdRemapsInterrupts(holder: u32): boolean {
  const entry = osEntry(ioapicRequester, holder);
  return entry !== 0n && (at<Entry>(entry).interrupts & AMD_REMAPS) !== 0n;
}

/** Whether all units have one form of interrupt table entries, so that functions of another instance can have a table of theirs. */
export function amdRoutes(): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && hasWideEntries(units[i]) !== hasWideEntries(units[0])) return false;
  }
  return true;
}

/** A requester's message with entry `slot` becomes an interrupt at one processor; true: one may have been lost meanwhile. */
export function routeAmd(slot: u32, requester: u32, vector: u32, mode: u32, apicId: u32): boolean {
  const missed = setAmdEntry(hasWideEntries(units[0]), slot, vector, mode, apicId);
  forgetAmdEntries(requester);
  return missed;
}

/** It goes nowhere. */
export function unrouteAmd(slot: u32, requester: u32): void {
  clearAmdEntry(hasWideEntries(units[0]), slot);
  forgetAmdEntries(requester);
}

function forgetAmdEntries(requester: u32): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount) forgetEntries(units[i], requester);
  }
}
