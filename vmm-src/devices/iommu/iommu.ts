/**
 * The machine's IOMMUs, whichever kind they are: while the VMM is there they keep
 * the devices of each instance within what the instance itself reaches
 * (cpu/memory-map.ts has the tables for that). The kernel that holds the platform
 * may drive them all the while: it sees its own registers, and translates for its
 * own devices within what it reaches. The kind is what ACPI names, not the processor's.
 */
import { IoFormat } from '../../cpu/io-page-format.ts';
import { reuseIoTables, setIoFormat } from '../../cpu/memory-map.ts';
import { MESSAGE_ADDRESS } from '../../machine/pci.ts';
import { AMD_SIZE } from '../../machine/amd-iommu.ts';
import { VTD_MESSAGE_ADDS, VTD_SIZE, vtdMessage } from '../../machine/vtd.ts';
import {
  addAmd, addAmdRequester, amdAt, amdRemapsInterrupts, amdRoutes, amdTotal, disengageAmd, engageAmd, forgetAmdOwner, invalidateAmd, resetAmd, routeAmd, setIoapicRequester,
  turnOffAmdUnits, unrouteAmd, updateAmd, updateAmdRequester,
} from './amd.ts';
import { keepAmdForm } from './amd-unit.ts';
import { amdAtAddress, collectAmd, readAmd, writeAmd } from './amd-registers.ts';
import { hasRoom, isComplete, isOpen, isShadowed, loseTable, mayReuseShadows, openShadows, readTables, resetShadows, writeShadows } from './shadow.ts';
import { OWN_ENTRIES, clearOwnEntry, ownIndex, setOwnEntry } from './vtd-interrupts.ts';
import {
  addVtd, allVtdRemap, disengageVtd, engageVtd, forgetVtdOwner, invalidateVtd, keepVtdRemapping, resetVtd, turnOffVtd, updateVtd, updateVtdInterrupts,
  updateVtdRequester, vtdAt, vtdRemapsInterrupts, vtdTotal,
} from './vtd.ts';
import { collectVtd, readVtd, vtdAtAddress, writeVtd } from './vtd-registers.ts';

let format: IoFormat = IoFormat.NONE;
/** There is a unit that the VMM does not know how to drive, and which would stay open. */
let refused: boolean = false;
let engaged: boolean = false;

/** Forgets what is known of units. */
export function resetIommu(): void {
  format = IoFormat.NONE;
  refused = false;
  engaged = false;
  setIoFormat(format);
  resetShadows(format, 0, true);
  resetVtd();
  resetAmd();
}

/** A unit that ACPI names: one of Intel's, with one page of registers. */
export function foundVtd(base: HostPhysical): void {
  format = IoFormat.VTD;
  setIoFormat(format);
  if (!addVtd(base)) refused = true;
}

/** One of AMD's. */
export function foundAmd(base: HostPhysical): void {
  format = IoFormat.AMD;
  setIoFormat(format);
  if (!addAmd(base)) refused = true;
}

/** AMD's unit at an address is for a requester, and those between this and another that it is for. */
export function foundAmdRequester(base: HostPhysical, bdf: u32): void {
  addAmdRequester(base, bdf);
}

/** As whom the IOAPIC's interrupts come to AMD's units. */
export function foundIoapic(bdf: u32): void {
  setIoapicRequester(bdf);
}

/** A unit that is for other devices than those the VMM looks at. */
export function refuseIommu(): void {
  refused = true;
}

/** How many units there are whose registers no instance is to reach, and where they are. */
export function unitTotal(): u32 {
  return format === IoFormat.AMD ? amdTotal() : vtdTotal();
}

export function unitBase(index: u32): HostPhysical {
  return format === IoFormat.AMD ? amdAt(index).base : vtdAt(index).base;
}

export function unitSize(): u64 {
  return format === IoFormat.AMD ? AMD_SIZE : VTD_SIZE;
}

/** Whether all devices are confined now. */
export function isConfined(): boolean {
  return engaged && !isOpen();
}

/** Confines devices, if that can be done and is not done yet; the processors of `holder`, which holds the platform, are held. */
export function engageIommu(holder: u32): void {
  if (format === IoFormat.NONE || refused || engaged) return;
  engaged = format === IoFormat.AMD ? engageAmd(holder) : engageVtd(holder);
  refused = !engaged;
}

/** Whether engageIommu would do anything. */
export function mayEngage(): boolean {
  return format !== IoFormat.NONE && !refused && !engaged;
}

/** The units are as the kernel of `holder` has them; its processors are held. */
export function disengageIommu(holder: u32): void {
  if (!engaged) return;
  engaged = false;
  if (format === IoFormat.AMD) disengageAmd();
  else disengageVtd(holder);
}

/** Something that instances reach, or a function's owner, has changed: devices are confined accordingly when this returns. */
export function updateIommu(holder: u32): void {
  if (engaged) {
    readTables();
    if (format === IoFormat.AMD) updateAmd(holder);
    else {
      updateVtd(holder);
      updateVtdInterrupts(holder);
    }
  }
  reuseIoTables();
}

function invalidate(): void {
  if (format === IoFormat.AMD) invalidateAmd();
  else invalidateVtd();
}

/** Whether a page of an instance's is an I/O page table of its kernel's, which it writes by writeIoTable. */
export function isIoTable(instance: u32, page: HostPhysical): boolean {
  return engaged && isShadowed(instance, page);
}

/** The kernel is about to write an 8-byte entry of an I/O page table: what it maps for devices, it does when this returns. */
export function writeIoTable(place: HostPhysical, value: u64): void {
  if (mayReuseShadows()) invalidate();
  writeShadows(place, value);
}

/** Whether all of a kernel's I/O page tables have had room. */
export function hasRoomForTables(): boolean {
  return hasRoom();
}

/** Units get the I/O page tables of the kernel of `holder`, which are too many: its devices are not confined any more. */
export function openIommu(holder: u32): void {
  openShadows();
  if (format === IoFormat.AMD) updateAmd(holder);
  else updateVtd(holder);
}

/** An I/O page table is about to be written otherwise: devices reach nothing by it, until the kernel tells a unit of something. */
export function loseIoTable(page: HostPhysical): void {
  loseTable(page);
}

/** With what a kernel tells a unit, it is time for what was left out. */
function completeShadows(): void {
  if (isComplete()) return;
  if (mayReuseShadows()) invalidate();
  readTables();
}

/** A function that its owner looks at in configuration space, as it does before the function may master the bus: its kernel may have made it an entry since. */
export function noteRequester(bdf: u32, holder: u32): void {
  if (!engaged) return;
  if (format === IoFormat.AMD) updateAmdRequester(bdf, holder);
  else updateVtdRequester(bdf, holder);
}

/** The platform goes to a kernel that was never told of the units: to it they are off, and remap no interrupts. */
export function forgetIommuOwner(): void {
  if (format === IoFormat.AMD) {
    if (engaged) forgetAmdOwner();
    else turnOffAmdUnits();
  } else if (format === IoFormat.VTD) {
    if (engaged) forgetVtdOwner();
    else turnOffVtd();
  }
}

/** Records what devices have been kept from. */
export function collectViolations(holder: u32): void {
  if (!engaged) return;
  if (format === IoFormat.AMD) collectAmd(holder);
  else collectVtd(holder);
}

/** Whether the holder's kernel has interrupts remapped. */
export function remapsInterrupts(holder: u32): boolean {
  return format === IoFormat.AMD ? amdRemapsInterrupts(holder) : vtdRemapsInterrupts();
}

/** How many messages of functions that another instance than the platform's holder has the IOMMU can send on. */
export const OWN_MESSAGES: u32 = OWN_ENTRIES;

/** Whether functions of another instance have to send messages that name an entry of the VMM's, and can: routeMessage. */
export function routesMessages(): boolean {
  return engaged && (format === IoFormat.AMD ? amdRoutes() : allVtdRemap());
}

/** The address by which a function names the VMM's entry `slot`; `adds`: what it adds to the data chooses the entry after it. */
export function ownMessage(slot: u32, adds: boolean): u32 {
  if (format === IoFormat.AMD) return MESSAGE_ADDRESS;
  return wrapU32(vtdMessage(ownIndex(slot)) | (adds ? VTD_MESSAGE_ADDS : 0n));
}

/** The data by which it does. */
export function ownMessageData(slot: u32): u32 {
  return format === IoFormat.AMD ? slot : 0;
}

/** Number of entry `slot` in the unit's table, as its faults have it. */
export function messageEntry(slot: u32): u32 {
  return format === IoFormat.AMD ? slot : ownIndex(slot);
}

/** The message of a requester's that names entry `slot` becomes an interrupt at one processor; true: one may have been lost while that was changed. */
export function routeMessage(slot: u32, requester: u32, vector: u32, mode: u32, apicId: u32): boolean {
  if (format === IoFormat.AMD) return routeAmd(slot, requester, vector, mode, apicId);
  for (let i: u32 = 0; i < vtdTotal(); i++) setOwnEntry(vtdAt(i), slot, requester, vector, mode, apicId);
  return false;
}

/** A requester's message that names entry `slot` goes nowhere. */
export function unrouteMessage(slot: u32, requester: u32): void {
  if (format === IoFormat.AMD) unrouteAmd(slot, requester);
  for (let i: u32 = 0; i < vtdTotal(); i++) clearOwnEntry(vtdAt(i), slot);
}

/** Remapping stays on, and in its mode, whatever the holder's kernel does: another instance's messages are routed. */
export function keepRemapping(keep: boolean, holder: u32): void {
  if (engaged && format === IoFormat.AMD) keepAmdForm(keep);
  else if (engaged) keepVtdRemapping(keep, holder);
}

/** Of a redirection entry's high word, with VT-d: it names an entry of a remapping table (VT-d 4.1, 5.1.5.1). */
const REMAPPABLE: u32 = 0x10000;

/** Whether a redirection entry of the IOAPIC names no destination, but what a table of the kernel's makes of it. */
export function isRemapped(high: u32, holder: u32): boolean {
  return remapsInterrupts(holder) && (format === IoFormat.AMD || (high & REMAPPABLE) !== 0);
}

/** Whether an address is one of a unit's registers. */
export function isIommu(address: GuestPhysical): boolean {
  return format === IoFormat.AMD ? amdAtAddress(address) !== amdTotal() : vtdAtAddress(address) !== vtdTotal();
}

function readWord(address: GuestPhysical, holder: u32): u32 {
  if (!engaged) return load32(u64(address));
  if (format === IoFormat.AMD) {
    const unit = amdAt(amdAtAddress(address));
    return readAmd(unit, wrapU32(u64(address) - unit.base), holder);
  }
  const unit = vtdAt(vtdAtAddress(address));
  return readVtd(unit, wrapU32(u64(address) - unit.base), holder);
}

function writeWord(address: GuestPhysical, value: u32, holder: u32): void {
  if (!engaged) {
    store32(u64(address), value);
    return;
  }
  completeShadows();
  if (format === IoFormat.AMD) {
    const unit = amdAt(amdAtAddress(address));
    writeAmd(unit, wrapU32(u64(address) - unit.base), value, holder);
    return;
  }
  const unit = vtdAt(vtdAtAddress(address));
  writeVtd(unit, wrapU32(u64(address) - unit.base), value, holder);
}

/** A load of `size` bytes by the kernel that holds the platform; registers are words and pairs of them. */
export function readIommu(address: GuestPhysical, size: u32, holder: u32): u64 {
  const word: u64 = u64(address) & ~3n;
  const low: u64 = u64(readWord(word, holder)) >> (8n * (u64(address) & 3n));
  return size < 8 ? low : low | (u64(readWord(word + 4n, holder)) << 32n);
}

/** A store. Those of other sizes than 4 and 8 bytes are lost: no register takes them. */
export function writeIommu(address: GuestPhysical, size: u32, value: u64, holder: u32): void {
  if ((u64(address) & 3n) !== 0n || size < 4) return;
  writeWord(address, wrapU32(value), holder);
  if (size === 8) writeWord(address + 4n, wrapU32(value >> 32n), holder);
}
