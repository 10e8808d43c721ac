/**
 * Functions whose messages are looked at, and what their kernel has each message
 * say; which the IOMMU makes of one that names an entry of the VMM's.
 */
import { EventType, MAX_CPUS, MAX_GRANTS } from '../../abi.ts';
import { cpus } from '../../cpu/cpu.ts';
import { sendIpi } from '../../cpu/local-apic.ts';
import { record } from '../../events.ts';
import {
  DFR_RESET, FIRST_VALID_VECTOR, ICR_ASSERT, ICR_LOGICAL, ICR_MODE, ICR_MODE_FIXED, ICR_MODE_LOWEST, ICR_MODE_NMI, ICR_VECTOR,
} from '../../machine/apic.ts';
import { MESSAGE_ADDRESS, MESSAGE_ADDRESS_MASK, MESSAGE_DESTINATION_SHIFT, MESSAGE_LOGICAL } from '../../machine/pci.ts';
import { cpuOwner } from '../../partition.ts';
import { isNamed } from '../apic-destination.ts';
import { OWN_MESSAGES, messageEntry, routeMessage, unrouteMessage } from '../iommu/iommu.ts';

/** A function, and the places of its capabilities in configuration space; 0: it has none. */
export class Source extends Struct {
  bdf: u32;
  msi: u32;
  msix: u32;
  /** Of MSI: slots that follow each other, and what the kernel has written from MSI_MESSAGE on. */
  first: u32;
  count: u32;
  message: FixedArray<u8, 12>;
  /** Of MSI-X: where the table is, 0 if nowhere that its instance reaches. */
  table: HostPhysical;
  entries: u32;
  /** MSIX_MASKED as it was before holdMessages. */
  masked: u32;
}
const sources: FixedArray<Source, 32> = zeroed();
let sourceCount: u32 = 0;
/** The instance that they interrupt. */
let owner: u32 = 0;

/** A message as the kernel has it; `refused`: it names a processor of another instance, which was recorded. */
export class Slot extends Struct { source: u32; number: u32; address: u32; data: u32; refused: boolean; reserved: FixedArray<u8, 3> }
const slots: FixedArray<Slot, 256> = zeroed();
let slotCount: u32 = 0;
export const NO_SLOT: u32 = 0xffffffff;
const NO_SOURCE: u32 = 0xffffffff;
const NO_CPU: u32 = 0xffffffff;

/** The instance whose functions' messages are looked at; 0: none. */
export function messageOwner(): u32 {
  return owner;
}

export function sourceTotal(): u32 {
  return sourceCount;
}

export function sourceAt(index: u32): Source {
  return sources[index % MAX_GRANTS];
}

/** Number of a function; sourceTotal() if it is none of these. */
export function findSource(bdf: u32): u32 {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i < sourceCount && sources[i].bdf === bdf) return i;
  }
  return sourceCount;
}

/** A function of `instance`, which has no slots yet; there are no more than can be granted. */
export function addSource(bdf: u32, instance: u32): u32 {
  assert(sourceCount < MAX_GRANTS);
  const source = sources[sourceCount];
  fillBytes(addressOf(source), 0, u64(sizeOf<Source>()));
  source.bdf = bdf;
  source.first = NO_SLOT;
  owner = instance;
  sourceCount++;
  return sourceCount - 1;
}

export function slotTotal(): u32 {
  return slotCount;
}

export function slotAt(index: u32): Slot {
  return slots[index];
}

/** Whether a slot is somebody's: some are left out, so that MSI's begin at a multiple of their number. */
export function isTaken(index: u32): boolean {
  return slots[index].source !== NO_SOURCE;
}

/** Whether a slot is one of MSI's, and not of MSI-X's. */
export function isOfMsi(index: u32): boolean {
  const source = sourceAt(slots[index].source);
  return isTaken(index) && source.first !== NO_SLOT && index - source.first < source.count;
}

/** Slots for `count` messages, a power of two, from `number` on; NO_SLOT if there is no room: such a function interrupts nobody. */
export function takeSlots(source: u32, number: u32, count: u32): u32 {
  const first: u32 = (slotCount + count - 1) & ~(count - 1);
  if (first + count > OWN_MESSAGES) return NO_SLOT;
  for (let i: u32 = slotCount; i < first; i++) {
    slots[i].source = NO_SOURCE;
    slots[i].address = 0;
  }
  for (let i: u32 = 0; i < count; i++) {
    const slot = slots[first + i];
    slot.source = source;
    slot.number = number + i;
    slot.address = 0;
    slot.data = 0;
    slot.refused = false;
  }
  slotCount = first + count;
  return first;
}

/** The processor of the instance's that a message names, by its APIC's id. The instance is in xAPIC mode. */
function targetOf(slot: Slot): u32 {
  const how: u32 = (slot.address & MESSAGE_LOGICAL) !== 0 ? ICR_LOGICAL : 0;
  const destination: u32 = (slot.address >> MESSAGE_DESTINATION_SHIFT) & 0xff;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const vcpu = cpus[i].vcpu;
    if (vcpu === null || cpuOwner(i) !== owner) continue;
    if (isNamed({ id: cpus[i].apicId, x2apic: false, logical: vcpu.ldr, model: DFR_RESET }, how, destination)) return cpus[i].apicId;
  }
  return NO_CPU;
}

/** Whether a message is an interrupt; while it is being written it may not be one yet. */
function isInterrupt(slot: Slot): boolean {
  const mode: u32 = slot.data & ICR_MODE;
  return (slot.address & MESSAGE_ADDRESS_MASK) === MESSAGE_ADDRESS && (slot.data & ICR_VECTOR) >= FIRST_VALID_VECTOR
    && (mode === ICR_MODE_FIXED || mode === ICR_MODE_LOWEST || mode === ICR_MODE_NMI);
}

/** A processor takes the interrupt that a message stands for, as if the function had sent it. */
function raise(slot: Slot, target: u32): void {
  sendIpi(target, (slot.data & (ICR_VECTOR | ICR_MODE_NMI)) | ICR_ASSERT);
}

/** Has the IOMMU send an interrupt where its kernel wants it, if that is within the instance. */
export function route(index: u32): void {
  const slot = slots[index];
  const bdf = sourceAt(slot.source).bdf;
  const target = isInterrupt(slot) ? targetOf(slot) : NO_CPU;
  if (target === NO_CPU) {
    unrouteMessage(index, bdf);
    if (isInterrupt(slot) && !slot.refused) record(EventType.INTERRUPT_VIOLATION, owner, 0, u64(messageEntry(index)) | (1n << 32n), u64(bdf));
    slot.refused = isInterrupt(slot);
    return;
  }
  const mode: u32 = (slot.data & ICR_MODE) === ICR_MODE_NMI ? ICR_MODE_NMI : ICR_MODE_FIXED;
  slot.refused = false;
  if (routeMessage(index, bdf, slot.data & ICR_VECTOR, mode, target)) raise(slot, target);
}

/** Raises the interrupt that a message stands for, once. */
export function raiseMessage(index: u32): void {
  const target = isInterrupt(slots[index]) ? targetOf(slots[index]) : NO_CPU;
  if (target !== NO_CPU) raise(slots[index], target);
}

/** Nothing is looked at any more. */
export function forgetMessages(): void {
  sourceCount = 0;
  slotCount = 0;
  owner = 0;
}

/** The instance has ended, its functions are quiet. */
export function dropMessages(instance: u32): void {
  if (instance !== owner) return;
  for (let i: u32 = 0; i < slotCount; i++) {
    if (isTaken(i)) unrouteMessage(i, sourceAt(slots[i].source).bdf);
  }
  forgetMessages();
}
