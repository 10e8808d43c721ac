/** MSRs that matter to VT-x or are Intel's own (SDM Vol. 4). */
import { Vcpu } from '../cpu.ts';
import { IA32_FEATURE_CONTROL } from '../../machine/msr.ts';
import { trapMsrWrite } from './bitmaps.ts';

/** What makes the processor write memory by itself, past the instance's map: DS area and PEBS, Intel PT. */
const MEMORY_WRITER_MSRS: FixedArray<u32, 5> = [0x3f1, 0x560, 0x561, 0x570, 0x600];

/** Guards what an instance must never set by itself. */
export function guardVirtualizationMsrs(view: u32): void {
  trapMsrWrite(view, IA32_FEATURE_CONTROL, true);
}

/** Whether an instance sees that virtualization is in use: on VT-x it does not show, and VMXON faults. */
export function showVirtualization(_instance: u32, _show: boolean): void {}

/** Guards what reaches beyond the instance, or not. */
export function guardVendorMsrs(instance: u32, guard: boolean): void {
  for (let i: u32 = 0; i < MEMORY_WRITER_MSRS.length; i++) trapMsrWrite(instance, MEMORY_WRITER_MSRS[i], guard);
}

/** Whether guardVendorMsrs guards an MSR. */
export function isVendorMsr(index: u32): boolean {
  for (let i: u32 = 0; i < MEMORY_WRITER_MSRS.length; i++) {
    if (MEMORY_WRITER_MSRS[i] === index) return true;
  }
  return false;
}

/** Reads an MSR that exits because virtualization shows in it; false if it is none. */
export function readVirtualizationMsr(_vcpu: Vcpu, _index: u32): boolean {
  return false;
}

/** Writes one: true if done, with the instruction still to be stepped over. */
export function writeVirtualizationMsr(_vcpu: Vcpu, _index: u32, _value: u64): boolean {
  return false;
}
