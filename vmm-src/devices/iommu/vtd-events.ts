/**
 * The messages by which a unit itself interrupts its kernel: of faults, of waits in
 * the queue, and of page requests (VT-d 4.1, 5.1.6 and 11.4.10 to 11.4.12). The
 * unit writes them as they are, past its own tables. So the unit has what its
 * kernel wrote only while that is an interrupt, at processors of the kernel's own;
 * else the event waits, masked.
 */
import { ICR_MODE, ICR_MODE_FIXED, ICR_MODE_LOWEST } from '../../machine/apic.ts';
import { MESSAGE_ADDRESS, MESSAGE_ADDRESS_MASK, MESSAGE_DESTINATION_SHIFT, MESSAGE_LOGICAL } from '../../machine/pci.ts';
import { VTD_EVENT_ADDRESS, VTD_EVENT_DATA, VTD_EVENT_HIGH, VTD_FAULT_MASKED, VTD_FECTL, VTD_IECTL, VTD_PRCTL } from '../../machine/vtd.ts';
import { isX2apicMode, mayInterrupt } from './vtd-interrupts.ts';
import { VtdUnit, vtdRead, vtdWrite } from './vtd-unit.ts';

/** Where the four registers of each event begin: control, data, address, its high half. */
const EVENTS: FixedArray<u32, 3> = [VTD_FECTL, VTD_IECTL, VTD_PRCTL];
const REGISTERS: u32 = 4;
const NO_EVENT: u32 = 3;

function eventAt(offset: u32): u32 {
  for (let i: u32 = 0; i < EVENTS.length; i++) {
    if (offset - EVENTS[i] < 4 * REGISTERS) return i;
  }
  return NO_EVENT;
}

/** Whether a register is one of an event's. */
export function isEventRegister(offset: u32): boolean {
  return eventAt(offset) !== NO_EVENT;
}

/** What the kernel has in one of an event's registers, by its offset there. */
function osRegister(unit: VtdUnit, event: u32, offset: u32): u32 {
  return unit.osEvents[(event * REGISTERS + offset / 4) % 12];
}

/** Whether an event's message is an interrupt that the holder's kernel may send. */
function isAllowed(unit: VtdUnit, event: u32, holder: u32): boolean {
  const address = osRegister(unit, event, VTD_EVENT_ADDRESS);
  const mode: u32 = osRegister(unit, event, VTD_EVENT_DATA) & ICR_MODE;
  if ((address & MESSAGE_ADDRESS_MASK) !== MESSAGE_ADDRESS || (mode !== ICR_MODE_FIXED && mode !== ICR_MODE_LOWEST)) return false;
  const low: u32 = (address >> MESSAGE_DESTINATION_SHIFT) & 0xff;
  const destination: u32 = isX2apicMode(unit) ? (osRegister(unit, event, VTD_EVENT_HIGH) & ~u32(0xff)) | low : low;
  return mayInterrupt((address & MESSAGE_LOGICAL) !== 0, isX2apicMode(unit), destination, holder);
}

/** Gives the unit what the kernel has in an event's registers. The message changes while the event is masked. */
function writeEvent(unit: VtdUnit, event: u32): void {
  const base = EVENTS[event % 3];
  for (let offset: u32 = VTD_EVENT_DATA; offset <= VTD_EVENT_HIGH; offset += 4) vtdWrite(unit, base + offset, osRegister(unit, event, offset));
  vtdWrite(unit, base, osRegister(unit, event, 0));
}

function updateEvent(unit: VtdUnit, event: u32, holder: u32): void {
  vtdWrite(unit, EVENTS[event % 3], VTD_FAULT_MASKED);
  if (isAllowed(unit, event, holder)) writeEvent(unit, event);
}

/** Notes what the kernel has there. */
export function lookAtEvents(unit: VtdUnit): void {
  for (let i: u32 = 0; i < 12; i++) unit.osEvents[i] = vtdRead(unit, EVENTS[(i / REGISTERS) % 3] + 4 * (i % REGISTERS));
}

/** The kernel writes one of the registers. */
export function writeEventRegister(unit: VtdUnit, offset: u32, value: u32, holder: u32): void {
  const event = eventAt(offset);
  unit.osEvents[(event * REGISTERS + (offset - EVENTS[event % 3]) / 4) % 12] = value;
  updateEvent(unit, event, holder);
}

/** The kernel reads one: whether an event waits is the unit's to say. */
export function readEventRegister(unit: VtdUnit, offset: u32): u32 {
  const event = eventAt(offset);
  const value = osRegister(unit, event, offset - EVENTS[event % 3]);
  return offset === EVENTS[event % 3] ? (vtdRead(unit, offset) & ~VTD_FAULT_MASKED) | (value & VTD_FAULT_MASKED) : value;
}

/** Processors have changed hands. */
export function updateEvents(unit: VtdUnit, holder: u32): void {
  for (let i: u32 = 0; i < EVENTS.length; i++) updateEvent(unit, i, holder);
}

/** The unit has all of it as the kernel has. */
export function returnEvents(unit: VtdUnit): void {
  for (let i: u32 = 0; i < EVENTS.length; i++) writeEvent(unit, i);
}

/** To the kernel that the unit goes to it is as after reset. */
export function forgetEvents(unit: VtdUnit): void {
  for (let i: u32 = 0; i < 12; i++) unit.osEvents[i] = i % REGISTERS === 0 ? VTD_FAULT_MASKED : 0;
  for (let i: u32 = 0; i < EVENTS.length; i++) vtdWrite(unit, EVENTS[i], VTD_FAULT_MASKED);
}
