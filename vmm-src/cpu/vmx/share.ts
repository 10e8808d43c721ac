/**
 * What VT-x is told of the two virtual CPUs of a shared processor (SDM Vol. 3C,
 * 26.6). The tenant exits for interrupts, which are not acknowledged and so wait
 * for the holder, for NMIs and machine checks, and for whatever touches the local
 * APIC. Either gives its turn up by HLT and MWAIT; the VMX-preemption timer, which
 * counts in HLT too, ends it. Each function is for the virtual CPU that is current.
 */
import { readMsr, vmread, vmwrite } from '../../machine/intrinsics.ts';
import {
  IA32_VMX_TRUE_ENTRY_CTLS, IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
} from '../../machine/msr.ts';
import { CR4_CET, RFLAGS_IF, VECTOR_MC, VECTOR_NMI } from '../../machine/registers.ts';
import {
  ACTIVITY_ACTIVE, ACTIVITY_HLT, BLOCKING_BY_NMI, BLOCKING_BY_STI_OR_MOV_SS, ENTRY_LOAD_CET, EXIT_SAVE_PREEMPTION_TIMER, INTERRUPTION_TYPE_EXCEPTION,
  INTERRUPTION_TYPE_EXTERNAL, INTERRUPTION_TYPE_NMI, INTERRUPTION_VALID, PIN_EXTERNAL_INTERRUPT, PIN_NMI, PIN_PREEMPTION_TIMER, PIN_VIRTUAL_NMIS,
  PROCESSOR_CR8_LOAD,
  PROCESSOR_CR8_STORE, PROCESSOR_HLT, PROCESSOR_INTERRUPT_WINDOW, PROCESSOR_MONITOR_TRAP_FLAG, PROCESSOR_MWAIT,
  PROCESSOR_NMI_WINDOW, Vmcs,
} from '../../machine/vmcs.ts';
import { Vcpu } from '../cpu.ts';
import { detachApic, taskPriorityControls } from './apic.ts';
import { controls } from './capability.ts';

const TIMER_MAX: u64 = 0xffffffffn;

/** The preemption timer ends turns, and leaves the local APIC's to the holder. */
export const HAS_TURN_TIMER: boolean = true;

const TENANT_PIN: u32 = PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER;
const GIVES_UP: u32 = PROCESSOR_HLT | PROCESSOR_MWAIT;
const CR8_EXITS: u32 = PROCESSOR_CR8_LOAD | PROCESSOR_CR8_STORE;

function allows(msr: u32, bits: u32): boolean {
  return (wrapU32(readMsr(msr) >> 32n) & bits) === bits;
}

function hasCetControl(): boolean {
  return allows(IA32_VMX_TRUE_ENTRY_CTLS, ENTRY_LOAD_CET);
}

/** Whether this processor can carry two virtual CPUs: beyond what every capture needs, interrupts and HLT must exit, and the timer must go on where it was. */
export function canShare(): boolean {
  const supervisorShadowStacks = (vmread(Vmcs.GUEST_CR4) & CR4_CET) !== 0n;
  return allows(IA32_VMX_TRUE_PINBASED_CTLS, TENANT_PIN)
    && allows(IA32_VMX_TRUE_PROCBASED_CTLS, GIVES_UP | CR8_EXITS | PROCESSOR_INTERRUPT_WINDOW | PROCESSOR_NMI_WINDOW)
    && allows(IA32_VMX_TRUE_EXIT_CTLS, EXIT_SAVE_PREEMPTION_TIMER)
    && (!supervisorShadowStacks || hasCetControl());
}

/** Shadow-stack state is in the VMCS while the processor is shared; exits save it always (28.3.1). */
function switchCet(on: boolean): void {
  if (!hasCetControl()) return;
  const entry = wrapU32(vmread(Vmcs.VM_ENTRY_CONTROLS));
  vmwrite(Vmcs.VM_ENTRY_CONTROLS, u64(on ? entry | ENTRY_LOAD_CET : entry & ~ENTRY_LOAD_CET));
}

/** A new virtual CPU will be the tenant. */
export function becomeTenant(_vcpu: Vcpu): void {
  vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(controls.pin | TENANT_PIN));
  vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(controls.processor | GIVES_UP | taskPriorityControls()));
  vmwrite(Vmcs.VM_EXIT_CONTROLS, u64(controls.exit | EXIT_SAVE_PREEMPTION_TIMER));
  vmwrite(Vmcs.EXCEPTION_BITMAP, 1n << u64(VECTOR_MC));
  vmwrite(Vmcs.PREEMPTION_TIMER, 0n);
  switchCet(true);
  if (!hasCetControl()) return;
  vmwrite(Vmcs.GUEST_S_CET, 0n);
  vmwrite(Vmcs.GUEST_SSP, 0n);
  vmwrite(Vmcs.GUEST_INTERRUPT_SSP_TABLE, 0n);
}

/** The virtual CPU that has run here so far shares its processor from now on, and keeps the local APIC. */
export function becomeHolder(_vcpu: Vcpu): void {
  vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(controls.pin | PIN_PREEMPTION_TIMER));
  vmwrite(Vmcs.VM_EXIT_CONTROLS, u64(controls.exit | EXIT_SAVE_PREEMPTION_TIMER));
  vmwrite(Vmcs.PREEMPTION_TIMER, TIMER_MAX);
  switchCet(true);
}

/** The virtual CPU, holder or tenant, has the processor for itself: no exits but those of every instance. */
export function becomeAlone(_vcpu: Vcpu): void {
  const trap = wrapU32(vmread(Vmcs.PROCESSOR_BASED_CONTROLS)) & PROCESSOR_MONITOR_TRAP_FLAG;
  vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(controls.pin));
  vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(controls.processor | trap));
  vmwrite(Vmcs.VM_EXIT_CONTROLS, u64(controls.exit));
  vmwrite(Vmcs.EXCEPTION_BITMAP, 0n);
  detachApic();
  switchCet(false);
}

function setProcessorControls(bits: u32, on: boolean): void {
  const before = wrapU32(vmread(Vmcs.PROCESSOR_BASED_CONTROLS));
  const after: u32 = on ? before | bits : before & ~bits;
  if (after !== before) vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(after));
}

/** Whether the holder's HLT and MWAIT exit, so that the tenant gets its turn. */
export function setHaltExits(_vcpu: Vcpu, on: boolean): void {
  setProcessorControls(GIVES_UP, on);
}

/** The last step before a shared processor enters `vcpu`: the VMCS is ready. */
export function prepareEntry(_vcpu: Vcpu): void {}

/** Whether the tenant exits as soon as it takes interrupts. */
export function setInterruptWindow(_vcpu: Vcpu, on: boolean): void {
  setProcessorControls(PROCESSOR_INTERRUPT_WINDOW, on);
}

/** The turn ends after `ticks` of the TSC; of longer times the timer takes what it can. */
export function setTurnTimer(_vcpu: Vcpu, ticks: u64): void {
  const count = ticks >> controls.timerShift;
  vmwrite(Vmcs.PREEMPTION_TIMER, count > TIMER_MAX ? TIMER_MAX : count);
}

/** Whether the tenant must not be entered, since nothing would end its turn: here its timer always does. */
export function blocksTurns(): boolean {
  return false;
}

/** Whether the holder has halted: an interrupt wakes it, without an exit. */
export function isHalted(_vcpu: Vcpu): boolean {
  return vmread(Vmcs.GUEST_ACTIVITY_STATE) !== ACTIVITY_ACTIVE;
}

/** Halts a virtual CPU whose HLT has exited and been stepped over; or lets it go on. */
export function setHalted(_vcpu: Vcpu, halted: boolean): void {
  vmwrite(Vmcs.GUEST_ACTIVITY_STATE, halted ? ACTIVITY_HLT : ACTIVITY_ACTIVE);
}

/** Whether the guest has interrupts on. */
export function hasInterruptsOn(_vcpu: Vcpu): boolean {
  return (vmread(Vmcs.GUEST_RFLAGS) & RFLAGS_IF) !== 0n;
}

/** Whether the next entry can inject an interrupt: the guest takes one, and no other event waits. */
export function takesInterrupt(vcpu: Vcpu): boolean {
  return hasInterruptsOn(vcpu) && (vmread(Vmcs.GUEST_INTERRUPTIBILITY) & BLOCKING_BY_STI_OR_MOV_SS) === 0n
    && (vmread(Vmcs.VM_ENTRY_INTERRUPTION_INFO) & u64(INTERRUPTION_VALID)) === 0n;
}

/** The next entry delivers an interrupt. */
export function injectInterrupt(_vcpu: Vcpu, vector: u32): void {
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_EXTERNAL | vector));
}

/** Whether the tenant exits as soon as it takes an NMI. */
export function setNmiWindow(_vcpu: Vcpu, on: boolean): void {
  setProcessorControls(PROCESSOR_NMI_WINDOW, on);
}

/** Whether the next entry can inject an NMI into the tenant. */
export function takesNmi(_vcpu: Vcpu): boolean {
  return (vmread(Vmcs.GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_STI_OR_MOV_SS | BLOCKING_BY_NMI)) === 0n
    && (vmread(Vmcs.VM_ENTRY_INTERRUPTION_INFO) & u64(INTERRUPTION_VALID)) === 0n;
}

/** The next entry delivers an NMI that the tenant's own instance has sent it. */
export function injectTenantNmi(_vcpu: Vcpu): void {
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_NMI | VECTOR_NMI));
}

/** A machine check that arrived while the tenant ran is the holder's, instead of what else its next entry would have delivered. */
export function injectMachineCheck(_vcpu: Vcpu): void {
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, u64(INTERRUPTION_VALID | INTERRUPTION_TYPE_EXCEPTION | VECTOR_MC));
}
