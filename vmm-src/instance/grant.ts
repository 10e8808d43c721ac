/**
 * PCI functions of an instance that does not hold the platform. They lie below a
 * bridge with nothing else on its bus, so that the bridge is what confines them:
 * nobody may write it meanwhile, the memory that it passes down is in their
 * holder's map alone, and what they answer to beyond that never reaches them.
 */
import { BootRequest, EventType, MAX_GRANTS, ResourceKind, Result, SHIELDED } from '../abi.ts';
import { MAP_TABLES_PER_RANGE, mapIdentical, mapTablesFree, unmapRange } from '../cpu/memory-map.ts';
import { MAP_ALL } from '../cpu/permissions.ts';
import { ioapicBase } from '../devices/ioapic.ts';
import { routesMessages } from '../devices/iommu/iommu.ts';
import { watchMessages } from '../devices/messages/registers.ts';
import { turnAtsOff } from '../devices/pci-ats.ts';
import { bridgeAbove, ecamBase, ecamSize, isBridge, readConfig, writeConfig } from '../devices/pci-bus.ts';
import { platform } from '../devices/platform.ts';
import { record } from '../events.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import {
  PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_MEMORY_WINDOW, PCI_PREFETCH_BASE_HIGH, PCI_PREFETCH_LIMIT_HIGH,
  PCI_PREFETCH_WINDOW,
} from '../machine/pci.ts';
import { PAGE_SIZE, SIZE_512G } from '../machine/registers.ts';
import { PciFunction, findFunction, functionAt, functionTotal, isHeld, touchesMemory } from '../partition.ts';

const WINDOW_SHIFT: u64 = 16n;
const WINDOW_OFFSET: u64 = 0xfffffn;
/** What tables of four levels reach, in their lower half. */
const ADDRESSABLE: u64 = 0x800000000000n;

function isRequested(request: BootRequest, bdf: u16): boolean {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i < request.functionCount && request.bdf[i] === bdf) return true;
  }
  return false;
}

/** Whether all that is known below the same bridge is asked for with a function. */
function isWhole(request: BootRequest, bus: u32): boolean {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (u32(fn.bdf >> 8) === bus && !isRequested(request, fn.bdf)) return false;
  }
  return true;
}

/** Page tables that granting `count` functions can take of each map: two windows of a bridge for each, and pages with messages that lie there. */
export function tablesForGrants(count: u32): u32 {
  return 3 * count * MAP_TABLES_PER_RANGE;
}

/** Whether the functions that a request names can be granted. */
export function checkGrants(request: BootRequest, parent: u32): Result {
  if (request.functionCount > MAX_GRANTS) return Result.FUNCTION;
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i >= request.functionCount) break;
    const index = findFunction(request.bdf[i]);
    if (ecamSize() === 0n || index === functionTotal()) return Result.FUNCTION;
    const fn = functionAt(index);
    const bus: u32 = u32(fn.bdf >> 8);
    if (isBridge(fn) || bus === 0 || (fn.owner !== parent && fn.owner !== SHIELDED)) return Result.FUNCTION;
    if (bridgeAbove(bus) === functionTotal() || !isWhole(request, bus)) return Result.FUNCTION;
  }
  return Result.OK;
}

function overlaps(base: u64, size: u64, other: u64, otherSize: u64): boolean {
  return otherSize !== 0n && base < other + otherSize && other < base + size;
}

/**
 * Whether a bridge's window may be mapped: the kernel that held the bridge has
 * written it, so it may name RAM, the VMM's own included, or what the VMM guards.
 */
function isDeviceRange(base: u64, last: u64): boolean {
  if (base === 0n || last < base || last >= ADDRESSABLE || last - base >= SIZE_512G) return false;
  const size: u64 = last - base + 1n;
  const guarded = overlaps(base, size, APIC_DEFAULT_BASE, PAGE_SIZE) || overlaps(base, size, ioapicBase(), PAGE_SIZE)
    || overlaps(base, size, platform.hpet, platform.hpet === 0n ? 0n : PAGE_SIZE) || overlaps(base, size, ecamBase(), ecamSize());
  return !guarded && !touchesMemory(base, size);
}

/** One window's part of the memory map; `high` words extend base and limit. A closed window has its limit below its base. */
function moveWindow(window: u32, baseHigh: u32, limitHigh: u32, from: u32, to: u32): void {
  const base: u64 = (u64(baseHigh) << 32n) | (u64(window & 0xfff0) << WINDOW_SHIFT);
  const last: u64 = (u64(limitHigh) << 32n) | u64(window & 0xfff00000) | WINDOW_OFFSET;
  if (!isDeviceRange(base, last) || mapTablesFree(to) < MAP_TABLES_PER_RANGE) return;
  if (from !== 0) unmapRange(from, base, last - base + 1n);
  mapIdentical(to, base, last - base + 1n, MAP_ALL);
}

/** What a bridge passes down comes into one instance's map, and leaves another's (0: nobody's). */
function moveWindows(bridge: PciFunction, from: u32, to: u32): void {
  const bdf: u32 = u32(bridge.bdf);
  moveWindow(readConfig(bdf, PCI_MEMORY_WINDOW, 4), 0, 0, from, to);
  const prefetch = readConfig(bdf, PCI_PREFETCH_WINDOW, 4);
  moveWindow(prefetch, readConfig(bdf, PCI_PREFETCH_BASE_HIGH, 4), readConfig(bdf, PCI_PREFETCH_LIMIT_HIGH, 4), from, to);
}

/** Grants the functions of a checked request; the parent's other processors are held. */
export function grantFunctions(request: BootRequest, parent: u32, child: u32, cpu: u32): void {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i >= request.functionCount) break;
    const fn = functionAt(findFunction(request.bdf[i]));
    const bridge = functionAt(bridgeAbove(u32(fn.bdf >> 8)));
    const passes = readConfig(u32(bridge.bdf), PCI_COMMAND, 2) | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    writeConfig(u32(bridge.bdf), PCI_COMMAND, 2, passes);
    moveWindows(bridge, parent, child);
    turnAtsOff(u32(fn.bdf));
    fn.owner = child;
    if (routesMessages()) watchMessages(u32(fn.bdf), child);
    record(EventType.GRANTED, child, cpu, u64(ResourceKind.FUNCTION), u64(fn.bdf));
  }
}

/** The functions of an instance that ends do nothing any more, and read no memory. */
export function quietFunctions(instance: u32): void {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (fn.owner !== instance || isBridge(fn)) continue;
    writeConfig(u32(fn.bdf), PCI_COMMAND, 2, 0);
    turnAtsOff(u32(fn.bdf));
  }
}

/** What bridges pass down to functions that no instance holds is in the platform holder's map again. */
export function returnWindows(holder: u32): void {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    const bridge = bridgeAbove(u32(fn.bdf >> 8));
    if (!isHeld(fn.owner) && bridge < functionTotal()) moveWindows(functionAt(bridge), 0, holder);
  }
}
