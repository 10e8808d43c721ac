/**
 * The platform timer of an instance that holds neither PIT nor HPET. A kernel
 * wants its interrupt only until it has its own local APIC timer going; until
 * then the VMM raises the vector that the instance put at IOAPIC pin 2, with the
 * period that it programmed into the PIT or the HPET.
 */
import { bootInfo } from '../machine/region.ts';
import { readMsr } from '../machine/intrinsics.ts';
import { IOAPIC_MASKED } from '../machine/apic.ts';
import { sendSelf } from '../cpu/local-apic.ts';
import { setPreemptionTimer } from '../cpu/vmx/guest.ts';
import { ioapicEntry } from './ioapic.ts';

const TIMER_PIN: u32 = 2;
const IA32_VMX_MISC: u32 = 0x485;
const MISC_TIMER_RATE: u64 = 0x1fn;
const VECTOR: u64 = 0xffn;
const DEFAULT_PERIOD_NS: u64 = 4000000n;

let periodNs: u64 = DEFAULT_PERIOD_NS;
let running: boolean = false;
/** The instance's own timer has taken over: the tick has done its work. */
let retired: boolean = false;

export function resetTick(): void {
  periodNs = DEFAULT_PERIOD_NS;
  running = false;
  retired = false;
}

/** The instance programmed a period, in nanoseconds. */
export function setTickPeriod(nanoseconds: u64): void {
  if (nanoseconds >= 100000n && nanoseconds <= 100000000n) periodNs = nanoseconds;
}

function periodTicks(): u32 {
  const tsc: u64 = (periodNs * u64(bootInfo().tscKhz)) / 1000000n;
  return wrapU32(tsc >> (readMsr(IA32_VMX_MISC) & MISC_TIMER_RATE));
}

/** Pin 2 has changed: runs the tick while it is unmasked. On the virtual CPU that holds the timer. */
export function updateTick(): void {
  const wanted = !retired && (ioapicEntry(TIMER_PIN) & IOAPIC_MASKED) === 0n;
  if (wanted === running) return;
  running = wanted;
  setPreemptionTimer(wanted ? periodTicks() : 0);
}

/** The instance has armed its local APIC timer. */
export function retireTick(): void {
  if (!running) return;
  retired = true;
  running = false;
  setPreemptionTimer(0);
}

/** The preemption timer's exit. Retired meanwhile on another processor, it ends here. */
export function tick(): void {
  if (!running) {
    setPreemptionTimer(0);
    return;
  }
  sendSelf(wrapU32(ioapicEntry(TIMER_PIN) & VECTOR));
  setPreemptionTimer(periodTicks());
}
