/**
 * Writes to a guarded local APIC. An instance interrupts only virtual CPUs of its
 * own (deliver.ts), by interrupt commands and by the IOAPIC.
 */
import { EventType, MAX_CPUS } from '../abi.ts';
import { Vcpu, apicHolderOf, cpuOf, cpus } from '../cpu/cpu.ts';
import { sendCommand, sendSelf, writeApic } from '../cpu/local-apic.ts';
import { guestRip } from '#processor/guest.ts';
import { sendStartup } from '#processor/signal.ts';
import { isCommanded, isNamed } from '../devices/apic-destination.ts';
import { IOAPIC_PINS, readRealEntry, selectedRegister, writeRealEntry, writeRealIoapic } from '../devices/ioapic.ts';
import { isRemapped } from '../devices/iommu/iommu.ts';
import { retireTick } from '../devices/tick.ts';
import { record } from '../events.ts';
import {
  APIC_ICR_HIGH, APIC_ICR_LOW, APIC_LDR, APIC_LVT_TIMER, ICR_LOGICAL, ICR_MODE, ICR_MODE_FIXED, ICR_MODE_INIT, ICR_MODE_LOWEST,
  ICR_MODE_NMI, ICR_MODE_STARTUP, ICR_SHORTHAND, ICR_SHORTHAND_SELF, ICR_VECTOR, IOAPIC_SELECT, IOAPIC_TABLE, IOAPIC_WINDOW, LVT_MASKED,
} from '../machine/apic.ts';
import { bootInfo } from '../machine/region.ts';
import { cpuOwner } from '../partition.ts';
import { deliver, isInitDeassert, realName } from './deliver.ts';
import { writeHolderTimer } from './holder-timer.ts';
import { instanceOf } from './instance.ts';

function isStartup(command: u32): boolean {
  const mode: u32 = command & ICR_MODE;
  return mode === ICR_MODE_INIT || mode === ICR_MODE_STARTUP;
}

/**
 * An instance that is alone sends what it likes, but its INITs and SIPIs take
 * effect in the VMM, where the processor would not exit for them. A processor
 * that is not beneath the VMM gets them as they are.
 */
function forward(vcpu: Vcpu, command: u32, destination: u32): void {
  if (!isStartup(command)) {
    sendCommand(command, destination);
    return;
  }
  if (isInitDeassert(command)) return;
  const single = command & ~(ICR_SHORTHAND | ICR_LOGICAL);
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (i < bootInfo().cpuCount && isCommanded(realName(cpus[i]), i === cpuOf(vcpu).index, command, destination)) sendStartup(cpus[i], single);
  }
}

/** The guest has written an interrupt command. */
function send(vcpu: Vcpu, command: u32, destination: u32): void {
  if (!instanceOf(vcpu.instance).apicGuarded) forward(vcpu, command, destination);
  else if ((command & ICR_SHORTHAND) === ICR_SHORTHAND_SELF) sendSelf(command & ICR_VECTOR);
  else deliver(vcpu, command, destination);
}

/** Whether a redirection entry's destination names a processor. */
function isEntryTarget(index: u32, low: u32, destination: u32): boolean {
  const cpu = cpus[index & 31];
  if (cpu.vcpu === null) return false;
  return (low & ICR_LOGICAL) !== 0 ? isNamed(realName(cpu), low, destination) : cpu.apicId === destination;
}

/** Redirection entry (82093AA): mode in bits 8-10, logical in 11, destination in 56-63. Fixed, lowest priority and NMI are interrupts; the rest stops processors. */
function isAllowedEntry(instance: u32, low: u32, destination: u32): boolean {
  const mode: u32 = low & ICR_MODE;
  if (mode !== ICR_MODE_FIXED && mode !== ICR_MODE_LOWEST && mode !== ICR_MODE_NMI) return false;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    // A logical destination reaches only processors with a logical id, which the other instance's do not have.
    if (cpuOwner(i) === instance && isEntryTarget(i, low, destination)) return true;
  }
  return false;
}

/** Bits of a logical destination that are processors of the instance's own. */
function ownLogical(instance: u32, destination: u32): u32 {
  let own: u32 = 0;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const vcpu = apicHolderOf(cpus[i]);
    if (vcpu !== null && cpuOwner(i) === instance) own |= vcpu.ldr >> 24;
  }
  return destination & own;
}

const ENTRY_LOGICAL: u32 = ICR_LOGICAL;
const DESTINATION_SHIFT: u32 = 24;

/** Writes a redirection entry as far as it stays within the instance; masked and recorded otherwise. Where an IOMMU remaps it, its table decides. */
function writeOwnEntry(vcpu: Vcpu, pin: u32, low: u32, high: u32): void {
  if (isRemapped(high, vcpu.instance)) {
    writeRealEntry(pin, low, high);
    return;
  }
  const instance = vcpu.instance;
  let destination: u32 = high >> DESTINATION_SHIFT;
  if ((low & ENTRY_LOGICAL) !== 0) destination = ownLogical(instance, destination);
  const allowed = (low & LVT_MASKED) !== 0 || isAllowedEntry(instance, low, destination);
  if (!allowed) record(EventType.IPI_VIOLATION, instance, cpuOf(vcpu).index, (u64(high) << 32n) | u64(low), guestRip(vcpu));
  writeRealEntry(pin, allowed ? low : low | LVT_MASKED, destination << DESTINATION_SHIFT);
}

/** Brings every redirection entry within the instance of `vcpu`, which holds the IOAPIC; its other processors are held. */
export function confineIoapic(vcpu: Vcpu): void {
  const register = selectedRegister();
  for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) writeOwnEntry(vcpu, pin, readRealEntry(pin, 0), readRealEntry(pin, 1));
  writeRealIoapic(IOAPIC_SELECT, register);
}

/** The guest, which holds the IOAPIC, wrote one of its registers beside another instance. */
export function writeGuardedIoapic(vcpu: Vcpu, offset: u32, value: u32): void {
  const register = selectedRegister();
  if (offset !== IOAPIC_WINDOW || register < IOAPIC_TABLE) {
    writeRealIoapic(offset, value);
    return;
  }
  const pin: u32 = (register - IOAPIC_TABLE) >> 1;
  if ((register & 1) === 0) writeOwnEntry(vcpu, pin, value, readRealEntry(pin, 1));
  else writeOwnEntry(vcpu, pin, readRealEntry(pin, 0), value);
  writeRealIoapic(IOAPIC_SELECT, register);
}

/** The guest wrote an x2APIC ICR. */
export function writeX2apicIcr(vcpu: Vcpu, value: u64): void {
  send(vcpu, wrapU32(value), wrapU32(value >> 32n));
}

/** The guest wrote a register of its guarded xAPIC page. */
export function writeGuardedApic(vcpu: Vcpu, register: u32, value: u32): void {
  if (register === APIC_ICR_HIGH) {
    vcpu.icrHigh = value;
    writeApic(APIC_ICR_HIGH, value);
  } else if (register === APIC_ICR_LOW) send(vcpu, value, vcpu.icrHigh >> 24);
  else if (register === APIC_LDR) {
    vcpu.ldr = value;
    // Two instances may choose the same logical id: the one without the platform keeps its own to itself.
    if (instanceOf(vcpu.instance).holdsPlatform) writeApic(APIC_LDR, value);
  } else {
    if (writeHolderTimer(vcpu, register, value)) return;
    if (register === APIC_LVT_TIMER && (value & LVT_MASKED) === 0) retireTick(vcpu);
    writeApic(register, value);
  }
}
