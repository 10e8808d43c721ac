/**
 * Stop: an instance ends, its resources are free, the node stays up. Its
 * processors wait in the VMM, reset and with empty local APICs.
 */
import { CpuState, EventType, InstanceState, MAX_CPUS, ResourceKind, Result, StopReason } from '../abi.ts';
import { Cpu, StartKind, Vcpu, carries, cpuOf, cpus, vcpuOf } from '../cpu/cpu.ts';
import { holdOthers, letGo, lock, orderSwitch, orderUnshare, unlock } from '../cpu/kick.ts';
import { setApicMode } from '../cpu/apic-mode.ts';
import { markBootstrap, resetLocalApic } from '../cpu/local-apic.ts';
import { closeView, mapIdentical, resetMap } from '../cpu/memory-map.ts';
import { MAP_ALL } from '../cpu/permissions.ts';
import { retire } from '#processor/vcpu.ts';
import { flushMemoryMap } from '#processor/guest.ts';
import { startVcpu } from '#processor/start.ts';
import { record } from '../events.ts';
import { KEYBOARD_COMMAND, KEYBOARD_RESET, RESET_CONTROL, RESET_CPU } from '../devices/legacy.ts';
import { keepRemapping, updateIommu } from '../devices/iommu/iommu.ts';
import { dropMessages } from '../devices/messages/slots.ts';
import { haltForever, portOut8, readTsc } from '../machine/intrinsics.ts';
import { FREE, amountOf, cpuOwner, cpuTenant, moveEverything, pieceAt, pieceTotal, setCpuOwner } from '../partition.ts';
import { otherInstance } from './boot.ts';
import { quietFunctions, returnWindows } from './grant.ts';
import { setLowBase } from './guest-memory.ts';
import { guardApic, guardSharedMsrs, holderOfPlatform, instanceOf, runningInstances } from './instance.ts';
import { unshare } from './share.ts';

/**
 * This processor carries `vcpu` from its start on, with an empty local APIC. The one
 * that boots an instance becomes its bootstrap processor: Linux since 6.9 takes
 * itself for a crash kernel where that is not so. Any other is none: a bare INIT
 * would start firmware there.
 */
export function switchTo(from: Vcpu, vcpu: Vcpu): void {
  const cpu: Cpu = cpuOf(from);
  retire(from);
  resetLocalApic();
  setApicMode(instanceOf(vcpu.instance).x2apic);
  if (vcpu.instance !== from.instance) markBootstrap(vcpu.start === StartKind.BOOT_64);
  assert(startVcpu(vcpu, cpu));
}

/**
 * Ends an instance on every processor but this one: those of its own go through
 * SWITCH into a wait that only the VMM ends, those that it shares are the other one's.
 */
function parkOthers(self: Cpu, number: u32): void {
  // In the mode of those that they will be signalled from, and go to.
  instanceOf(number).x2apic = instanceOf(otherInstance(number)).x2apic;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    const vcpu = cpu.vcpu;
    if (i === self.index || vcpu === null || cpu.state === CpuState.PARKED) continue;
    if (cpu.tenant !== null && carries(cpu, number)) orderUnshare(cpu, vcpuOf(number, i));
    else if (cpuOwner(i) === number) {
      vcpu.start = StartKind.WAIT_FOR_SIPI;
      orderSwitch(cpu, vcpu);
      cpu.state = CpuState.PARKED;
    }
  }
}

function markStopped(number: u32, self: u32, reason: StopReason): void {
  const instance = instanceOf(number);
  if (!instance.holdsPlatform) {
    quietFunctions(number);
    dropMessages(number);
    keepRemapping(false, holderOfPlatform());
  }
  instance.state = InstanceState.STOPPED;
  instance.stopTick = readTsc();
  record(EventType.STOPPED, number, self, u64(reason), 0n);
  moveEverything(number, FREE);
  updateIommu(holderOfPlatform());
}

/** As the bare machine does when its only operating system cannot go on. */
function resetMachine(): never {
  portOut8(RESET_CONTROL, RESET_CPU);
  portOut8(KEYBOARD_COMMAND, KEYBOARD_RESET);
  haltForever();
}

/** The instance of the caller ends, by its own hand or because it cannot go on. Its last processor parks too. */
export function stopSelf(vcpu: Vcpu, reason: StopReason): void {
  // No lock: this processor is already ordered out of the instance.
  if (!lock(vcpu)) return;
  if (runningInstances() < 2) resetMachine();
  const cpu = cpuOf(vcpu);
  parkOthers(cpu, vcpu.instance);
  markStopped(vcpu.instance, cpu.index, reason);
  if (cpu.tenant !== null) unshare(cpu, vcpu);
  else {
    vcpu.start = StartKind.WAIT_FOR_SIPI;
    switchTo(vcpu, vcpu);
    cpu.state = CpuState.PARKED;
  }
  unlock();
}

/** An instance is ended by another one. */
export function stopOther(vcpu: Vcpu, number: u32): Result {
  if (number !== otherInstance(vcpu.instance)) return Result.INSTANCE;
  if (instanceOf(number).state !== InstanceState.RUNNING) return Result.INSTANCE;
  // What holds the platform is stopped only by itself: nobody else can quiesce its devices.
  if (instanceOf(number).holdsPlatform) return Result.INSTANCE;
  const cpu = cpuOf(vcpu);
  parkOthers(cpu, number);
  if (cpuTenant(cpu.index) === number) unshare(cpu, vcpuOf(number, cpu.index));
  markStopped(number, cpu.index, StopReason.KILLED);
  return Result.OK;
}

/** The free memory of a stopped second instance returns to the caller's map, its processors wait for the caller's SIPI. */
export function giveBack(vcpu: Vcpu, number: u32): Result {
  const self = vcpu.instance;
  if (number !== otherInstance(self) || instanceOf(number).state !== InstanceState.STOPPED) return Result.INSTANCE;
  if (!instanceOf(self).holdsPlatform) return Result.INSTANCE;
  const cpu = cpuOf(vcpu);
  holdOthers(cpu, self);
  for (let i: u32 = 0; i < pieceTotal(); i++) {
    const piece = pieceAt(i);
    if (piece.owner === FREE) mapIdentical(self, piece.base, piece.size, MAP_ALL);
  }
  returnWindows(self);
  closeView(self);
  guardApic(self, false);
  guardSharedMsrs(self, false);
  flushMemoryMap(vcpu);
  letGo();
  record(EventType.GRANTED, self, cpu.index, u64(ResourceKind.MEMORY), amountOf(FREE, ResourceKind.MEMORY));
  adoptFreeCpus(self);
  moveEverything(FREE, self);
  updateIommu(self);
  resetMap(number);
  setLowBase(number, 0n);
  instanceOf(number).state = InstanceState.NONE;
  return Result.OK;
}

/** Processors that nobody uses become an instance's and wait for its SIPI. */
export function adoptFreeCpus(instance: u32): void {
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    if (cpu.state !== CpuState.PARKED) continue;
    adoptCpu(cpu, instance);
  }
}

function adoptCpu(cpu: Cpu, instance: u32): void {
  const vcpu = freshVcpu(instance, cpu.index);
  setCpuOwner(cpu.index, instance);
  record(EventType.GRANTED, instance, cpu.index, u64(ResourceKind.CPU), u64(cpu.index));
  orderSwitch(cpu, vcpu);
}

/** An instance's virtual CPU as after INIT, its exit counters kept. */
function freshVcpu(instance: u32, index: u32): Vcpu {
  const vcpu = vcpuOf(instance, index);
  vcpu.instance = instance;
  vcpu.index = index;
  vcpu.view = instance;
  vcpu.start = StartKind.WAIT_FOR_SIPI;
  vcpu.icrHigh = 0;
  vcpu.ldr = 0;
  vcpu.exposeLdr = 0;
  return vcpu;
}
