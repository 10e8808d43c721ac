/**
 * What the processor does by itself of a tenant's virtual local APIC (SDM Vol. 3C,
 * chapter 30), on the page that devices/virtual-apic.ts keeps it in. Each part is
 * used where it exists, and what does not is done at exits:
 *
 * | control                      | the guest no more exits for                          |
 * |------------------------------|------------------------------------------------------|
 * | TPR shadow                   | CR8, unless it falls below the class that waits      |
 * | APIC accesses with registers | reads of the page; a write exits behind its instruction, which is not decoded, TPR's and the ICR's high half not at all |
 *
 * The page is the only state. Interrupts are injected: virtual-interrupt delivery is not
 * used, as no machine that we test on does it right (decision 0017).
 *
 * In x2APIC mode registers exit as without all this: no kernel beside another one is in
 * that mode on its tenants, as it sees no unit that remaps interrupts.
 */
import { vmwrite } from '../../machine/intrinsics.ts';
import { PROCESSOR_CR8_LOAD, PROCESSOR_CR8_STORE, SECONDARY_APIC_REGISTERS, Vmcs } from '../../machine/vmcs.ts';
import { Vcpu } from '../cpu.ts';
import { controls } from './capability.ts';

/** The APIC-access page: what a tenant's map has at its local APIC's address. Nobody reaches its bytes. */
const accessPage: FixedArray<u32, 1024> = zeroed(4096);

/** What a tenant's map is to have where its local APIC's page is; 0 for nothing, so that every access exits. */
export function apicAccessPage(): HostPhysical {
  return controls.apicSecondary === 0 ? 0n : u64(addressOf(accessPage));
}

/** Primary controls of a tenant: either CR8 is the page's, or it exits. */
export function taskPriorityControls(): u32 {
  return controls.apicProcessor !== 0 ? controls.apicProcessor : PROCESSOR_CR8_LOAD | PROCESSOR_CR8_STORE;
}

/** Gives the tenant, which is current, its virtual APIC's page; `inPage` says whether its guest reaches it as one. */
export function attachApic(_vcpu: Vcpu, page: HostPhysical, inPage: boolean): void {
  if (controls.apicProcessor === 0) return;
  vmwrite(Vmcs.VIRTUAL_APIC_ADDRESS, page);
  vmwrite(Vmcs.TPR_THRESHOLD, 0n);
  vmwrite(Vmcs.APIC_ACCESS_ADDRESS, apicAccessPage());
  const virtualized = inPage ? controls.apicSecondary : controls.apicSecondary & ~SECONDARY_APIC_REGISTERS;
  vmwrite(Vmcs.SECONDARY_CONTROLS, u64(controls.secondary | virtualized));
}

/** What is current is no tenant any more, and has the real local APIC. */
export function detachApic(): void {
  vmwrite(Vmcs.SECONDARY_CONTROLS, u64(controls.secondary));
}

/** An entry lets the tenant lower its task priority to `threshold`, a class, and exits for less (30.1.2). */
export function setTaskPriorityThreshold(_vcpu: Vcpu, threshold: u32): void {
  if (controls.apicProcessor !== 0) vmwrite(Vmcs.TPR_THRESHOLD, u64(threshold));
}
