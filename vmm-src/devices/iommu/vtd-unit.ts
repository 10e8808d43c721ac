/**
 * One of Intel's units: its registers, and its invalidation queue, which the VMM
 * keeps to itself. An operating system's own descriptors are read from its queue,
 * checked, and put into the VMM's, so that a unit never reads what an instance
 * can still change, nor writes where one tells it to (VT-d 4.1, 6.5.2).
 */
import { pause } from '../../machine/intrinsics.ts';
import {
  VTD_CAP_WRITE_BUFFER, VTD_CONTEXT_ALL, VTD_CONTINUING, VTD_DEVICE_TLB, VTD_DEVICE_TLB_ALL, VTD_DEVICE_TLB_ONE, VTD_DEVICE_TLB_REQUESTER, VTD_FSTS, VTD_GCMD, VTD_GSTS, VTD_INTERRUPTS, VTD_INTERRUPT_POINTER, VTD_IOTLB_ALL, VTD_IQA, VTD_IQH, VTD_IQT, VTD_QUEUE,
  VTD_QUEUE_ERRORS, VTD_QUEUE_REFUSED, VTD_QUEUE_SIZE, VTD_QUEUE_TIMEOUT, VTD_ADDRESS, VTD_ROOT_POINTER, VTD_RTADDR, VTD_TRANSLATION, VTD_WAIT, VTD_WAIT_DONE, VTD_WAIT_STORE, VTD_WRITE_BUFFER,
} from '../../machine/vtd.ts';
import { PAGE_SIZE } from '../../machine/registers.ts';
import { holdsMemory } from '../../partition.ts';

export class VtdUnit extends Struct {
  base: HostPhysical;
  capability: u64;
  extended: u64;
  /** The VMM's own queue, one page, and its tail as an index. */
  queue: HostPhysical;
  tail: u32;
  /** Of the operating system: OS_STATUS as it has it in the status. */
  osStatus: u32;
  /** What it has in the root table's register, and what it had when it told the unit to take it. */
  osRootRegister: u64;
  osRoot: HostPhysical;
  osQueue: u64;
  /** Its queue's head and tail as bytes; the head is behind only within a write of the tail. */
  osTail: u64;
  /** The VMM's own interrupt remapping table. */
  interrupts: HostPhysical;
  /** What the operating system has in the register of its table, and what it had when it told the unit to take it. */
  osInterruptRegister: u64;
  osInterrupts: u64;
  /** What it has in the registers of the unit's own interrupts: of three events, four each. */
  osEvents: FixedArray<u32, 12>;
  /** What the unit writes when it has carried out its descriptors; those that do nothing write here as well. */
  done: u64;
  /** High words of its context and IOTLB commands. */
  osContextCommand: u32;
  osIotlbCommand: u32;
}

/** Bits of the status that the VMM has in its own way, and the operating system in its. */
export const OS_STATUS: u32 = VTD_TRANSLATION | VTD_ROOT_POINTER | VTD_QUEUE | VTD_INTERRUPTS | VTD_INTERRUPT_POINTER;

/** Of a queue of one page. */
const DESCRIPTORS: u32 = 256;
const DESCRIPTOR: u64 = 16n;

export function vtdRead(unit: VtdUnit, offset: u32): u32 {
  return load32(unit.base + u64(offset));
}

export function vtdRead64(unit: VtdUnit, offset: u32): u64 {
  return u64(vtdRead(unit, offset)) | (u64(vtdRead(unit, offset + 4)) << 32n);
}

export function vtdWrite(unit: VtdUnit, offset: u32, value: u32): void {
  store32(unit.base + u64(offset), value);
}

export function vtdWrite64(unit: VtdUnit, offset: u32, value: u64): void {
  store64(unit.base + u64(offset), value);
}

/** Turns what stays on (TRANSLATION, QUEUE, INTERRUPTS) on or off, and waits until it is. */
export function vtdSwitch(unit: VtdUnit, bit: u32, on: boolean): void {
  const status = vtdRead(unit, VTD_GSTS) & VTD_CONTINUING;
  vtdWrite(unit, VTD_GCMD, on ? status | bit : status & ~bit);
  while (((vtdRead(unit, VTD_GSTS) & bit) !== 0) !== on) pause();
}

/** Makes the unit take a root table, from the next invalidation on for what it has looked up before. */
export function vtdSetRoot(unit: VtdUnit, root: u64): void {
  vtdWrite64(unit, VTD_RTADDR, root);
  vtdWrite(unit, VTD_GCMD, (vtdRead(unit, VTD_GSTS) & VTD_CONTINUING) | VTD_ROOT_POINTER);
  while ((vtdRead(unit, VTD_GSTS) & VTD_ROOT_POINTER) === 0) pause();
}

/**
 * A descriptor that does no harm: it has the unit write a word of the VMM's. It
 * comes last in a queue that is turned off, as it must (6.5.2.11; QEMU insists).
 */
function putNothing(unit: VtdUnit, place: HostPhysical): void {
  store64(place, VTD_WAIT | VTD_WAIT_STORE);
  store64(place + 8n, addressOf(unit.done));
}

/** The queue's errors, which stop it no more: a descriptor that the unit refuses is made one that it takes. */
function clearErrors(unit: VtdUnit, queue: HostPhysical): u32 {
  const errors = vtdRead(unit, VTD_FSTS) & VTD_QUEUE_ERRORS;
  if ((errors & VTD_QUEUE_REFUSED) !== 0) putNothing(unit, queue + vtdRead64(unit, VTD_IQH));
  if (errors !== 0) vtdWrite(unit, VTD_FSTS, errors);
  return errors;
}

/** Waits until the unit has fetched all of the queue. */
function drain(unit: VtdUnit, queue: HostPhysical, tail: u64): void {
  while (vtdRead64(unit, VTD_IQH) !== tail) {
    clearErrors(unit, queue);
    pause();
  }
}

function put(unit: VtdUnit, low: u64, high: u64): void {
  const place: u64 = unit.queue + u64(unit.tail) * DESCRIPTOR;
  store64(place, low);
  store64(place + 8n, high);
  unit.tail = (unit.tail + 1) % DESCRIPTORS;
}

/** Has the unit write that it has done all before. */
function putWait(unit: VtdUnit): void {
  put(unit, VTD_WAIT | VTD_WAIT_STORE | VTD_WAIT_DONE, addressOf(unit.done));
  vtdWrite64(unit, VTD_IQT, u64(unit.tail) * DESCRIPTOR);
}

/**
 * Has the unit carry out a descriptor; it has when this returns. That it has fetched
 * it says nothing. A device that does not answer in time ends the wait as well (6.5.2.10).
 */
export function vtdSubmit(unit: VtdUnit, low: u64, high: u64): void {
  unit.done = 0n;
  put(unit, low, high);
  putWait(unit);
  while (atomicLoad(unit.done) === 0n) {
    const errors = clearErrors(unit, unit.queue);
    if ((errors & VTD_QUEUE_TIMEOUT) !== 0) putWait(unit);
    pause();
  }
}

/** A requester forgets all that the unit has translated for it, and that it keeps itself (ATS). */
export function vtdForgetInDevice(unit: VtdUnit, bdf: u32): void {
  vtdSubmit(unit, VTD_DEVICE_TLB | VTD_DEVICE_TLB_ONE | (u64(bdf) << VTD_DEVICE_TLB_REQUESTER), VTD_DEVICE_TLB_ALL);
}

/** The unit forgets all it has looked up in tables for devices. */
export function vtdInvalidate(unit: VtdUnit): void {
  if ((unit.capability & VTD_CAP_WRITE_BUFFER) !== 0n) {
    vtdWrite(unit, VTD_GCMD, (vtdRead(unit, VTD_GSTS) & VTD_CONTINUING) | VTD_WRITE_BUFFER);
    while ((vtdRead(unit, VTD_GSTS) & VTD_WRITE_BUFFER) !== 0) pause();
  }
  vtdSubmit(unit, VTD_CONTEXT_ALL, 0n);
  vtdSubmit(unit, VTD_IOTLB_ALL, 0n);
}

/** The operating system's queue: its place, and its size in bytes. */
export function osQueueBase(unit: VtdUnit): HostPhysical {
  return unit.osQueue & VTD_ADDRESS;
}

export function osQueueSize(unit: VtdUnit): u64 {
  return PAGE_SIZE << (unit.osQueue & VTD_QUEUE_SIZE);
}

/** Takes the operating system's queue away once it is worked off, and gives the unit the VMM's. */
export function takeQueue(unit: VtdUnit): void {
  unit.osQueue = vtdRead64(unit, VTD_IQA);
  unit.osTail = vtdRead64(unit, VTD_IQT);
  if ((unit.osStatus & VTD_QUEUE) !== 0) {
    drain(unit, osQueueBase(unit), unit.osTail);
    vtdSwitch(unit, VTD_QUEUE, false);
  }
  unit.tail = 0;
  vtdWrite64(unit, VTD_IQT, 0n);
  vtdWrite64(unit, VTD_IQA, unit.queue);
  vtdSwitch(unit, VTD_QUEUE, true);
}

/**
 * A queue starts at its beginning when it is turned on, and the operating system's
 * is somewhere: the unit is led there over descriptors that do no harm, in pieces
 * as large as the VMM's own page, which keeps what was in their place.
 */
function windForward(unit: VtdUnit, kept: HostPhysical): void {
  let done: u64 = 0n;
  while (done < unit.osTail) {
    const left: u64 = unit.osTail - done;
    const piece: u64 = left < PAGE_SIZE ? left : PAGE_SIZE;
    const place: u64 = osQueueBase(unit) + done;
    copyBytes(kept, place, piece);
    for (let i: u64 = 0n; i < piece; i += DESCRIPTOR) putNothing(unit, place + i);
    vtdWrite64(unit, VTD_IQT, done + piece);
    drain(unit, osQueueBase(unit), done + piece);
    copyBytes(place, kept, piece);
    done += piece;
  }
}

/** Gives the unit the queue that the operating system has told it of; nobody else of `holder` runs. The VMM's own ends with a wait, as one that is turned off must. */
export function returnQueue(unit: VtdUnit, holder: u32): void {
  vtdSwitch(unit, VTD_QUEUE, false);
  vtdWrite64(unit, VTD_IQT, 0n);
  vtdWrite64(unit, VTD_IQA, unit.osQueue);
  if ((unit.osStatus & VTD_QUEUE) === 0) {
    vtdWrite64(unit, VTD_IQT, unit.osTail);
    return;
  }
  vtdSwitch(unit, VTD_QUEUE, true);
  if (unit.osTail < osQueueSize(unit) && holdsMemory(holder, osQueueBase(unit), osQueueSize(unit))) windForward(unit, unit.queue);
}
