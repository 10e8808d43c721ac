/**
 * The guest as exit handlers see it: registers, events, stepping over an
 * instruction. All of it is in the VMCB.
 */
import { RSP, Vcpu } from '../cpu.ts';
import { CR0_PE, DR6_BS, RFLAGS_STATUS, RFLAGS_TF, VECTOR_DB, VECTOR_GP, VECTOR_NMI, VECTOR_UD } from '../../machine/registers.ts';
import {
  ATTRIBUTES_LONG, EVENT_CODE_VALID, EVENT_EXCEPTION, EVENT_NMI, EVENT_TYPE, EVENT_VALID, ExitCode, INTERCEPT_IRET, INTERCEPT_VINTR,
  INTERRUPT_SHADOW, TLB_CONTROL_FLUSH_ALL, VIRTUAL_INTERRUPT, VIRTUAL_INTERRUPT_PENDING, VIRTUAL_VECTOR, VIRTUAL_VECTOR_SHIFT, Vmcb,
} from '../../machine/vmcb.ts';
import { vmcbOf } from './vcpu.ts';

export function guestRip(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).rip;
}

export function guestCr0(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).cr0;
}

export function guestCr3(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).cr3;
}

export function guestCr4(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).cr4;
}

/** Current privilege level. */
export function guestCpl(vcpu: Vcpu): u32 {
  return u32(vmcbOf(vcpu).cpl);
}

/** Whether the guest executes 64-bit code. */
export function guestIs64Bit(vcpu: Vcpu): boolean {
  return (vmcbOf(vcpu).cs.attributes & ATTRIBUTES_LONG) !== 0;
}

/** General register by encoding number, RSP included. */
export function guestRegister(vcpu: Vcpu, index: u32): u64 {
  return index === RSP ? vmcbOf(vcpu).rsp : vcpu.registers[index & 15];
}

export function setGuestRegister(vcpu: Vcpu, index: u32, value: u64): void {
  if (index === RSP) vmcbOf(vcpu).rsp = value;
  else vcpu.registers[index & 15] = value;
}

/** Replaces the flags that arithmetic instructions set. */
export function setGuestStatus(vcpu: Vcpu, flags: u64): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.rflags = (vmcb.rflags & ~RFLAGS_STATUS) | flags;
}

/** Goes on at `rip`, as if the instruction there had executed. */
function goOn(vmcb: Vmcb, rip: u64): void {
  vmcb.rip = rip;
  vmcb.interruptShadow &= ~INTERRUPT_SHADOW;
  if ((vmcb.rflags & RFLAGS_TF) !== 0n && (vmcb.eventInjection & EVENT_VALID) === 0n) {
    vmcb.dr6 |= DR6_BS;
    vmcb.eventInjection = EVENT_VALID | EVENT_EXCEPTION | u64(VECTOR_DB);
  }
}

/** Goes on after the instruction, `length` bytes on, as if it had executed. */
export function skipInstruction(vcpu: Vcpu, length: u64): void {
  const vmcb = vmcbOf(vcpu);
  goOn(vmcb, vmcb.rip + length);
}

/** Bytes of an instruction that has only one encoding, without prefixes. */
function lengthOf(code: u64): u64 {
  switch (wrapU32(code)) {
    case ExitCode.HLT: return 1n;
    case ExitCode.VMMCALL: case ExitCode.MWAIT: case ExitCode.MWAIT_ARMED: return 3n;
    case ExitCode.CR8_READ: case ExitCode.CR8_WRITE: return 4n;
    default: return 2n;
  }
}

/** The instruction that exited is done. Not every processor says where the next one is. */
export function advance(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  if (vmcb.nextRip !== 0n) goOn(vmcb, vmcb.nextRip);
  else if (vmcb.exitCode === u64(ExitCode.IO)) goOn(vmcb, vmcb.exitInfo2);
  else goOn(vmcb, vmcb.rip + lengthOf(vmcb.exitCode));
}

/** General protection, error code 0, which real mode does not have. */
export function injectGp(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  const code: u64 = (vmcb.cr0 & CR0_PE) !== 0n ? EVENT_CODE_VALID : 0n;
  vmcb.eventInjection = EVENT_VALID | EVENT_EXCEPTION | code | u64(VECTOR_GP);
}

export function injectUd(vcpu: Vcpu): void {
  vmcbOf(vcpu).eventInjection = EVENT_VALID | EVENT_EXCEPTION | u64(VECTOR_UD);
}

/** Whether this exit interrupted the delivery of an event. */
export function interruptedDelivery(vcpu: Vcpu): boolean {
  return (vmcbOf(vcpu).exitInterruption & EVENT_VALID) !== 0n;
}

/** The interrupt that the guest was to take first of all, as an event to inject, if this exit came before that; 0 if there is none. */
function takeBack(vmcb: Vmcb): u64 {
  const isWindow = (vmcb.intercept1 & INTERCEPT_VINTR) !== 0;
  if (isWindow || (vmcb.interruptControl & VIRTUAL_INTERRUPT_PENDING) === 0n) return 0n;
  vmcb.interruptControl &= ~VIRTUAL_INTERRUPT;
  return EVENT_VALID | ((vmcb.interruptControl & VIRTUAL_VECTOR) >> VIRTUAL_VECTOR_SHIFT);
}

/** An event whose delivery this exit interrupted, or prevented, is delivered at the next entry (APM Vol. 2, 15.7.2). */
export function reinjectInterrupted(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  const waiting = takeBack(vmcb);
  vmcb.eventInjection = (vmcb.exitInterruption & EVENT_VALID) !== 0n ? vmcb.exitInterruption : waiting;
}

/** Exits as soon as the guest takes interrupts. */
export function openInterruptWindow(vmcb: Vmcb): void {
  vmcb.interruptControl |= VIRTUAL_INTERRUPT;
  vmcb.intercept1 |= INTERCEPT_VINTR;
}

function closeInterruptWindow(vmcb: Vmcb): void {
  if ((vmcb.intercept1 & INTERCEPT_VINTR) === 0) return;
  vmcb.interruptControl &= ~VIRTUAL_INTERRUPT;
  vmcb.intercept1 &= ~INTERCEPT_VINTR;
}

/** Closes the window unless an NMI waits for it. */
export function withdrawInterruptWindow(vcpu: Vcpu): void {
  if (vcpu.nmiPending === 0) closeInterruptWindow(vmcbOf(vcpu));
}

/**
 * Hands an NMI to the guest. The processor does not know that its handler runs, so
 * the handler's IRET exits; another NMI that arrives before, or beside another
 * event, or behind STI, waits until the guest takes interrupts.
 */
export function injectNmi(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  const isBlocked = (vmcb.intercept1 & INTERCEPT_IRET) !== 0 || (vmcb.interruptShadow & INTERRUPT_SHADOW) !== 0n;
  if (isBlocked || (vmcb.eventInjection & EVENT_VALID) !== 0n) {
    vcpu.nmiPending = 1;
    if ((vmcb.intercept1 & INTERCEPT_IRET) === 0) openInterruptWindow(vmcb);
    return;
  }
  vmcb.eventInjection = EVENT_VALID | EVENT_NMI | u64(VECTOR_NMI);
  vmcb.intercept1 |= INTERCEPT_IRET;
}

/** The NMI handler's IRET, which is about to execute. */
export function endNmi(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.intercept1 &= ~INTERCEPT_IRET;
  if (vcpu.nmiPending !== 0) openInterruptWindow(vmcb);
}

/** The guest takes interrupts now. */
export function deliverPendingNmi(vcpu: Vcpu): void {
  closeInterruptWindow(vmcbOf(vcpu));
  if (vcpu.nmiPending === 0) return;
  vcpu.nmiPending = 0;
  injectNmi(vcpu);
}

/** NMIs that this virtual CPU must still get, when it leaves the VMM. */
export function undeliveredNmis(vcpu: Vcpu): u32 {
  const waiting = vmcbOf(vcpu).eventInjection;
  const isNmi = (waiting & (EVENT_VALID | EVENT_TYPE)) === (EVENT_VALID | EVENT_NMI);
  return vcpu.nmiPending + (isNmi ? 1 : 0);
}

/** Forgets what this processor has cached of the instance's memory map. */
export function flushMemoryMap(vcpu: Vcpu): void {
  vmcbOf(vcpu).tlbControl = TLB_CONTROL_FLUSH_ALL;
}
