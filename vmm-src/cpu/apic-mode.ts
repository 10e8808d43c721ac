/**
 * The modes of a local APIC: xAPIC, with its registers in memory and 8-bit ids, and
 * x2APIC. Each instance has its processors in one of them, not always the same.
 */
import {
  APIC_BASE_ENABLE, APIC_BASE_X2APIC, ARCH_CAPABILITIES_XAPIC_DISABLE_STATUS, IA32_APIC_BASE, IA32_ARCH_CAPABILITIES,
  IA32_XAPIC_DISABLE_STATUS, LEGACY_XAPIC_DISABLED,
} from '../machine/msr.ts';
import { CpuidResult, cpuid, readMsr, writeMsr } from '../machine/intrinsics.ts';
import { CPUID_7_EDX_ARCH_CAPABILITIES } from '../machine/registers.ts';
import { isX2apic } from './local-apic.ts';

/**
 * Puts the local APIC of the processor that runs this into a mode. A change resets
 * it; from x2APIC mode back the way is by the disabled state (SDM Vol. 3A, 12.12.5).
 */
export function setApicMode(x2apic: boolean): void {
  if (x2apic === isX2apic()) return;
  const rest: u64 = readMsr(IA32_APIC_BASE) & ~(APIC_BASE_ENABLE | APIC_BASE_X2APIC);
  if (!x2apic) writeMsr(IA32_APIC_BASE, rest);
  writeMsr(IA32_APIC_BASE, rest | APIC_BASE_ENABLE | (x2apic ? APIC_BASE_X2APIC : 0n));
}

/** Whether firmware has locked the processor that runs this in x2APIC mode (SDM Vol. 3A, 12.12.5.1; Vol. 4, table 2-2). */
export function isX2apicLocked(): boolean {
  const leaf: CpuidResult = zeroed();
  cpuid(7, 0, leaf);
  if ((leaf.edx & CPUID_7_EDX_ARCH_CAPABILITIES) === 0) return false;
  if ((readMsr(IA32_ARCH_CAPABILITIES) & ARCH_CAPABILITIES_XAPIC_DISABLE_STATUS) === 0n) return false;
  return (readMsr(IA32_XAPIC_DISABLE_STATUS) & LEGACY_XAPIC_DISABLED) !== 0n;
}
