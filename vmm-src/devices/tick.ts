/**
 * The platform timer of an instance that holds neither PIT nor HPET. A kernel
 * wants its interrupt only until it has its own local APIC timer going; until
 * then the VMM raises the vector that the instance put at IOAPIC pin 2, with the
 * period that it programmed into the PIT or the HPET.
 */
import { bootInfo } from '../machine/region.ts';
import { IOAPIC_MASKED } from '../machine/apic.ts';
import { sendSelf } from '../cpu/local-apic.ts';
import { Vcpu } from '../cpu/cpu.ts';
import { setTimer } from '#processor/timer.ts';
import { ioapicEntry } from './ioapic.ts';

const TIMER_PIN: u32 = 2;
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

function startTimer(vcpu: Vcpu): void {
  setTimer(vcpu, (periodNs * u64(bootInfo().tscKhz)) / 1000000n, vector());
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
  else setTimer(vcpu, 0n, 0);
}

/** The instance has armed its local APIC timer. */
export function retireTick(vcpu: Vcpu): void {
  if (!running) return;
  retired = true;
  running = false;
  setTimer(vcpu, 0n, 0);
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
