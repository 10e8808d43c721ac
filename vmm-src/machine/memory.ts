/** Accesses to memory and memory-mapped registers whose size an instruction says. */
import "../../compiler/core/dialect.mjs";

/** One access of 1, 2, 4 or 8 bytes. */
export function loadBytes(place: u64, size: u32): u64 {
  switch (size) {
    case 1: return u64(load8(place));
    case 2: return u64(load16(place));
    case 4: return u64(load32(place));
    default: return load64(place);
  }
}

/** One access of 1, 2, 4 or 8 bytes, the low ones of the value. */
export function storeBytes(place: u64, size: u32, value: u64): void {
  switch (size) {
    case 1: store8(place, wrapU8(value)); break;
    case 2: store16(place, wrapU16(value)); break;
    case 4: store32(place, wrapU32(value)); break;
    default: store64(place, value); break;
  }
}
