/**
 * Take-over: the instance that is left is granted everything that is free. Its
 * shadows go into the real devices, its private low MiB into the real one, and
 * from then on it reaches the whole machine, as the first instance did.
 */
import { CpuState, EventType, InstanceState, MAX_CPUS, ResourceKind, Result, SHIELDED } from '../abi.ts';
import { Vcpu, cpuOf, cpus, vcpuOf } from '../cpu/cpu.ts';
import { exposeLogicalId, holdOthers, letGo } from '../cpu/kick.ts';
import { mapIdentity, resetMap, swapIoMaps } from '../cpu/memory-map.ts';
import { flushMemoryMap } from '#processor/guest.ts';
import { trapMsrRead } from '#processor/bitmaps.ts';
import { handOverHpet } from '../devices/hpet.ts';
import { forgetIommuOwner, updateIommu } from '../devices/iommu/iommu.ts';
import { handOverIoapic } from '../devices/ioapic.ts';
import { holdMessages, releaseMessages } from '../devices/messages/handover.ts';
import { handOverLegacy } from '../devices/legacy.ts';
import { handOverUart } from '../devices/uart.ts';
import { record } from '../events.ts';
import { IA32_APIC_BASE } from '../machine/msr.ts';
import { FREE, LOW_RAM_END, amountOf, cpuOwner, functionAt, functionTotal, moveEverything } from '../partition.ts';
import { otherInstance } from './boot.ts';
import { lowBase, setLowBase } from './guest-memory.ts';
import { guardApic, guardSharedMsrs, hideRegion, instanceOf, openPorts } from './instance.ts';
import { hasShares } from './share.ts';
import { adoptFreeCpus } from './stop.ts';

/** The private low MiB replaces the real one: what the kernel put there stays where it put it. */
function moveLowMemory(instance: u32): void {
  const base = lowBase(instance);
  if (base === 0n) return;
  copyBytes(0n, base, LOW_RAM_END);
  setLowBase(instance, 0n);
}

function recordGrants(instance: u32, cpu: u32): void {
  record(EventType.GRANTED, instance, cpu, u64(ResourceKind.MEMORY), amountOf(FREE, ResourceKind.MEMORY));
  record(EventType.GRANTED, instance, cpu, u64(ResourceKind.PLATFORM), 0n);
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (fn.owner === FREE || fn.owner === SHIELDED) record(EventType.GRANTED, instance, cpu, u64(ResourceKind.FUNCTION), u64(fn.bdf));
  }
}

/** From here on the kernel's logical ids are the real ones: on the other processors with the hold that follows, before any interrupt is sent by them. */
function exposeLogicalIds(vcpu: Vcpu): void {
  exposeLogicalId(vcpu);
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    // One that waits for its SIPI writes its LDR when it comes up.
    const runs = cpus[i].state === CpuState.RUNNING && cpuOwner(i) === vcpu.instance;
    if (runs && i !== cpuOf(vcpu).index) vcpuOf(vcpu.instance, i).exposeLdr = 1;
  }
}

/** What was plugged in is like any other function from here on. */
function ownFunctions(): void {
  for (let i: u32 = 0; i < functionTotal(); i++) functionAt(i).late = 0;
}

/** Grants the caller's instance all that is free; BUSY while another one runs. */
export function takeEverything(vcpu: Vcpu): Result {
  const self = vcpu.instance;
  const other = otherInstance(self);
  if (instanceOf(other).state === InstanceState.RUNNING) return Result.BUSY;
  // A hand-over that was completed only in part is asked for again.
  if (instanceOf(self).holdsPlatform) return Result.OK;
  if (instanceOf(other).state !== InstanceState.STOPPED) return Result.INSTANCE;
  const cpu = cpuOf(vcpu);
  // One of its processors has still to leave an interrupt handler before its local APIC is the real one.
  if (hasShares(self)) return Result.BUSY;
  exposeLogicalIds(vcpu);
  holdOthers(cpu, self);
  recordGrants(self, cpu.index);
  moveLowMemory(self);
  swapIoMaps();
  resetMap(self);
  mapIdentity(self);
  hideRegion(self);
  guardApic(self, false);
  guardSharedMsrs(self, false);
  handOverLegacy();
  handOverHpet();
  holdMessages();
  forgetIommuOwner();
  handOverIoapic();
  handOverUart();
  openPorts(self);
  trapMsrRead(self, IA32_APIC_BASE, false);
  instanceOf(self).holdsPlatform = true;
  instanceOf(other).holdsPlatform = false;
  updateIommu(self);
  releaseMessages();
  flushMemoryMap(vcpu);
  letGo();
  adoptFreeCpus(self);
  moveEverything(FREE, self);
  moveEverything(SHIELDED, self);
  ownFunctions();
  updateIommu(self);
  instanceOf(other).state = InstanceState.NONE;
  return Result.OK;
}
