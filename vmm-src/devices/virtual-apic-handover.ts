/**
 * A virtual local APIC becomes its processor's real one: at the take-over its
 * guest goes on with what was requested, armed and written.
 *
 * What cannot be written into a real APIC: bits in service, which is why the
 * caller waits until there are none; which of the requests were level-triggered (a
 * shadowed IOAPIC has no lines, and a real line that is active asks again); errors
 * that the guest has not looked for yet; and the phase of a periodic timer.
 */
import { setApicMode } from '../cpu/apic-mode.ts';
import { resetLocalApic, sendSelf, writeApic } from '../cpu/local-apic.ts';
import {
  APIC_DFR, APIC_DIVIDE, APIC_ICR_HIGH, APIC_INITIAL_COUNT, APIC_LDR, APIC_LVT_CMCI, APIC_LVT_ERROR, APIC_LVT_THERMAL, APIC_LVT_TIMER,
  APIC_SVR, APIC_TPR, FIRST_VALID_VECTOR, LVT_DELIVERY_STATUS, LVT_PERIODIC, LVT_REMOTE_IRR, LVT_TIMER_MODE, SVR_ENABLE,
} from '../machine/apic.ts';
import { readMsr, readTsc, writeMsr } from '../machine/intrinsics.ts';
import { IA32_TSC_DEADLINE } from '../machine/msr.ts';
import { DISARMED, NO_INTERRUPT, VirtualApic, apicRegister, collectPosted, hasLvt, inService, isRequested, isX2apicMode } from './virtual-apic.ts';
import { advance, currentCount, isDeadlineMode } from './virtual-apic-timer.ts';

const VECTORS: u32 = 256;

/** Whether nothing is in service: the guest is in no interrupt handler, and its APIC's state can be written into a real one. */
export function canHandOver(apic: VirtualApic): boolean {
  return inService(apic) === NO_INTERRUPT;
}

function writeReal(apic: VirtualApic, offset: u32): void {
  writeApic(offset, apicRegister(apic, offset));
}

function writeLvt(apic: VirtualApic, offset: u32): void {
  if (hasLvt(offset)) writeApic(offset, apicRegister(apic, offset) & ~(LVT_DELIVERY_STATUS | LVT_REMOTE_IRR));
}

/** A write of the deadline may overtake that of the LVT entry on the xAPIC page, and is then ignored: it is repeated until it was not (12.5.4.1). */
function armDeadline(deadline: u64): void {
  writeMsr(IA32_TSC_DEADLINE, deadline);
  while (readMsr(IA32_TSC_DEADLINE) === 0n && readTsc() < deadline) writeMsr(IA32_TSC_DEADLINE, deadline);
}

/** The timer goes on from where it is; a periodic one starts a whole period, so that one tick may come late by less than one. */
export function handOverTimer(apic: VirtualApic, now: u64): void {
  writeReal(apic, APIC_DIVIDE);
  writeLvt(apic, APIC_LVT_TIMER);
  if (isDeadlineMode(apic)) {
    if (apic.deadline !== DISARMED) armDeadline(apic.deadline);
    return;
  }
  const count = currentCount(apic, now);
  const periodic = (apicRegister(apic, APIC_LVT_TIMER) & LVT_TIMER_MODE) === LVT_PERIODIC;
  if (count !== 0) writeApic(APIC_INITIAL_COUNT, periodic ? apicRegister(apic, APIC_INITIAL_COUNT) : count);
}

/** Makes the real local APIC of this processor, which nobody else holds any more, take interrupts for its next holder, in the mode of the virtual one. */
export function openRealApic(apic: VirtualApic): void {
  resetLocalApic();
  setApicMode(isX2apicMode(apic));
  // A disabled one would take neither requests nor LVT entries that are not masked.
  writeApic(APIC_SVR, apicRegister(apic, APIC_SVR) | SVR_ENABLE);
}

/**
 * Writes the state into the real local APIC of this processor, which has been
 * opened and may have got interrupts since. The caller has seen that canHandOver.
 * An APIC that its guest has disabled altogether is left disabled by software.
 * `now` is the TSC.
 */
export function handOverApic(apic: VirtualApic, now: u64): void {
  assert(canHandOver(apic));
  advance(apic, now);
  collectPosted(apic);
  if (!isX2apicMode(apic)) {
    writeReal(apic, APIC_DFR);
    writeReal(apic, APIC_LDR);
  }
  writeReal(apic, APIC_TPR);
  writeLvt(apic, APIC_LVT_CMCI);
  for (let lvt: u32 = APIC_LVT_THERMAL; lvt <= APIC_LVT_ERROR; lvt += 16) writeLvt(apic, lvt);
  for (let vector: u32 = FIRST_VALID_VECTOR; vector < VECTORS; vector++) {
    if (isRequested(apic, vector)) sendSelf(vector);
  }
  handOverTimer(apic, now);
  if (!isX2apicMode(apic)) writeReal(apic, APIC_ICR_HIGH);
  writeReal(apic, APIC_SVR);
}
