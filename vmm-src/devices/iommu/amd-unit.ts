/**
 * One of AMD's units: its registers, and its rings of commands and events, which
 * the VMM keeps to itself; the operating system's are read and written for it.
 */
import { pause } from '../../machine/intrinsics.ts';
import {
  AMD_ADDRESS, AMD_COHERENT, AMD_COMMANDS, AMD_COMMANDS_ON, AMD_COMMAND_HEAD, AMD_COMMAND_TAIL, AMD_CONTROL, AMD_DEVICE_TABLE, AMD_ENABLE,
  AMD_DEVICE_TLB_ALL, AMD_DEVICE_TLB_ONE, AMD_DEVICE_TLB_QUEUE_SHIFT, AMD_EVENTS, AMD_EVENTS_ON, AMD_EVENT_HEAD, AMD_EVENT_TAIL, AMD_FORGET_ALL, AMD_FORGET_DEVICE_TLB, AMD_OPERATION_SHIFT, AMD_RING_LENGTH, AMD_RING_SHIFT, AMD_STATUS,
  AMD_STATUS_COMMANDS_RUN, AMD_STATUS_EVENT, AMD_STATUS_EVENTS_RUN, AMD_STATUS_OVERFLOW, AMD_WAIT, AMD_WAIT_ADDRESS, AMD_WAIT_STORE,
  AMD_WIDE_DESTINATIONS, AMD_WIDE_ENTRIES,
} from '../../machine/amd-iommu.ts';

export class AmdUnit extends Struct {
  base: HostPhysical;
  /** The first and the last requester that ACPI says it is for. */
  first: u32;
  last: u32;
  /** The VMM's own rings, a page each: the commands' tail and the events' head, as bytes. */
  commands: HostPhysical;
  events: HostPhysical;
  tail: u64;
  head: u64;
  /** What the unit writes when it has come to the end of its commands. */
  done: u64;
  /** The operating system's registers, as it has them. */
  osTable: u64;
  osCommands: u64;
  osCommandTail: u64;
  osEvents: u64;
  osEventHead: u64;
  osEventTail: u64;
  osControl: u64;
}

const SLOT: u64 = 16n;
/** A ring of one page: 256 entries. */
const RING_SIZE: u64 = 0x1000n;
const RING: u64 = 8n;
const RUNS: u32 = AMD_STATUS_COMMANDS_RUN | AMD_STATUS_EVENTS_RUN;
const OWN: u64 = AMD_ENABLE | AMD_COMMANDS_ON | AMD_EVENTS_ON;

export function amdRead(unit: AmdUnit, offset: u32): u64 {
  return load64(unit.base + u64(offset));
}

export function amdWrite(unit: AmdUnit, offset: u32, value: u64): void {
  store64(unit.base + u64(offset), value);
}

export function amdStatus(unit: AmdUnit): u32 {
  return load32(unit.base + u64(AMD_STATUS));
}

/** Bytes of a ring whose base register is `base`. */
export function ringSize(base: u64): u64 {
  return SLOT << ((base >> AMD_RING_SHIFT) & AMD_RING_LENGTH);
}

export function ringBase(base: u64): HostPhysical {
  return base & AMD_ADDRESS;
}

/** The form of interrupt tables' entries stays as it is, though the operating system changes it: another instance's functions have some. */
let kept: boolean = false;
const FORM: u64 = AMD_WIDE_ENTRIES | AMD_WIDE_DESTINATIONS;

export function keepAmdForm(keep: boolean): void {
  kept = keep;
}

/** The unit runs: for the VMM, and as the operating system has it in all else. */
export function runUnit(unit: AmdUnit): void {
  const form: u64 = kept ? amdRead(unit, AMD_CONTROL) & FORM : unit.osControl & FORM;
  amdWrite(unit, AMD_CONTROL, (unit.osControl & ~FORM) | form | OWN | AMD_COHERENT);
}

/** Stops commands and events, so that their rings may change. */
function stopRings(unit: AmdUnit): void {
  amdWrite(unit, AMD_CONTROL, amdRead(unit, AMD_CONTROL) & ~(AMD_COMMANDS_ON | AMD_EVENTS_ON));
  while ((amdStatus(unit) & RUNS) !== 0) pause();
}

/** A command that the unit refuses stops its commands: they go on behind the last. */
function skipCommands(unit: AmdUnit): void {
  const control = amdRead(unit, AMD_CONTROL);
  amdWrite(unit, AMD_CONTROL, control & ~AMD_COMMANDS_ON);
  while ((amdStatus(unit) & AMD_STATUS_COMMANDS_RUN) !== 0) pause();
  amdWrite(unit, AMD_COMMAND_HEAD, unit.tail);
  amdWrite(unit, AMD_CONTROL, control);
}

function put(unit: AmdUnit, low: u64, high: u64): void {
  store64(unit.commands + unit.tail, low);
  store64(unit.commands + unit.tail + 8n, high);
  unit.tail = (unit.tail + SLOT) & (RING_SIZE - 1n);
}

/** Has the unit carry out a command; it has when this returns. */
export function amdSubmit(unit: AmdUnit, low: u64, high: u64): void {
  unit.done = 0n;
  put(unit, low, high);
  put(unit, (AMD_WAIT << AMD_OPERATION_SHIFT) | (u64(addressOf(unit.done)) & AMD_WAIT_ADDRESS) | AMD_WAIT_STORE, 1n);
  amdWrite(unit, AMD_COMMAND_TAIL, unit.tail);
  while (atomicLoad(unit.done) === 0n) {
    if ((amdStatus(unit) & AMD_STATUS_COMMANDS_RUN) === 0) {
      skipCommands(unit);
      return;
    }
    pause();
  }
}

/** The unit forgets all it has looked up. */
export function amdInvalidate(unit: AmdUnit): void {
  amdSubmit(unit, AMD_FORGET_ALL << AMD_OPERATION_SHIFT, 0n);
}

/** A requester forgets all that the unit has translated for it, and that it keeps itself (ATS). */
export function amdForgetInDevice(unit: AmdUnit, bdf: u32): void {
  const low: u64 = (AMD_FORGET_DEVICE_TLB << AMD_OPERATION_SHIFT) | AMD_DEVICE_TLB_ONE | (u64(bdf) << AMD_DEVICE_TLB_QUEUE_SHIFT) | u64(bdf);
  amdSubmit(unit, low, AMD_DEVICE_TLB_ALL);
}

/** Gives the unit rings and their places in them; writing a base puts both places at its start. */
function setRings(unit: AmdUnit, commands: u64, commandTail: u64, events: u64, eventHead: u64, eventTail: u64): void {
  // QEMU takes no new event log while an event is being told of.
  store32(unit.base + u64(AMD_STATUS), AMD_STATUS_EVENT | AMD_STATUS_OVERFLOW);
  amdWrite(unit, AMD_COMMANDS, commands);
  amdWrite(unit, AMD_COMMAND_HEAD, commandTail);
  amdWrite(unit, AMD_COMMAND_TAIL, commandTail);
  amdWrite(unit, AMD_EVENTS, events);
  amdWrite(unit, AMD_EVENT_HEAD, eventHead);
  amdWrite(unit, AMD_EVENT_TAIL, eventTail);
}

/** Takes note of how the operating system has a unit. */
export function lookAtAmd(unit: AmdUnit): void {
  unit.osControl = amdRead(unit, AMD_CONTROL);
  unit.osTable = amdRead(unit, AMD_DEVICE_TABLE);
  unit.osCommands = amdRead(unit, AMD_COMMANDS);
  unit.osEvents = amdRead(unit, AMD_EVENTS);
}

/** Takes the operating system's rings away once its commands are done, and gives the unit the VMM's and a device table. */
export function takeAmd(unit: AmdUnit, table: u64): void {
  const size = ringSize(unit.osCommands);
  const runs = (unit.osControl & AMD_ENABLE) !== 0n && (unit.osControl & AMD_COMMANDS_ON) !== 0n;
  unit.osCommandTail = amdRead(unit, AMD_COMMAND_TAIL);
  // QEMU's head stands at the ring's end before it is at its start.
  while (runs && ((amdRead(unit, AMD_COMMAND_HEAD) ^ unit.osCommandTail) & (size - 1n)) !== 0n) pause();
  stopRings(unit);
  unit.osEventHead = amdRead(unit, AMD_EVENT_HEAD);
  unit.osEventTail = amdRead(unit, AMD_EVENT_TAIL);
  unit.tail = 0n;
  unit.head = 0n;
  setRings(unit, u64(unit.commands) | (RING << AMD_RING_SHIFT), 0n, u64(unit.events) | (RING << AMD_RING_SHIFT), 0n, 0n);
  amdWrite(unit, AMD_DEVICE_TABLE, table);
  runUnit(unit);
  amdInvalidate(unit);
}

/** Gives the unit back with what the operating system has told it. */
export function returnAmd(unit: AmdUnit): void {
  amdWrite(unit, AMD_DEVICE_TABLE, unit.osTable);
  amdInvalidate(unit);
  stopRings(unit);
  setRings(unit, unit.osCommands, unit.osCommandTail, unit.osEvents, unit.osEventHead, unit.osEventTail);
  amdWrite(unit, AMD_CONTROL, unit.osControl);
}

/** Turns a unit off that was never taken over. */
export function turnOffAmd(unit: AmdUnit): void {
  amdWrite(unit, AMD_CONTROL, 0n);
}

/** Next event that the unit has logged since the last one; 0 for none. */
export function nextEvent(unit: AmdUnit): HostPhysical {
  if (((amdRead(unit, AMD_EVENT_TAIL) ^ unit.head) & (RING_SIZE - 1n)) === 0n) return 0n;
  return unit.events + unit.head;
}

/** The event was taken. */
export function takeEvent(unit: AmdUnit): void {
  store64(unit.events + unit.head, 0n);
  store64(unit.events + unit.head + 8n, 0n);
  unit.head = (unit.head + SLOT) & (RING_SIZE - 1n);
  amdWrite(unit, AMD_EVENT_HEAD, unit.head);
}
