/**
 * The timer of a guest that has none of its own yet. AMD-V has no timer, but the
 * guest's local APIC has, which it does not use so far: that sends the vector by
 * itself, without an exit.
 */
import { APIC_CURRENT_COUNT, APIC_DIVIDE, APIC_INITIAL_COUNT, APIC_LVT_TIMER, DIVIDE_BY_1, LVT_MASKED, LVT_PERIODIC } from '../../machine/apic.ts';
import { pause, readTsc } from '../../machine/intrinsics.ts';
import { Vcpu } from '../cpu.ts';
import { readApic, writeApic } from '../local-apic.ts';

const ALL_COUNTS: u32 = 0xffffffff;
/** The APIC timer is measured against this many ticks of the TSC. */
const SAMPLE: u64 = 200000n;

/** Ticks of the APIC timer in `ticks` of the TSC. */
function convert(ticks: u64): u64 {
  writeApic(APIC_LVT_TIMER, LVT_MASKED);
  writeApic(APIC_DIVIDE, DIVIDE_BY_1);
  writeApic(APIC_INITIAL_COUNT, ALL_COUNTS);
  const start = readTsc();
  let elapsed: u64 = 0n;
  while (elapsed < SAMPLE) {
    pause();
    elapsed = readTsc() - start;
  }
  return (ticks * u64(ALL_COUNTS - readApic(APIC_CURRENT_COUNT))) / elapsed;
}

/** Sends `vector` every `ticks` of the TSC; 0 turns it off. */
export function setTimer(_vcpu: Vcpu, ticks: u64, vector: u32): void {
  if (ticks === 0n) {
    writeApic(APIC_LVT_TIMER, LVT_MASKED);
    writeApic(APIC_INITIAL_COUNT, 0);
    return;
  }
  const period = convert(ticks);
  writeApic(APIC_LVT_TIMER, LVT_PERIODIC | vector);
  writeApic(APIC_INITIAL_COUNT, period > u64(ALL_COUNTS) ? ALL_COUNTS : wrapU32(period));
}
