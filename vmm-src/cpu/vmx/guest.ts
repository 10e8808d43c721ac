/**
 * The running guest as exit handlers see it: registers, events, stepping over an
 * instruction. VT-x keeps all this in the current VMCS, so `vcpu` is always the
 * virtual CPU whose exit is being handled.
 */
import { CpuState } from '../../abi.ts';
import { Cpu, RSP, Vcpu, cpuOf } from '../cpu.ts';
import { invept, invvpid, readDr6, readMsr, vmread, vmwrite, writeDr6 } from '../../machine/intrinsics.ts';
import {
  CR0_CD, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_WP, CR3_PCID, CR4_CET, CR4_LA57, CR4_PAE, CR4_PCIDE, CR4_VMXE,
  DEBUGCTL_BTF, DEBUGCTL_LBR, DR6_BREAKPOINTS, DR6_BS, DR7_GD, RFLAGS_STATUS, RFLAGS_TF, VECTOR_DB, VECTOR_GP, VECTOR_NMI, VECTOR_UD,
} from '../../machine/registers.ts';
import { EFER_LMA, EFER_LME, IA32_VMX_CR4_FIXED1 } from '../../machine/msr.ts';
import {
  BLOCKING_BY_STI_OR_MOV_SS, ENTRY_IA32E_GUEST, INTERRUPTION_DELIVER_CODE, INTERRUPTION_REINJECT, INTERRUPTION_TYPE_EXCEPTION,
  INTERRUPTION_TYPE_NMI, INTERRUPTION_VALID, PENDING_DEBUG_BS, PENDING_DEBUG_ENABLED, PROCESSOR_MONITOR_TRAP_FLAG,
  RIGHTS_LONG_MODE, Vmcs,
} from '../../machine/vmcs.ts';
import { carry } from '../context.ts';
import { mapPointer } from '../memory-map.ts';
import { setTurnTimer } from './share.ts';
import { vpidOf } from './vcpu.ts';

export function guestRip(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.GUEST_RIP);
}

export function guestCr0(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.GUEST_CR0);
}

export function guestCr3(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.GUEST_CR3);
}

export function guestCr4(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.GUEST_CR4);
}

/** Current privilege level: DPL of SS (SDM Vol. 3C, 26.4.1). */
export function guestCpl(_vcpu: Vcpu): u32 {
  return (wrapU32(vmread(Vmcs.GUEST_SS_ACCESS_RIGHTS)) >> 5) & 3;
}

/** Whether the guest executes 64-bit code. */
export function guestIs64Bit(_vcpu: Vcpu): boolean {
  return (vmread(Vmcs.GUEST_CS_ACCESS_RIGHTS) & RIGHTS_LONG_MODE) !== 0n;
}

/** General register by encoding number, RSP included. */
export function guestRegister(vcpu: Vcpu, index: u32): u64 {
  return index === RSP ? vmread(Vmcs.GUEST_RSP) : vcpu.registers[index & 15];
}

export function setGuestRegister(vcpu: Vcpu, index: u32, value: u64): void {
  if (index === RSP) vmwrite(Vmcs.GUEST_RSP, value);
  else vcpu.registers[index & 15] = value;
}

/** Replaces the flags that arithmetic instructions set. */
export function setGuestStatus(_vcpu: Vcpu, flags: u64): void {
  vmwrite(Vmcs.GUEST_RFLAGS, (vmread(Vmcs.GUEST_RFLAGS) & ~RFLAGS_STATUS) | flags);
}

/** Goes on after the instruction, `length` bytes on, as if it had executed. */
export function skipInstruction(_vcpu: Vcpu, length: u64): void {
  vmwrite(Vmcs.GUEST_RIP, vmread(Vmcs.GUEST_RIP) + length);
  const blocking = vmread(Vmcs.GUEST_INTERRUPTIBILITY);
  if ((blocking & BLOCKING_BY_STI_OR_MOV_SS) !== 0n) {
    vmwrite(Vmcs.GUEST_INTERRUPTIBILITY, blocking & ~BLOCKING_BY_STI_OR_MOV_SS);
  }
  if ((vmread(Vmcs.GUEST_RFLAGS) & RFLAGS_TF) !== 0n && (vmread(Vmcs.GUEST_DEBUGCTL) & DEBUGCTL_BTF) === 0n) {
    vmwrite(Vmcs.GUEST_PENDING_DEBUG, vmread(Vmcs.GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
  }
}

/** The instruction that exited is done. */
export function advance(vcpu: Vcpu): void {
  skipInstruction(vcpu, vmread(Vmcs.EXIT_INSTRUCTION_LENGTH));
}

function injectException(vector: u32, hasCode: boolean): void {
  // In real mode exceptions have no error code, and VM entry refuses one (SDM Vol. 3C, 28.2.1.3).
  const code: u32 = hasCode && (vmread(Vmcs.GUEST_CR0) & CR0_PE) !== 0n ? INTERRUPTION_DELIVER_CODE : 0;
  vmwrite(Vmcs.VM_ENTRY_EXCEPTION_ERROR_CODE, 0n);
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_EXCEPTION | code | vector));
}

/** General protection, error code 0. */
export function injectGp(_vcpu: Vcpu): void {
  injectException(VECTOR_GP, true);
}

export function injectUd(_vcpu: Vcpu): void {
  injectException(VECTOR_UD, false);
}

/** Whether this exit interrupted the delivery of an event. */
export function interruptedDelivery(_vcpu: Vcpu): boolean {
  return (vmread(Vmcs.IDT_VECTORING_INFO) & u64(INTERRUPTION_VALID)) !== 0n;
}

/** An event whose delivery this exit interrupted is delivered again at the next entry (SDM Vol. 3C, 28.2.4). */
export function reinjectInterrupted(): void {
  const event = vmread(Vmcs.IDT_VECTORING_INFO);
  if ((event & u64(INTERRUPTION_VALID)) === 0n) return;
  vmwrite(Vmcs.VM_ENTRY_EXCEPTION_ERROR_CODE, vmread(Vmcs.IDT_VECTORING_ERROR_CODE));
  vmwrite(Vmcs.VM_ENTRY_INSTRUCTION_LENGTH, vmread(Vmcs.EXIT_INSTRUCTION_LENGTH));
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, event & INTERRUPTION_REINJECT);
}

function setMonitorTrap(on: boolean): void {
  const controls = wrapU32(vmread(Vmcs.PROCESSOR_BASED_CONTROLS));
  const next: u32 = on ? controls | PROCESSOR_MONITOR_TRAP_FLAG : controls & ~PROCESSOR_MONITOR_TRAP_FLAG;
  vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(next));
}

/**
 * Injects the debug exception that the guest's next entry would deliver by itself,
 * such as the trap of a single-stepped CPUID; false if there is none. What delivery
 * does besides, injection leaves to us (SDM Vol. 3C, 27.6.1): DR6, DR7.GD and
 * DEBUGCTL.LBR.
 */
function injectPendingTrap(): boolean {
  const pending = vmread(Vmcs.GUEST_PENDING_DEBUG);
  if ((pending & (PENDING_DEBUG_BS | PENDING_DEBUG_ENABLED)) === 0n) return false;
  writeDr6(readDr6() | (pending & (DR6_BREAKPOINTS | DR6_BS)));
  vmwrite(Vmcs.GUEST_DR7, vmread(Vmcs.GUEST_DR7) & ~DR7_GD);
  vmwrite(Vmcs.GUEST_DEBUGCTL, vmread(Vmcs.GUEST_DEBUGCTL) & ~DEBUGCTL_LBR);
  vmwrite(Vmcs.GUEST_PENDING_DEBUG, 0n);
  injectException(VECTOR_DB, false);
  return true;
}

/**
 * Hands an NMI that arrived in the VMM to the guest. When another event already
 * waits for the next entry, or STI or MOV SS blocks it, it follows one instruction
 * boundary later; and so it does behind a debug exception, which an entry that
 * injects an NMI would drop.
 * It is the holder's of the processor: if the tenant was about to be entered, the
 * processor carries the holder first, for a short turn after which it is decided anew.
 * Called by the exit stub with every VM entry that finds Cpu.nmiCount set; returns
 * the virtual CPU to enter.
 * @entry
 */
export function deliverNmi(entered: Vcpu): Vcpu {
  const cpu: Cpu = cpuOf(entered);
  const holder = cpu.holder;
  if (holder === null || holder === entered) {
    injectNmi(cpu, entered);
    return entered;
  }
  carry(cpu, holder);
  setTurnTimer(holder, 0n);
  injectNmi(cpu, holder);
  return holder;
}

function injectNmi(cpu: Cpu, vcpu: Vcpu): void {
  atomicStore(cpu.nmiCount, 0);
  // A processor that waits for its SIPI takes none, and VM entry refuses one there.
  if (cpu.state !== CpuState.RUNNING) return;
  const isBusy = (vmread(Vmcs.VM_ENTRY_INTERRUPTION_INFO) & u64(INTERRUPTION_VALID)) !== 0n;
  const isBlocked = (vmread(Vmcs.GUEST_INTERRUPTIBILITY) & BLOCKING_BY_STI_OR_MOV_SS) !== 0n;
  if (!isBusy && !isBlocked && !injectPendingTrap()) {
    vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_NMI | VECTOR_NMI));
    return;
  }
  vcpu.nmiPending = 1;
  setMonitorTrap(true);
}

/** The monitor-trap exit that deliverNmi asked for. */
export function deliverPendingNmi(vcpu: Vcpu): void {
  setMonitorTrap(false);
  if (vcpu.nmiPending === 0) return;
  vcpu.nmiPending = 0;
  injectNmi(cpuOf(vcpu), vcpu);
}

/** NMIs that this virtual CPU must still get, when it leaves the VMM. */
export function undeliveredNmis(vcpu: Vcpu): u32 {
  const waiting = vmread(Vmcs.VM_ENTRY_INTERRUPTION_INFO);
  const isNmi = (waiting & u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_EXCEPTION)) === u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_NMI);
  return vcpu.nmiPending + (isNmi ? 1 : 0);
}

/**
 * A MOV to CR0 that changes NE, which VMX keeps set. Follows the mode switch that
 * PG means. False where the processor would refuse the value (SDM Vol. 2B, MOV to
 * control registers), since VM entry would too.
 */
export function writeGuestCr0(vcpu: Vcpu, value: u64): boolean {
  const noProtection = (value & CR0_PG) !== 0n && (value & CR0_PE) === 0n;
  const noCacheRules = (value & CR0_NW) !== 0n && (value & CR0_CD) === 0n;
  if ((value >> 32n) !== 0n || noProtection || noCacheRules) return false;
  if ((value & CR0_PG) === 0n && (guestIs64Bit(vcpu) || (vmread(Vmcs.GUEST_CR4) & CR4_PCIDE) !== 0n)) return false;
  const enters64 = (value & CR0_PG) !== 0n && (vmread(Vmcs.GUEST_EFER) & EFER_LME) !== 0n;
  if (enters64 && (vmread(Vmcs.GUEST_CR4) & CR4_PAE) === 0n) return false;
  const before = vmread(Vmcs.GUEST_CR0);
  vmwrite(Vmcs.CR0_SHADOW, value);
  vmwrite(Vmcs.GUEST_CR0, value | CR0_NE);
  if (((before ^ value) & CR0_PG) === 0n) return true;
  const efer = vmread(Vmcs.GUEST_EFER);
  const long = (value & CR0_PG) !== 0n && (efer & EFER_LME) !== 0n;
  const entry = vmread(Vmcs.VM_ENTRY_CONTROLS);
  vmwrite(Vmcs.GUEST_EFER, long ? efer | EFER_LMA : efer & ~EFER_LMA);
  vmwrite(Vmcs.VM_ENTRY_CONTROLS, long ? entry | u64(ENTRY_IA32E_GUEST) : entry & ~u64(ENTRY_IA32E_GUEST));
  return true;
}

/** A MOV to CR4 that changes VMXE: the guest sees what it wrote, the processor keeps VMXE. False where the processor would refuse the value. */
export function writeGuestCr4(vcpu: Vcpu, value: u64): boolean {
  const long = (vmread(Vmcs.GUEST_EFER) & EFER_LMA) !== 0n;
  const changed: u64 = value ^ vmread(Vmcs.GUEST_CR4);
  if ((value & ~readMsr(IA32_VMX_CR4_FIXED1)) !== 0n) return false;
  if (long && ((value & CR4_PAE) === 0n || (changed & CR4_LA57) !== 0n)) return false;
  if ((value & CR4_PCIDE) !== 0n && (!long || ((changed & CR4_PCIDE) !== 0n && (guestCr3(vcpu) & CR3_PCID) !== 0n))) return false;
  if ((value & CR4_CET) !== 0n && (vmread(Vmcs.GUEST_CR0) & CR0_WP) === 0n) return false;
  vmwrite(Vmcs.CR4_SHADOW, value);
  vmwrite(Vmcs.GUEST_CR4, value | CR4_VMXE);
  invvpid(vpidOf(vcpu));
  return true;
}

/** Forgets what this processor has cached of the instance's memory map. */
export function flushMemoryMap(vcpu: Vcpu): void {
  invept(mapPointer(vcpu.view));
}
