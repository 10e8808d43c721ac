/**
 * The platform timer of an instance that holds neither PIT nor HPET. A kernel
 * wants its interrupt only until it has its own local APIC timer going; until
 * then the VMM raises the vector that the instance put at IOAPIC pin 2, with the
 * period that it programmed into the PIT or the HPET.
 */
import { bootInfo } from '../machine/region.ts';
import { IOAPIC_MASKED } from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { sendSelf } from '../cpu/local-apic.ts';
import { Vcpu, cpuOf, isTenant } from '../cpu/cpu.ts';
import { setTimer } from '#processor/timer.ts';
import { ioapicEntry } from './ioapic.ts';

const NEVER: u64 = 0xffffffffffffffffn;
const TIMER_PIN: u32 = 2;
const VECTOR: u64 = 0xffn;
const DEFAULT_PERIOD_NS: u64 = 4000000n;

let periodNs: u64 = DEFAULT_PERIOD_NS;
let running: boolean = false;
/** TSC of a tenant's next tick, and its processor's number. */
let deadline: u64 = NEVER;
let place: u32 = 0;
/** The instance's own timer has taken over: the tick has done its work. */
let retired: boolean = false;

export function resetTick(): void {
  periodNs = DEFAULT_PERIOD_NS;
  running = false;
  retired = false;
  deadline = NEVER;
}

/** The instance programmed a period, in nanoseconds. */
export function setTickPeriod(nanoseconds: u64): void {
  if (nanoseconds >= 100000n && nanoseconds <= 100000000n) periodNs = nanoseconds;
}

function periodTicks(): u64 {
  return (periodNs * u64(bootInfo().tscKhz)) / 1000000n;
}

/** A tenant's turns are timed already: its tick is one of the deadlines that end them. */
function startTimer(vcpu: Vcpu): void {
  place = cpuOf(vcpu).index;
  if (isTenant(vcpu)) deadline = readTsc() + periodTicks();
  else setTimer(vcpu, periodTicks(), vector());
}

function stopTimer(vcpu: Vcpu): void {
  deadline = NEVER;
  if (!isTenant(vcpu)) setTimer(vcpu, 0n, 0);
}

function vector(): u32 {
  return wrapU32(ioapicEntry(TIMER_PIN) & VECTOR);
}

/** Pin 2 has changed: runs the tick while it is unmasked. On the virtual CPU that holds the timer. */
export function updateTick(vcpu: Vcpu): void {
  const wanted = !retired && (ioapicEntry(TIMER_PIN) & IOAPIC_MASKED) === 0n;
  if (wanted === running) return;
  running = wanted;
  if (wanted) startTimer(vcpu);
  else stopTimer(vcpu);
}

/** The instance has armed its local APIC timer. */
export function retireTick(vcpu: Vcpu): void {
  if (!running) return;
  retired = true;
  running = false;
  stopTimer(vcpu);
}

/** When the tick of a processor's tenant is due, in TSC ticks; NEVER if it has none. */
export function tickDeadline(cpu: u32): u64 {
  return cpu === place ? deadline : NEVER;
}

/** Brings the tick of a processor's tenant up to now: its vector if it is due, else 0. */
export function advanceTick(cpu: u32, now: u64): u32 {
  if (now < tickDeadline(cpu)) return 0;
  const period = periodTicks();
  deadline = now + period - (now - deadline) % period;
  return vector();
}

/** What was a tenant has its processor, and the timer, for itself. */
export function keepTick(vcpu: Vcpu): void {
  if (cpuOf(vcpu).index !== place) return;
  deadline = NEVER;
  if (running) startTimer(vcpu);
}

/** The timer's exit. Retired meanwhile on another processor, it ends here. */
export function tick(vcpu: Vcpu): void {
  if (!running) {
    setTimer(vcpu, 0n, 0);
    return;
  }
  sendSelf(vector());
  startTimer(vcpu);
}
