/**
 * Devirtualization of a virtual CPU in parts: what its VMCS traps follows from
 * Vcpu.direct. Without EPT the guest's CR3 is the processor's; but then the guest
 * must be in protected mode with paging (SDM Vol. 3C, 28.3.1.1). A guest that
 * leaves it has EPT back, where everything is mapped onto itself by then.
 */
import { invvpid, vmread, vmwrite } from '../../machine/intrinsics.ts';
import { CR0_NE, CR0_PE, CR0_PG } from '../../machine/registers.ts';
import { PROCESSOR_USE_IO_BITMAPS, SECONDARY_EPT, SECONDARY_UNRESTRICTED_GUEST, Vmcs } from '../../machine/vmcs.ts';
import { DIRECT_PORTS, DIRECT_TABLES, Vcpu } from '../cpu.ts';
import { Exit } from '../exit.ts';
import { resetMsrs } from './bitmaps.ts';
import { vpidOf } from './vcpu.ts';

const NESTED: u32 = SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST;

/** Exits that no control turns off (SDM Vol. 3C, 27.1.2 and 27.2), by number; of MSRs, those that the bitmaps do not cover. */
export const UNCONDITIONAL_EXITS: FixedArray<u32, 11> = [
  Exit.TRIPLE_FAULT, Exit.INIT, Exit.SIPI, Exit.CPUID, Exit.INVD, Exit.HYPERCALL, Exit.CONTROL_REGISTER, Exit.RDMSR, Exit.WRMSR, Exit.XSETBV,
  Exit.VMXON,
];

/** MSRs of an instance exit no more, but for those that have no bit. */
export function openMsrs(instance: u32): void {
  resetMsrs(instance);
}

/** Turns EPT, and with it the guest's freedom to run without paging, on or off. */
function setNested(vcpu: Vcpu, on: boolean): void {
  const secondary = wrapU32(vmread(Vmcs.SECONDARY_CONTROLS));
  if (((secondary & NESTED) !== 0) === on) return;
  vmwrite(Vmcs.SECONDARY_CONTROLS, u64(on ? secondary | NESTED : secondary & ~NESTED));
  // Without EPT a change of PE or PG has to exit; what the guest reads of them is the shadow then.
  vmwrite(Vmcs.CR0_MASK, on ? CR0_NE : CR0_NE | CR0_PE | CR0_PG);
  if (!on) vmwrite(Vmcs.CR0_SHADOW, (vmread(Vmcs.CR0_SHADOW) & CR0_NE) | (vmread(Vmcs.GUEST_CR0) & ~CR0_NE));
  invvpid(vpidOf(vcpu));
}

/** Makes the VMCS what Vcpu.direct says; on the processor that carries the virtual CPU. */
export function adaptControls(vcpu: Vcpu): void {
  if ((vcpu.direct & DIRECT_PORTS) !== 0) {
    const processor = wrapU32(vmread(Vmcs.PROCESSOR_BASED_CONTROLS));
    vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(processor & ~PROCESSOR_USE_IO_BITMAPS));
  }
  if ((vcpu.direct & DIRECT_TABLES) !== 0) setNested(vcpu, (vmread(Vmcs.GUEST_CR0) & CR0_PG) === 0n);
}
