/**
 * Touches that the memory map does not let through: registers of devices that an instance has shadows of, its
 * guarded local APIC, or a touch of memory that is not its own, which is stopped
 * and recorded: reads give ones, writes are lost, as on a bus where nobody answers.
 */
import { EventType, StopReason } from '../abi.ts';
import { Vcpu, cpuOf, isTenant } from '../cpu/cpu.ts';
import { isBeyondIdentity, mapIdentical, mapTablesFree } from '../cpu/memory-map.ts';
import { MAP_ALL } from '../cpu/permissions.ts';
import { flushMemoryMap, guestIs64Bit, guestRegister, guestRip, injectGp, interruptedDelivery, setGuestRegister, skipInstruction } from '#processor/guest.ts';
import { holdOthers, letGo, lock, unlock } from '../cpu/kick.ts';
import { Access, AccessKind, decodeAccess, mergeRegister, truncateTo } from '../devices/decode.ts';
import { hpetRead, hpetWrite, isCounter } from '../devices/hpet.ts';
import { ioapicBase, ioapicRead, ioapicWrite } from '../devices/ioapic.ts';
import { isIommu, readIommu, writeIommu } from '../devices/iommu/iommu.ts';
import { isMessagePage, readMessagePage, takeMapChange, writeMessagePage } from '../devices/messages/registers.ts';
import { isEcam, readEcam, writeEcam } from '../devices/pci-config.ts';
import { platform } from '../devices/platform.ts';
import { updateTick } from '../devices/tick.ts';
import { record } from '../events.ts';
import { APIC_DEFAULT_BASE } from '../machine/apic.ts';
import { PAGE_SIZE, SIZE_1G } from '../machine/registers.ts';
import { FREE, ownerOf } from '../partition.ts';
import { fetchInstruction } from './guest-memory.ts';
import { handleTableExit } from './io-tables.ts';
import { readHolderApic } from './holder-timer.ts';
import { instanceOf } from './instance.ts';
import { writeGuardedApic, writeGuardedIoapic } from './ipi.ts';
import { stopSelf } from './stop.ts';
import { readTenantApic, writeTenantApic } from './tenant-apic.ts';

/** Tables that device memory mapped on demand leaves for launches and hand-overs. */
const TABLES_RESERVED: u32 = 40;
const ALL_ONES: u64 = 0xffffffffffffffffn;
const PAGE_OFFSET: u64 = PAGE_SIZE - 1n;

function isPage(address: GuestPhysical, page: u64): boolean {
  return page !== 0n && (address & ~PAGE_OFFSET) === (page & ~PAGE_OFFSET);
}

/** Reads through the map are allowed where only writes are guarded; this sees the reads of a read-modify-write too. */
function read(vcpu: Vcpu, address: GuestPhysical, size: u32): u64 {
  if (isPage(address, APIC_DEFAULT_BASE)) {
    const offset: u32 = wrapU32(address & PAGE_OFFSET);
    return isTenant(vcpu) ? readTenantApic(vcpu, offset, size) : u64(readHolderApic(vcpu, offset & 0xff0));
  }
  const shadowed = !instanceOf(vcpu.instance).holdsPlatform;
  if (isEcam(address)) return readEcam(vcpu.instance, !shadowed, address, size);
  if (shadowed && isMessagePage(vcpu.instance, address)) return readMessagePage(address, size);
  if (shadowed && isPage(address, ioapicBase())) return u64(ioapicRead(wrapU32(address & 0xffn)));
  if (isPage(address, ioapicBase())) return u64(load32(u64(address)));
  if (!shadowed && isIommu(address)) return readIommu(address, size, vcpu.instance);
  if (shadowed && isPage(address, platform.hpet)) return hpetRead(wrapU32(address & PAGE_OFFSET), size);
  return truncateTo(ALL_ONES, size);
}

function write(vcpu: Vcpu, address: GuestPhysical, size: u32, value: u64): void {
  const offset: u32 = wrapU32(address & PAGE_OFFSET);
  if (isPage(address, APIC_DEFAULT_BASE)) {
    if (isTenant(vcpu)) writeTenantApic(vcpu, offset, size, wrapU32(value));
    else writeGuardedApic(vcpu, offset & 0xff0, wrapU32(value));
    return;
  }
  const shadowed = !instanceOf(vcpu.instance).holdsPlatform;
  if (isEcam(address)) writeEcam(vcpu.instance, !shadowed, address, size, value);
  else if (shadowed && isMessagePage(vcpu.instance, address)) writeMessagePage(address, size, value);
  else if (shadowed && isPage(address, ioapicBase())) {
    ioapicWrite(offset & 0xff, wrapU32(value));
    updateTick(vcpu);
  } else if (!shadowed && isIommu(address)) writeIommu(address, size, value, vcpu.instance);
  else if (isPage(address, ioapicBase())) writeGuardedIoapic(vcpu, offset & 0xff, wrapU32(value));
  else if (shadowed && isPage(address, platform.hpet) && !isCounter(offset)) hpetWrite(offset, size, value);
}

function emulate(vcpu: Vcpu, address: GuestPhysical, access: Access): void {
  if (access.kind === AccessKind.WRITE_IMMEDIATE) {
    write(vcpu, address, access.size, truncateTo(access.immediate, access.size));
    return;
  }
  const register = guestRegister(vcpu, access.register);
  const source: u64 = access.highByte !== 0 ? register >> 8n : register;
  if (access.kind === AccessKind.WRITE) {
    write(vcpu, address, access.size, truncateTo(source, access.size));
    return;
  }
  const value = read(vcpu, address, access.size);
  if (access.kind === AccessKind.EXCHANGE) write(vcpu, address, access.size, truncateTo(source, access.size));
  setGuestRegister(vcpu, access.register, mergeRegister(register, value, access.registerSize, access.highByte !== 0));
}

/** The instance's processors forget what they have cached of its map. */
export function forgetMaps(vcpu: Vcpu): void {
  holdOthers(cpuOf(vcpu), vcpu.instance);
  flushMemoryMap(vcpu);
  letGo();
}

/** Handles a touch of memory that is the instance's own, or that it is given now; one of somebody else's is recorded, and still to be carried out. */
function handleOwnMemory(vcpu: Vcpu, address: GuestPhysical): boolean {
  const owner = ownerOf(u64(address));
  if (owner === vcpu.instance && handleTableExit(vcpu, address)) return true;
  if (isBeyondIdentity(address) && (owner === FREE || owner === vcpu.instance) && instanceOf(vcpu.instance).holdsPlatform && mapTablesFree(vcpu.instance) > TABLES_RESERVED) {
    if (!lock(vcpu)) return true;
    mapIdentical(vcpu.instance, address & ~(SIZE_1G - 1n), SIZE_1G, MAP_ALL);
    unlock();
    return true;
  }
  // One of an address where nothing is, is no breach.
  if (owner !== FREE) record(EventType.MEMORY_VIOLATION, vcpu.instance, cpuOf(vcpu).index, address, guestRip(vcpu));
  return false;
}

/** Handles the exit. What cannot be decoded gets #GP, so that the guest itself names the culprit. */
export function handleMemoryExit(vcpu: Vcpu, address: GuestPhysical): void {
  // The commonest touch by far, and never of memory.
  const isApic = isPage(address, APIC_DEFAULT_BASE);
  if (!isApic && handleOwnMemory(vcpu, address)) return;
  // An interrupt or stack table where nothing is: on a bare bus it reads as ones, and the processor shuts down.
  if (interruptedDelivery(vcpu)) {
    stopSelf(vcpu, StopReason.TRIPLE_FAULT);
    return;
  }
  const bytes: FixedArray<u8, 16> = zeroed();
  const access: Access = zeroed();
  const count = guestIs64Bit(vcpu) ? fetchInstruction(vcpu, guestRip(vcpu), bytes) : 0;
  if (count === 0 || !decodeAccess(bytes, count, access) || access.kind === AccessKind.COMPARE_EXCHANGE) {
    injectGp(vcpu);
    return;
  }
  // Configuration space is one at a time: by its ports selecting and accessing are two steps. So are IOMMUs, and messages.
  const isOneAtATime = !isApic && (isEcam(address) || isIommu(address) || isMessagePage(vcpu.instance, address));
  if (isOneAtATime && !lock(vcpu)) return;
  emulate(vcpu, address, access);
  if (takeMapChange()) forgetMaps(vcpu);
  if (isOneAtATime) unlock();
  skipInstruction(vcpu, u64(access.length));
}
