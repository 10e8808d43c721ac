/**
 * The virtual local APIC of a tenant (devices/virtual-apic.ts), as its guest reaches
 * it: by the xAPIC page, the x2APIC MSRs and CR8, all of which exit. What it sends
 * goes to virtual CPUs of its own instance alone.
 */
import { MAX_CPUS, EventType } from '../abi.ts';
import { Cpu, RAX, RCX, RDX, Vcpu, cpuOf, cpus } from '../cpu/cpu.ts';
import { attract } from '../cpu/kick.ts';
import { TaskPriorityExit } from '../cpu/exit.ts';
import { readTaskPriorityExit } from '#processor/exits.ts';
import { advance, guestRegister, guestRip, injectGp, setGuestRegister } from '#processor/guest.ts';
import { ApicName, isCommanded, isNamed } from '../devices/apic-destination.ts';
import { retireTick } from '../devices/tick.ts';
import { VirtualApic, apicRegister, isX2apicMode, post, setTaskPriority, virtualApic } from '../devices/virtual-apic.ts';
import { type ApicOutcome, Outcome, isApicMsr, readApicMsr, readPage, writeApicMsr, writePage } from '../devices/virtual-apic-registers.ts';
import { record } from '../events.ts';
import {
  APIC_DFR, APIC_LDR, APIC_LVT_TIMER, APIC_TPR, FIRST_VALID_VECTOR, ICR_ASSERT, ICR_LEVEL, ICR_MODE, ICR_MODE_FIXED, ICR_MODE_INIT,
  ICR_MODE_LOWEST, ICR_MODE_NMI, ICR_VECTOR, LVT_MASKED,
} from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';

/** CR8 is the high half of the task priority (12.8.6). */
const CR8_SHIFT: u32 = 4;
const CR8_BITS: u64 = 0xfn;
const ENTRY_DESTINATION_SHIFT: u64 = 56n;

function apicOf(vcpu: Vcpu): VirtualApic {
  return virtualApic(cpuOf(vcpu).index);
}

function nameOf(apic: VirtualApic): ApicName {
  return { id: apic.id, x2apic: isX2apicMode(apic), logical: apicRegister(apic, APIC_LDR), model: apicRegister(apic, APIC_DFR) };
}

/** Whether an instance has a share of a processor. */
function isTenantOn(instance: u32, cpu: u32): boolean {
  const tenant = cpus[cpu].tenant;
  return tenant !== null && tenant.instance === instance;
}

/** Gives a command to the virtual CPUs that it names. */
function send(vcpu: Vcpu, command: u32, destination: u32): void {
  const mode: u32 = command & ICR_MODE;
  if ((command & (ICR_MODE | ICR_LEVEL | ICR_ASSERT)) === (ICR_MODE_INIT | ICR_LEVEL)) return;
  let found = false;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const target = cpus[i].tenant;
    if (target === null || !isTenantOn(vcpu.instance, i)) continue;
    if (!isCommanded(nameOf(virtualApic(i)), target === vcpu, command, destination)) continue;
    found = true;
    if (mode === ICR_MODE_NMI) target.nmiPending = 1;
    else if (mode === ICR_MODE_FIXED || mode === ICR_MODE_LOWEST) interrupt(cpuOf(vcpu), cpus[i], command & ICR_VECTOR);
    if (mode === ICR_MODE_LOWEST) return;
  }
  if (!found) record(EventType.IPI_VIOLATION, vcpu.instance, cpuOf(vcpu).index, (u64(destination) << 32n) | u64(command), guestRip(vcpu));
}

/** Carries out what a write came to; false if it was none that the processor takes. */
function carryOut(vcpu: Vcpu, outcome: ApicOutcome): boolean {
  switch (outcome.kind) {
    case Outcome.COMMAND: send(vcpu, outcome.command, outcome.destination); return true;
    // A shadowed IOAPIC has no lines that could be asserted still.
    case Outcome.NONE: case Outcome.END_OF_INTERRUPT: break;
    case Outcome.FAULT: return false;
  }
  if ((apicRegister(apicOf(vcpu), APIC_LVT_TIMER) & LVT_MASKED) === 0) retireTick(vcpu);
  return true;
}

/** A read of `size` bytes at an offset of the xAPIC page. */
export function readTenantApic(vcpu: Vcpu, offset: u32, size: u32): u64 {
  return readPage(apicOf(vcpu), offset, size, readTsc());
}

/** A write of `size` bytes at an offset of the xAPIC page. */
export function writeTenantApic(vcpu: Vcpu, offset: u32, size: u32, value: u32): void {
  const done = carryOut(vcpu, writePage(apicOf(vcpu), offset, size, value, readTsc()));
  assert(done); // the page does not fault
}

/** RDMSR of one of the local APIC's; false if it is none, and the instruction still to be handled. */
export function readTenantMsr(vcpu: Vcpu): boolean {
  const index: u32 = wrapU32(vcpu.registers[RCX]);
  if (!isApicMsr(index)) return false;
  const read = readApicMsr(apicOf(vcpu), index, readTsc());
  if (!read.ok) {
    injectGp(vcpu);
    return true;
  }
  vcpu.registers[RAX] = read.value & 0xffffffffn;
  vcpu.registers[RDX] = read.value >> 32n;
  advance(vcpu);
  return true;
}

/**
 * WRMSR that exits. What is not the local APIC's is neither switched with the
 * virtual CPU nor guarded for its own sake: a setting of the processor, which is
 * the holder's. It stays as it is.
 */
export function writeTenantMsr(vcpu: Vcpu, index: u32, value: u64): void {
  if (!isApicMsr(index) || carryOut(vcpu, writeApicMsr(apicOf(vcpu), index, value, readTsc()))) advance(vcpu);
  else injectGp(vcpu);
}

/** MOV to or from CR8. */
export function handleTaskPriority(vcpu: Vcpu): void {
  const access: TaskPriorityExit = zeroed();
  readTaskPriorityExit(vcpu, access);
  const apic = apicOf(vcpu);
  if (!access.isWrite) setGuestRegister(vcpu, access.register, u64(apicRegister(apic, APIC_TPR) >> CR8_SHIFT));
  else {
    const priority = guestRegister(vcpu, access.register);
    if ((priority & ~CR8_BITS) !== 0n) {
      injectGp(vcpu);
      return;
    }
    setTaskPriority(apic, wrapU32(priority) << CR8_SHIFT);
  }
  advance(vcpu);
}

/** Raises a vector, perhaps of another processor's tenant, which learns of it at once. */
function interrupt(self: Cpu, target: Cpu, vector: u32): void {
  post(virtualApic(target.index), vector);
  if (target.index !== self.index) attract(target);
}

/** Raises what an unmasked redirection entry of a shadowed IOAPIC sends to virtual CPUs with virtual APICs. */
export function raiseVirtual(self: Cpu, instance: u32, entry: u64): void {
  const low: u32 = wrapU32(entry);
  if ((low & LVT_MASKED) !== 0 || (low & ICR_VECTOR) < FIRST_VALID_VECTOR) return;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (!isTenantOn(instance, i) || !isNamed(nameOf(virtualApic(i)), low, wrapU32(entry >> ENTRY_DESTINATION_SHIFT))) continue;
    interrupt(self, cpus[i], low & ICR_VECTOR);
    if ((low & ICR_MODE) === ICR_MODE_LOWEST) return;
  }
}
