/**
 * Intel's IOMMU while the VMM is there (VT-d 4.1). All units share the VMM's root
 * and context tables. A requester of another instance than the one that holds the
 * platform has that instance's memory map; so has one of the holder's that its
 * kernel left untranslated. Where that kernel translates, its own context entry
 * stands behind the VMM's root, with shadows of its page tables (shadow.ts).
 */
import { writebackInvalidate } from '../../machine/intrinsics.ts';
import {
  VTD_ADDRESS, VTD_CAP, VTD_CAP_39_BITS, VTD_CAP_48_BITS, VTD_CAP_LARGE_PAGES, VTD_DOMAIN_SHIFT, VTD_ECAP, VTD_ECAP_COHERENT, VTD_ECAP_DEVICE_TLB, VTD_ECAP_QUEUE,
  VTD_FAULT_LOG, VTD_GSTS, VTD_INTERRUPTS, VTD_IQA, VTD_IRTA, VTD_LEVELS, VTD_PRESENT, VTD_QUEUE, VTD_QUEUE_WIDE, VTD_ROOT_MODE,
  VTD_ROOT_POINTER, VTD_RTADDR, VTD_TRANSLATION, VTD_TYPE, VTD_TYPE_DEVICE_TLB, VTD_TYPE_PASS, vtdDomains,
} from '../../machine/vtd.ts';
import { MAX_INSTANCES } from '../../abi.ts';
import { IoFormat } from '../../cpu/io-page-format.ts';
import { ioRoot } from '../../cpu/memory-map.ts';
import { holdsMemory, isHeld } from '../../partition.ts';
import { dropShadows, forgetTables, resetShadows, reuseShadows, settleForShadows, shadowTables } from './shadow.ts';
import { isBusUsed, requesterOwner, reserveTables, takeTables } from './tables.ts';
import { forgetEvents, lookAtEvents, returnEvents, updateEvents } from './vtd-events.ts';
import { INTERRUPT_TABLES, disengageInterrupts, divideEntries, engageInterrupts, entriesFit, lookAtInterrupts, remaps, setKept, updateEntries } from './vtd-interrupts.ts';
import { OS_STATUS, VtdUnit, returnQueue, takeQueue, vtdForgetInDevice, vtdInvalidate, vtdRead, vtdRead64, vtdSetRoot, vtdSwitch, vtdWrite, vtdWrite64 } from './vtd-unit.ts';
import { NOWHERE, keptFrom } from './walk.ts';

const MAX_UNITS: u32 = 16;
const units: FixedArray<VtdUnit, 16> = zeroed();
let unitCount: u32 = 0;
/** The VMM's root table while it stands, else 0. */
let root: HostPhysical = 0n;
/** Levels of the instances' tables, as all units can walk them. */
let levels: u32 = 4;

const ROOT_TABLES: u32 = 1;
const BUSES: u32 = 256;
const BUS_FUNCTIONS: u32 = 256;
const ENTRY: u64 = 16n;

export function resetVtd(): void {
  unitCount = 0;
  root = 0n;
  setKept(false);
}

/** A unit that the tables name; false where there are too many. */
export function addVtd(base: HostPhysical): boolean {
  if (unitCount >= MAX_UNITS) return false;
  units[unitCount].base = base;
  unitCount++;
  return true;
}

export function vtdTotal(): u32 {
  return unitCount;
}

export function vtdAt(index: u32): VtdUnit {
  return units[index % MAX_UNITS];
}

/** An OS's context or root entry's first word; 0 where it has none, or names memory that is not its own. */
function entryAt(table: HostPhysical, index: u32, holder: u32): HostPhysical {
  const place: u64 = table + u64(index) * ENTRY;
  return holdsMemory(holder, place, ENTRY) ? place : 0n;
}

/** Where the holder's kernel has a function's context entry, if it has one that is present. */
function osEntry(unit: VtdUnit, bdf: u32, holder: u32): HostPhysical {
  if ((unit.osStatus & VTD_TRANSLATION) === 0 || (unit.osStatus & VTD_ROOT_POINTER) === 0) return 0n;
  const bus = entryAt(unit.osRoot & VTD_ADDRESS, bdf >> 8, holder);
  if (bus === 0n || (load64(bus) & VTD_PRESENT) === 0n) return 0n;
  const entry = entryAt(load64(bus) & VTD_ADDRESS, bdf & 0xff, holder);
  return entry === 0n || (load64(entry) & VTD_PRESENT) === 0n ? 0n : entry;
}

/** The same in whichever unit has it: a function lies below one only. */
function osEntryOfAny(bdf: u32, holder: u32): HostPhysical {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    const entry = i < unitCount ? osEntry(units[i], bdf, holder) : 0n;
    if (entry !== 0n) return entry;
  }
  return 0n;
}

/** Whether the holder's kernel translates in all units, so that a function without an entry reaches nothing. */
function translatesAll(): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && (units[i].osStatus & VTD_TRANSLATION) === 0) return false;
  }
  return true;
}

/** Number of an instance's domain: from the top, where no kernel has come yet. */
function domainOf(instance: u32): u32 {
  let domains: u32 = 0x10000;
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && vtdDomains(units[i].capability) < domains) domains = vtdDomains(units[i].capability);
  }
  return domains - instance;
}

/** Whether a requester's accesses go by page tables of the holder's own kernel. */
export function isTranslatedByOs(bdf: u32, holder: u32): boolean {
  if (requesterOwner(bdf, holder) !== holder) return false;
  const entry = osEntryOfAny(bdf, holder);
  return entry === 0n ? translatesAll() : (load64(entry) & VTD_TYPE) !== VTD_TYPE_PASS;
}

/** Levels of the tables that a context entry names, by its second word. */
function levelsOf(high: u64): u32 {
  return wrapU32(high & VTD_LEVELS) + 2;
}

/** Where in memory an access by page tables of the holder's own kernel would go that the VMM does not let through; NOWHERE if there is no such place. */
export function vtdKeptFrom(bdf: u32, address: u64, isWrite: boolean, holder: u32): u64 {
  const entry = osEntryOfAny(bdf, holder);
  if (entry === 0n) return NOWHERE;
  return keptFrom(IoFormat.VTD, holder, load64(entry) & VTD_ADDRESS, levelsOf(load64(entry + 8n)), address, isWrite);
}

/** Writes an entry that differs; the half that makes it present last, and first when it changes. */
function setEntry(place: HostPhysical, low: u64, high: u64): void {
  if (load64(place) === low && load64(place + 8n) === high) return;
  store64(place, 0n);
  store64(place + 8n, high);
  store64(place, low);
}

/** A requester's own entry with shadows behind it. One that names a domain of the VMM's would have a unit mistake its pages for those. */
function setTranslated(place: HostPhysical, low: u64, high: u64): void {
  const domain: u32 = wrapU32(high >> VTD_DOMAIN_SHIFT) & 0xffff;
  const root = domain < domainOf(MAX_INSTANCES) ? shadowTables(low & VTD_ADDRESS, levelsOf(high)) : 0n;
  if (root === 0n) setEntry(place, 0n, 0n);
  else setEntry(place, root | (low & ~VTD_ADDRESS), high);
}

/** Gives a requester the entry that is right now. */
function updateRequester(table: HostPhysical, bdf: u32, holder: u32): void {
  const place: u64 = table + u64(bdf & 0xff) * ENTRY;
  const before: u64 = load64(place) & VTD_ADDRESS;
  const owner = requesterOwner(bdf, holder);
  const own = owner === holder ? osEntryOfAny(bdf, holder) : 0n;
  // Read once: another processor of the kernel's may change it meanwhile.
  const low: u64 = own === 0n ? 0n : load64(own);
  if (own !== 0n && (low & VTD_TYPE) !== VTD_TYPE_PASS) setTranslated(place, low, load64(own + 8n));
  else if (!isHeld(owner) || (owner === holder && own === 0n && translatesAll())) setEntry(place, 0n, 0n);
  else setEntry(place, ioRoot(owner, levels) | VTD_PRESENT, u64(levels - 2) | (u64(domainOf(owner)) << VTD_DOMAIN_SHIFT));
  forgetTables(before);
}

/** Whether a bus needs context entries: there is a known function, or the holder's kernel has some. */
function needsTable(bus: u32, holder: u32): boolean {
  if (isBusUsed(bus)) return true;
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    const translated = i < unitCount && (units[i].osStatus & VTD_TRANSLATION) !== 0;
    if (!translated) continue;
    const entry = entryAt(units[i].osRoot & VTD_ADDRESS, bus, holder);
    if (entry !== 0n && (load64(entry) & VTD_PRESENT) !== 0n) return true;
  }
  return false;
}

/** The context table of a bus, made if it is needed; 0: requesters on the bus reach nothing. */
function contextTable(bus: u32, holder: u32): HostPhysical {
  const entry: u64 = root + u64(bus) * ENTRY;
  if ((load64(entry) & VTD_PRESENT) !== 0n) return load64(entry) & VTD_ADDRESS;
  if (!needsTable(bus, holder)) return 0n;
  const table = takeTables(1);
  store64(entry, table | VTD_PRESENT);
  return table;
}

/** The units forget all that they have looked up. */
export function invalidateVtd(): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    if ((units[i].extended & VTD_ECAP_COHERENT) === 0n) writebackInvalidate();
    vtdInvalidate(units[i]);
  }
  reuseShadows();
}

/** A device forgets what is translated for it: the unit that its kernel has its entry in tells it, or, if there is none any more, all. */
function forgetInDevice(bdf: u32, holder: u32): void {
  const isKnown = osEntryOfAny(bdf, holder) !== 0n;
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    const isFor = !isKnown || osEntry(units[i], bdf, holder) !== 0n;
    if (isFor && (units[i].extended & VTD_ECAP_DEVICE_TLB) !== 0n) vtdForgetInDevice(units[i], bdf);
  }
}

/** All devices forget that may keep it; the units have, so that they don't tell them the same again. */
function forgetInDevices(holder: u32): void {
  for (let bus: u32 = 0; bus < BUSES; bus++) {
    const table: u64 = load64(root + u64(bus) * ENTRY);
    if ((table & VTD_PRESENT) === 0n) continue;
    for (let i: u32 = 0; i < BUS_FUNCTIONS; i++) {
      const entry: u64 = load64((table & VTD_ADDRESS) + u64(i) * ENTRY);
      if ((entry & (VTD_PRESENT | VTD_TYPE)) === (VTD_PRESENT | VTD_TYPE_DEVICE_TLB)) forgetInDevice((bus << 8) | i, holder);
    }
  }
}

/** Makes every context entry what it is to be, and the units and devices look at them anew. */
export function updateVtd(holder: u32): void {
  updateAll(holder);
  invalidateVtd();
  forgetInDevices(holder);
}

function updateAll(holder: u32): void {
  for (let bus: u32 = 0; bus < BUSES; bus++) {
    const table = contextTable(bus, holder);
    if (table === 0n) continue;
    for (let i: u32 = 0; i < BUS_FUNCTIONS; i++) updateRequester(table, (bus << 8) | i, holder);
  }
}

/** The same for one requester, if its kernel has changed its mind: most of the time it has not. */
export function updateVtdRequester(bdf: u32, holder: u32): void {
  const table = contextTable(bdf >> 8, holder);
  if (table === 0n) return;
  const place: u64 = table + u64(bdf & 0xff) * ENTRY;
  const low = load64(place);
  const high = load64(place + 8n);
  updateRequester(table, bdf, holder);
  if (load64(place) !== low || load64(place + 8n) !== high) invalidateVtd();
}

/** Whether a unit can do what is needed, and is in a mode that can be taken over. */
function isUsable(unit: VtdUnit): boolean {
  const status = vtdRead(unit, VTD_GSTS);
  if ((unit.capability & VTD_CAP_LARGE_PAGES) !== VTD_CAP_LARGE_PAGES) return false;
  if ((unit.extended & VTD_ECAP_QUEUE) === 0n || (status & VTD_FAULT_LOG) !== 0) return false;
  if ((status & VTD_QUEUE) !== 0 && (vtdRead64(unit, VTD_IQA) & VTD_QUEUE_WIDE) !== 0n) return false;
  return (status & VTD_TRANSLATION) === 0 || (vtdRead64(unit, VTD_RTADDR) & VTD_ROOT_MODE) === 0n;
}

/** Whether every unit walks tables of as many levels as are chosen. */
function walksLevels(): boolean {
  const width: u64 = levels === 4 ? VTD_CAP_48_BITS : VTD_CAP_39_BITS;
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && (units[i].capability & width) === 0n) return false;
  }
  return true;
}

/** Whether all units see what is in the processors' caches. */
function areCoherent(): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && (units[i].extended & VTD_ECAP_COHERENT) === 0n) return false;
  }
  return true;
}

/** Takes note of how the kernel has a unit. */
function look(unit: VtdUnit, index: u32): void {
  unit.capability = vtdRead64(unit, VTD_CAP);
  unit.extended = vtdRead64(unit, VTD_ECAP);
  unit.osStatus = vtdRead(unit, VTD_GSTS) & OS_STATUS;
  unit.osRootRegister = vtdRead64(unit, VTD_RTADDR);
  unit.osRoot = unit.osRootRegister;
  lookAtInterrupts(unit, index);
  lookAtEvents(unit);
}

/**
 * Takes the units over from the kernel of `holder`, which does not run meanwhile;
 * false if one of them can't be, and all are as before.
 */
export function engageVtd(holder: u32): boolean {
  levels = 4;
  reserveTables(INTERRUPT_TABLES + ROOT_TABLES + BUSES + unitCount);
  divideEntries(unitCount);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    look(units[i], i);
    if (!isUsable(units[i]) || !entriesFit(units[i], holder)) return false;
    if ((units[i].capability & VTD_CAP_48_BITS) === 0n) levels = 3;
  }
  if (!walksLevels()) return false;
  resetShadows(IoFormat.VTD, holder, areCoherent());
  root = takeTables(1);
  updateAll(holder);
  if (!settleForShadows()) updateAll(holder);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    units[i].queue = takeTables(1);
    takeQueue(units[i]);
  }
  invalidateVtd();
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    vtdSetRoot(units[i], root);
    vtdInvalidate(units[i]);
    vtdSwitch(units[i], VTD_TRANSLATION, true);
    engageInterrupts(units[i], holder);
  }
  forgetInDevices(holder);
  return true;
}

/** The units are as the holder's kernel has told them to be. */
export function disengageVtd(holder: u32): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    const unit = units[i];
    const translated = (unit.osStatus & VTD_TRANSLATION) !== 0;
    if (!translated) vtdSwitch(unit, VTD_TRANSLATION, false);
    if ((unit.osStatus & VTD_ROOT_POINTER) !== 0) vtdSetRoot(unit, unit.osRoot);
    vtdWrite64(unit, VTD_RTADDR, unit.osRootRegister);
    vtdInvalidate(unit);
    disengageInterrupts(unit);
    returnEvents(unit);
    returnQueue(unit, holder);
  }
  dropShadows();
  root = 0n;
}

/**
 * For a kernel that was never told of the units: to it they are off, as after
 * reset, and interrupts go where devices send them.
 */
export function forgetVtdOwner(): void {
  setKept(false);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    const unit = units[i];
    unit.osStatus = 0;
    unit.osRootRegister = 0n;
    unit.osRoot = 0n;
    unit.osQueue = 0n;
    unit.osTail = 0n;
    unit.osInterruptRegister = 0n;
    unit.osInterrupts = 0n;
    forgetEvents(unit);
    vtdSwitch(unit, VTD_INTERRUPTS, false);
    vtdWrite64(unit, VTD_IRTA, 0n);
  }
}

/** Turns units off that were never taken over, for a kernel that knows of none. */
export function turnOffVtd(): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    vtdSwitch(units[i], VTD_TRANSLATION, false);
    vtdSwitch(units[i], VTD_INTERRUPTS, false);
    vtdSwitch(units[i], VTD_QUEUE, false);
  }
}

/** Whether devices' interrupts, and the IOAPIC's, are remapped by tables of the holder's kernel. */
export function vtdRemapsInterrupts(): boolean {
  if (unitCount === 0) return false;
  return root !== 0n ? remaps(units[0]) : (vtdRead(units[0], VTD_GSTS) & VTD_INTERRUPTS) !== 0;
}


/** Makes every unit's interrupts what they are to be, its devices' and its own: processors have changed hands. */
export function updateVtdInterrupts(holder: u32): void {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i >= unitCount) break;
    updateEntries(units[i], holder);
    updateEvents(units[i], holder);
  }
}

/** Whether every unit remaps interrupts, by the VMM's tables. */
export function allVtdRemap(): boolean {
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount && !remaps(units[i])) return false;
  }
  return true;
}

/** Interrupts are remapped even if the holder's kernel turns that off, or no more than it wants. */
export function keepVtdRemapping(keep: boolean, holder: u32): void {
  setKept(keep);
  for (let i: u32 = 0; i < MAX_UNITS; i++) {
    if (i < unitCount) engageInterrupts(units[i], holder);
  }
}
