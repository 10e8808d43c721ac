/**
 * The timer of a virtual local APIC (SDM Vol. 3A, 12.5.4): one-shot, periodic and
 * TSC-deadline. Nothing counts: a timer is the TSC at which it expires, and the
 * count is what the time until then comes to. Time is the TSC that callers pass,
 * which must not go back; they call `advance` at the latest at `nextDeadline`, and
 * before the functions below it.
 */
import {
  APIC_DIVIDE, APIC_INITIAL_COUNT, APIC_LVT_TIMER, LVT_MASKED, LVT_PERIODIC, LVT_TIMER_MODE, LVT_TSC_DEADLINE, LVT_VECTOR,
} from '../machine/apic.ts';
import { DISARMED, NEVER, VirtualApic, isRequested, raise, setApicRegister } from './virtual-apic.ts';

/** The rate's unit: TSC ticks to 65,536 counts of a timer that divides by 1. */
const RATE_SHIFT: u64 = 16n;
const RATE_ONE: u64 = 0x10000n;
/** Below it, the ticks of the longest interval (2³² counts divided by 128) fit into 64 bits. */
const RATE_LIMIT: u64 = 0x2000000n;

let rate: u64 = RATE_ONE;

/**
 * Makes the virtual timers as fast as the real one, by which a kernel measured or
 * looked up its frequency and which will take over from the virtual one: TSC ticks
 * to 65,536 counts.
 */
export function setTimerRate(ticks: u64): void {
  assert(ticks !== 0n && ticks < RATE_LIMIT);
  rate = ticks;
}

export function timerRate(): u64 {
  return rate;
}

function timerMode(apic: VirtualApic): u32 {
  return apic.timerLvt & LVT_TIMER_MODE;
}

export function isDeadlineMode(apic: VirtualApic): boolean {
  return timerMode(apic) === LVT_TSC_DEADLINE;
}

/** Divide configuration (12.5.4, figure 12-10): bits 0, 1 and 3 are 2, 4 … 128 and 1, here as a shift. */
function divideShift(apic: VirtualApic): u64 {
  return u64((((apic.timerDivide >> 1) & 4) + (apic.timerDivide & 3) + 1) & 7);
}

/** TSC ticks until `count` has come down to 0. */
function ticksOf(apic: VirtualApic, count: u32): u64 {
  return (((u64(count) << divideShift(apic)) * rate) + (RATE_ONE - 1n)) >> RATE_SHIFT;
}

function countFrom(apic: VirtualApic, count: u32, start: u64): void {
  apic.countFrom = count;
  apic.countStart = start;
  apic.deadline = count === 0 ? DISARMED : start + ticksOf(apic, count);
}

function disarm(apic: VirtualApic): void {
  apic.deadline = DISARMED;
}

/**
 * Brings the timer up to now. An expiry requests its interrupt, once for any
 * number of periods that have passed, since a request is one bit; the next one
 * comes in phase with them. True if it expired.
 */
export function advance(apic: VirtualApic, now: u64): boolean {
  if (apic.deadline === DISARMED || now < apic.deadline) return false;
  if (timerMode(apic) === LVT_PERIODIC) {
    const period = ticksOf(apic, apic.timerInitial);
    countFrom(apic, apic.timerInitial, now - (now - apic.deadline) % period);
  } else disarm(apic);
  if ((apic.timerLvt & LVT_MASKED) === 0) raise(apic, apic.timerLvt & LVT_VECTOR, false);
  return true;
}

/**
 * The TSC at which the timer next makes a difference, or NEVER: masked, or with
 * its last interrupt not yet taken, it makes none.
 */
export function nextDeadline(apic: VirtualApic): u64 {
  const lvt = apic.timerLvt;
  if (apic.deadline === DISARMED || (lvt & LVT_MASKED) !== 0 || isRequested(apic, lvt & LVT_VECTOR)) return NEVER;
  return apic.deadline;
}

/** The current-count register. */
export function currentCount(apic: VirtualApic, now: u64): u32 {
  if (apic.deadline === DISARMED || isDeadlineMode(apic)) return 0;
  return apic.countFrom - wrapU32(((now - apic.countStart) << RATE_SHIFT) / (rate << divideShift(apic)));
}

/** The initial-count register is written: the timer starts anew, or with 0 stops; in TSC-deadline mode nothing happens. */
export function writeInitialCount(apic: VirtualApic, count: u32, now: u64): void {
  if (!isDeadlineMode(apic)) {
    apic.timerInitial = count;
    countFrom(apic, count, now);
  }
  setApicRegister(apic, APIC_INITIAL_COUNT, apic.timerInitial);
}

/** The divide configuration is written: a timer that runs goes on from its count at the new rate. */
export function writeDivide(apic: VirtualApic, value: u32, now: u64): void {
  const count = currentCount(apic, now);
  apic.timerDivide = value;
  setApicRegister(apic, APIC_DIVIDE, value);
  if (count !== 0) countFrom(apic, count, now);
}

/** The timer's LVT entry is written, with bits that exist: another mode disarms the timer. */
export function writeTimerLvt(apic: VirtualApic, value: u32): void {
  const before = timerMode(apic);
  apic.timerLvt = value;
  setApicRegister(apic, APIC_LVT_TIMER, value);
  if (timerMode(apic) !== before) disarm(apic);
}

/** IA32_TSC_DEADLINE (12.5.4.1): 0 while disarmed, and in the other modes. */
export function readDeadline(apic: VirtualApic): u64 {
  return isDeadlineMode(apic) ? apic.deadline : DISARMED;
}

/** Arms, postpones or with 0 disarms; one that has passed expires at once. In the other modes nothing happens. */
export function writeDeadline(apic: VirtualApic, deadline: u64, now: u64): void {
  if (!isDeadlineMode(apic)) return;
  apic.deadline = deadline;
  advance(apic, now);
}
