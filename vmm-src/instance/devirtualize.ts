/**
 * Devirtualization in parts: the instance that is alone on the machine has its
 * I/O, its memory or its processors for itself, one after the other in any order,
 * while the VMM is still beneath it with the rest. The last part is the release.
 *
 * - I/O: no port, no configuration space and no local APIC exits.
 * - memory: nothing of the machine's memory is kept from it, the VMM's own included.
 *   The second level of page tables goes as soon as the I/O part does not need it
 *   to see accesses to configuration space.
 * - processor: nothing exits that the back end can do without (UNCONDITIONAL_EXITS).
 *
 * With the first of I/O and memory an IOMMU goes back to the kernel as it drives it.
 *
 * A processor that Linux takes offline afterwards leaves the VMM first, and comes
 * back bare: its INIT and SIPI could not be followed any more.
 */
import { CpuState, EventType, InstanceState, MAX_CPUS, Result, TRAPPED_ALL, TRAPPED_IO, TRAPPED_MEMORY, TRAPPED_PROCESSOR } from '../abi.ts';
import { DIRECT_PORTS, DIRECT_PROCESSOR, DIRECT_TABLES, Vcpu, cpuOf, cpus, vcpuOf } from '../cpu/cpu.ts';
import { holdOthers, letGo } from '../cpu/kick.ts';
import { mapIdentical, mapIdentity, unmapRange } from '../cpu/memory-map.ts';
import { MAP_ALL } from '../cpu/permissions.ts';
import { trapAllPorts, trapMsrWrite } from '#processor/bitmaps.ts';
import { adaptControls, openMsrs } from '#processor/direct.ts';
import { flushMemoryMap } from '#processor/guest.ts';
import { disengageIommu, unitBase, unitSize, unitTotal } from '../devices/iommu/iommu.ts';
import { ecamBase, ecamSize } from '../devices/pci-bus.ts';
import { record } from '../events.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import { PAGE_SIZE } from '../machine/registers.ts';
import { VMM, cpuOwner, functionAt, functionTotal, pieceAt, pieceTotal } from '../partition.ts';
import { otherInstance } from './boot.ts';
import { letOfflineLeave } from './capture.ts';
import { X2APIC_ICR, instanceOf, runningInstances } from './instance.ts';

function holdsFunctions(instance: u32): boolean {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    if (functionAt(i).owner !== instance) return false;
  }
  return true;
}

function holdsRam(instance: u32): boolean {
  for (let i: u32 = 0; i < pieceTotal(); i++) {
    const owner = pieceAt(i).owner;
    if (owner !== instance && owner !== VMM) return false;
  }
  return true;
}

function holdsCpus(instance: u32): boolean {
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (cpus[i].state !== CpuState.BARE && cpuOwner(i) !== instance) return false;
  }
  return true;
}

/** Whether nothing but `vcpu`'s instance has to do with `parts`. */
function check(vcpu: Vcpu, parts: u32, online: u64): Result {
  const self = vcpu.instance;
  if (parts === 0 || (parts & ~TRAPPED_ALL) !== 0) return Result.UNKNOWN;
  if (runningInstances() !== 1 || !instanceOf(self).holdsPlatform || instanceOf(otherInstance(self)).state !== InstanceState.NONE) return Result.BUSY;
  if ((online >> u64(cpuOf(vcpu).index) & 1n) === 0n) return Result.CPU;
  if ((instanceOf(self).direct | parts) === TRAPPED_ALL) return Result.DIRECT;
  if ((parts & TRAPPED_IO) !== 0 && !holdsFunctions(self)) return Result.FUNCTION;
  if ((parts & TRAPPED_MEMORY) !== 0 && !holdsRam(self)) return Result.MEMORY;
  return (parts & TRAPPED_PROCESSOR) !== 0 && !holdsCpus(self) ? Result.CPU : Result.OK;
}

/** DIRECT_* bits that follow from TRAPPED_* bits. */
function controlsFor(direct: u32): u32 {
  let bits: u32 = 0;
  const ports = (direct & TRAPPED_IO) !== 0;
  if (ports) bits |= DIRECT_PORTS;
  if ((direct & TRAPPED_PROCESSOR) !== 0) bits |= DIRECT_PROCESSOR;
  if ((direct & TRAPPED_MEMORY) !== 0 && (ports || ecamSize() === 0n)) bits |= DIRECT_TABLES;
  return bits;
}

/** An IOMMU is the kernel's own: it would keep devices from memory, and its registers would exit. */
function openUnits(instance: u32): void {
  disengageIommu(instance);
  for (let i: u32 = 0; i < unitTotal(); i++) mapIdentical(instance, unitBase(i), unitSize(), MAP_ALL);
}

/** The instance's maps and bitmaps for what it has for itself by now. */
function openParts(instance: u32, direct: u32): void {
  const io = (direct & TRAPPED_IO) !== 0;
  if ((direct & TRAPPED_PROCESSOR) !== 0) openMsrs(instance);
  if ((direct & TRAPPED_MEMORY) !== 0) mapIdentity(instance);
  // INIT and SIPI are not followed any more, whichever part this is.
  mapIdentical(instance, APIC_DEFAULT_BASE, PAGE_SIZE, MAP_ALL);
  trapMsrWrite(instance, X2APIC_ICR, false);
  if ((direct & (TRAPPED_IO | TRAPPED_MEMORY)) !== 0) openUnits(instance);
  if (io) trapAllPorts(instance, false);
  if (ecamSize() === 0n) return;
  if (io) mapIdentical(instance, ecamBase(), ecamSize(), MAP_ALL);
  else unmapRange(instance, u64(ecamBase()), ecamSize());
}

/**
 * Devirtualizes `parts`, TRAPPED_* bits, for the caller's instance, whose processors
 * `online` Linux has online. On any result but OK everything is as before: what can
 * be refused comes first, and nothing after that can fail.
 */
export function devirtualize(vcpu: Vcpu, parts: u32, online: u64): Result {
  const checked = check(vcpu, parts, online);
  if (checked !== Result.OK) return checked;
  const self = vcpu.instance;
  letOfflineLeave(vcpu, online);
  holdOthers(cpuOf(vcpu), self);
  const instance = instanceOf(self);
  const direct: u32 = instance.direct | parts;
  instance.direct = direct;
  openParts(self, direct);
  for (let i: u32 = 0; i < MAX_CPUS; i++) vcpuOf(self, i).direct = controlsFor(direct);
  adaptControls(vcpu);
  flushMemoryMap(vcpu);
  letGo();
  record(EventType.DEVIRTUALIZED, self, cpuOf(vcpu).index, u64(parts), 0n);
  return Result.OK;
}
