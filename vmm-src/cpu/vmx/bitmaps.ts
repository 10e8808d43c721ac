/**
 * Which I/O ports of an instance exit, and which MSRs of a view (Vcpu.view; SDM Vol.
 * 3C, 26.6.4 and 26.6.9).
 * One bit each, set means exit.
 */
import "../../../compiler/core/dialect.mjs";

type IoBitmap = FixedArray<FixedArray<u8, 4096>, 2>;
const ioBitmaps: FixedArray<IoBitmap, 2> = zeroed(4096);
/** Four bitmaps of 1 KiB: read low, read high, write low, write high. */
type MsrBitmap = FixedArray<u8, 4096>;
const msrBitmaps: FixedArray<MsrBitmap, 4> = zeroed(4096);
const MSR_HIGH_BASE: u32 = 0xc0000000;
const MSR_HIGH_OFFSET: u32 = 1024;
const MSR_WRITE_OFFSET: u32 = 2048;

/** Physical address of bitmap A (ports below 0x8000) or B. */
export function ioBitmap(instance: u32, half: u32): HostPhysical {
  return u64(addressOf(ioBitmaps[instance - 1][half]));
}

export function msrBitmap(view: u32): HostPhysical {
  return u64(addressOf(msrBitmaps[view - 1]));
}

/** Makes `count` ports from `first` exit, or not. */
export function trapPorts(instance: u32, first: u16, count: u32, trap: boolean): void {
  for (let i: u32 = 0; i < count; i++) {
    const port: u32 = u32(first) + i;
    const half = ioBitmaps[instance - 1][(port >> 15) & 1];
    const byte: u32 = (port & 0x7fff) >> 3;
    const bit: u8 = wrapU8(u32(1) << (port & 7));
    half[byte] = trap ? half[byte] | bit : half[byte] & ~bit;
  }
}

/** Makes every port exit, or none. */
export function trapAllPorts(instance: u32, trap: boolean): void {
  fillBytes(addressOf(ioBitmaps[instance - 1]), trap ? 0xff : 0, 8192n);
}

/** Lets every MSR of the bitmap's ranges pass. */
export function resetMsrs(view: u32): void {
  fillBytes(addressOf(msrBitmaps[view - 1]), 0, 4096n);
}

/** Makes the same MSRs exit in one view as in another. */
export function copyMsrs(from: u32, to: u32): void {
  copyBytes(addressOf(msrBitmaps[to - 1]), addressOf(msrBitmaps[from - 1]), 4096n);
}

/** Makes writes of every MSR exit. */
export function trapAllMsrWrites(view: u32): void {
  fillBytes(addressOf(msrBitmaps[view - 1]) + u64(MSR_WRITE_OFFSET), 0xff, 2048n);
}

function setMsrBit(view: u32, index: u32, offset: u32, trap: boolean): void {
  const low: u32 = index & 0x1fff;
  const half: u32 = index >= MSR_HIGH_BASE ? MSR_HIGH_OFFSET : 0;
  const byte: u32 = offset + half + (low >> 3);
  const bit: u8 = wrapU8(u32(1) << (low & 7));
  const map = msrBitmaps[view - 1];
  map[byte] = trap ? map[byte] | bit : map[byte] & ~bit;
}

/** Makes reads of one MSR exit, or not. */
export function trapMsrRead(view: u32, index: u32, trap: boolean): void {
  setMsrBit(view, index, 0, trap);
}

/** Makes writes of one MSR exit, or not. */
export function trapMsrWrite(view: u32, index: u32, trap: boolean): void {
  setMsrBit(view, index, MSR_WRITE_OFFSET, trap);
}
