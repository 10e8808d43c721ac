/**
 * The HPET of an instance that does not hold the real one (IA-PC HPET 1.0a). Its
 * counter only counts, so both read the real one without an exit; writes are kept
 * here and handed over.
 */
import { platform } from './platform.ts';
import { setTickPeriod } from './tick.ts';

const REGISTERS = 256;
const CONFIGURATION: u32 = 0x10;
const COUNTER: u32 = 0xf0;
const TIMER0: u32 = 0x100;
const TIMER_STRIDE: u32 = 0x20;
const TIMERS: u32 = 3;
const PERIOD_FS_OFFSET: u64 = 4n;
const TIMER0_COMPARATOR: u32 = 0x108;
const TIMER0_PERIODIC: u32 = 8;
const FEMTOSECONDS: u64 = 1000000n;

const values: FixedArray<u32, 256> = zeroed();
const written: FixedArray<boolean, 256> = zeroed();

export function resetHpet(): void {
  for (let i: u32 = 0; i < REGISTERS; i++) {
    values[i] = 0;
    written[i] = false;
  }
}

/** A read of `size` bytes (4 or 8): the real device's. */
export function hpetRead(offset: u32, size: u32): u64 {
  const address: HostPhysical = platform.hpet + u64(offset);
  return size === 8 ? load64(address) : u64(load32(address));
}

/** A write of `size` bytes (4 or 8) at `offset` of the register page. */
export function hpetWrite(offset: u32, size: u32, value: u64): void {
  const index: u32 = (offset >> 2) & 255;
  values[index] = wrapU32(value);
  written[index] = true;
  if (size === 8) {
    values[(index + 1) & 255] = wrapU32(value >> 32n);
    written[(index + 1) & 255] = true;
  }
  if (offset === TIMER0_COMPARATOR && (values[TIMER0 >> 2] & TIMER0_PERIODIC) !== 0) {
    setTickPeriod(u64(wrapU32(value)) * u64(load32(platform.hpet + PERIOD_FS_OFFSET)) / FEMTOSECONDS);
  }
}

function writeReal(offset: u32): void {
  if (written[(offset >> 2) & 255]) store32(platform.hpet + u64(offset), values[(offset >> 2) & 255]);
}

/** Writes the timers and then the configuration into the real device; its counter goes on. */
export function handOverHpet(): void {
  if (platform.hpet === 0n) return;
  for (let timer: u32 = 0; timer < TIMERS; timer++) {
    const base: u32 = TIMER0 + timer * TIMER_STRIDE;
    writeReal(base);
    writeReal(base + 8);
  }
  writeReal(CONFIGURATION);
}

/** Whether a register is the counter, which nobody but its holder may set. */
export function isCounter(offset: u32): boolean {
  return offset === COUNTER || offset === COUNTER + 4;
}
