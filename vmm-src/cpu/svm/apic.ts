/**
 * AMD-V has AVIC, which is for guests whose real APIC the VMM holds. A tenant's virtual
 * local APIC is done at exits.
 */
import "../../../compiler/core/dialect.mjs";
import { Vcpu } from '../cpu.ts';

/** What a tenant's map is to have where its local APIC's page is: nothing, so that every access exits. */
export function apicAccessPage(): HostPhysical {
  return 0n;
}

export function attachApic(_vcpu: Vcpu, _page: HostPhysical, _inPage: boolean): void {}

export function setTaskPriorityThreshold(_vcpu: Vcpu, _threshold: u32): void {}
