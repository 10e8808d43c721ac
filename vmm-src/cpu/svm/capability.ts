/**
 * Whether this machine can be captured with AMD-V. The check repeats what
 * `understudy check` has told the operator; it is the one that counts.
 */
import { Result } from '../../abi.ts';
import { CpuidResult, cpuid, readMsr } from '../../machine/intrinsics.ts';
import { VM_CR, VM_CR_SVMDIS } from '../../machine/msr.ts';

const LARGEST_EXTENDED: u32 = 0x80000000;
const EXTENDED_FEATURES: u32 = 0x80000001;
const SVM_FEATURES: u32 = 0x8000000a;
const ECX_SVM: u32 = 4;
const EDX_NESTED_PAGING: u32 = 1;
/** VMRUN switches SPEC_CTRL (APM Vol. 2, 15.35). */
const EDX_SPEC_CTRL: u32 = 0x100000;
/** One ASID for each instance, and the host's. */
const ASIDS_NEEDED: u32 = 3;

let switchesSpecControl: boolean = false;

/** Whether a guest's SPEC_CTRL is in its VMCB; otherwise it stays in the processor. */
export function hasSpecControl(): boolean {
  return switchesSpecControl;
}

/** CAPABILITY if something is missing. */
export function checkCapability(): Result {
  const leaf: CpuidResult = zeroed();
  cpuid(LARGEST_EXTENDED, 0, leaf);
  if (leaf.eax < SVM_FEATURES) return Result.CAPABILITY;
  cpuid(EXTENDED_FEATURES, 0, leaf);
  if ((leaf.ecx & ECX_SVM) === 0) return Result.CAPABILITY;
  cpuid(SVM_FEATURES, 0, leaf);
  if ((leaf.edx & EDX_NESTED_PAGING) === 0 || leaf.ebx < ASIDS_NEEDED) return Result.CAPABILITY;
  switchesSpecControl = (leaf.edx & EDX_SPEC_CTRL) !== 0;
  if ((readMsr(VM_CR) & VM_CR_SVMDIS) !== 0n) return Result.CAPABILITY;
  return Result.OK;
}
