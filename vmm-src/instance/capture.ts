/**
 * Capture and release: a bare, running operating system becomes instance 1, in
 * place, one processor at a time; the instance that is left becomes bare again.
 */
import { BootInfo, CpuState, EventType, InstanceState, MAX_CPUS, MAX_RANGES, Result } from '../abi.ts';
import { readPlatform } from '../boot/acpi.ts';
import { Cpu, Vcpu, cpuOf, cpus, vcpuOf } from '../cpu/cpu.ts';
import { finishOrder, holdOthers, letGo, orderLeave } from '../cpu/kick.ts';
import { ICR_ASSERT, ICR_LEVEL, ICR_MODE_INIT } from '../machine/apic.ts';
import { isX2apic, markBootstrap, sendIpi } from '../cpu/local-apic.ts';
import { buildHostTables, buildIdtSlice, buildProcessor, buildTransition, protectImage } from '../cpu/host.ts';
import { IDENTITY_STEPS, mapIdentityStep, resetMap } from '../cpu/memory-map.ts';
import { checkCapability } from '#processor/capability.ts';
import { captureState, turnOff, turnOn } from '#processor/capture.ts';
import { guestCr3, guestCr4 } from '#processor/guest.ts';
import { showVirtualization } from '#processor/msrs.ts';
import { prepareRelease, releaseCpu } from '#processor/release.ts';
import { STARTUP_EXITS } from '#processor/signal.ts';
import { retire } from '#processor/vcpu.ts';
import { disengageIommu, engageIommu, mayEngage } from '../devices/iommu/iommu.ts';
import { ecamSize, rescanPci, scanPci } from '../devices/pci-bus.ts';
import { attendSlots, forgetRemoved } from '../devices/pci-slot.ts';
import { record } from '../events.ts';
import { ANNEX_SIZE } from '../machine/annex.ts';
import { haltForever, readTsc } from '../machine/intrinsics.ts';
import { readMtrrs } from '../machine/mtrr.ts';
import { bootInfo } from '../machine/region.ts';
import { E820_RAM, VMM, addMemory, functionTotal, moveMemory, resetPartition, setCpuOwner } from '../partition.ts';
import { guardApic, guardMsrs, hideRegion, instanceOf, openPorts, runningInstances } from './instance.ts';

/** The operating system that is captured. */
const FIRST: u32 = 1;
const IDT_SLICES: u32 = 8;
/** Preparation's steps: first everything that can refuse, then IDT slices, processors, the identity map, and the rest. */
const STEP_IDT: u32 = 1;
const STEP_CPUS: u32 = STEP_IDT + IDT_SLICES;
const STEP_IDENTITY: u32 = STEP_CPUS + MAX_CPUS;
const STEP_LAST: u32 = STEP_IDENTITY + IDENTITY_STEPS;

/** The partition at commencement: all RAM is the first instance's, but the VMM's region and annex. */
function buildPartition(info: BootInfo): Result {
  if (info.cpuCount > MAX_CPUS || info.rangeCount > MAX_RANGES) return Result.CAPABILITY;
  if (info.annexSize < ANNEX_SIZE) return Result.MEMORY;
  resetPartition(info.cpuCount);
  for (let i: u32 = 0; i < MAX_RANGES; i++) {
    if (i >= info.rangeCount) break;
    const range = info.range[i];
    if (range.type !== E820_RAM) continue;
    const added = addMemory(range.base, range.size, FIRST);
    if (added !== Result.OK) return added;
  }
  const moved = moveMemory(info.regionBase, info.regionSize, FIRST, VMM);
  return moved === Result.OK ? moveMemory(info.annexBase, info.annexSize, FIRST, VMM) : moved;
}

function prepareFirst(): Result {
  const info = bootInfo();
  const capability = checkCapability();
  if (capability !== Result.OK) return capability;
  const partition = buildPartition(info);
  if (partition !== Result.OK) return partition;
  const found = readPlatform();
  if (found !== Result.OK) return found;
  readMtrrs();
  buildHostTables();
  resetMap(FIRST);
  return Result.OK;
}

function prepareCpu(index: u32): void {
  const cpu = cpus[index];
  cpu.index = index;
  cpu.apicId = bootInfo().apicId[index];
  cpu.state = CpuState.BARE;
  const vcpu = vcpuOf(FIRST, index);
  vcpu.instance = FIRST;
  vcpu.index = index;
  vcpu.view = FIRST;
  buildProcessor(index);
}

/** One slice of the preparation before the first capture; AGAIN until the last. */
export function prepare(step: u32): Result {
  if (step === 0) {
    const first = prepareFirst();
    return first === Result.OK ? Result.AGAIN : first;
  }
  if (step < STEP_CPUS) buildIdtSlice(step - STEP_IDT);
  else if (step < STEP_IDENTITY) prepareCpu(step - STEP_CPUS);
  else if (step < STEP_LAST) mapIdentityStep(FIRST, step - STEP_IDENTITY);
  else {
    protectImage();
    prepareRelease();
    hideRegion(FIRST);
    openPorts(FIRST);
    guardMsrs(FIRST);
    if (!STARTUP_EXITS) guardApic(FIRST, false);
    showVirtualization(FIRST, true);
    const instance = instanceOf(FIRST);
    instance.state = InstanceState.RUNNING;
    instance.holdsPlatform = true;
    instance.x2apic = isX2apic();
    instance.weight = 1;
    instance.startTick = readTsc();
    return Result.OK;
  }
  return Result.AGAIN;
}

/** Captures the processor that runs this, up to the entry itself; the kernel goes on at `rip` with `rsp` and `cr3`. */
export function capture(index: u32, rip: u64, rsp: u64, cr3: u64): Result {
  if (index >= MAX_CPUS || index >= bootInfo().cpuCount) return Result.CPU;
  const cpu: Cpu = cpus[index];
  if (cpu.state !== CpuState.BARE || instanceOf(FIRST).state !== InstanceState.RUNNING) return Result.INSTANCE;
  if (instanceOf(FIRST).direct !== 0) return Result.DIRECT;
  if (!turnOn(cpu)) return Result.PROCESSOR;
  const result = captureState(vcpuOf(FIRST, index), cpu, rip, rsp, cr3);
  if (result !== Result.OK) {
    turnOff(cpu);
    return result;
  }
  cpu.state = CpuState.RUNNING;
  setCpuOwner(index, FIRST);
  record(EventType.CAPTURED, FIRST, index, 0n, 0n);
  return Result.OK;
}

/** The VM entry failed: the processor is bare as before. */
export function undoCapture(index: u32): void {
  setCpuOwner(index, 0);
  turnOff(cpus[index % MAX_CPUS]);
}

/** Finds the PCI functions: the first time all are the first instance's, what has come since is shielded from `vcpu`'s, which holds the platform. */
export function knowFunctions(vcpu: Vcpu): void {
  if (functionTotal() !== 0) {
    attendSlots(vcpu.instance);
    if (ecamSize() !== 0n) {
      rescanPci();
      forgetRemoved();
    }
  } else {
    holdOthers(cpuOf(vcpu), 0);
    scanPci(FIRST);
    letGo();
  }
  confineDevices(vcpu);
}

/** Devices reach what their instances reach, from here on; not where a release has begun, which has ended that. */
function confineDevices(vcpu: Vcpu): void {
  if (!mayEngage() || releaseMask !== 0n) return;
  holdOthers(cpuOf(vcpu), 0);
  engageIommu(vcpu.instance);
  letGo();
}

/** Processors that may ask for the second half of a release, since the first; bit by number. */
let releaseMask: u64 = 0n;

/** Whether a virtual CPU's processor may be released now. */
export function mayRelease(vcpu: Vcpu): boolean {
  const announced = (releaseMask >> u64(cpuOf(vcpu).index) & 1n) !== 0n;
  return announced && runningInstances() === 1 && instanceOf(vcpu.instance).holdsPlatform;
}

/** A release that was begun and not followed through is off. */
export function cancelRelease(): void {
  releaseMask = 0n;
}

/**
 * The first half of a release: nothing but the caller's instance may run. The
 * processors outside `online` run nothing that could ask for its own release
 * (Linux has them offline): they leave here, and a native INIT then parks them.
 */
export function beginRelease(vcpu: Vcpu, online: u64): Result {
  if (runningInstances() !== 1 || !instanceOf(vcpu.instance).holdsPlatform) return Result.BUSY;
  const self = cpuOf(vcpu);
  if ((online >> u64(self.index) & 1n) === 0n) return Result.CPU;
  holdOthers(self, vcpu.instance);
  disengageIommu(vcpu.instance);
  letGo();
  letOfflineLeave(vcpu, online);
  return Result.OK;
}

/** Lets those processors leave that Linux has offline, which could not ask for it; the others may from now on. */
export function letOfflineLeave(vcpu: Vcpu, online: u64): void {
  buildTransition(guestCr3(vcpu), guestCr4(vcpu));
  releaseMask = online;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    if (cpu.state === CpuState.BARE || (online >> u64(i) & 1n) !== 0n) continue;
    orderLeave(cpu);
    sendIpi(cpu.apicId, ICR_MODE_INIT | ICR_LEVEL | ICR_ASSERT);
    setCpuOwner(i, 0);
    record(EventType.RELEASED, vcpu.instance, i, 1n, 0n);
  }
}

/** LEAVE, on the processor that was ordered to: virtualization off, and nothing of the VMM's in use once INIT arrives, which must not start firmware. */
export function leaveAndHalt(vcpu: Vcpu): never {
  const cpu = cpuOf(vcpu);
  markBootstrap(false);
  retire(vcpu);
  turnOff(cpu);
  finishOrder(cpu);
  haltForever();
}

/** The second half, on each processor. */
export function release(vcpu: Vcpu): never {
  const cpu = cpuOf(vcpu);
  record(EventType.RELEASED, vcpu.instance, cpu.index, 0n, 0n);
  setCpuOwner(cpu.index, 0);
  releaseCpu(vcpu, cpu);
}
