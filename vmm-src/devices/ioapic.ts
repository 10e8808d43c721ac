/**
 * The IOAPIC of an instance that does not hold the real one: same address, same
 * model, own redirection table. At hand-over the table goes into the real one.
 */
import "../../compiler/core/dialect.mjs";
import {
  IOAPIC_EOI, IOAPIC_ID, IOAPIC_MASKED, IOAPIC_SELECT, IOAPIC_TABLE, IOAPIC_VERSION, IOAPIC_WINDOW,
} from '../machine/apic.ts';

export const IOAPIC_PINS = 24;
class Ioapic extends Struct {
  entries: FixedArray<u64, 24>;
  id: u32;
  select: u32;
  version: u32;
  reserved: u32;
}
const ioapic: Ioapic = zeroed();
let base: HostPhysical = 0xfec00000n;

/** The address from the MADT, before first use. */
export function setIoapicBase(address: HostPhysical): void {
  base = address;
}

export function ioapicBase(): HostPhysical {
  return base;
}

/** Masks every pin; id and version are the real one's. The caller sees to it that nobody else uses the real one meanwhile. */
export function resetIoapic(): void {
  const selected = load32(base);
  ioapic.id = readReal(IOAPIC_ID);
  ioapic.version = readReal(IOAPIC_VERSION);
  store32(base, selected);
  for (let i: u32 = 0; i < IOAPIC_PINS; i++) ioapic.entries[i] = IOAPIC_MASKED;
  ioapic.select = 0;
}

function readReal(register: u32): u32 {
  store32(base, register);
  return load32(base + u64(IOAPIC_WINDOW));
}

function writeReal(register: u32, value: u32): void {
  store32(base, register);
  store32(base + u64(IOAPIC_WINDOW), value);
}

/** The real IOAPIC's registers, for the instance that holds it and is looked at. */
export function selectedRegister(): u32 {
  return load32(base) & 0xff;
}

export function writeRealIoapic(offset: u32, value: u32): void {
  store32(base + u64(offset), value);
}

/** Half of a real redirection entry: 0 the low word. Changes the selection. */
export function readRealEntry(pin: u32, half: u32): u32 {
  return readReal(IOAPIC_TABLE + 2 * pin + half);
}

/** Writes a real redirection entry, only the halves that change. Changes the selection. */
export function writeRealEntry(pin: u32, low: u32, high: u32): void {
  if (readRealEntry(pin, 1) !== high) writeReal(IOAPIC_TABLE + 2 * pin + 1, high);
  if (readRealEntry(pin, 0) !== low) writeReal(IOAPIC_TABLE + 2 * pin, low);
}

/** The redirection entry of a pin. */
export function ioapicEntry(pin: u32): u64 {
  return ioapic.entries[pin];
}

function isEntry(register: u32): boolean {
  return register >= IOAPIC_TABLE && register < IOAPIC_TABLE + 2 * IOAPIC_PINS;
}

export function ioapicRead(offset: u32): u32 {
  if (offset === IOAPIC_SELECT) return ioapic.select;
  if (offset !== IOAPIC_WINDOW) return 0;
  const register = ioapic.select;
  if (register === IOAPIC_ID) return ioapic.id;
  if (register === IOAPIC_VERSION) return ioapic.version;
  if (!isEntry(register)) return 0;
  const entry = ioapic.entries[((register - IOAPIC_TABLE) >> 1) % IOAPIC_PINS];
  return (register & 1) === 0 ? wrapU32(entry) : wrapU32(entry >> 32n);
}

export function ioapicWrite(offset: u32, value: u32): void {
  if (offset === IOAPIC_SELECT) ioapic.select = value & 0xff;
  if (offset !== IOAPIC_WINDOW || offset === IOAPIC_EOI) return;
  const register = ioapic.select;
  if (register === IOAPIC_ID) ioapic.id = value;
  if (!isEntry(register)) return;
  const pin: u32 = ((register - IOAPIC_TABLE) >> 1) % IOAPIC_PINS;
  const entry = ioapic.entries[pin];
  ioapic.entries[pin] = (register & 1) === 0
    ? (entry & 0xffffffff00000000n) | u64(value)
    : (entry & 0xffffffffn) | (u64(value) << 32n);
}

/** Writes the table into the real IOAPIC: first everything masked, destinations before what unmasks. */
export function handOverIoapic(): void {
  for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) {
    const entry = ioapic.entries[pin];
    const register: u32 = IOAPIC_TABLE + 2 * pin;
    writeReal(register, wrapU32(IOAPIC_MASKED));
    writeReal(register + 1, wrapU32(entry >> 32n));
    writeReal(register, wrapU32(entry));
  }
  store32(base, ioapic.select);
}
