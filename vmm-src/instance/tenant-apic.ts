/**
 * The virtual local APIC of a tenant (devices/virtual-apic.ts), as its guest reaches
 * it: by the xAPIC page, the x2APIC MSRs and CR8. All of them exit, but for what the
 * processor does by itself (#processor/apic.ts).
 */
import { RAX, RCX, RDX, Vcpu, cpuOf } from '../cpu/cpu.ts';
import { TaskPriorityExit } from '../cpu/exit.ts';
import { attachApic } from '#processor/apic.ts';
import { readTaskPriorityExit } from '#processor/exits.ts';
import { advance, guestRegister, injectGp, setGuestRegister } from '#processor/guest.ts';
import { retireTick } from '../devices/tick.ts';
import { VirtualApic, apicRegister, setTaskPriority, virtualApic } from '../devices/virtual-apic.ts';
import { type ApicOutcome, Outcome, acceptWrite, hasPage, isApicMsr, readApicMsr, readPage, writeApicMsr, writePage } from '../devices/virtual-apic-registers.ts';
import { APIC_LVT_TIMER, APIC_TPR, LVT_MASKED } from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { IA32_APIC_BASE } from '../machine/msr.ts';
import { deliver } from './deliver.ts';

/** CR8 is the high half of the task priority (12.8.6). */
const CR8_SHIFT: u32 = 4;
const CR8_BITS: u64 = 0xfn;

function apicOf(vcpu: Vcpu): VirtualApic {
  return virtualApic(cpuOf(vcpu).index);
}

/** Carries out what a write came to; false if it was none that the processor takes. */
function carryOut(vcpu: Vcpu, outcome: ApicOutcome): boolean {
  switch (outcome.kind) {
    case Outcome.COMMAND: deliver(vcpu, outcome.command, outcome.destination); return true;
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

/** The processor has written a register of the xAPIC page by itself: the write takes effect. */
export function acceptTenantApic(vcpu: Vcpu, offset: u32): void {
  const done = carryOut(vcpu, acceptWrite(apicOf(vcpu), offset, readTsc()));
  assert(done); // the page does not fault
}

/** Gives a tenant, which is current, its virtual APIC in the mode in which it is by now. */
export function attachTenantApic(vcpu: Vcpu): void {
  const apic = apicOf(vcpu);
  attachApic(vcpu, u64(addressOf(apic)), hasPage(apic));
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
  if (index === IA32_APIC_BASE) attachTenantApic(vcpu);
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
