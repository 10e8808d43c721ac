/**
 * One VMCS per virtual CPU: storage, and the fields that are the same whatever
 * the guest does: controls, host state, bitmaps.
 */
import { Cpu, Vcpu } from '../cpu.ts';
import { invept, vmclear, vmptrld, vmwrite } from '../../machine/intrinsics.ts';
import { CR0_NE, CR4_CET, CR4_LA57, CR4_VMXE } from '../../machine/registers.ts';
import { SECONDARY_XSAVES, Vmcs } from '../../machine/vmcs.ts';
import { controls } from './capability.ts';
import { mapPointer } from '../memory-map.ts';
import { HOST_CS, HOST_DS, HOST_TR, hostCr3, hostGdt, hostIdt, hostTss } from '../host.ts';
import { ioBitmap, msrBitmap } from './bitmaps.ts';

type VmcsPage = FixedArray<u32, 1024>;
const pages: FixedArray<FixedArray<VmcsPage, 32>, 2> = zeroed(4096);
const vmxonPages: FixedArray<VmcsPage, 32> = zeroed(4096);

/** The VMM's own CR0 and EFER: paging with write protection and execute-disable. */
const HOST_CR0: u64 = 0x80010033n;
const HOST_EFER: u64 = 0xd01n;
/** No shadow VMCS. */
const LINK_NONE: u64 = 0xffffffffffffffffn;

/** In boot/: where VM exits enter. */
declare function exitStub(): HostVirtual;

/** The VMXON region of a processor, ready for VMXON. */
export function vmxonRegion(cpu: u32): HostPhysical {
  vmxonPages[cpu][0] = controls.revision;
  return u64(addressOf(vmxonPages[cpu]));
}

function vmcsPage(vcpu: Vcpu): VmcsPage {
  return pages[vcpu.instance - 1][vcpu.index];
}

/** Makes a virtual CPU's VMCS current and clear; the next entry is a launch. */
export function activateVmcs(vcpu: Vcpu): boolean {
  const page = vmcsPage(vcpu);
  page[0] = controls.revision;
  vcpu.launched = 0;
  vcpu.control = u64(addressOf(page));
  return vmclear(vcpu.control) && vmptrld(vcpu.control);
}

/** Takes a virtual CPU off the processor that carries it; its state stays in its VMCS. */
export function retire(vcpu: Vcpu): void {
  vmclear(vcpu.control);
}

/** The virtual CPU, which is current, goes on with another view. */
export function adoptView(vcpu: Vcpu, view: u32): void {
  vcpu.view = view;
  vmwrite(Vmcs.EPT_POINTER, mapPointer(view));
  vmwrite(Vmcs.MSR_BITMAP, msrBitmap(view));
  invept(mapPointer(view));
}

/** VPIDs are per instance: a virtual CPU is alone with it on its processor. */
export function vpidOf(vcpu: Vcpu): u16 {
  return wrapU16(vcpu.instance);
}

/** Writes the fields that do not depend on the guest's state, on the processor that carries the virtual CPU. */
export function writeFixedFields(vcpu: Vcpu, cpu: Cpu, hostCr4: u64): void {
  vmwrite(Vmcs.PIN_BASED_CONTROLS, u64(controls.pin));
  vmwrite(Vmcs.PROCESSOR_BASED_CONTROLS, u64(controls.processor));
  vmwrite(Vmcs.SECONDARY_CONTROLS, u64(controls.secondary));
  vmwrite(Vmcs.VM_EXIT_CONTROLS, u64(controls.exit));
  vmwrite(Vmcs.VM_ENTRY_CONTROLS, u64(controls.entry));
  vmwrite(Vmcs.VPID, u64(vpidOf(vcpu)));
  vmwrite(Vmcs.EPT_POINTER, mapPointer(vcpu.view));
  vmwrite(Vmcs.IO_BITMAP_A, ioBitmap(vcpu.instance, 0));
  vmwrite(Vmcs.IO_BITMAP_B, ioBitmap(vcpu.instance, 1));
  vmwrite(Vmcs.MSR_BITMAP, msrBitmap(vcpu.view));
  vmwrite(Vmcs.VMCS_LINK_POINTER, LINK_NONE);
  vmwrite(Vmcs.EXCEPTION_BITMAP, 0n);
  vmwrite(Vmcs.PAGE_FAULT_ERROR_CODE_MASK, 0n);
  vmwrite(Vmcs.PAGE_FAULT_ERROR_CODE_MATCH, 0n);
  if ((controls.secondary & SECONDARY_XSAVES) !== 0) vmwrite(Vmcs.XSS_EXIT_BITMAP, 0n);
  vmwrite(Vmcs.CR3_TARGET_COUNT, 0n);
  vmwrite(Vmcs.VM_EXIT_MSR_STORE_COUNT, 0n);
  vmwrite(Vmcs.VM_EXIT_MSR_LOAD_COUNT, 0n);
  vmwrite(Vmcs.VM_ENTRY_MSR_LOAD_COUNT, 0n);
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, 0n);
  vmwrite(Vmcs.CR0_MASK, CR0_NE);
  vmwrite(Vmcs.CR4_MASK, CR4_VMXE);

  vmwrite(Vmcs.HOST_CR0, HOST_CR0);
  vmwrite(Vmcs.HOST_CR3, hostCr3());
  vmwrite(Vmcs.HOST_CR4, hostCr4 & ~(CR4_CET | CR4_LA57));
  vmwrite(Vmcs.HOST_EFER, HOST_EFER);
  vmwrite(Vmcs.HOST_CS_SELECTOR, u64(HOST_CS));
  vmwrite(Vmcs.HOST_SS_SELECTOR, u64(HOST_DS));
  vmwrite(Vmcs.HOST_DS_SELECTOR, 0n);
  vmwrite(Vmcs.HOST_ES_SELECTOR, 0n);
  vmwrite(Vmcs.HOST_FS_SELECTOR, 0n);
  vmwrite(Vmcs.HOST_GS_SELECTOR, 0n);
  vmwrite(Vmcs.HOST_TR_SELECTOR, u64(HOST_TR));
  vmwrite(Vmcs.HOST_FS_BASE, 0n);
  vmwrite(Vmcs.HOST_GS_BASE, 0n);
  vmwrite(Vmcs.HOST_TR_BASE, hostTss(cpu.index));
  vmwrite(Vmcs.HOST_GDTR_BASE, hostGdt(cpu.index));
  vmwrite(Vmcs.HOST_IDTR_BASE, hostIdt());
  vmwrite(Vmcs.HOST_SYSENTER_CS, 0n);
  vmwrite(Vmcs.HOST_SYSENTER_ESP, 0n);
  vmwrite(Vmcs.HOST_SYSENTER_EIP, 0n);
  vmwrite(Vmcs.HOST_RSP, addressOf(vcpu.stackTop));
  vmwrite(Vmcs.HOST_RIP, exitStub());
}
