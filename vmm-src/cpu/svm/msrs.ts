/** MSRs in which AMD-V shows, and AMD's own that reach beyond an instance (APM Vol. 2, appendix A). */
import { Vcpu, RAX, RDX } from '../cpu.ts';
import { CpuidResult, cpuid } from '../../machine/intrinsics.ts';
import {
  EFER_AUTOMATIC_IBRS, EFER_FFXSR, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, EFER_SVME, EFER_TCE, IA32_CSTAR, IA32_EFER, IA32_FMASK, IA32_KERNEL_GS_BASE,
  IA32_LSTAR, IA32_PAT, IA32_SPEC_CTRL, IA32_STAR, VM_CR, VM_HSAVE_PA,
} from '../../machine/msr.ts';
import { CR0_PG } from '../../machine/registers.ts';
import { trapMsrRead, trapMsrWrite } from './bitmaps.ts';
import { vmcbOf } from './vcpu.ts';

/** Memory layout of the whole node: SYSCFG, IORRs, TOP_MEM, TOP_MEM2; the microcode loader; where SMM is. */
const NODE_MSRS: FixedArray<u32, 11> = [
  0xc0010010, 0xc0010016, 0xc0010017, 0xc0010018, 0xc0010019, 0xc001001a, 0xc001001d, 0xc0010020, 0xc0010111, 0xc0010112, 0xc0010113,
];

/** Whether an instance sees EFER.SVME set, as it is. */
const shown: FixedArray<boolean, 2> = zeroed();

/**
 * Lets an instance see that virtualization is in use, so that its own hypervisor refuses
 * to start; or not, while its kernel reads at boot what it will write into EFER of
 * processors that it starts later, even when the VMM is gone.
 */
export function showVirtualization(instance: u32, show: boolean): void {
  shown[instance - 1] = show;
}

const EXTENDED_FEATURES: u32 = 0x80000001;
const ECX_TCE: u32 = 0x20000;
const EDX_NX: u32 = 0x100000;
const EDX_FFXSR: u32 = 0x2000000;
const EXTENDED_FEATURES_2: u32 = 0x80000021;
const LARGEST_EXTENDED: u32 = 0x80000000;
const EAX_AUTOMATIC_IBRS: u32 = 0x100;

/** Guards what an instance must never set by itself, and where SVM shows. */
export function guardVirtualizationMsrs(view: u32): void {
  trapMsrRead(view, IA32_EFER, true);
  trapMsrWrite(view, IA32_EFER, true);
  trapMsrWrite(view, VM_CR, true);
  trapMsrRead(view, VM_HSAVE_PA, true);
  trapMsrWrite(view, VM_HSAVE_PA, true);
}

/** Guards what reaches beyond the instance, or not. */
export function guardVendorMsrs(instance: u32, guard: boolean): void {
  for (let i: u32 = 0; i < NODE_MSRS.length; i++) trapMsrWrite(instance, NODE_MSRS[i], guard);
}

/** What VMSAVE and VMRUN save. */
const PROCESSOR_MSRS: FixedArray<u32, 7> = [IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE, IA32_PAT, IA32_SPEC_CTRL];

/** Lets an instance write what is in its VMCB. */
export function passProcessorMsrs(view: u32): void {
  for (let i: u32 = 0; i < PROCESSOR_MSRS.length; i++) trapMsrWrite(view, PROCESSOR_MSRS[i], false);
}

/** Whether guardVendorMsrs guards an MSR. */
export function isVendorMsr(index: u32): boolean {
  for (let i: u32 = 0; i < NODE_MSRS.length; i++) {
    if (NODE_MSRS[i] === index) return true;
  }
  return false;
}

/** Reads an MSR that exits because virtualization shows in it; false if it is none. */
export function readVirtualizationMsr(vcpu: Vcpu, index: u32): boolean {
  let value: u64 = 0n;
  if (index === IA32_EFER) value = shown[vcpu.instance - 1] ? vmcbOf(vcpu).efer : vmcbOf(vcpu).efer & ~EFER_SVME;
  else if (index !== VM_HSAVE_PA) return false;
  vcpu.registers[RAX] = value & 0xffffffffn;
  vcpu.registers[RDX] = value >> 32n;
  return true;
}

/** Bits of EFER that this processor lets software set. */
function eferBits(): u64 {
  const leaf: CpuidResult = zeroed();
  let bits: u64 = EFER_SCE | EFER_LME | EFER_LMA;
  cpuid(EXTENDED_FEATURES, 0, leaf);
  if ((leaf.edx & EDX_NX) !== 0) bits |= EFER_NXE;
  if ((leaf.edx & EDX_FFXSR) !== 0) bits |= EFER_FFXSR;
  if ((leaf.ecx & ECX_TCE) !== 0) bits |= EFER_TCE;
  cpuid(LARGEST_EXTENDED, 0, leaf);
  if (leaf.eax < EXTENDED_FEATURES_2) return bits;
  cpuid(EXTENDED_FEATURES_2, 0, leaf);
  return (leaf.eax & EAX_AUTOMATIC_IBRS) !== 0 ? bits | EFER_AUTOMATIC_IBRS : bits;
}

/** EFER.SVME stays set for the VMM. A guest that sees it may write back what it has read; to any other it is refused, as where firmware has locked SVM off. */
function writeEfer(vcpu: Vcpu, value: u64): boolean {
  const vmcb = vmcbOf(vcpu);
  const ignored: u64 = shown[vcpu.instance - 1] ? EFER_SVME : 0n;
  if ((value & ~(eferBits() | ignored)) !== 0n) return false;
  if ((vmcb.cr0 & CR0_PG) !== 0n && ((value ^ vmcb.efer) & EFER_LME) !== 0n) return false;
  vmcb.efer = (value & ~EFER_LMA) | (vmcb.efer & EFER_LMA) | EFER_SVME;
  return true;
}

/** Writes one: true if done, with the instruction still to be stepped over. Where SVM is locked off, nobody relies on VM_CR and VM_HSAVE_PA. */
export function writeVirtualizationMsr(vcpu: Vcpu, index: u32, value: u64): boolean {
  if (index === IA32_EFER) return writeEfer(vcpu, value);
  return index === VM_CR || index === VM_HSAVE_PA;
}
