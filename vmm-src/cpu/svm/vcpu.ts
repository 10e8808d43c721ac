/**
 * One VMCB per virtual CPU: storage, and the fields that are the same whatever the
 * guest does. What VMRUN does not switch (FS, GS, TR, LDTR, the MSRs of SYSCALL
 * and SYSENTER) stays in the processor while the VMM runs, which uses none of it,
 * and is saved and loaded only when the processor changes its virtual CPU.
 */
import { vmload, vmsave } from '../../machine/intrinsics.ts';
import {
  INTERCEPT_CPUID, INTERCEPT_INVD, INTERCEPT_INVLPGA, INTERCEPT_IO, INTERCEPT_MSR, INTERCEPT_NMI, INTERCEPT_SHUTDOWN,
  INTERCEPT_SVM_INSTRUCTIONS, NESTED_PAGING, TLB_CONTROL_FLUSH_ALL, VMCB_FIELDS, Vmcb,
} from '../../machine/vmcb.ts';
import { Vcpu } from '../cpu.ts';
import { mapPointer } from '../memory-map.ts';
import { ioPermissionsOf, msrPermissionsOf } from './bitmaps.ts';

const vmcbs: FixedArray<FixedArray<Vmcb, 32>, 2> = zeroed(4096);

/** The VMCB of a virtual CPU that has been activated. */
export function vmcbOf(vcpu: Vcpu): Vmcb {
  return at<Vmcb>(vcpu.control);
}

/** Gives a virtual CPU an empty VMCB with everything that does not depend on the guest's state. */
export function activate(vcpu: Vcpu): Vmcb {
  const vmcb = vmcbs[vcpu.instance - 1][vcpu.index];
  vcpu.control = u64(addressOf(vmcb));
  fillBytes(addressOf(vmcb), 0, VMCB_FIELDS);
  vmcb.intercept1 = INTERCEPT_NMI | INTERCEPT_CPUID | INTERCEPT_INVD | INTERCEPT_INVLPGA | INTERCEPT_IO | INTERCEPT_MSR | INTERCEPT_SHUTDOWN;
  vmcb.intercept2 = INTERCEPT_SVM_INSTRUCTIONS;
  vmcb.ioPermissions = ioPermissionsOf(vcpu.instance);
  vmcb.msrPermissions = msrPermissionsOf(vcpu.view);
  // Per instance: a virtual CPU is alone with it on its processor.
  vmcb.asid = vcpu.instance;
  vmcb.tlbControl = TLB_CONTROL_FLUSH_ALL;
  vmcb.nestedControl = NESTED_PAGING;
  vmcb.nestedCr3 = mapPointer(vcpu.view);
  return vmcb;
}

/** The virtual CPU goes on with another view. */
export function adoptView(vcpu: Vcpu, view: u32): void {
  vcpu.view = view;
  const vmcb = vmcbOf(vcpu);
  vmcb.msrPermissions = msrPermissionsOf(view);
  vmcb.nestedCr3 = mapPointer(view);
  vmcb.tlbControl = TLB_CONTROL_FLUSH_ALL;
}

/** Takes a virtual CPU off the processor that carries it; its state stays in its VMCB. */
export function retire(vcpu: Vcpu): void {
  vmsave(vcpu.control);
}

/** Loads what VMRUN does not. */
export function loadRest(vcpu: Vcpu): void {
  vmload(vcpu.control);
}
