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
import { APIC_DIVIDE, APIC_EOI, APIC_INITIAL_COUNT, APIC_IRR, APIC_ISR, APIC_LVT_TIMER, APIC_TMR, DIVIDE_BY_1, LVT_MASKED } from '../../machine/apic.ts';
import { RFLAGS_IF, VECTOR_MC } from '../../machine/registers.ts';
import {
  EVENT_EXCEPTION, EVENT_TYPE, EVENT_VALID, EVENT_VECTOR, INTERCEPT_CR8, INTERCEPT_HLT, INTERCEPT_INTR, INTERCEPT_IRET, INTERCEPT_MWAIT, INTERCEPT_VINTR,
  INTERRUPT_MASKING, INTERRUPT_SHADOW, VIRTUAL_INTERRUPT, VIRTUAL_VECTOR, VIRTUAL_VECTOR_SHIFT,
} from '../../machine/vmcb.ts';
import { Vcpu, cpuOf } from '../cpu.ts';
import { Exit } from '../exit.ts';
import { acceptInterrupts, clgi, pause, stgi } from '../../machine/intrinsics.ts';
import { countsOf, readApic, sendSelf, writeApic } from '../local-apic.ts';
import { injectNmi, openInterruptWindow, withdrawInterruptWindow } from './guest.ts';
import { TURN_VECTOR } from './signal.ts';
import { vmcbOf } from './vcpu.ts';

/** The local APIC's timer is the holder's, and serves the VMM while the processor is shared. */
export const HAS_TURN_TIMER: boolean = false;
const NO_VECTOR: u32 = 0xffffffff;
/** Of the last word of its bank. */
const TURN_REQUEST: u32 = 0x80000000;
/** Vectors F0H to FFH: while one of them is in service, the turn's timer would not interrupt. */
const HIGHEST_CLASS: u32 = 0xffff0000;
const BANK_WORDS: u32 = 8;
/** Within so many looks a ring arrives that has been sent. */
const RING_POLLS: u32 = 1000;

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
  vmcb.intercept1 &= ~INTERCEPT_HLT;
  vmcb.intercept2 &= ~INTERCEPT_MWAIT;
  vmcb.interceptCr &= ~INTERCEPT_CR8;
  vmcb.interceptExceptions &= ~(1 << VECTOR_MC);
  vmcb.interruptControl &= ~INTERRUPT_MASKING;
  writeApic(APIC_LVT_TIMER, TURN_VECTOR | LVT_MASKED);
  for (let i: u32 = 0; i < RING_POLLS; i++) {
    if (hasTurnRequest()) takeTurnTimer();
    pause();
  }
  keepInterruptExits(vcpu);
}

/**
 * Interrupts exit until the last one for the VMM has been taken, which the handler of another one may keep out: its
 * kernel would not acknowledge it, and get no other any more.
 */
function keepInterruptExits(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  vmcb.intercept1 = hasTurnRequest() ? vmcb.intercept1 | INTERCEPT_INTR : vmcb.intercept1 & ~INTERCEPT_INTR;
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

/** Whether the next entry delivers an interrupt whose delivery an exit has interrupted or prevented. */
function repeatsInterrupt(vcpu: Vcpu): boolean {
  return (vmcbOf(vcpu).eventInjection & (EVENT_VALID | EVENT_TYPE)) === EVENT_VALID;
}

/**
 * Whether the tenant exits as soon as it takes interrupts; one that waits for that
 * with an NMI goes on to. Behind an interrupt that is repeated, which needs the
 * window's place, the next one waits for the end of that, which exits, too.
 */
export function setInterruptWindow(vcpu: Vcpu, on: boolean): void {
  if (on && !repeatsInterrupt(vcpu)) openInterruptWindow(vmcbOf(vcpu));
  else withdrawInterruptWindow(vcpu);
}

/** The last step before a shared processor enters `vcpu`: an interrupt that is repeated is a virtual one, too. */
export function prepareEntry(vcpu: Vcpu): void {
  if (!repeatsInterrupt(vcpu)) return;
  const vmcb = vmcbOf(vcpu);
  const vector = wrapU32(vmcb.eventInjection & EVENT_VECTOR);
  vmcb.eventInjection = 0n;
  injectInterrupt(vcpu, vector);
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
    if (bits === 0) continue;
    let bit: u32 = 31;
    while ((bits >> bit) === 0) bit--;
    return 32 * (word - 1) + bit;
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

/** Whether the turn's timer, or a ring, asks for an interrupt. */
function hasTurnRequest(): boolean {
  return (readApic(APIC_IRR + 16 * (BANK_WORDS - 1)) & TURN_REQUEST) !== 0;
}

/** Whether the turn's timer, or a ring, asks for an interrupt, which has been taken then. */
function takeTurnTimer(): boolean {
  return hasTurnRequest() && acceptOne() === TURN_VECTOR;
}

/** A virtual CPU that had halted and exits for something else stands at its HLT again. */
export function standAtHalt(vcpu: Vcpu): void {
  const state = haltOf(vcpu);
  if (state.halted && cpuOf(vcpu).tenant !== null) vmcbOf(vcpu).rip = state.rip;
}

/**
 * The holder's interrupt that was to be delivered goes back to the local APIC, since one
 * of a higher class has come before the guest took it, and would at every entry: that
 * one is first. What a line asked for that is still active, it asks for again by itself.
 * False if it was an event of another kind, which VMRUN delivers before any interrupt.
 */
function putBack(vcpu: Vcpu): boolean {
  const vmcb = vmcbOf(vcpu);
  const vector = wrapU32(vmcb.eventInjection & EVENT_VECTOR);
  if (!repeatsInterrupt(vcpu) || highest(APIC_ISR) !== vector) return false;
  vmcb.eventInjection = 0n;
  const isLevel = (readApic(APIC_TMR + 16 * (vector >> 5)) >> (vector & 31) & 1) !== 0;
  writeApic(APIC_EOI, 0);
  if (!isLevel) sendSelf(vector);
  return true;
}

/**
 * A real interrupt has made a guest of a shared processor exit: the turn's timer, a
 * ring, or one of the holder's, which the tenant leaves pending. The timer may come
 * before another one that was there first.
 */
export function takeInterrupt(vcpu: Vcpu): Exit {
  const cpu = cpuOf(vcpu);
  const waits = (vmcbOf(vcpu).eventInjection & EVENT_VALID) !== 0n;
  if (cpu.tenant === null) return takeLast(vcpu, waits);
  if (cpu.holder !== vcpu) return takeTurnTimer() ? Exit.TIMER : Exit.INTERRUPT;
  if (waits) {
    if (takeTurnTimer()) return Exit.TIMER;
    if (!putBack(vcpu)) return Exit.INTERRUPT;
  }
  const vector = acceptOne();
  if (vector === TURN_VECTOR || vector === NO_VECTOR) return Exit.TIMER;
  setHalted(vcpu, false);
  injectInterrupt(vcpu, vector);
  return Exit.INTERRUPT;
}

/** The processor is not shared any more, and its guest's own interrupts exit because there is one for the VMM still. */
function takeLast(vcpu: Vcpu, waits: boolean): Exit {
  const vector = waits && !hasTurnRequest() ? NO_VECTOR : acceptOne();
  if (vector !== TURN_VECTOR && vector !== NO_VECTOR) injectInterrupt(vcpu, vector);
  keepInterruptExits(vcpu);
  return Exit.INTERRUPT;
}
