/**
 * The part of a virtual CPU's context that VT-x leaves in the processor: what the
 * VMCS has a field for (CR0, CR3, CR4, DR7, EFER, DEBUGCTL, SYSENTER, segments with
 * the bases of FS and GS) is not among it.
 */
import { CpuidResult, cpuid, readCr2, readDr6, readMsr, vmptrld, writeCr2, writeDr6, writeMsr } from '../../machine/intrinsics.ts';
import {
  IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE, IA32_LSTAR, IA32_PAT, IA32_SPEC_CTRL, IA32_STAR, IA32_TSC_AUX, PAT_RESET,
} from '../../machine/msr.ts';
import { DR6_RESET } from '../../machine/registers.ts';
import { Vcpu } from '../cpu.ts';
import { trapMsrWrite } from './bitmaps.ts';

/** Those that every processor with VT-x has come first. */
const MSRS: FixedArray<u32, 8> = [
  IA32_PAT, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE, IA32_TSC_AUX, IA32_SPEC_CTRL,
];
const ALWAYS: u32 = 6;
const TSC_AUX: u32 = 6;
/** CPUID.80000001H:EDX: RDTSCP, and with it IA32_TSC_AUX. */
const CPUID_EXTENDED: u32 = 0x80000001;
const CPUID_RDTSCP: u32 = 0x8000000;
/** CPUID.07H:EDX: IBRS, STIBP or SSBD, and with one of them IA32_SPEC_CTRL. */
const CPUID_7_SPEC_CTRL: u32 = 0x8c000000;

class Own extends Struct { cr2: u64; dr6: u64; msrs: FixedArray<u64, 8> }
const owns: FixedArray<FixedArray<Own, 32>, 2> = zeroed();
let hasTscAux: boolean = false;
let hasSpecCtrl: boolean = false;

function ownOf(vcpu: Vcpu): Own {
  return owns[vcpu.instance - 1][vcpu.index];
}

function exists(place: u32): boolean {
  if (place < ALWAYS) return true;
  return place === TSC_AUX ? hasTscAux : hasSpecCtrl;
}

/** Lets a view write the MSRs that are switched. */
export function passOwnMsrs(view: u32): void {
  for (let i: u32 = 0; i < MSRS.length; i++) {
    if (exists(i)) trapMsrWrite(view, MSRS[i], false);
  }
}

/** The context after RESET (SDM Vol. 3A, table 11-1). */
export function resetOwn(vcpu: Vcpu): void {
  const leaf: CpuidResult = zeroed();
  cpuid(CPUID_EXTENDED, 0, leaf);
  hasTscAux = (leaf.edx & CPUID_RDTSCP) !== 0;
  cpuid(7, 0, leaf);
  hasSpecCtrl = (leaf.edx & CPUID_7_SPEC_CTRL) !== 0;
  const own = ownOf(vcpu);
  fillBytes(addressOf(own), 0, u64(sizeOf<Own>()));
  own.dr6 = DR6_RESET;
  own.msrs[0] = PAT_RESET;
}

export function saveOwn(vcpu: Vcpu): void {
  const own = ownOf(vcpu);
  own.cr2 = readCr2();
  own.dr6 = readDr6();
  for (let i: u32 = 0; i < MSRS.length; i++) {
    if (exists(i)) own.msrs[i] = readMsr(MSRS[i]);
  }
}

/** Loads what is not the same in the virtual CPU that has just been saved. */
export function loadOwn(vcpu: Vcpu, saved: Vcpu): void {
  const own = ownOf(vcpu);
  const other = ownOf(saved);
  writeCr2(own.cr2);
  if (own.dr6 !== other.dr6) writeDr6(own.dr6);
  for (let i: u32 = 0; i < MSRS.length; i++) {
    if (own.msrs[i] !== other.msrs[i]) writeMsr(MSRS[i], own.msrs[i]);
  }
}

/** The processor that runs this works with a virtual CPU's VMCS from here on. */
export function makeCurrent(vcpu: Vcpu): void {
  assert(vmptrld(vcpu.control));
}
