/**
 * The part of a virtual CPU's context that neither VMRUN switches nor XSAVE holds:
 * what VMSAVE and VMLOAD move (FS, GS, TR, LDTR, the MSRs of SYSCALL and SYSENTER,
 * KERNEL_GS_BASE), and TSC_AUX.
 */
import { CpuidResult, cpuid, readMsr, vmload, vmsave, writeMsr } from '../../machine/intrinsics.ts';
import { IA32_TSC_AUX } from '../../machine/msr.ts';
import { Vcpu } from '../cpu.ts';
import { trapMsrWrite } from './bitmaps.ts';
import { passProcessorMsrs } from './msrs.ts';

const tscAux: FixedArray<FixedArray<u64, 32>, 2> = zeroed();
let hasTscAux: boolean = false;
/** CPUID.80000001H:EDX: RDTSCP. */
const CPUID_EXTENDED: u32 = 0x80000001;
const CPUID_RDTSCP: u32 = 0x8000000;

/** Lets a view write the MSRs that are switched. */
export function passOwnMsrs(view: u32): void {
  passProcessorMsrs(view);
  if (hasTscAux) trapMsrWrite(view, IA32_TSC_AUX, false);
}

/** The context after RESET; what VMLOAD loads is in the new VMCB. */
export function resetOwn(vcpu: Vcpu): void {
  const leaf: CpuidResult = zeroed();
  cpuid(CPUID_EXTENDED, 0, leaf);
  hasTscAux = (leaf.edx & CPUID_RDTSCP) !== 0;
  tscAux[vcpu.instance - 1][vcpu.index] = 0n;
}

export function saveOwn(vcpu: Vcpu): void {
  vmsave(vcpu.control);
  if (hasTscAux) tscAux[vcpu.instance - 1][vcpu.index] = readMsr(IA32_TSC_AUX);
}

/** Loads what is not the same in the virtual CPU that has just been saved. */
export function loadOwn(vcpu: Vcpu, saved: Vcpu): void {
  vmload(vcpu.control);
  const own = tscAux[vcpu.instance - 1][vcpu.index];
  if (own !== tscAux[saved.instance - 1][saved.index]) writeMsr(IA32_TSC_AUX, own);
}

/** The next entry says which VMCB it is of. */
export function makeCurrent(_vcpu: Vcpu): void {}
