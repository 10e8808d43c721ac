/**
 * Interrupt remapping of VT-d beneath a kernel that remaps (VT-d 4.1, chapter 5). A
 * unit walks a table of the VMM's. In it are the kernel's entries, as far as they
 * stay within the kernel's processors, copied when it says that they have changed;
 * and, at the end, those of messages of the other instance's functions
 * (devices/messages/), which no other requester can name.
 */
import { CpuState, EventType, MAX_CPUS } from '../../abi.ts';
import { apicHolderOf, cpus } from '../../cpu/cpu.ts';
import { record } from '../../events.ts';
import { DFR_RESET, ICR_LOGICAL, ICR_MODE_FIXED, ICR_MODE_LOWEST, ICR_MODE_NMI } from '../../machine/apic.ts';
import { pause, writebackInvalidate } from '../../machine/intrinsics.ts';
import {
  VTD_ADDRESS, VTD_CONTINUING, VTD_ECAP_COHERENT, VTD_ENTRIES_INDEX, VTD_ENTRIES_INDEX_SHIFT, VTD_ENTRIES_MASK, VTD_ENTRIES_MASK_SHIFT,
  VTD_ENTRIES_SELECTED, VTD_ENTRY_LOGICAL, VTD_ENTRY_MODE, VTD_ENTRY_MODE_SHIFT, VTD_ENTRY_NO_FAULT, VTD_ENTRY_POSTED, VTD_ENTRY_REFUSED,
  VTD_ENTRY_REQUESTER, VTD_ENTRY_VECTOR_SHIFT, VTD_ENTRY_VERIFIED, VTD_ENTRY_X2APIC_SHIFT, VTD_ENTRY_XAPIC_SHIFT, VTD_GCMD, VTD_GSTS,
  VTD_INTERRUPTS, VTD_INTERRUPT_CACHE, VTD_INTERRUPT_POINTER, VTD_IRTA, VTD_PRESENT, VTD_TABLE_LENGTH, VTD_TABLE_X2APIC,
} from '../../machine/vtd.ts';
import { cpuOwner, holdsMemory } from '../../partition.ts';
import { isNamed } from '../apic-destination.ts';
import { takeTables } from './tables.ts';
import { VtdUnit, vtdRead, vtdRead64, vtdSubmit, vtdSwitch, vtdWrite, vtdWrite64 } from './vtd-unit.ts';

/** Of all units together. Kernels use the first entries that are free, and 32 processors take no more than 6,500 interrupts. */
const ENTRIES: u32 = 32768;
export const INTERRUPT_TABLES: u32 = 128;
/** At the end of each unit's table, for the other instance's functions. */
export const OWN_ENTRIES: u32 = 256;
const ENTRY: u64 = 16n;
const DELIVERY_SHIFT: u32 = 8;
const X2APIC_BROADCAST: u32 = 0xffffffff;
const CLUSTER: u32 = 16;

/** The tables of all units, one behind the other. */
let tables: HostPhysical = 0n;
/** Entries of each unit's table. */
let count: u32 = 0;
/** Units remap, and in the mode that they are in, though their kernel turns it off: another instance's messages depend on it. */
let kept: boolean = false;

export function setKept(keep: boolean): void {
  kept = keep;
}

/** The kernel's entries end here, and the VMM's own begin. */
function limit(): u32 {
  return count - OWN_ENTRIES;
}

/** Index of one of the VMM's own entries in every unit's table. */
export function ownIndex(slot: u32): u32 {
  return limit() + slot;
}

/** Divides the memory for tables between so many units, INTERRUPT_TABLES pages; before the first is taken over. */
export function divideEntries(units: u32): void {
  tables = takeTables(INTERRUPT_TABLES);
  count = ENTRIES;
  while (count * units > ENTRIES) count = count >> 1;
}

export function remaps(unit: VtdUnit): boolean {
  return (unit.osStatus & VTD_INTERRUPTS) !== 0;
}

/** Whether the unit's interrupts have destinations of 32 bits. */
export function isX2apicMode(unit: VtdUnit): boolean {
  return (unit.osInterrupts & VTD_TABLE_X2APIC) !== 0n;
}

/** Number of entries of the kernel's table; 0 where it has none, or names memory that is not its own. */
function osEntries(unit: VtdUnit, holder: u32): u32 {
  if ((unit.osStatus & VTD_INTERRUPT_POINTER) === 0) return 0;
  const entries: u32 = u32(2) << wrapU32(unit.osInterrupts & VTD_TABLE_LENGTH);
  return holdsMemory(holder, unit.osInterrupts & VTD_ADDRESS, u64(entries) * ENTRY) ? entries : 0;
}

/** Whether the entries that the kernel has in use are among those that the VMM's table can hold. */
export function entriesFit(unit: VtdUnit, holder: u32): boolean {
  const entries = osEntries(unit, holder);
  for (let i: u32 = limit(); i < entries; i++) {
    if ((load64((unit.osInterrupts & VTD_ADDRESS) + u64(i) * ENTRY) & VTD_PRESENT) !== 0n) return false;
  }
  return true;
}

/** Whether a processor is beneath the VMM, and another instance's than `holder`'s, or parked. */
function isForeign(index: u32, holder: u32): boolean {
  return cpus[index & 31].state !== CpuState.BARE && cpuOwner(index & 31) !== holder;
}

/** Whether there are processors that the holder's devices are to leave alone. */
function isGuarded(holder: u32): boolean {
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (isForeign(i, holder)) return true;
  }
  return false;
}

/** A logical destination in x2APIC mode without processors that are not the holder's; 0 if none is left. */
function ownOfCluster(destination: u32, holder: u32): u32 {
  let own = destination;
  if (destination === X2APIC_BROADCAST) return 0;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const id = cpus[i].apicId;
    if (isForeign(i, holder) && id / CLUSTER === destination >> 16) own &= ~(u32(1) << (id % CLUSTER));
  }
  return (own & 0xffff) === 0 ? 0 : own;
}

/** Whether a destination names processors of the holder's, and no other. In xAPIC mode those of others have no logical id meanwhile. */
function namesOwn(logical: boolean, x2apic: boolean, destination: u32, holder: u32): boolean {
  let found = false;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const vcpu = apicHolderOf(cpus[i]);
    const foreign = isForeign(i, holder);
    if (vcpu === null || (foreign && logical && !x2apic)) continue;
    if (!isNamed({ id: cpus[i].apicId, x2apic: x2apic, logical: vcpu.ldr, model: DFR_RESET }, logical ? ICR_LOGICAL : 0, destination)) continue;
    if (foreign) return false;
    found = true;
  }
  return found;
}

/** Whether an interrupt of the holder's kernel may go to a destination, all of it. */
export function mayInterrupt(logical: boolean, x2apic: boolean, destination: u32, holder: u32): boolean {
  if (!isGuarded(holder)) return true;
  if (logical && x2apic && ownOfCluster(destination, holder) !== destination) return false;
  return namesOwn(logical, x2apic, destination, holder);
}

/** A kernel's entry as far as it stays within the holder's processors; 0 where it does not. Posting writes memory, and other modes than these stop processors. */
function confine(low: u64, x2apic: boolean, holder: u32): u64 {
  const mode: u32 = wrapU32((low >> VTD_ENTRY_MODE_SHIFT) & VTD_ENTRY_MODE) << DELIVERY_SHIFT;
  if ((low & VTD_ENTRY_POSTED) !== 0n || (mode !== ICR_MODE_FIXED && mode !== ICR_MODE_LOWEST && mode !== ICR_MODE_NMI)) return 0n;
  if (!isGuarded(holder)) return low;
  const logical = (low & VTD_ENTRY_LOGICAL) !== 0n;
  const named: u32 = x2apic ? wrapU32(low >> VTD_ENTRY_X2APIC_SHIFT) : wrapU32(low >> VTD_ENTRY_XAPIC_SHIFT) & 0xff;
  const destination: u32 = logical && x2apic ? ownOfCluster(named, holder) : named;
  if (destination === 0 && named !== 0) return 0n;
  if (!namesOwn(logical, x2apic, destination, holder)) return 0n;
  return x2apic ? (low & 0xffffffffn) | (u64(destination) << VTD_ENTRY_X2APIC_SHIFT) : low;
}

/** Writes an entry that differs. With the same requester it changes at once, as kernels do it; else it is absent in between. */
function setEntry(place: HostPhysical, low: u64, high: u64): void {
  if (load64(place + 8n) !== high) {
    store64(place, 0n);
    store64(place + 8n, high);
  }
  if (load64(place) !== low) store64(place, low);
}

/** Gives the table the kernel's entry `index`, or what may be had of it. */
function copyEntry(unit: VtdUnit, index: u32, holder: u32): void {
  const from: u64 = (unit.osInterrupts & VTD_ADDRESS) + u64(index) * ENTRY;
  const low = load64(from);
  const high = load64(from + 8n);
  const isPresent = (low & VTD_PRESENT) !== 0n;
  const allowed: u64 = isPresent && index < limit() ? confine(low & ~VTD_ENTRY_REFUSED, isX2apicMode(unit), holder) : 0n;
  const refused = isPresent && allowed === 0n;
  const place: u64 = unit.interrupts + u64(index) * ENTRY;
  const known = index < limit() && (load64(place) & VTD_ENTRY_REFUSED) !== 0n;
  if (refused && !known) record(EventType.INTERRUPT_VIOLATION, holder, 0, u64(index) | (1n << 32n), high & VTD_ENTRY_REQUESTER);
  if (index < limit()) setEntry(place, allowed !== 0n ? allowed : (low & VTD_ENTRY_NO_FAULT) | (refused ? VTD_ENTRY_REFUSED : 0n), high);
}

/** Copies `number` entries of the kernel's from `first` on. */
function copyEntries(unit: VtdUnit, first: u32, number: u32, holder: u32): void {
  const entries = osEntries(unit, holder);
  const end: u32 = first + number;
  for (let i: u32 = first; i < end; i++) {
    if (i < entries) copyEntry(unit, i, holder);
    else if (i < limit()) setEntry(unit.interrupts + u64(i) * ENTRY, 0n, 0n);
  }
  if ((unit.extended & VTD_ECAP_COHERENT) === 0n) writebackInvalidate();
}

/** The kernel says that entries have changed: its descriptor is carried out. */
export function changeEntries(unit: VtdUnit, descriptor: u64, holder: u32): void {
  if ((descriptor & VTD_ENTRIES_SELECTED) === 0n) {
    updateEntries(unit, holder);
    return;
  }
  const mask: u32 = wrapU32((descriptor >> VTD_ENTRIES_MASK_SHIFT) & VTD_ENTRIES_MASK) & 15;
  const first: u32 = wrapU32((descriptor >> VTD_ENTRIES_INDEX_SHIFT) & VTD_ENTRIES_INDEX) >> mask << mask;
  copyEntries(unit, first, u32(1) << mask, holder);
  vtdSubmit(unit, descriptor, 0n);
}

/** All of the kernel's entries are what they are to be, and the unit looks at them anew. */
export function updateEntries(unit: VtdUnit, holder: u32): void {
  if (!kept && !remaps(unit)) return;
  copyEntries(unit, 0, limit(), holder);
  vtdSubmit(unit, VTD_INTERRUPT_CACHE, 0n);
}

/** Makes a unit take a table, which takes effect with the invalidation that follows. */
function setTable(unit: VtdUnit, table: u64): void {
  vtdWrite64(unit, VTD_IRTA, table);
  vtdWrite(unit, VTD_GCMD, (vtdRead(unit, VTD_GSTS) & VTD_CONTINUING) | VTD_INTERRUPT_POINTER);
  while ((vtdRead(unit, VTD_GSTS) & VTD_INTERRUPT_POINTER) === 0) pause();
  vtdSubmit(unit, VTD_INTERRUPT_CACHE, 0n);
}

function lengthOf(entries: u32): u64 {
  let length: u64 = 0n;
  while (u32(2) << wrapU32(length) < entries) length++;
  return length;
}

/** Notes how the kernel has a unit, and gives it memory for its table: `index` counts units. */
export function lookAtInterrupts(unit: VtdUnit, index: u32): void {
  unit.osInterruptRegister = vtdRead64(unit, VTD_IRTA);
  unit.osInterrupts = unit.osInterruptRegister;
  unit.interrupts = tables + u64(index * count) * ENTRY;
  fillBytes(unit.interrupts, 0, u64(count) * ENTRY);
}

/** The unit remaps as the kernel has told it, by the VMM's table; its queue is the VMM's. Entries are the same as before at every moment. */
export function engageInterrupts(unit: VtdUnit, holder: u32): void {
  if (kept || remaps(unit)) {
    copyEntries(unit, 0, limit(), holder);
    setTable(unit, unit.interrupts | (unit.osInterrupts & VTD_TABLE_X2APIC) | lengthOf(count));
  }
  vtdSwitch(unit, VTD_INTERRUPTS, kept || remaps(unit));
}

/** The kernel tells a unit to take the table that it has put into the register. */
export function takeOsTable(unit: VtdUnit): void {
  const mode: u64 = kept ? unit.osInterrupts : unit.osInterruptRegister;
  unit.osInterrupts = (unit.osInterruptRegister & ~VTD_TABLE_X2APIC) | (mode & VTD_TABLE_X2APIC);
  unit.osStatus |= VTD_INTERRUPT_POINTER;
}

/** The unit has the kernel's table again, while its queue is the VMM's still. */
export function disengageInterrupts(unit: VtdUnit): void {
  if ((unit.osStatus & VTD_INTERRUPT_POINTER) !== 0) setTable(unit, unit.osInterrupts);
  vtdWrite64(unit, VTD_IRTA, unit.osInterruptRegister);
}

/** One of the VMM's own entries: a requester's interrupt goes to one processor. */
export function setOwnEntry(unit: VtdUnit, slot: u32, requester: u32, vector: u32, mode: u32, apicId: u32): void {
  const shift: u64 = isX2apicMode(unit) ? VTD_ENTRY_X2APIC_SHIFT : VTD_ENTRY_XAPIC_SHIFT;
  const low: u64 = VTD_PRESENT | (u64(mode >> DELIVERY_SHIFT) << VTD_ENTRY_MODE_SHIFT) | (u64(vector) << VTD_ENTRY_VECTOR_SHIFT) | (u64(apicId) << shift);
  writeOwnEntry(unit, slot, low, u64(requester) | VTD_ENTRY_VERIFIED);
}

/** The message of one of them goes nowhere. */
export function clearOwnEntry(unit: VtdUnit, slot: u32): void {
  writeOwnEntry(unit, slot, 0n, 0n);
}

function writeOwnEntry(unit: VtdUnit, slot: u32, low: u64, high: u64): void {
  setEntry(unit.interrupts + u64(ownIndex(slot)) * ENTRY, low, high);
  if ((unit.extended & VTD_ECAP_COHERENT) === 0n) writebackInvalidate();
  vtdSubmit(unit, VTD_INTERRUPT_CACHE | VTD_ENTRIES_SELECTED | (u64(ownIndex(slot)) << VTD_ENTRIES_INDEX_SHIFT), 0n);
}
