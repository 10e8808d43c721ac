/**
 * Stores of a kernel into its I/O page tables, which are write-protected while
 * there are shadows of them (devices/iommu/shadow.ts). What is stored is what the
 * shadows were told of: the instruction's effect is computed here, once.
 */
import { RAX, Vcpu } from '../cpu/cpu.ts';
import { lock, unlock } from '../cpu/kick.ts';
import { permissionsAt } from '../cpu/memory-map.ts';
import { MAP_READ, MAP_WRITE } from '../cpu/permissions.ts';
import { flushMemoryMap, guestIs64Bit, guestRegister, guestRip, interruptedDelivery, setGuestRegister, setGuestStatus, skipInstruction } from '#processor/guest.ts';
import { Access, AccessKind, decodeAccess, mergeRegister, truncateTo } from '../devices/decode.ts';
import { hasRoomForTables, isIoTable, loseIoTable, openIommu, writeIoTable } from '../devices/iommu/iommu.ts';
import { loadBytes, storeBytes } from '../machine/memory.ts';
import { PAGE_SIZE, RFLAGS_AF, RFLAGS_CF, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF } from '../machine/registers.ts';
import { fetchInstruction } from './guest-memory.ts';
import { runningInstances } from './instance.ts';

/** Whether the low 8 bits of a number have an even number of ones. */
function isEven(value: u64): boolean {
  let ones: u64 = value & 0xffn;
  ones ^= ones >> 4n;
  ones ^= ones >> 2n;
  ones ^= ones >> 1n;
  return (ones & 1n) === 0n;
}

/** The flags of CMP (SDM Vol. 2A), of numbers of `size` bytes. */
export function compareFlags(first: u64, second: u64, size: u32): u64 {
  const sign: u64 = 1n << u64(8 * size - 1);
  const difference = truncateTo(first - second, size);
  let flags: u64 = 0n;
  if (first < second) flags |= RFLAGS_CF;
  if (isEven(difference)) flags |= RFLAGS_PF;
  if (((first ^ second ^ difference) & 0x10n) !== 0n) flags |= RFLAGS_AF;
  if (difference === 0n) flags |= RFLAGS_ZF;
  if ((difference & sign) !== 0n) flags |= RFLAGS_SF;
  if (((first ^ second) & (first ^ difference) & sign) !== 0n) flags |= RFLAGS_OF;
  return flags;
}

/** Stores `size` bytes; devices that the entry is for reach what it maps from before it can be seen. */
function store(place: u64, size: u32, value: u64): void {
  const entry: u64 = place & ~7n;
  const shift: u64 = 8n * (place & 7n);
  const mask: u64 = truncateTo(0xffffffffffffffffn, size) << shift;
  writeIoTable(entry, (load64(entry) & ~mask) | (value << shift & mask));
  storeBytes(place, size, value);
}

/** CMPXCHG: the accumulator is what is compared, and what is loaded where they differ (SDM Vol. 2A). */
function compareExchange(vcpu: Vcpu, place: u64, access: Access, source: u64): void {
  const before = loadBytes(place, access.size);
  const accumulator = guestRegister(vcpu, RAX);
  const expected = truncateTo(accumulator, access.size);
  setGuestStatus(vcpu, compareFlags(expected, before, access.size));
  if (before === expected) store(place, access.size, source);
  else setGuestRegister(vcpu, RAX, mergeRegister(accumulator, before, access.registerSize, false));
}

/** Carries out a store within an entry; false for any other access. */
function emulate(vcpu: Vcpu, place: u64, access: Access): boolean {
  if (access.kind === AccessKind.READ || (place & u64(access.size - 1)) !== 0n) return false;
  const register = guestRegister(vcpu, access.register);
  const source = truncateTo(access.highByte !== 0 ? register >> 8n : register, access.size);
  if (access.kind === AccessKind.COMPARE_EXCHANGE) compareExchange(vcpu, place, access, source);
  else if (access.kind === AccessKind.EXCHANGE) {
    const before = loadBytes(place, access.size);
    store(place, access.size, source);
    setGuestRegister(vcpu, access.register, mergeRegister(register, before, access.registerSize, access.highByte !== 0));
  } else store(place, access.size, access.kind === AccessKind.WRITE_IMMEDIATE ? truncateTo(access.immediate, access.size) : source);
  return true;
}

/** Whether the instruction that exited was carried out. */
function carryOut(vcpu: Vcpu, place: u64): boolean {
  const bytes: FixedArray<u8, 16> = zeroed();
  const access: Access = zeroed();
  if (interruptedDelivery(vcpu) || !guestIs64Bit(vcpu)) return false;
  const count = fetchInstruction(vcpu, guestRip(vcpu), bytes);
  if (count === 0 || !decodeAccess(bytes, count, access) || !emulate(vcpu, place, access)) return false;
  skipInstruction(vcpu, u64(access.length));
  return true;
}

/**
 * An exit for RAM of the instance's own; false if that is not mapped. An instruction that is not understood is let
 * through to a table that no device goes by any more.
 */
export function handleTableExit(vcpu: Vcpu, address: GuestPhysical): boolean {
  if (!lock(vcpu)) return true;
  const permissions = permissionsAt(vcpu.instance, address);
  const page: u64 = u64(address) & ~(PAGE_SIZE - 1n);
  const isTable = permissions === MAP_READ && isIoTable(vcpu.instance, page);
  if (isTable && !carryOut(vcpu, u64(address))) {
    loseIoTable(page);
    flushMemoryMap(vcpu);
  }
  // Nobody is there yet who would be harmed by more than a device of the kernel's that stops.
  if (isTable && !hasRoomForTables() && runningInstances() < 2) openIommu(vcpu.instance);
  // It was a table when this processor looked it up.
  if (permissions === (MAP_READ | MAP_WRITE)) flushMemoryMap(vcpu);
  unlock();
  return isTable || permissions === (MAP_READ | MAP_WRITE);
}
