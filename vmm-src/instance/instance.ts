/**
 * Instances and what each of them can reach. The verbs that change this are in
 * capture.ts, boot.ts, stop.ts and take.ts beside this file.
 */
import { InstanceState, MAX_INSTANCES, TRAPPED_ALL, TRAPPED_DMA } from '../abi.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import { bootInfo } from '../machine/region.ts';
import {
  IA32_APIC_BASE, IA32_BIOS_UPDT_TRIG, IA32_DEBUGCTL, IA32_EFER, IA32_FLUSH_CMD, IA32_FS_BASE, IA32_GS_BASE, IA32_MTRR_DEF_TYPE,
  IA32_MTRR_FIX16K_80000, IA32_MTRR_FIX4K_C0000, IA32_MTRR_FIX64K_00000, IA32_MTRR_PHYSBASE0, IA32_PRED_CMD, IA32_SYSENTER_CS,
  IA32_SYSENTER_EIP, IA32_SYSENTER_ESP, IA32_TSC_DEADLINE, X2APIC_MSR_BASE,
} from '../machine/msr.ts';
import { PAGE_SIZE } from '../machine/registers.ts';
import { mapIdentical, openView, unmapRange } from '../cpu/memory-map.ts';
import { sharedView } from '../cpu/cpu.ts';
import { MAP_ALL, MAP_EXECUTE, MAP_READ } from '../cpu/permissions.ts';
import { passContextMsrs } from '../cpu/context.ts';
import { apicAccessPage } from '#processor/apic.ts';
import { copyMsrs, resetMsrs, trapAllMsrWrites, trapAllPorts, trapMsrRead, trapMsrWrite, trapPorts } from '#processor/bitmaps.ts';
import { guardVendorMsrs, guardVirtualizationMsrs, isVendorMsr } from '#processor/msrs.ts';
import { STARTUP_EXITS } from '#processor/signal.ts';
import { ioapicBase } from '../devices/ioapic.ts';
import { isConfined, unitBase, unitSize, unitTotal } from '../devices/iommu/iommu.ts';
import { FAST_RESET, KEYBOARD_COMMAND, KEYBOARD_DATA, RESET_CONTROL } from '../devices/legacy.ts';
import { CONFIG_DATA, ecamBase, ecamSize } from '../devices/pci-bus.ts';
import { platform } from '../devices/platform.ts';

export class Instance extends Struct {
  state: InstanceState;
  /** Whether the platform's devices (ports, IOAPIC, timers, PCI) are its own; otherwise it has shadows. */
  holdsPlatform: boolean;
  /** Whether its local APIC writes are looked at, because another instance runs. */
  apicGuarded: boolean;
  /** Its module has made itself known. */
  attached: boolean;
  /** It gets no turns on the processors that it shares with their holder. */
  paused: boolean;
  /** The mode of the local APICs that it has, or last had; so that of those parked ones which another instance is to have. */
  x2apic: boolean;
  reserved: FixedArray<u8, 7>;
  /** Of its turns on shared processors, relative to the other's. */
  weight: u32;
  /** TRAPPED_* bits of what has been devirtualized: its own, and nobody's to trap. */
  direct: u32;
  startTick: u64;
  stopTick: u64;
}
const instances: FixedArray<Instance, 2> = zeroed();

export const X2APIC_ICR: u32 = X2APIC_MSR_BASE + 0x30;
const X2APIC_MSRS: u32 = 64;
const VARIABLE_MTRR_MSRS: u32 = 32;
const FIXED_4K_MTRRS: u32 = 8;

export function instanceOf(number: u32): Instance {
  return instances[number - 1];
}

export function isInstance(number: u32): boolean {
  return number >= 1 && number <= MAX_INSTANCES;
}

/** How many instances run. */
export function runningInstances(): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < MAX_INSTANCES; i++) {
    if (instances[i].state === InstanceState.RUNNING) count++;
  }
  return count;
}

/** The instance that holds the platform, or held it last; 0 before there is one. */
export function holderOfPlatform(): u32 {
  for (let i: u32 = 0; i < MAX_INSTANCES; i++) {
    if (instances[i].holdsPlatform) return i + 1;
  }
  return 0;
}

/** The VMM's memory disappears from an instance's map, the IOMMUs' registers, and PCI configuration space, where only what it holds is to be seen. */
export function hideRegion(instance: u32): void {
  unmapRange(instance, bootInfo().regionBase, bootInfo().regionSize);
  unmapRange(instance, bootInfo().annexBase, bootInfo().annexSize);
  if (ecamSize() !== 0n) unmapRange(instance, u64(ecamBase()), ecamSize());
  for (let i: u32 = 0; i < unitTotal(); i++) unmapRange(instance, u64(unitBase(i)), unitSize());
}

/** Ports of an instance that holds the platform: only those that put the node to sleep or reset it exit, and PCI's. */
export function openPorts(instance: u32): void {
  trapAllPorts(instance, false);
  if (platform.pm1aControl !== 0) trapPorts(instance, platform.pm1aControl, 2, true);
  if (platform.pm1bControl !== 0) trapPorts(instance, platform.pm1bControl, 2, true);
  if (platform.reset !== 0) trapPorts(instance, platform.reset, 1, true);
  trapPorts(instance, KEYBOARD_DATA, 1, true);
  trapPorts(instance, KEYBOARD_COMMAND, 1, true);
  trapPorts(instance, FAST_RESET, 1, true);
  trapPorts(instance, RESET_CONTROL, 1, true);
  trapPorts(instance, CONFIG_DATA, 4, true);
}

/** Ports of an instance that holds none: all exit but the PM timer, which only counts. */
export function closePorts(instance: u32): void {
  trapAllPorts(instance, true);
  if (platform.pmTimer !== 0) trapPorts(instance, platform.pmTimer, 4, false);
}

/** MSRs that no instance writes by itself while the VMM is there. */
export function guardMsrs(instance: u32): void {
  trapMsrWrite(instance, IA32_APIC_BASE, true);
  guardVirtualizationMsrs(instance);
}

/** Settings of the whole processor package, and of what writes memory unmapped: an instance beside another one does not change them. */
export function guardSharedMsrs(instance: u32, guard: boolean): void {
  guardVendorMsrs(instance, guard);
  trapMsrWrite(instance, IA32_BIOS_UPDT_TRIG, guard);
  trapMsrWrite(instance, IA32_MTRR_DEF_TYPE, guard);
  for (let i: u32 = 0; i < VARIABLE_MTRR_MSRS; i++) trapMsrWrite(instance, IA32_MTRR_PHYSBASE0 + i, guard);
  trapMsrWrite(instance, IA32_MTRR_FIX64K_00000, guard);
  for (let i: u32 = 0; i < 2; i++) trapMsrWrite(instance, IA32_MTRR_FIX16K_80000 + i, guard);
  for (let i: u32 = 0; i < FIXED_4K_MTRRS; i++) trapMsrWrite(instance, IA32_MTRR_FIX4K_C0000 + i, guard);
}

/** Whether an MSR is one that guardSharedMsrs guards. */
export function isSharedMsr(index: u32): boolean {
  return isVendorMsr(index) || index === IA32_BIOS_UPDT_TRIG || index === IA32_MTRR_DEF_TYPE
    || (index >= IA32_MTRR_PHYSBASE0 && index < IA32_MTRR_FIX4K_C0000 + FIXED_4K_MTRRS);
}

/**
 * Guards an instance's interrupts: interprocessor ones, and those of the IOAPIC, if it holds that. In xAPIC mode the whole register
 * page is write-protected, which costs about two exits a timer tick; in x2APIC
 * mode only the ICR exits. Alone on the machine an instance is not guarded; where
 * the processor does not exit for INIT and SIPI, what it sends is still looked at.
 */
export function guardApic(instance: u32, guard: boolean): void {
  instanceOf(instance).apicGuarded = guard;
  const look = guard || !STARTUP_EXITS;
  mapIdentical(instance, APIC_DEFAULT_BASE, PAGE_SIZE, look ? MAP_READ | MAP_EXECUTE : MAP_ALL);
  if (instanceOf(instance).holdsPlatform) mapIdentical(instance, ioapicBase(), PAGE_SIZE, guard ? MAP_READ | MAP_EXECUTE : MAP_ALL);
  trapMsrWrite(instance, X2APIC_ICR, look);
}

/** What a virtual CPU writes without an exit though its processor is shared: it is in the VMCS or VMCB, or a command without state. */
const OWN_MSRS: FixedArray<u32, 9> = [
  IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_DEBUGCTL, IA32_EFER, IA32_FS_BASE, IA32_GS_BASE, IA32_PRED_CMD, IA32_FLUSH_CMD,
];

/**
 * The view of an instance's tenants: none of their accesses reaches the local APIC,
 * and every write of an MSR exits that is not switched with the virtual CPU.
 */
export function openTenantView(instance: u32): void {
  if (!openView(instance, apicAccessPage())) return;
  const view = sharedView(instance);
  copyMsrs(instance, view);
  trapAllMsrWrites(view);
  for (let i: u32 = 0; i < OWN_MSRS.length; i++) trapMsrWrite(view, OWN_MSRS[i], false);
  passContextMsrs(view);
  guardVirtualizationMsrs(view);
  trapMsrRead(view, IA32_TSC_DEADLINE, true);
  for (let i: u32 = 0; i < X2APIC_MSRS; i++) trapMsrRead(view, X2APIC_MSR_BASE + i, true);
}

/** MSRs of an instance that does not hold the platform: what it writes to its local APIC is looked at. */
export function confineMsrs(instance: u32): void {
  resetMsrs(instance);
  guardMsrs(instance);
  guardSharedMsrs(instance, true);
  trapMsrWrite(instance, X2APIC_ICR, true);
  trapMsrRead(instance, IA32_APIC_BASE, true);
}

/** What an instance still exits for: TRAPPED_* bits. */
export function stillTrapped(instance: u32): u32 {
  if (instanceOf(instance).state !== InstanceState.RUNNING) return 0;
  return (TRAPPED_ALL & ~instanceOf(instance).direct) | (isConfined() ? TRAPPED_DMA : 0);
}
