/**
 * A unit's registers as the kernel that holds the platform sees them: what the VMM
 * has taken over is kept here, the rest is the unit's own. And the events that the
 * unit has logged.
 */
import { EventType } from '../../abi.ts';
import { record } from '../../events.ts';
import {
  AMD_COMMANDS, AMD_COMMANDS_ON, AMD_COMMAND_HEAD, AMD_COMMAND_TAIL, AMD_COMPLETE_REQUEST, AMD_CONTROL, AMD_DEVICE_BITS,
  AMD_DEVICE_TABLE, AMD_DEVICE_TLB_ADDRESS_BITS, AMD_DEVICE_TLB_BITS, AMD_ENABLE, AMD_EVENTS, AMD_EVENTS_B, AMD_EVENTS_ON, AMD_EVENT_ENTRY, AMD_EVENT_HEAD, AMD_EVENT_INTERRUPT,
  AMD_EVENT_TAIL, AMD_EVENT_WRITE, AMD_FORGET_ALL, AMD_FORGET_DEVICE, AMD_FORGET_DEVICE_TLB, AMD_FORGET_INTERRUPTS, AMD_FORGET_PAGES,
  AMD_GUEST_INTERRUPTS, AMD_ILLEGAL_ENTRY, AMD_INVALID_REQUEST, AMD_OPERATION_SHIFT, AMD_PAGES_ADDRESS_BITS, AMD_PAGES_BITS, AMD_PAGE_FAULT,
  AMD_PAGE_REQUESTS, AMD_PAGE_REQUESTS_B, AMD_REQUEST_BITS, AMD_REQUEST_STATUS_BITS, AMD_SIZE, AMD_STATUS, AMD_STATUS_COMMANDS_RUN,
  AMD_STATUS_EVENTS_RUN, AMD_TABLE_SEGMENT, AMD_TABLE_SEGMENT_LAST, AMD_WAIT, AMD_WAIT_ADDRESS, AMD_WAIT_INTERRUPT, AMD_WAIT_STORE,
} from '../../machine/amd-iommu.ts';
import { PAGE_SIZE } from '../../machine/registers.ts';
import { holdsMemory } from '../../partition.ts';
import { amdAt, amdKeptFrom, amdTotal, isTranslatedByAmdOs, updateAmd, updateAmdRequester } from './amd.ts';
import { AmdUnit, amdStatus, amdSubmit, nextEvent, ringBase, ringSize, runUnit, takeEvent } from './amd-unit.ts';
import { requesterInstance, requesterOwner } from './tables.ts';
import { NOWHERE } from './walk.ts';

const SLOT: u64 = 16n;
/** In one look at a log: a device may go on all the while. */
const MAX_EVENTS: u32 = 256;
const RUNS: u32 = AMD_STATUS_COMMANDS_RUN | AMD_STATUS_EVENTS_RUN;

/** A kernel waits for what it has asked for: all of it is done. */
function complete(unit: AmdUnit, low: u64, high: u64, holder: u32): void {
  const place: u64 = low & AMD_WAIT_ADDRESS;
  if ((low & AMD_WAIT_STORE) !== 0n && holdsMemory(holder, place, 8n)) store64(place, high);
  if ((low & AMD_WAIT_INTERRUPT) !== 0n) amdSubmit(unit, (AMD_WAIT << AMD_OPERATION_SHIFT) | AMD_WAIT_INTERRUPT, 0n);
}

/** Carries out one of the kernel's commands, as far as it is known. */
function forward(unit: AmdUnit, low: u64, high: u64, holder: u32): void {
  const operation: u64 = low >> AMD_OPERATION_SHIFT;
  const number: u64 = operation << AMD_OPERATION_SHIFT;
  if (operation === AMD_WAIT) complete(unit, low, high, holder);
  else if (operation === AMD_FORGET_DEVICE) {
    updateAmdRequester(wrapU32(low & AMD_DEVICE_BITS), holder);
    amdSubmit(unit, number | (low & AMD_DEVICE_BITS), 0n);
  } else if (operation === AMD_FORGET_PAGES) amdSubmit(unit, number | (low & AMD_PAGES_BITS), high & AMD_PAGES_ADDRESS_BITS);
  else if (operation === AMD_FORGET_DEVICE_TLB) amdSubmit(unit, number | (low & AMD_DEVICE_TLB_BITS), high & AMD_DEVICE_TLB_ADDRESS_BITS);
  else if (operation === AMD_FORGET_INTERRUPTS) amdSubmit(unit, number | (low & AMD_DEVICE_BITS), 0n);
  else if (operation === AMD_COMPLETE_REQUEST) amdSubmit(unit, number | (low & AMD_REQUEST_BITS), high & AMD_REQUEST_STATUS_BITS);
  else if (operation === AMD_FORGET_ALL) updateAmd(holder);
}

/** The kernel has moved its commands' tail, or turned them on. */
function runCommands(unit: AmdUnit, from: u64, to: u64, holder: u32): void {
  const size = ringSize(unit.osCommands);
  const isOn = (unit.osControl & AMD_ENABLE) !== 0n && (unit.osControl & AMD_COMMANDS_ON) !== 0n;
  let next: u64 = from;
  while (isOn && next !== to && next < size && to < size && holdsMemory(holder, ringBase(unit.osCommands), size)) {
    const place: u64 = ringBase(unit.osCommands) + next;
    forward(unit, load64(place), load64(place + 8n), holder);
    next = (next + SLOT) & (size - 1n);
  }
}

function setControl(unit: AmdUnit, value: u64, holder: u32): void {
  const changed: u64 = unit.osControl ^ value;
  unit.osControl = value;
  runUnit(unit);
  if ((changed & AMD_ENABLE) !== 0n) updateAmd(holder);
}

/** A 64-bit register's value with one half of it written. */
function withHalf(before: u64, offset: u32, value: u32): u64 {
  const other: u64 = (offset & 4) === 0 ? before & ~0xffffffffn : before & 0xffffffffn;
  return other | ((offset & 4) === 0 ? u64(value) : u64(value) << 32n);
}

/** Logs that the unit would write where they say, and tables in segments, which the VMM does not take over: kernels set them once, at their boot. */
function isFixed(pair: u32): boolean {
  return pair === AMD_PAGE_REQUESTS || pair === AMD_PAGE_REQUESTS_B || pair === AMD_EVENTS_B
    || pair === AMD_GUEST_INTERRUPTS || pair === AMD_GUEST_INTERRUPTS + 8 || (pair >= AMD_TABLE_SEGMENT && pair <= AMD_TABLE_SEGMENT_LAST);
}

/** Writes 4 bytes of the registers. */
export function writeAmd(unit: AmdUnit, offset: u32, value: u32, holder: u32): void {
  const pair: u32 = offset & ~u32(7);
  if (pair === AMD_DEVICE_TABLE) {
    unit.osTable = withHalf(unit.osTable, offset, value);
    updateAmd(holder);
  } else if (pair === AMD_COMMANDS) {
    unit.osCommands = withHalf(unit.osCommands, offset, value);
    unit.osCommandTail = 0n;
  } else if (pair === AMD_EVENTS) {
    unit.osEvents = withHalf(unit.osEvents, offset, value);
    unit.osEventHead = 0n;
    unit.osEventTail = 0n;
  } else if (pair === AMD_CONTROL) setControl(unit, withHalf(unit.osControl, offset, value), holder);
  else if (offset === AMD_COMMAND_HEAD) unit.osCommandTail = u64(value);
  else if (offset === AMD_COMMAND_TAIL) {
    const from = unit.osCommandTail;
    unit.osCommandTail = u64(value);
    runCommands(unit, from, u64(value), holder);
  } else if (offset === AMD_EVENT_HEAD) unit.osEventHead = u64(value);
  else if (offset === AMD_EVENT_TAIL) unit.osEventTail = u64(value);
  else if (!isFixed(pair) && (pair < AMD_COMMAND_HEAD || pair > AMD_EVENT_TAIL)) store32(unit.base + u64(offset), value);
}

function half(value: u64, offset: u32): u32 {
  return (offset & 4) === 0 ? wrapU32(value) : wrapU32(value >> 32n);
}

/** The status, with what runs for the kernel. */
function readStatus(unit: AmdUnit): u32 {
  const isOn = (unit.osControl & AMD_ENABLE) !== 0n;
  let runs: u32 = 0;
  if (isOn && (unit.osControl & AMD_COMMANDS_ON) !== 0n) runs |= AMD_STATUS_COMMANDS_RUN;
  if (isOn && (unit.osControl & AMD_EVENTS_ON) !== 0n) runs |= AMD_STATUS_EVENTS_RUN;
  return (amdStatus(unit) & ~RUNS) | runs;
}

/** Reads 4 bytes of the registers. */
export function readAmd(unit: AmdUnit, offset: u32, holder: u32): u32 {
  const pair: u32 = offset & ~u32(7);
  if (pair === AMD_STATUS || pair === AMD_EVENT_TAIL) collectFromUnit(unit, holder);
  if (pair === AMD_DEVICE_TABLE) return half(unit.osTable, offset);
  if (pair === AMD_COMMANDS) return half(unit.osCommands, offset);
  if (pair === AMD_EVENTS) return half(unit.osEvents, offset);
  if (pair === AMD_CONTROL) return half(unit.osControl, offset);
  if (pair === AMD_COMMAND_HEAD || pair === AMD_COMMAND_TAIL) return half(unit.osCommandTail, offset);
  if (pair === AMD_EVENT_HEAD) return half(unit.osEventHead, offset);
  if (pair === AMD_EVENT_TAIL) return half(unit.osEventTail, offset);
  if (offset === AMD_STATUS) return readStatus(unit);
  return load32(unit.base + u64(offset));
}

/** Index of the unit whose registers an address is in; amdTotal() if none. */
export function amdAtAddress(address: GuestPhysical): u32 {
  for (let i: u32 = 0; i < amdTotal(); i++) {
    if (u64(address) >= amdAt(i).base && u64(address) - amdAt(i).base < AMD_SIZE) return i;
  }
  return amdTotal();
}

/** An event goes into the kernel's own log, if there is room; the unit has sent its interrupt. */
function passEvent(unit: AmdUnit, event: HostPhysical, holder: u32): void {
  const size = ringSize(unit.osEvents);
  const next: u64 = (unit.osEventTail + SLOT) & (size - 1n);
  const isOn = (unit.osControl & AMD_ENABLE) !== 0n && (unit.osControl & AMD_EVENTS_ON) !== 0n;
  const place: u64 = ringBase(unit.osEvents) + (unit.osEventTail & (size - 1n));
  if (!isOn || next === unit.osEventHead || !holdsMemory(holder, place, SLOT)) return;
  copyBytes(place, event, SLOT);
  unit.osEventTail = next;
}

/** Records what a unit has kept devices from; what is the kernel's own business goes to its own log. */
function collectFromUnit(unit: AmdUnit, holder: u32): void {
  for (let i: u32 = 0; i < MAX_EVENTS; i++) {
    const event = nextEvent(unit);
    if (event === 0n) return;
    const low = load64(event);
    const number: u64 = low >> AMD_OPERATION_SHIFT;
    const bdf = wrapU32(low & AMD_DEVICE_BITS);
    const isDevice = number === AMD_PAGE_FAULT || number === AMD_ILLEGAL_ENTRY || number === AMD_INVALID_REQUEST;
    const instance = requesterInstance(bdf, holder);
    if (isDevice && (low & AMD_EVENT_INTERRUPT) !== 0n) {
      if (requesterOwner(bdf, holder) === holder) passEvent(unit, event, holder);
      else record(EventType.INTERRUPT_VIOLATION, instance, 0, load64(event + 8n) & AMD_EVENT_ENTRY, u64(bdf));
    } else {
      const isWrite = (low & AMD_EVENT_WRITE) !== 0n;
      let address: u64 = isDevice ? load64(event + 8n) & ~(PAGE_SIZE - 1n) : NOWHERE;
      if (isDevice && isTranslatedByAmdOs(bdf, holder)) address = amdKeptFrom(bdf, address, isWrite, holder);
      if (address === NOWHERE) passEvent(unit, event, holder);
      else record(EventType.DMA_VIOLATION, instance, 0, address, u64(bdf) | (isWrite ? 1n << 16n : 0n));
    }
    takeEvent(unit);
  }
}

/** Records what all units have kept devices from since it was last asked. */
export function collectAmd(holder: u32): void {
  for (let i: u32 = 0; i < amdTotal(); i++) collectFromUnit(amdAt(i), holder);
}
