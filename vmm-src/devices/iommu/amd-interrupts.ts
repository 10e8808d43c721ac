/**
 * Interrupts of functions of another instance than the platform's holder, on AMD's
 * units: they have a table of the VMM's, which their device table entries name. A
 * message's vector and mode choose the entry, and that where it goes; so a function
 * of theirs interrupts whom the table names, whatever it sends. The other kinds,
 * which go past a table, they do not have (48882 rev. 3.08, 2.2.5).
 */
import { ICR_MODE_FIXED } from '../../machine/apic.ts';
import {
  AMD_ENTRY_DESTINATION_SHIFT, AMD_ENTRY_HIGH_DESTINATION, AMD_ENTRY_HIGH_SHIFT, AMD_ENTRY_ON, AMD_ENTRY_VECTOR_SHIFT, AMD_FORGET_INTERRUPTS,
  AMD_INTERRUPTS_BY_TABLE, AMD_INTERRUPTS_LENGTH_SHIFT, AMD_OPERATION_SHIFT, AMD_REMAPS, AMD_WIDE_ENTRIES, AMD_CONTROL,
} from '../../machine/amd-iommu.ts';
import { PageTable } from '../../machine/registers.ts';
import { AmdUnit, amdRead, amdSubmit } from './amd-unit.ts';

/** 256 entries, of 4 bytes, or of 16 where the kernel has the units so. */
const table: PageTable = zeroed(4096);
const LENGTH: u64 = 8n;
const WIDE: u64 = 16n;
const NARROW: u64 = 4n;

/** The interrupt part of such a function's device table entry. */
export function ownInterrupts(): u64 {
  return AMD_REMAPS | (LENGTH << AMD_INTERRUPTS_LENGTH_SHIFT) | addressOf(table) | AMD_INTERRUPTS_BY_TABLE;
}

export function hasWideEntries(unit: AmdUnit): boolean {
  return (amdRead(unit, AMD_CONTROL) & AMD_WIDE_ENTRIES) !== 0n;
}

/** No message goes anywhere. */
export function clearOwnInterrupts(): void {
  fillBytes(addressOf(table), 0, 4096n);
}

/**
 * Makes entry `slot` send an interrupt to one processor; other modes than fixed can't
 * be. True: it was absent in between, so that a message may have been lost.
 */
export function setAmdEntry(wide: boolean, slot: u32, vector: u32, mode: u32, apicId: u32): boolean {
  if (mode !== ICR_MODE_FIXED) {
    clearAmdEntry(wide, slot);
    return false;
  }
  if (!wide) {
    store32(addressOf(table) + u64(slot) * NARROW, wrapU32(AMD_ENTRY_ON) | (apicId << wrapU32(AMD_ENTRY_DESTINATION_SHIFT)) | (vector << wrapU32(AMD_ENTRY_VECTOR_SHIFT)));
    return false;
  }
  const place: u64 = addressOf(table) + u64(slot) * WIDE;
  const low: u64 = AMD_ENTRY_ON | (u64(apicId & AMD_ENTRY_HIGH_DESTINATION) << AMD_ENTRY_DESTINATION_SHIFT);
  const high: u64 = u64(vector) | (u64(apicId & ~AMD_ENTRY_HIGH_DESTINATION) << AMD_ENTRY_HIGH_SHIFT);
  const isNew = load64(place + 8n) !== high;
  const missed = isNew && load64(place) !== 0n;
  if (isNew) {
    store64(place, 0n);
    store64(place + 8n, high);
  }
  store64(place, low);
  return missed;
}

/** The message of entry `slot` goes nowhere. */
export function clearAmdEntry(wide: boolean, slot: u32): void {
  if (wide) store64(addressOf(table) + u64(slot) * WIDE, 0n);
  else store32(addressOf(table) + u64(slot) * NARROW, 0);
}

/** The unit forgets what it has looked up of a requester's interrupts. */
export function forgetEntries(unit: AmdUnit, requester: u32): void {
  amdSubmit(unit, (AMD_FORGET_INTERRUPTS << AMD_OPERATION_SHIFT) | u64(requester), 0n);
}
