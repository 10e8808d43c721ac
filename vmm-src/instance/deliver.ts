/**
 * Where an instance's interrupts go: interprocessor ones, and those of its shadowed
 * devices. What names others, or everybody, is turned into one interrupt for each of
 * its own virtual CPUs: a real one where it holds the local APIC, and where it is a
 * tenant one that is posted to its virtual APIC, and its processor rung.
 */
import { CpuState, EventType, MAX_CPUS } from '../abi.ts';
import { Cpu, Vcpu, apicHolderOf, cpuOf, cpus, tenantOf } from '../cpu/cpu.ts';
import { ring } from '../cpu/kick.ts';
import { isX2apic, sendIpi } from '../cpu/local-apic.ts';
import { guestRip } from '#processor/guest.ts';
import { sendStartup } from '#processor/signal.ts';
import { ApicName, isCommanded, isNamed } from '../devices/apic-destination.ts';
import { VirtualApic, apicRegister, isX2apicMode, post, postInit, postNmi, postSipi, virtualApic } from '../devices/virtual-apic.ts';
import { record } from '../events.ts';
import {
  APIC_DFR, APIC_LDR, DFR_RESET, FIRST_VALID_VECTOR, ICR_ASSERT, ICR_LEVEL, ICR_LOGICAL, ICR_MODE, ICR_MODE_FIXED, ICR_MODE_INIT,
  ICR_MODE_LOWEST, ICR_MODE_NMI, ICR_MODE_STARTUP, ICR_SHORTHAND, ICR_VECTOR, LVT_MASKED,
} from '../machine/apic.ts';
import { cpuOwner } from '../partition.ts';
import { instanceOf } from './instance.ts';

const ENTRY_DESTINATION_SHIFT: u64 = 56n;

/** What a processor's own APIC goes by: its mode is that of the instance that holds it, its logical id the virtual CPU's, as the guest wrote it. */
export function realName(cpu: Cpu): ApicName {
  const vcpu = apicHolderOf(cpu);
  if (vcpu === null) return { id: cpu.apicId, x2apic: isX2apic(), logical: 0, model: DFR_RESET };
  return { id: cpu.apicId, x2apic: instanceOf(vcpu.instance).x2apic, logical: vcpu.ldr, model: DFR_RESET };
}

function virtualName(cpu: Cpu): ApicName {
  const apic = virtualApic(cpu.index);
  return { id: apic.id, x2apic: isX2apicMode(apic), logical: apicRegister(apic, APIC_LDR), model: apicRegister(apic, APIC_DFR) };
}

/** Whether an instance has a virtual CPU on a processor. */
function isOn(instance: u32, cpu: Cpu): boolean {
  return cpuOwner(cpu.index) === instance || tenantOf(cpu, instance) !== null;
}

function nameOn(instance: u32, cpu: Cpu): ApicName {
  return tenantOf(cpu, instance) === null ? realName(cpu) : virtualName(cpu);
}

/** INIT level de-assert, which processors since the Pentium 4 ignore (SDM Vol. 3A, 12.6.1). */
export function isInitDeassert(command: u32): boolean {
  return (command & (ICR_MODE | ICR_LEVEL | ICR_ASSERT)) === (ICR_MODE_INIT | ICR_LEVEL);
}

function isInterrupt(command: u32): boolean {
  const mode: u32 = command & ICR_MODE;
  return mode === ICR_MODE_FIXED || mode === ICR_MODE_LOWEST;
}

/** To a processor whose local APIC the instance holds. One that it shares stays as it is: its tenant would not survive an INIT. */
function sendToHolder(target: Cpu, command: u32): void {
  const mode: u32 = command & ICR_MODE;
  const single = command & ~(ICR_SHORTHAND | ICR_LOGICAL);
  if (target.state === CpuState.PARKED) return;
  if (mode === ICR_MODE_INIT || mode === ICR_MODE_STARTUP) {
    if (target.tenant === null) sendStartup(target, single);
  } else if (mode === ICR_MODE_NMI || (isInterrupt(command) && (command & ICR_VECTOR) >= FIRST_VALID_VECTOR)) sendIpi(target.apicId, single);
}

/** What a tenant may take of an illegal vector is its APIC's to say. */
function postCommand(apic: VirtualApic, command: u32): void {
  const mode: u32 = command & ICR_MODE;
  if (isInterrupt(command)) post(apic, command & ICR_VECTOR);
  else if (mode === ICR_MODE_NMI) postNmi(apic);
  else if (mode === ICR_MODE_INIT) postInit(apic);
  else if (mode === ICR_MODE_STARTUP) postSipi(apic, command & ICR_VECTOR);
}

/** To a tenant; if it has got the local APIC itself by now, to that. */
function sendToTenant(self: Cpu, instance: u32, target: Cpu, command: u32): void {
  atomicAdd(target.ringing, 1);
  const isThere = tenantOf(target, instance) !== null;
  if (isThere) {
    postCommand(virtualApic(target.index), command);
    if (target.index !== self.index) ring(self, target);
  }
  atomicAdd(target.ringing, ~0);
  if (!isThere && cpuOwner(target.index) === instance) sendToHolder(target, command);
}

/** Gives an interrupt command to each virtual CPU of the sender's instance that it names; it is recorded if there is none. */
export function deliver(vcpu: Vcpu, command: u32, destination: u32): void {
  const self = cpuOf(vcpu);
  if (isInitDeassert(command)) return;
  let found = false;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const target = cpus[i];
    if (!isOn(vcpu.instance, target) || !isCommanded(nameOn(vcpu.instance, target), i === self.index, command, destination)) continue;
    found = true;
    if (tenantOf(target, vcpu.instance) === null) sendToHolder(target, command);
    else sendToTenant(self, vcpu.instance, target, command);
    if ((command & ICR_MODE) === ICR_MODE_LOWEST) return;
  }
  const broadcast = (command & ICR_SHORTHAND) !== 0;
  if (!found && !broadcast) {
    record(EventType.IPI_VIOLATION, vcpu.instance, self.index, (u64(destination) << 32n) | u64(command), guestRip(vcpu));
  }
}

/** Raises an interrupt that the VMM makes where an unmasked entry of the instance's shadowed IOAPIC sends it. */
export function raiseEntry(self: Cpu, instance: u32, entry: u64): void {
  const low: u32 = wrapU32(entry);
  const vector: u32 = low & ICR_VECTOR;
  if ((low & LVT_MASKED) !== 0 || vector < FIRST_VALID_VECTOR) return;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const target = cpus[i];
    if (!isOn(instance, target) || !isNamed(nameOn(instance, target), low, wrapU32(entry >> ENTRY_DESTINATION_SHIFT))) continue;
    if (tenantOf(target, instance) === null) sendIpi(target.apicId, vector | ICR_ASSERT);
    else sendToTenant(self, instance, target, vector | ICR_ASSERT);
    if ((low & ICR_MODE) === ICR_MODE_LOWEST) return;
  }
}
