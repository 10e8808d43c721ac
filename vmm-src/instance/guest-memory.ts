/**
 * An instance's memory as the VMM may touch it for the instance. Guest-physical is
 * host-physical, except that the second instance's first MiB is a private shadow
 * at the start of its range; every address is checked against the partition.
 */
import { Vcpu } from '../cpu/cpu.ts';
import { PTE_ADDRESS, PTE_LARGE, PTE_PRESENT, CR0_PG, CR4_LA57, SIZE_1G, SIZE_2M, PAGE_SIZE } from '../machine/registers.ts';
import { guestCr0, guestCr3, guestCr4 } from '#processor/guest.ts';
import { holdsMemory } from '../partition.ts';

export const LOW_SIZE: u64 = 0x100000n;
/** Bytes (SDM Vol. 2A, 2.3.11). */
const LONGEST_INSTRUCTION: u64 = 15n;
/** Where an instance's first MiB is: 0, or the base of its range while it is a shadow. */
const lowBases: FixedArray<u64, 2> = zeroed();

export function lowBase(instance: u32): HostPhysical {
  return lowBases[instance - 1];
}

export function setLowBase(instance: u32, base: HostPhysical): void {
  lowBases[instance - 1] = base;
}

/** Where something is, or that the instance has nothing there. */
export type Mapped<Address> = { mapped: true; at: Address } | { mapped: false };

/** Host address of `size` bytes at a guest-physical address; not mapped unless all of them are the instance's RAM. */
export function guestToHost(instance: u32, guest: GuestPhysical, size: u64): Mapped<HostVirtual> {
  const low = lowBase(instance);
  let host: u64 = guest;
  if (low !== 0n && guest < LOW_SIZE) {
    if (size > LOW_SIZE - guest) return { mapped: false };
    host = low + guest;
  }
  return holdsMemory(instance, host, size) ? { mapped: true, at: host } : { mapped: false };
}

/** Guest-physical address of a linear address by the guest's own page tables (SDM Vol. 3A, 5.5). */
export function guestLinearToPhysical(vcpu: Vcpu, linear: u64): Mapped<GuestPhysical> {
  if ((guestCr0(vcpu) & CR0_PG) === 0n) return { mapped: true, at: linear };
  let table: u64 = guestCr3(vcpu) & PTE_ADDRESS;
  const levels: u32 = (guestCr4(vcpu) & CR4_LA57) !== 0n ? 5 : 4;
  for (let level: u32 = levels; level > 0; level--) {
    const shift: u64 = 12n + 9n * u64(level - 1);
    const slot = guestToHost(vcpu.instance, table + ((linear >> shift) & 511n) * 8n, 8n);
    if (!slot.mapped) return { mapped: false };
    const entry = load64(slot.at);
    if ((entry & PTE_PRESENT) === 0n) return { mapped: false };
    if (level === 1) return { mapped: true, at: (entry & PTE_ADDRESS) | (linear & (PAGE_SIZE - 1n)) };
    if ((entry & PTE_LARGE) !== 0n && level <= 3) {
      const size: u64 = level === 3 ? SIZE_1G : SIZE_2M;
      return { mapped: true, at: (entry & PTE_ADDRESS & ~(size - 1n)) | (linear & (size - 1n)) };
    }
    table = entry & PTE_ADDRESS;
  }
  return { mapped: false };
}

/** Copies bytes of one page. */
function copyFromPage(vcpu: Vcpu, linear: u64, size: u64, to: HostVirtual): boolean {
  const physical = guestLinearToPhysical(vcpu, linear);
  if (!physical.mapped) return false;
  const host = guestToHost(vcpu.instance, physical.at, size);
  if (host.mapped) copyBytes(to, host.at, size);
  return host.mapped;
}

/** Copies up to 15 instruction bytes at a linear address; returns how many could be read. */
export function fetchInstruction(vcpu: Vcpu, linear: u64, out: FixedArray<u8, 16>): u32 {
  const left: u64 = PAGE_SIZE - (linear & (PAGE_SIZE - 1n));
  const here: u64 = left < LONGEST_INSTRUCTION ? left : LONGEST_INSTRUCTION;
  if (!copyFromPage(vcpu, linear, here, addressOf(out))) return 0;
  const rest: u64 = LONGEST_INSTRUCTION - here;
  if (rest === 0n || !copyFromPage(vcpu, linear + here, rest, addressOf(out) + here)) return wrapU32(here);
  return wrapU32(LONGEST_INSTRUCTION);
}
