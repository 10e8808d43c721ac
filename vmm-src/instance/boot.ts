/**
 * Boot: a second instance starts on memory and processors that the first has
 * given up. Everything is checked before anything changes; while it changes, the
 * first instance's other processors are held.
 */
import { BootRequest, CpuState, EventType, InstanceState, MAX_CPUS, MAX_WEIGHT, ResourceKind, Result } from '../abi.ts';
import { KernelStart, checkKernel, prepareKernel } from '../boot/linux.ts';
import { Cpu, StartKind, Vcpu, cpuOf, cpus, vcpuOf } from '../cpu/cpu.ts';
import { holdOthers, letGo, orderShare, orderSwitch, rememberLogicalId } from '../cpu/kick.ts';
import { isX2apicLocked } from '../cpu/apic-mode.ts';
import { MAP_TABLES_PER_RANGE, mapIdentical, mapRange, mapTablesFree, resetMap, unmapRange } from '../cpu/memory-map.ts';
import { MAP_ALL, MAP_EXECUTE, MAP_READ } from '../cpu/permissions.ts';
import { flushMemoryMap } from '#processor/guest.ts';
import { showVirtualization } from '#processor/msrs.ts';
import { resetHpet } from '../devices/hpet.ts';
import { keepRemapping, remapsInterrupts, routesMessages, updateIommu } from '../devices/iommu/iommu.ts';
import { resetIoapic } from '../devices/ioapic.ts';
import { resetLegacy } from '../devices/legacy.ts';
import { resetPciConfig } from '../devices/pci-config.ts';
import { platform } from '../devices/platform.ts';
import { resetTick } from '../devices/tick.ts';
import { resetUart } from '../devices/uart.ts';
import { record } from '../events.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { bootInfo } from '../machine/region.ts';
import { PAGE_SIZE, SIZE_2M } from '../machine/registers.ts';
import { LOW_END, cpuOwner, holdsMemory, moveMemory, setCpuOwner } from '../partition.ts';
import { cancelRelease, knowFunctions } from './capture.ts';
import { setLowBase } from './guest-memory.ts';
import { checkGrants, grantFunctions, tablesForGrants } from './grant.ts';
import { confineIoapic } from './ipi.ts';
import { closePorts, confineMsrs, guardApic, guardSharedMsrs, instanceOf } from './instance.ts';
import { mayShare, share } from './share.ts';

/** Kernel and initrd and a little to live on. */
const MINIMUM_MEMORY: u64 = 0x4000000n;

/** Ids of local APICs in xAPIC mode, where the last of 8 bits means all of them. */
const XAPIC_IDS: u32 = 255;

/** The other of two instances. */
export function otherInstance(instance: u32): u32 {
  return 3 - instance;
}

function has(mask: u64, cpu: u32): boolean {
  return (mask >> u64(cpu) & 1n) !== 0n;
}

/** Whole processors and shared ones are the caller's; a whole one is not that which asks, a shared one runs. */
function checkCpus(request: BootRequest, parent: u32, self: Cpu): Result {
  const all: u64 = request.cpuMask | request.shareMask;
  if (all === 0n || (all >> u64(MAX_CPUS)) !== 0n || (request.cpuMask & request.shareMask) !== 0n) return Result.CPU;
  let shares: u32 = 0;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (!has(all, i)) continue;
    if (cpuOwner(i) !== parent || cpus[i].vcpu === null || has(request.cpuMask, self.index)) return Result.CPU;
    if (!has(request.shareMask, i)) continue;
    if (cpus[i].state !== CpuState.RUNNING) return Result.CPU;
    shares++;
  }
  if (shares === 0) return Result.OK;
  if (request.weight < 1 || request.weight > MAX_WEIGHT) return Result.CPU;
  // Their interrupts would arrive at local APICs that the caller holds.
  if (request.functionCount !== 0) return Result.FUNCTION;
  return mayShare(shares) ? Result.OK : Result.CAPABILITY;
}

/**
 * Whether a second kernel, which knows of no IOMMU, would leave x2APIC mode: without
 * remapping, no device's interrupt reaches all ids of that mode. It is started in
 * xAPIC mode then.
 */
function leavesX2apic(parent: u32): boolean {
  return instanceOf(parent).x2apic && remapsInterrupts(parent);
}

/** Whether all processors can be in xAPIC mode, as they will be after a hand-over. */
function hasXapicMode(): boolean {
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (i < bootInfo().cpuCount && cpus[i].apicId >= XAPIC_IDS) return false;
  }
  return !isX2apicLocked();
}

/** Refuses what cannot work, before anything changes. */
export function checkRequest(request: BootRequest, parent: u32, self: Cpu): Result {
  if (instanceOf(otherInstance(parent)).state === InstanceState.RUNNING) return Result.BUSY;
  if (!instanceOf(parent).holdsPlatform) return Result.INSTANCE;
  if (leavesX2apic(parent) && !hasXapicMode()) return Result.X2APIC;
  // In x2APIC mode, a unit lets no message through that names no entry of its table.
  if (leavesX2apic(parent) && request.functionCount !== 0 && !routesMessages()) return Result.X2APIC;
  const aligned = ((request.memoryBase | request.memorySize) & (SIZE_2M - 1n)) === 0n;
  // The tables that the kernel starts on, and some of ACPI's pointers, reach 4 GiB.
  const reach: u64 = 0x100000000n;
  if (!aligned || request.memoryBase < LOW_END || request.memoryBase >= reach) return Result.MEMORY;
  if (request.memorySize > reach - request.memoryBase) return Result.MEMORY;
  if (!holdsMemory(parent, request.memoryBase, request.memorySize)) return Result.MEMORY;
  if (request.memorySize < MINIMUM_MEMORY) return Result.TOO_SMALL;
  const usable = checkCpus(request, parent, self);
  if (usable !== Result.OK) return usable;
  const granted = checkGrants(request, parent);
  if (granted !== Result.OK) return granted;
  if (mapTablesFree(parent) < 4 * MAP_TABLES_PER_RANGE + tablesForGrants(request.functionCount)) return Result.TABLES;
  return checkKernel(request);
}

/** What the new instance reaches: its range, its private low MiB, its local APIC, the clocks that only count. */
function buildMap(instance: u32, base: HostPhysical, size: u64): void {
  resetMap(instance);
  setLowBase(instance, base);
  mapRange(instance, 0n, base, LOW_END, MAP_ALL);
  mapIdentical(instance, base + LOW_END, size - LOW_END, MAP_ALL);
  mapIdentical(instance, APIC_DEFAULT_BASE, PAGE_SIZE, MAP_READ | MAP_EXECUTE);
  if (platform.hpet !== 0n) mapIdentical(instance, platform.hpet, PAGE_SIZE, MAP_READ | MAP_EXECUTE);
}

function resetShadows(): void {
  resetUart();
  resetIoapic();
  resetLegacy();
  resetPciConfig();
  resetHpet();
  resetTick();
}

function hasWholeCpus(request: BootRequest): boolean {
  return request.cpuMask !== 0n;
}

/** Moves the range and everything that hangs on it, or changes nothing; the other processors are held. */
function partition(request: BootRequest, parent: u32, child: u32): Result {
  const moved = moveMemory(request.memoryBase, request.memorySize, parent, child);
  if (moved !== Result.OK) return moved;
  unmapRange(parent, request.memoryBase, request.memorySize);
  updateIommu(parent);
  // Where the parent has all processors there are, it can interrupt nobody else.
  guardApic(parent, hasWholeCpus(request));
  guardSharedMsrs(parent, true);
  resetShadows();
  buildMap(child, request.memoryBase, request.memorySize);
  closePorts(child);
  confineMsrs(child);
  showVirtualization(child, false);
  const instance = instanceOf(child);
  instance.state = InstanceState.RUNNING;
  instance.holdsPlatform = false;
  instance.apicGuarded = true;
  instance.attached = false;
  instance.paused = false;
  instance.x2apic = instanceOf(parent).x2apic && !leavesX2apic(parent);
  instance.weight = request.weight;
  instance.startTick = readTsc();
  instance.stopTick = 0n;
  return Result.OK;
}

/** Undoes `partition` for a kernel that could not be prepared. */
function unpartition(request: BootRequest, parent: u32, child: u32): void {
  assert(moveMemory(request.memoryBase, request.memorySize, child, parent) === Result.OK); // it came from there
  mapIdentical(parent, request.memoryBase, request.memorySize, MAP_ALL);
  guardApic(parent, false);
  guardSharedMsrs(parent, false);
  setLowBase(child, 0n);
  instanceOf(child).state = InstanceState.NONE;
}

/** A virtual CPU that waits for its SIPI, unless it is to begin at the kernel's entry. */
function newVcpu(child: u32, index: u32, start: KernelStart): Vcpu {
  const vcpu = vcpuOf(child, index);
  fillBytes(addressOf(vcpu), 0, u64(sizeOf<Vcpu>()));
  vcpu.instance = child;
  vcpu.index = index;
  vcpu.view = child;
  vcpu.start = StartKind.WAIT_FOR_SIPI;
  vcpu.startRip = start.entry;
  vcpu.startRsi = start.params;
  vcpu.startCr3 = start.cr3;
  vcpu.startGdt = start.gdt;
  return vcpu;
}

/** The first whole processor boots the kernel, or else the first shared one. */
function bootCpu(request: BootRequest): u32 {
  const mask = hasWholeCpus(request) ? request.cpuMask : request.shareMask;
  let cpu: u32 = 0;
  while (!has(mask, cpu)) cpu++;
  return cpu;
}

/** Starts the processors: one at the kernel's entry, the rest waiting for its SIPI. */
function startCpus(request: BootRequest, parent: Vcpu, child: u32, start: KernelStart): void {
  const boots = bootCpu(request);
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (!has(request.cpuMask | request.shareMask, i)) continue;
    const vcpu = newVcpu(child, i, start);
    if (i === boots) vcpu.start = StartKind.BOOT_64;
    if (has(request.shareMask, i)) {
      if (i === cpuOf(parent).index) share(parent, vcpu);
      else orderShare(cpus[i], vcpu);
      continue;
    }
    setCpuOwner(i, child);
    record(EventType.GRANTED, child, i, u64(ResourceKind.CPU), u64(i));
    orderSwitch(cpus[i], vcpu);
  }
}

/** Carries a request out; on any result but OK the caller's instance is as before. */
export function boot(request: BootRequest, vcpu: Vcpu): Result {
  const parent = vcpu.instance;
  const child = otherInstance(parent);
  const self = cpuOf(vcpu);
  if (instanceOf(parent).direct !== 0) return Result.DIRECT;
  const checked = checkRequest(request, parent, self);
  if (checked !== Result.OK) return checked;
  cancelRelease();
  knowFunctions(vcpu);
  const start: KernelStart = zeroed();
  rememberLogicalId(vcpu);
  holdOthers(self, parent);
  const partitioned = partition(request, parent, child);
  const prepared = partitioned === Result.OK ? prepareKernel(request, start) : partitioned;
  if (partitioned === Result.OK && prepared !== Result.OK) unpartition(request, parent, child);
  if (prepared === Result.OK) {
    keepRemapping(request.functionCount !== 0 && routesMessages(), parent);
    grantFunctions(request, parent, child, self.index);
  }
  updateIommu(parent);
  flushMemoryMap(vcpu);
  letGo();
  if (prepared !== Result.OK) return prepared;
  record(EventType.GRANTED, child, self.index, u64(ResourceKind.MEMORY), request.memorySize);
  record(EventType.LAUNCHED, child, self.index, start.entry, 0n);
  startCpus(request, vcpu, child, start);
  if (!hasWholeCpus(request)) return Result.OK;
  holdOthers(self, parent);
  confineIoapic(vcpu);
  updateIommu(parent);
  letGo();
  return Result.OK;
}
