/**
 * A unit's registers as the kernel that holds the platform sees them: what the VMM
 * has taken over is kept here, the rest is the unit's own (VT-d 4.1, 11.4). And
 * the faults that the unit has recorded.
 */
import { EventType } from '../../abi.ts';
import { record } from '../../events.ts';
import {
  VTD_ADDRESS, VTD_CCMD, VTD_CONTEXT, VTD_CONTEXT_DONE_GLOBAL, VTD_CONTINUING, VTD_DEVICE_TLB, VTD_DEVICE_TLB_ADDRESS_BITS,
  VTD_DEVICE_TLB_BITS, VTD_ECAP_DEVICE_TLB, VTD_FAULT, VTD_FAULT_FIRST_INTERRUPT, VTD_FAULT_INDEX_SHIFT,
  VTD_FAULT_LAST_INTERRUPT, VTD_FAULT_OVERFLOW, VTD_FAULT_PENDING, VTD_FAULT_READ, VTD_FAULT_REASON, VTD_FSTS, VTD_GCMD,
  VTD_GRANULARITY, VTD_GSTS, VTD_INTERRUPTS, VTD_INTERRUPT_CACHE, VTD_INTERRUPT_CACHE_BITS, VTD_INTERRUPT_POINTER, VTD_INVALIDATE, VTD_IOTLB, VTD_IOTLB_ADDRESS_BITS,
  VTD_IOTLB_BITS, VTD_IOTLB_DONE_GLOBAL, VTD_IQA, VTD_IQH, VTD_IQT, VTD_IRTA, VTD_KIND, VTD_QUEUE, VTD_ROOT_POINTER, VTD_RTADDR, VTD_SIZE,
  VTD_TRANSLATION, VTD_WAIT, VTD_WAIT_INTERRUPT, VTD_WAIT_STORE, vtdFaultCount, vtdFaultOffset, vtdIotlbOffset,
} from '../../machine/vtd.ts';
import { holdsMemory } from '../../partition.ts';
import { requesterInstance, requesterOwner } from './tables.ts';
import { isTranslatedByOs, updateVtd, vtdAt, vtdKeptFrom, vtdTotal } from './vtd.ts';
import { isEventRegister, readEventRegister, writeEventRegister } from './vtd-events.ts';
import { changeEntries, engageInterrupts, takeOsTable } from './vtd-interrupts.ts';
import { OS_STATUS, VtdUnit, osQueueBase, osQueueSize, vtdInvalidate, vtdRead, vtdRead64, vtdSubmit, vtdWrite } from './vtd-unit.ts';
import { NOWHERE } from './walk.ts';

const DESCRIPTOR: u64 = 16n;
/** Carries out one of the kernel's descriptors, as far as its kind is known. */
function forward(unit: VtdUnit, low: u64, high: u64, holder: u32): void {
  const kind: u64 = low & VTD_KIND;
  if (kind === VTD_CONTEXT) updateVtd(holder);
  else if (kind === VTD_IOTLB && (low & VTD_GRANULARITY) !== 0n) vtdSubmit(unit, kind | (low & VTD_IOTLB_BITS), high & VTD_IOTLB_ADDRESS_BITS);
  else if (kind === VTD_DEVICE_TLB && (unit.extended & VTD_ECAP_DEVICE_TLB) !== 0n) {
    vtdSubmit(unit, kind | (low & VTD_DEVICE_TLB_BITS), high & VTD_DEVICE_TLB_ADDRESS_BITS);
  } else if (kind === VTD_INTERRUPT_CACHE) changeEntries(unit, kind | (low & VTD_INTERRUPT_CACHE_BITS), holder);
  else if (kind === VTD_WAIT) {
    const place: u64 = high & ~3n;
    // All before it has been done.
    if ((low & VTD_WAIT_STORE) !== 0n && holdsMemory(holder, place, 4n)) store32(place, wrapU32(low >> 32n));
    if ((low & VTD_WAIT_INTERRUPT) !== 0n) vtdSubmit(unit, VTD_WAIT | VTD_WAIT_INTERRUPT, 0n);
  }
}

/** The kernel has moved its queue's tail. */
function runQueue(unit: VtdUnit, tail: u64, holder: u32): void {
  const size = osQueueSize(unit);
  const mine = (unit.osStatus & VTD_QUEUE) !== 0 && tail < size && holdsMemory(holder, osQueueBase(unit), size);
  while (mine && unit.osTail !== tail) {
    const place: u64 = osQueueBase(unit) + unit.osTail;
    forward(unit, load64(place), load64(place + 8n), holder);
    unit.osTail = (unit.osTail + DESCRIPTOR) & (size - 1n);
  }
  unit.osTail = tail;
}

/** A global command: what the VMM has taken over is kept, the rest goes on to the unit. */
function command(unit: VtdUnit, value: u32, holder: u32): void {
  const before = unit.osStatus;
  const rest: u32 = value & ~OS_STATUS;
  const status = vtdRead(unit, VTD_GSTS) & VTD_CONTINUING;
  if (rest !== (status & ~OS_STATUS)) vtdWrite(unit, VTD_GCMD, (status & OS_STATUS) | rest);
  if ((value & VTD_ROOT_POINTER) !== 0) {
    unit.osRoot = unit.osRootRegister;
    unit.osStatus |= VTD_ROOT_POINTER;
  }
  if ((value & VTD_INTERRUPT_POINTER) !== 0) takeOsTable(unit);
  // A queue that is turned off starts at its beginning again.
  if ((value & VTD_QUEUE) === 0 && (before & VTD_QUEUE) !== 0) unit.osTail = 0n;
  const switches: u32 = VTD_TRANSLATION | VTD_QUEUE | VTD_INTERRUPTS;
  unit.osStatus = (unit.osStatus & ~switches) | (value & switches);
  const changed = ((before ^ unit.osStatus) & VTD_TRANSLATION) !== 0 || (value & VTD_ROOT_POINTER) !== 0;
  if (changed) updateVtd(holder);
  if (((before ^ unit.osStatus) & VTD_INTERRUPTS) !== 0 || (value & VTD_INTERRUPT_POINTER) !== 0) engageInterrupts(unit, holder);
}

/** A 64-bit register's value with one half of it written. */
function withHalf(before: u64, offset: u32, value: u32): u64 {
  const other: u64 = (offset & 4) === 0 ? before & ~0xffffffffn : before & 0xffffffffn;
  return other | ((offset & 4) === 0 ? u64(value) : u64(value) << 32n);
}

/** Writes 4 bytes of the register page. */
export function writeVtd(unit: VtdUnit, offset: u32, value: u32, holder: u32): void {
  const pair: u32 = offset & ~u32(4);
  const iotlb = vtdIotlbOffset(unit.extended);
  if (offset === VTD_GCMD) command(unit, value, holder);
  else if (isEventRegister(offset)) writeEventRegister(unit, offset, value, holder);
  else if (pair === VTD_RTADDR) unit.osRootRegister = withHalf(unit.osRootRegister, offset, value);
  else if (pair === VTD_IRTA) unit.osInterruptRegister = withHalf(unit.osInterruptRegister, offset, value);
  else if (pair === VTD_IQA) unit.osQueue = withHalf(unit.osQueue, offset, value);
  else if (offset === VTD_IQT) runQueue(unit, u64(value) & 0x7fff0n, holder);
  else if (offset === VTD_CCMD + 4) {
    unit.osContextCommand = value;
    if ((value & VTD_INVALIDATE) === 0) return;
    updateVtd(holder);
    unit.osContextCommand = (value & ~VTD_INVALIDATE) | VTD_CONTEXT_DONE_GLOBAL;
  } else if (offset === iotlb + 4) {
    unit.osIotlbCommand = value;
    if ((value & VTD_INVALIDATE) === 0) return;
    vtdInvalidate(unit);
    unit.osIotlbCommand = (value & ~VTD_INVALIDATE) | VTD_IOTLB_DONE_GLOBAL;
  } else if (pair === VTD_CCMD || pair === VTD_IQH || pair === VTD_IQT || pair === iotlb) return;
  else if (!pointsIntoMemory(pair)) vtdWrite(unit, offset, value);
}

/** Registers of tables that the unit would write, of parts that kernels use only with what the VMM refuses to take over: the advanced fault log, page requests. */
function pointsIntoMemory(pair: u32): boolean {
  const ADVANCED_FAULT_LOG: u32 = 0x58;
  const PAGE_REQUESTS: u32 = 0xd0;
  return pair === ADVANCED_FAULT_LOG || pair === PAGE_REQUESTS;
}

function half(value: u64, offset: u32): u32 {
  return (offset & 4) === 0 ? wrapU32(value) : wrapU32(value >> 32n);
}

/** Reads 4 bytes of the register page. */
export function readVtd(unit: VtdUnit, offset: u32, holder: u32): u32 {
  const pair: u32 = offset & ~u32(4);
  if (offset === VTD_FSTS) collectFromUnit(unit, holder);
  if (isEventRegister(offset)) return readEventRegister(unit, offset);
  if (offset === VTD_GSTS) return (vtdRead(unit, VTD_GSTS) & ~OS_STATUS) | unit.osStatus;
  if (pair === VTD_RTADDR) return half(unit.osRootRegister, offset);
  if (pair === VTD_IRTA) return half(unit.osInterruptRegister, offset);
  if (pair === VTD_IQA) return half(unit.osQueue, offset);
  if (pair === VTD_IQT || pair === VTD_IQH) return half(unit.osTail, offset);
  if (offset === VTD_CCMD + 4) return unit.osContextCommand;
  if (offset === vtdIotlbOffset(unit.extended) + 4) return unit.osIotlbCommand;
  return vtdRead(unit, offset);
}

/** Index of the unit whose registers an address is in; vtdTotal() if none. */
export function vtdAtAddress(address: GuestPhysical): u32 {
  for (let i: u32 = 0; i < vtdTotal(); i++) {
    if (u64(address) >= vtdAt(i).base && u64(address) - vtdAt(i).base < VTD_SIZE) return i;
  }
  return vtdTotal();
}

/** Whether a fault is one of a message, and not of an access to memory. */
function isInterruptFault(flags: u32): boolean {
  const reason: u32 = flags & VTD_FAULT_REASON;
  return reason >= VTD_FAULT_FIRST_INTERRUPT && reason <= VTD_FAULT_LAST_INTERRUPT;
}

/**
 * Records what a unit has kept devices from. What the page tables of the holder's own
 * kernel do not map, and its own interrupts, are left for that kernel, which has the
 * unit's interrupt.
 */
function collectFromUnit(unit: VtdUnit, holder: u32): void {
  const status = vtdRead(unit, VTD_FSTS);
  if ((status & (VTD_FAULT_PENDING | VTD_FAULT_OVERFLOW)) === 0) return;
  const count = vtdFaultCount(unit.capability);
  for (let i: u32 = 0; i < count; i++) {
    const at: u32 = vtdFaultOffset(unit.capability) + 16 * i;
    const flags = vtdRead(unit, at + 12);
    const bdf: u32 = vtdRead(unit, at + 8) & 0xffff;
    if ((flags & VTD_FAULT) === 0) continue;
    const instance = requesterInstance(bdf, holder);
    if (isInterruptFault(flags)) {
      if (requesterOwner(bdf, holder) === holder) continue;
      record(EventType.INTERRUPT_VIOLATION, instance, 0, vtdRead64(unit, at) >> VTD_FAULT_INDEX_SHIFT, u64(bdf));
    } else {
      const isWrite = (flags & VTD_FAULT_READ) === 0;
      let address: u64 = vtdRead64(unit, at) & VTD_ADDRESS;
      if (isTranslatedByOs(bdf, holder)) address = vtdKeptFrom(bdf, address, isWrite, holder);
      if (address === NOWHERE) continue;
      record(EventType.DMA_VIOLATION, instance, 0, address, u64(bdf) | (isWrite ? 1n << 16n : 0n));
    }
    vtdWrite(unit, at + 12, VTD_FAULT);
  }
  if ((status & VTD_FAULT_OVERFLOW) !== 0 && (unit.osStatus & VTD_TRANSLATION) === 0) vtdWrite(unit, VTD_FSTS, VTD_FAULT_OVERFLOW);
}

/** Records what all units have kept devices from since it was last asked. */
export function collectVtd(holder: u32): void {
  for (let i: u32 = 0; i < vtdTotal(); i++) collectFromUnit(vtdAt(i), holder);
}
