/**
 * Devirtualization of a virtual CPU in parts: what its VMCB traps follows from
 * Vcpu.direct. Without nested paging the guest's CR3 is the processor's (APM Vol. 2,
 * 15.25.1), and PAT, which VMRUN then does not switch, the guest's.
 */
import { writeMsr } from '../../machine/intrinsics.ts';
import { IA32_EFER, IA32_PAT, VM_CR, VM_HSAVE_PA } from '../../machine/msr.ts';
import { INTERCEPT_CPUID, INTERCEPT_INVD, INTERCEPT_IO, NESTED_PAGING } from '../../machine/vmcb.ts';
import { DIRECT_PORTS, DIRECT_PROCESSOR, DIRECT_TABLES, Vcpu } from '../cpu.ts';
import { Exit } from '../exit.ts';
import { resetMsrs, trapMsrWrite } from './bitmaps.ts';
import { vmcbOf } from './vcpu.ts';

/**
 * Exits that stay, by number: NMI, which is the VMM's own signal, and the end of
 * its handler; shutdown; VMMCALL; the instructions and MSRs of AMD-V itself, of
 * which VMRUN asks that EFER.SVME stays set.
 */
export const UNCONDITIONAL_EXITS: FixedArray<u32, 6> = [Exit.NMI, Exit.TRIPLE_FAULT, Exit.HYPERCALL, Exit.WRMSR, Exit.UNDEFINED, Exit.DONE];

/** MSRs of an instance exit no more, but for writes that would take the processor out of the VMM's hands. */
export function openMsrs(instance: u32): void {
  resetMsrs(instance);
  trapMsrWrite(instance, IA32_EFER, true);
  trapMsrWrite(instance, VM_CR, true);
  trapMsrWrite(instance, VM_HSAVE_PA, true);
}

/** Makes the VMCB what Vcpu.direct says; on the processor that carries the virtual CPU. */
export function adaptControls(vcpu: Vcpu): void {
  const vmcb = vmcbOf(vcpu);
  if ((vcpu.direct & DIRECT_PORTS) !== 0) vmcb.intercept1 &= ~INTERCEPT_IO;
  if ((vcpu.direct & DIRECT_PROCESSOR) !== 0) vmcb.intercept1 &= ~(INTERCEPT_CPUID | INTERCEPT_INVD);
  if ((vcpu.direct & DIRECT_TABLES) === 0 || (vmcb.nestedControl & NESTED_PAGING) === 0n) return;
  vmcb.nestedControl &= ~NESTED_PAGING;
  writeMsr(IA32_PAT, vmcb.pat);
}
