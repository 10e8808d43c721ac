/**
 * Which VMX controls the VMM uses, checked and computed once. The check repeats
 * what `understudy check` has told the operator; it is the one that counts.
 */
import { Result } from '../../abi.ts';
import { CpuidResult, cpuid, readMsr } from '../../machine/intrinsics.ts';
import {
  FEATURE_CONTROL_LOCKED, FEATURE_CONTROL_VMX_OUTSIDE_SMX, IA32_FEATURE_CONTROL, IA32_VMX_BASIC,
  IA32_VMX_EPT_VPID_CAP, IA32_VMX_MISC, IA32_VMX_PROCBASED_CTLS2, IA32_VMX_TRUE_ENTRY_CTLS, IA32_VMX_TRUE_EXIT_CTLS,
  IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS,
} from '../../machine/msr.ts';
import { CPUID_1_ECX_VMX } from '../../machine/registers.ts';
import {
  ENTRY_IA32E_GUEST, ENTRY_LOAD_DEBUG, ENTRY_LOAD_EFER, EXIT_HOST_64_BIT, EXIT_LOAD_EFER, EXIT_SAVE_DEBUG, EXIT_SAVE_EFER,
  PIN_PREEMPTION_TIMER, PROCESSOR_MONITOR_TRAP_FLAG, PROCESSOR_SECONDARY, PROCESSOR_TPR_SHADOW, PROCESSOR_USE_IO_BITMAPS, PROCESSOR_USE_MSR_BITMAPS,
  SECONDARY_APIC_ACCESSES, SECONDARY_APIC_REGISTERS, SECONDARY_EPT, SECONDARY_INVPCID, SECONDARY_RDTSCP, SECONDARY_UNRESTRICTED_GUEST, SECONDARY_USER_WAIT, SECONDARY_VPID,
  SECONDARY_XSAVES,
} from '../../machine/vmcs.ts';

export class Controls extends Struct {
  revision: u32;
  pin: u32;
  processor: u32;
  secondary: u32;
  exit: u32;
  entry: u32;
  /** What of a tenant's virtual local APIC the processor can do: primary and secondary controls. */
  apicProcessor: u32;
  apicSecondary: u32;
  /** The VMX-preemption timer counts once in 2 to this power ticks of the TSC (A.6). */
  timerShift: u64;
}
export const controls: Controls = zeroed();

/** Without these the VMM does not start. Optional ones enable instructions that the guest already uses. */
const PROCESSOR_NEEDED: u32 = PROCESSOR_USE_IO_BITMAPS | PROCESSOR_USE_MSR_BITMAPS | PROCESSOR_SECONDARY;
const SECONDARY_NEEDED: u32 = SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST | SECONDARY_VPID;
const SECONDARY_OPTIONAL: u32 = SECONDARY_RDTSCP | SECONDARY_INVPCID | SECONDARY_XSAVES | SECONDARY_USER_WAIT;
const EXIT_NEEDED: u32 = EXIT_HOST_64_BIT | EXIT_SAVE_DEBUG | EXIT_SAVE_EFER | EXIT_LOAD_EFER;
const ENTRY_NEEDED: u32 = ENTRY_IA32E_GUEST | ENTRY_LOAD_DEBUG | ENTRY_LOAD_EFER;

/** IA32_VMX_EPT_VPID_CAP (SDM Vol. 3D, A.10): 4-level walk, write-back tables, 2 MiB and 1 GiB pages, INVEPT, INVVPID, both single-context. */
const EPT_VPID_NEEDED: u64 = 0x20102134040n;
const MISC_TIMER_RATE: u64 = 0x1fn;
/** IA32_VMX_BASIC: true controls exist. */
const BASIC_TRUE_CONTROLS: u64 = 0x80000000000000n;
const BASIC_REVISION: u64 = 0x7fffffffn;

/** What must be 1 and `wanted` as far as allowed (A.3 to A.5: low half must be 1, high half may be 1). */
function adjust(capability: u64, wanted: u32): u32 {
  return (wanted | wrapU32(capability)) & wrapU32(capability >> 32n);
}

/** The parts that there are, each of which needs those before it (26.6.2, 27.2.1.1). */
function learnApicControls(): void {
  const secondary: u32 = wrapU32(readMsr(IA32_VMX_PROCBASED_CTLS2) >> 32n);
  const page: u32 = SECONDARY_APIC_ACCESSES | SECONDARY_APIC_REGISTERS;
  controls.apicProcessor = wrapU32(readMsr(IA32_VMX_TRUE_PROCBASED_CTLS) >> 32n) & PROCESSOR_TPR_SHADOW;
  const hasPage = controls.apicProcessor !== 0 && (secondary & page) === page;
  controls.apicSecondary = hasPage ? page : 0;
}

/** Reads the capabilities into `controls`; CAPABILITY if one is missing. */
export function checkCapability(): Result {
  const leaf: CpuidResult = zeroed();
  cpuid(1, 0, leaf);
  if ((leaf.ecx & CPUID_1_ECX_VMX) === 0) return Result.CAPABILITY;
  const feature = readMsr(IA32_FEATURE_CONTROL);
  const enabled: u64 = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
  if ((feature & enabled) !== enabled) return Result.CAPABILITY;
  const basic = readMsr(IA32_VMX_BASIC);
  if ((basic & BASIC_TRUE_CONTROLS) === 0n) return Result.CAPABILITY;
  controls.revision = wrapU32(basic & BASIC_REVISION);
  controls.pin = adjust(readMsr(IA32_VMX_TRUE_PINBASED_CTLS), 0);
  controls.processor = adjust(readMsr(IA32_VMX_TRUE_PROCBASED_CTLS), PROCESSOR_NEEDED);
  if ((controls.processor & PROCESSOR_NEEDED) !== PROCESSOR_NEEDED) return Result.CAPABILITY;
  if ((readMsr(IA32_VMX_TRUE_PROCBASED_CTLS) >> 32n & u64(PROCESSOR_MONITOR_TRAP_FLAG)) === 0n) return Result.CAPABILITY;
  if ((readMsr(IA32_VMX_TRUE_PINBASED_CTLS) >> 32n & u64(PIN_PREEMPTION_TIMER)) === 0n) return Result.CAPABILITY;
  controls.secondary = adjust(readMsr(IA32_VMX_PROCBASED_CTLS2), SECONDARY_NEEDED | SECONDARY_OPTIONAL);
  if ((controls.secondary & SECONDARY_NEEDED) !== SECONDARY_NEEDED) return Result.CAPABILITY;
  controls.exit = adjust(readMsr(IA32_VMX_TRUE_EXIT_CTLS), EXIT_NEEDED);
  controls.entry = adjust(readMsr(IA32_VMX_TRUE_ENTRY_CTLS), ENTRY_NEEDED);
  if ((controls.exit & EXIT_NEEDED) !== EXIT_NEEDED) return Result.CAPABILITY;
  if ((controls.entry & ENTRY_NEEDED) !== ENTRY_NEEDED) return Result.CAPABILITY;
  learnApicControls();
  controls.timerShift = readMsr(IA32_VMX_MISC) & MISC_TIMER_RATE;
  if ((readMsr(IA32_VMX_EPT_VPID_CAP) & EPT_VPID_NEEDED) !== EPT_VPID_NEEDED) return Result.CAPABILITY;
  return Result.OK;
}
