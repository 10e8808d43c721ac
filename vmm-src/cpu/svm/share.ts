/**
 * What AMD-V is told of the two virtual CPUs of a shared processor (APM Vol. 2,
 * chapter 15). It has no timer of its own and no halted state:
 *
 * - Turns are ended by the local APIC's timer, with a vector that no kernel uses. The
 *   holder's own timer is a model meanwhile (instance/holder-timer.ts), so interrupts
 *   exit in the holder's turns, too: one of its own is accepted here, which puts it
 *   into service in the real APIC, and injected.
 * - A virtual CPU that halts stands at its HLT, which it executes by itself when it is
 *   entered without that intercept.
 *
 * The tenant's interrupts are masked by its own flag alone, the real ones never: VMRUN
 * finds the VMM's interrupt flag set.
 */
import { APIC_DIVIDE, APIC_EOI, APIC_INITIAL_COUNT, APIC_IRR, APIC_ISR, APIC_LVT_TIMER, DIVIDE_BY_1, LVT_MASKED } from '../../machine/apic.ts';
import { RFLAGS_IF, VECTOR_MC } from '../../machine/registers.ts';
import {
  EVENT_EXCEPTION, EVENT_VALID, INTERCEPT_CR8, INTERCEPT_HLT, INTERCEPT_INTR, INTERCEPT_IRET, INTERCEPT_MWAIT, INTERCEPT_VINTR,
  INTERRUPT_MASKING, INTERRUPT_SHADOW, VIRTUAL_INTERRUPT, VIRTUAL_VECTOR, VIRTUAL_VECTOR_SHIFT,
} from '../../machine/vmcb.ts';
import { Vcpu, cpuOf } from '../cpu.ts';
import { Exit } from '../exit.ts';
import { acceptInterrupts, clgi, stgi } from '../../machine/intrinsics.ts';
import { countsOf, readApic, writeApic } from '../local-apic.ts';
import { injectNmi, openInterruptWindow, withdrawInterruptWindow } from './guest.ts';
import { vmcbOf } from './vcpu.ts';

/** The local APIC's timer is the holder's, and serves the VMM while the processor is shared. */
export const HAS_TURN_TIMER: boolean = false;
/** Of the turn's timer: Linux has it for spurious interrupts, which have no request. */
const TURN_VECTOR: u32 = 0xff;
const NO_VECTOR: u32 = 0xffffffff;
/** Vectors F0H to FFH: while one of them is in service, the turn's timer would not interrupt. */
const HIGHEST_CLASS: u32 = 0xffff0000;
const BANK_WORDS: u32 = 8;

class Halt extends Struct {
  /** Address of the HLT. */
  rip: u64;
  halted: boolean;
  padding0: u8;
  padding1: u16;
  padding2: u32;
}
const halts: FixedArray<FixedArray<Halt, 32>, 2> = zeroed();

function haltOf(vcpu: Vcpu): Halt {
  return halts[vcpu.instance - 1][vcpu.index];
}

/** Whether this processor can carry two virtual CPUs: all that is needed came with AMD-V. */
export function canShare(): boolean {
  return true;
}

/** A new virtual CPU will be the tenant. */
export function becomeTenant(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.intercept1 |= INTERCEPT_INTR | INTERCEPT_HLT;
  vmcb.intercept2 |= INTERCEPT_MWAIT;
  vmcb.interceptCr |= INTERCEPT_CR8;
  vmcb.interceptExceptions |= 1 << VECTOR_MC;
  vmcb.interruptControl |= INTERRUPT_MASKING;
  haltOf(vcpu).halted = false;
}

/** The virtual CPU that has run here so far shares its processor from now on, and keeps the local APIC. */
export function becomeHolder(vcpu: Vcpu): void {
  vmcbOf(vcpu).intercept1 |= INTERCEPT_INTR;
  haltOf(vcpu).halted = false;
}

/** The virtual CPU, holder or tenant, has the processor for itself: no exits but those of every instance. */
export function becomeAlone(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.intercept1 &= ~(INTERCEPT_INTR | INTERCEPT_HLT);
  vmcb.intercept2 &= ~INTERCEPT_MWAIT;
  vmcb.interceptCr &= ~INTERCEPT_CR8;
  vmcb.interceptExceptions &= ~(1 << VECTOR_MC);
  vmcb.interruptControl &= ~INTERRUPT_MASKING;
  writeApic(APIC_LVT_TIMER, TURN_VECTOR | LVT_MASKED);
  takeTurnTimer();
}

/** Whether HLT and MWAIT exit, so that the other one gets its turn. */
export function setHaltExits(vcpu: Vcpu, on: boolean): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.intercept1 = on ? vmcb.intercept1 | INTERCEPT_HLT : vmcb.intercept1 & ~INTERCEPT_HLT;
  vmcb.intercept2 = on ? vmcb.intercept2 | INTERCEPT_MWAIT : vmcb.intercept2 & ~INTERCEPT_MWAIT;
}

/** The turn ends after `ticks` of the TSC; of longer times the timer takes what it can. */
export function setTurnTimer(_vcpu: Vcpu, ticks: u64): void {
  const counts = countsOf(ticks);
  writeApic(APIC_DIVIDE, DIVIDE_BY_1);
  writeApic(APIC_LVT_TIMER, TURN_VECTOR);
  writeApic(APIC_INITIAL_COUNT, counts === 0 ? 1 : counts);
}

/** Whether the tenant must not be entered, since nothing would end its turn. */
export function blocksTurns(): boolean {
  return (readApic(APIC_ISR + 16 * (BANK_WORDS - 1)) & HIGHEST_CLASS) !== 0;
}

/** Whether the holder has halted. */
export function isHalted(vcpu: Vcpu): boolean {
  return haltOf(vcpu).halted;
}

/** Halts a virtual CPU whose HLT has exited and been stepped over; or lets it go on. */
export function setHalted(vcpu: Vcpu, halted: boolean): void {
  const state = haltOf(vcpu);
  const vmcb = vmcbOf(vcpu);
  if (!halted && !state.halted) return;
  if (!state.halted) state.rip = vmcb.rip - 1n;
  vmcb.rip = halted ? state.rip : state.rip + 1n;
  state.halted = halted;
}

/** Whether the guest has interrupts on. */
export function hasInterruptsOn(vcpu: Vcpu): boolean {
  return (vmcbOf(vcpu).rflags & RFLAGS_IF) !== 0n;
}

/** Whether the next entry can inject an interrupt: the guest takes one, and no other event waits. */
export function takesInterrupt(vcpu: Vcpu): boolean {
  const vmcb = vmcbOf(vcpu);
  return hasInterruptsOn(vcpu) && (vmcb.interruptShadow & INTERRUPT_SHADOW) === 0n && (vmcb.eventInjection & EVENT_VALID) === 0n;
}

/**
 * The next entry delivers an interrupt to a guest that takes it: as a virtual one,
 * since QEMU (TCG, 10.0) may deliver one that VMRUN injects a second time, whatever
 * the interrupt flag is then. Where the window is an NMI's it must be VMRUN's.
 */
export function injectInterrupt(vcpu: Vcpu, vector: u32): void {
  const vmcb = vmcbOf(vcpu);
  withdrawInterruptWindow(vcpu);
  if ((vmcb.intercept1 & INTERCEPT_VINTR) !== 0) vmcb.eventInjection = EVENT_VALID | u64(vector);
  else vmcb.interruptControl = (vmcb.interruptControl & ~VIRTUAL_VECTOR) | VIRTUAL_INTERRUPT | (u64(vector) << VIRTUAL_VECTOR_SHIFT);
}

/** Whether the tenant exits as soon as it takes interrupts; one that waits for that with an NMI goes on to. */
export function setInterruptWindow(vcpu: Vcpu, on: boolean): void {
  if (on) openInterruptWindow(vmcbOf(vcpu));
  else withdrawInterruptWindow(vcpu);
}

/** An NMI that waits behind another one's handler is delivered with that one's IRET (guest.ts). */
export function setNmiWindow(_vcpu: Vcpu, _on: boolean): void {}

/** Whether the next entry can inject an NMI into the tenant. */
export function takesNmi(vcpu: Vcpu): boolean {
  const vmcb = vmcbOf(vcpu);
  return (vmcb.intercept1 & INTERCEPT_IRET) === 0 && (vmcb.interruptShadow & INTERRUPT_SHADOW) === 0n && (vmcb.eventInjection & EVENT_VALID) === 0n;
}

/** The next entry delivers an NMI that the tenant's own instance has sent it. */
export function injectTenantNmi(vcpu: Vcpu): void {
  injectNmi(vcpu);
}

/** A machine check that arrived while the tenant ran is the holder's, instead of what else its next entry would have delivered. */
export function injectMachineCheck(vcpu: Vcpu): void {
  setHalted(vcpu, false);
  vmcbOf(vcpu).eventInjection = EVENT_VALID | EVENT_EXCEPTION | u64(VECTOR_MC);
}

function highest(bank: u32): u32 {
  for (let word: u32 = BANK_WORDS; word > 0; word--) {
    const bits = readApic(bank + 16 * (word - 1));
    for (let bit: u32 = 32; bit > 0; bit--) {
      if ((bits >> (bit - 1) & 1) !== 0) return 32 * (word - 1) + bit - 1;
    }
  }
  return NO_VECTOR;
}

/**
 * The interrupt of highest priority goes through the VMM's own IDT, and stays in
 * service, unless it is the turn's timer: returns its vector, or NO_VECTOR.
 */
function acceptOne(): u32 {
  const before = highest(APIC_ISR);
  stgi();
  acceptInterrupts();
  clgi();
  const vector = highest(APIC_ISR);
  if (vector === TURN_VECTOR) writeApic(APIC_EOI, 0);
  return vector === before ? NO_VECTOR : vector;
}

/** Whether the turn's timer asks for an interrupt, which has been taken then. */
function takeTurnTimer(): boolean {
  return highest(APIC_IRR) === TURN_VECTOR && acceptOne() === TURN_VECTOR;
}

/** A virtual CPU that had halted and exits for something else stands at its HLT again. */
export function standAtHalt(vcpu: Vcpu): void {
  const state = haltOf(vcpu);
  if (state.halted && cpuOf(vcpu).tenant !== null) vmcbOf(vcpu).rip = state.rip;
}

/**
 * A real interrupt has made a guest of a shared processor exit: the turn's timer, or
 * one of the holder's, which the tenant leaves pending, as does a holder that has
 * not yet been delivered the one before. The timer may come before another one that
 * was there first.
 */
export function takeInterrupt(vcpu: Vcpu): Exit {
  const waits = (vmcbOf(vcpu).eventInjection & EVENT_VALID) !== 0n;
  if (cpuOf(vcpu).holder !== vcpu || waits) return takeTurnTimer() ? Exit.TIMER : Exit.INTERRUPT;
  const vector = acceptOne();
  if (vector === TURN_VECTOR || vector === NO_VECTOR) return Exit.TIMER;
  setHalted(vcpu, false);
  injectInterrupt(vcpu, vector);
  return Exit.INTERRUPT;
}
