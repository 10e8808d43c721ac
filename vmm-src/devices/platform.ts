/**
 * Where the machine's ACPI devices are, from its FADT and HPET tables: read once
 * by boot/acpi.ts, used by the shadows and by the traps on sleep and reset.
 */
import "../../compiler/core/dialect.mjs";

export class Platform extends Struct {
  pm1aEvent: u16;
  pm1aControl: u16;
  pm1bEvent: u16;
  pm1bControl: u16;
  pmTimer: u16;
  gpe0: u16;
  pm1EventLength: u16;
  gpe0Length: u16;
  /** Port of the reset register, 0 if it is not a port. */
  reset: u16;
  smiCommand: u16;
  resetValue: u8;
  padding0: u8;
  padding1: u16;
  hpet: HostPhysical;
  hpetTablePresent: u32;
  acpiFound: u32;
}
export const platform: Platform = zeroed();

/** Whether a port belongs to a register block of `length` bytes at `base` (0: there is none). */
export function inBlock(port: u16, base: u16, length: u16): boolean {
  return base !== 0 && port >= base && port - base < length;
}
