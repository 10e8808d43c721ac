/**
 * Two virtual CPUs on one processor: not on AMD-V yet, which has no timer that ends
 * a turn beside the local APIC's, which is its holder's.
 */
import { Vcpu } from '../cpu.ts';

/** Whether this processor can carry two virtual CPUs. */
export function canShare(): boolean {
  return false;
}

export function becomeTenant(_vcpu: Vcpu): void {}
export function becomeHolder(_vcpu: Vcpu): void {}
export function becomeAlone(_vcpu: Vcpu): void {}
export function setHaltExits(_vcpu: Vcpu, _on: boolean): void {}
export function setInterruptWindow(_vcpu: Vcpu, _on: boolean): void {}
export function setTurnTimer(_vcpu: Vcpu, _ticks: u64): void {}
export function isHalted(_vcpu: Vcpu): boolean { return false; }
export function setHalted(_vcpu: Vcpu, _halted: boolean): void {}
export function hasInterruptsOn(_vcpu: Vcpu): boolean { return false; }
export function takesInterrupt(_vcpu: Vcpu): boolean { return false; }
export function injectInterrupt(_vcpu: Vcpu, _vector: u32): void {}
export function setNmiWindow(_vcpu: Vcpu, _on: boolean): void {}
export function takesNmi(_vcpu: Vcpu): boolean { return false; }
export function injectTenantNmi(_vcpu: Vcpu): void {}
export function injectMachineCheck(_vcpu: Vcpu): void {}
