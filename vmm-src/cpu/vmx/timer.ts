/** The timer of a guest that has none of its own yet: on VT-x the VMX-preemption timer, whose exit is Exit.TIMER. */
import { vmread, vmwrite } from '../../machine/intrinsics.ts';
import { PIN_PREEMPTION_TIMER, Vmcs } from '../../machine/vmcs.ts';
import { Vcpu } from '../cpu.ts';
import { controls } from './capability.ts';

/** Exits after `ticks` of the TSC; the handler sends `_vector`, which the guest has chosen for its timer. Ticks 0 turn it off. */
export function setTimer(_vcpu: Vcpu, ticks: u64, _vector: u32): void {
  const pin = wrapU32(vmread(Vmcs.PIN_BASED_CONTROLS));
  if (ticks === 0n) {
    vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(pin & ~PIN_PREEMPTION_TIMER));
    return;
  }
  vmwrite(Vmcs.PREEMPTION_TIMER, u64(wrapU32(ticks >> controls.timerShift)));
  vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(pin | PIN_PREEMPTION_TIMER));
}
