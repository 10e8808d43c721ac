/**
 * The local APIC of the processor that runs this, as the VMM uses it: to signal
 * other processors, and to hand a processor over with nothing pending in it.
 * Works in xAPIC and x2APIC mode (SDM Vol. 3A, 12.4 and 12.12).
 */
import {
  APIC_CURRENT_COUNT, APIC_DEFAULT_BASE, APIC_DFR, APIC_DIVIDE, APIC_EOI, APIC_ID, APIC_ICR_HIGH, APIC_ICR_LOW, APIC_INITIAL_COUNT, APIC_IRR, APIC_ISR, APIC_LDR,
  APIC_LVT_ERROR, APIC_LVT_TIMER, APIC_SVR, APIC_TPR, DIVIDE_BY_1, ICR_ASSERT, ICR_BUSY, ICR_SHORTHAND_SELF, LVT_MASKED, LVT_PERIODIC, LVT_TSC_DEADLINE, SVR_ENABLE,
  SVR_RESET,
} from '../machine/apic.ts';
import { pause, readMsr, readTsc, writeMsr } from '../machine/intrinsics.ts';
import { acceptPending } from '#processor/interrupts.ts';
import { APIC_BASE_BSP, APIC_BASE_X2APIC, IA32_APIC_BASE, IA32_TSC_DEADLINE, X2APIC_MSR_BASE } from '../machine/msr.ts';

const X2APIC_DESTINATION_SHIFT: u64 = 32n;
const XAPIC_DESTINATION_SHIFT: u32 = 24;
const FLAT_MODEL: u32 = 0xffffffff;
const ALL_COUNTS: u32 = 0xffffffff;
const TIMER_RATE_SHIFT: u64 = 16n;
/** More would not fit 64 bits when shifted. */
const MOST_TICKS: u64 = 0x1000000000000n;
const ICR_POLLS: u32 = 100000;

export function isX2apic(): boolean {
  return (readMsr(IA32_APIC_BASE) & APIC_BASE_X2APIC) !== 0n;
}

/** APIC id of the processor that runs this. */
export function ownApicId(): u32 {
  return isX2apic() ? readApic(APIC_ID) : readApic(APIC_ID) >> XAPIC_DESTINATION_SHIFT;
}

/** Whether this is the processor that firmware booted on (12.4.4). */
export function isBootstrap(): boolean {
  return (readMsr(IA32_APIC_BASE) & APIC_BASE_BSP) !== 0n;
}

/** Makes this processor the bootstrap processor, or not: the flag can be written (SDM Vol. 4, table 2-2, IA32_APIC_BASE). */
export function markBootstrap(bootstrap: boolean): void {
  const rest: u64 = readMsr(IA32_APIC_BASE) & ~APIC_BASE_BSP;
  if (isBootstrap() !== bootstrap) writeMsr(IA32_APIC_BASE, bootstrap ? rest | APIC_BASE_BSP : rest);
}

export function readApic(register: u32): u32 {
  if (isX2apic()) return wrapU32(readMsr(X2APIC_MSR_BASE + (register >> 4)));
  return load32(APIC_DEFAULT_BASE + u64(register));
}

export function writeApic(register: u32, value: u32): void {
  if (isX2apic()) writeMsr(X2APIC_MSR_BASE + (register >> 4), u64(value));
  else store32(APIC_DEFAULT_BASE + u64(register), value);
}

function waitForDelivery(): void {
  for (let i: u32 = 0; i < ICR_POLLS; i++) {
    if ((load32(APIC_DEFAULT_BASE + u64(APIC_ICR_LOW)) & ICR_BUSY) === 0) return;
    pause();
  }
}

/**
 * Sends an interprocessor interrupt with a physical destination. A guest may be
 * between its two ICR writes, so the high word is left as it was found.
 */
export function sendIpi(apicId: u32, command: u32): void {
  if (isX2apic()) {
    writeMsr(X2APIC_MSR_BASE + (APIC_ICR_LOW >> 4), (u64(apicId) << X2APIC_DESTINATION_SHIFT) | u64(command));
    return;
  }
  const high = readApic(APIC_ICR_HIGH);
  waitForDelivery();
  writeApic(APIC_ICR_HIGH, apicId << XAPIC_DESTINATION_SHIFT);
  writeApic(APIC_ICR_LOW, command);
  waitForDelivery();
  writeApic(APIC_ICR_HIGH, high);
}

/** Sends an interrupt command as it is; in xAPIC mode to the destination that the high word has already. */
export function sendCommand(command: u32, destination: u32): void {
  if (isX2apic()) writeMsr(X2APIC_MSR_BASE + (APIC_ICR_LOW >> 4), (u64(destination) << X2APIC_DESTINATION_SHIFT) | u64(command));
  else writeApic(APIC_ICR_LOW, command);
}

/** Raises a vector on this processor: how the VMM's own devices interrupt an instance that holds its APIC. */
export function sendSelf(vector: u32): void {
  if (isX2apic()) writeMsr(X2APIC_MSR_BASE + (APIC_ICR_LOW >> 4), u64(ICR_SHORTHAND_SELF | ICR_ASSERT | vector));
  else {
    waitForDelivery();
    writeApic(APIC_ICR_LOW, ICR_SHORTHAND_SELF | ICR_ASSERT | vector);
  }
}

const TIMER_SAMPLE: u64 = 20000n;

/** Ticks of the TSC in which a timer that divides by 1 makes TIMER_SAMPLE ticks' worth of counts. */
function sampleTimer(): u64 {
  writeApic(APIC_LVT_TIMER, LVT_MASKED);
  writeApic(APIC_DIVIDE, DIVIDE_BY_1);
  writeApic(APIC_INITIAL_COUNT, ALL_COUNTS);
  const start = readTsc();
  let elapsed: u64 = 0n;
  while (elapsed < TIMER_SAMPLE) {
    pause();
    elapsed = readTsc() - start;
  }
  const counts = u64(ALL_COUNTS - readApic(APIC_CURRENT_COUNT));
  return counts === 0n ? 0n : (elapsed << TIMER_RATE_SHIFT) / counts;
}

/** The registers of a local APIC's timer, as they were before it was measured, brought up to after that. */
export class TimerState extends Struct {
  lvt: u32;
  divide: u32;
  initial: u32;
  current: u32;
  /** IA32_TSC_DEADLINE, in that mode. */
  deadline: u64;
}
const state: TimerState = zeroed();
let rate: u64 = 0n;

/** What measureTimer has found. */
export function timerState(): TimerState {
  return state;
}

/** Counts of the timer in `ticks` of the TSC, as many as it takes. */
export function countsOf(ticks: u64): u32 {
  const most: u64 = u64(ALL_COUNTS);
  if (rate === 0n || ticks >= MOST_TICKS) return ALL_COUNTS;
  const counts: u64 = (ticks << TIMER_RATE_SHIFT) / rate;
  return counts > most ? ALL_COUNTS : wrapU32(counts);
}

/**
 * How fast the local APIC's timer counts: TSC ticks to 65,536 counts at a divider of
 * 1; 0 if it does not. Its holder's timer goes on afterwards, a one-shot one as if
 * nothing had been; of a periodic one a period begins anew.
 */
export function measureTimer(): u64 {
  state.lvt = readApic(APIC_LVT_TIMER);
  state.divide = readApic(APIC_DIVIDE);
  state.initial = readApic(APIC_INITIAL_COUNT);
  state.current = readApic(APIC_CURRENT_COUNT);
  const isDeadline = (state.lvt & LVT_TSC_DEADLINE) !== 0;
  state.deadline = isDeadline ? readMsr(IA32_TSC_DEADLINE) : 0n;
  const start = readTsc();
  rate = sampleTimer();
  writeApic(APIC_LVT_TIMER, state.lvt);
  writeApic(APIC_DIVIDE, state.divide);
  if (isDeadline) {
    if (state.deadline !== 0n) writeMsr(IA32_TSC_DEADLINE, state.deadline);
    return rate;
  }
  const shift: u64 = u64((((state.divide >> 1) & 4) + (state.divide & 3) + 1) & 7);
  const passed: u64 = rate === 0n ? 0n : ((readTsc() - start) << TIMER_RATE_SHIFT) / (rate << shift);
  if (state.current !== 0) state.current = u64(state.current) > passed ? state.current - wrapU32(passed) : 1;
  writeApic(APIC_INITIAL_COUNT, state.current !== 0 && (state.lvt & LVT_PERIODIC) !== 0 ? state.initial : state.current);
  return rate;
}

function anyBit(register: u32): boolean {
  for (let i: u32 = 0; i < 8; i++) {
    if (readApic(register + 16 * i) !== 0) return true;
  }
  return false;
}

/** Two for each vector: it is taken, and acknowledged. */
const DRAIN_ROUNDS: u32 = 512;

/**
 * Puts the local APIC into the state after INIT (12.4.7.3), so that its next
 * holder finds nothing of the last one's: sources masked, requests taken by the
 * VMM's own handler and acknowledged, then the APIC disabled by software.
 */
export function resetLocalApic(): void {
  writeApic(APIC_INITIAL_COUNT, 0);
  for (let lvt: u32 = APIC_LVT_TIMER; lvt <= APIC_LVT_ERROR; lvt += 16) writeApic(lvt, readApic(lvt) | LVT_MASKED);
  writeApic(APIC_TPR, 0);
  writeApic(APIC_SVR, SVR_RESET | SVR_ENABLE);
  for (let i: u32 = 0; i < DRAIN_ROUNDS; i++) {
    if (anyBit(APIC_ISR)) writeApic(APIC_EOI, 0);
    else if (anyBit(APIC_IRR)) acceptPending();
    else break;
  }
  for (let lvt: u32 = APIC_LVT_TIMER; lvt <= APIC_LVT_ERROR; lvt += 16) writeApic(lvt, LVT_MASKED);
  if (!isX2apic()) {
    writeApic(APIC_LDR, 0);
    writeApic(APIC_DFR, FLAT_MODEL);
  }
  writeApic(APIC_SVR, SVR_RESET);
}
