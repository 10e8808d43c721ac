/**
 * Which I/O ports of an instance exit, and which MSRs of a view (Vcpu.view): the I/O permissions map, a bit for
 * each port, and the MSR permissions map, a bit for reads and one for writes (APM
 * Vol. 2, 15.10.1 and 15.11). Set means exit.
 */
import "../../../compiler/core/dialect.mjs";

/** 64 Ki ports and as much again of bits for what reaches beyond the last one, in whole pages. */
const ioPermissions: FixedArray<FixedArray<u8, 12288>, 2> = zeroed(4096);
const msrPermissions: FixedArray<FixedArray<u8, 8192>, 4> = zeroed(4096);
/** 2 KiB each for the MSRs from 0, from C0000000h and from C0010000h, 8 Ki of them. */
const HIGH_BASE: u32 = 0xc0000000;
const HIGH_OFFSET: u32 = 0x800;
const AMD_BASE: u32 = 0xc0010000;
const AMD_OFFSET: u32 = 0x1000;

export function ioPermissionsOf(instance: u32): HostPhysical {
  return u64(addressOf(ioPermissions[instance - 1]));
}

export function msrPermissionsOf(view: u32): HostPhysical {
  return u64(addressOf(msrPermissions[view - 1]));
}

/** Makes `count` ports from `first` exit, or not. */
export function trapPorts(instance: u32, first: u16, count: u32, trap: boolean): void {
  const map = ioPermissions[instance - 1];
  for (let i: u32 = 0; i < count; i++) {
    const port: u32 = (u32(first) + i) & 0xffff;
    const bit: u8 = wrapU8(u32(1) << (port & 7));
    map[port >> 3] = trap ? map[port >> 3] | bit : map[port >> 3] & ~bit;
  }
}

/** Makes every port exit, or none. */
export function trapAllPorts(instance: u32, trap: boolean): void {
  fillBytes(addressOf(ioPermissions[instance - 1]), trap ? 0xff : 0, 12288n);
}

/** Lets every MSR of the map's ranges pass. */
export function resetMsrs(view: u32): void {
  fillBytes(addressOf(msrPermissions[view - 1]), 0, 8192n);
}

const ALL_WRITES: u8 = 0xaa;

/** Makes the same MSRs exit in one view as in another. */
export function copyMsrs(from: u32, to: u32): void {
  copyBytes(addressOf(msrPermissions[to - 1]), addressOf(msrPermissions[from - 1]), 8192n);
}

/** Makes writes of every MSR exit. */
export function trapAllMsrWrites(view: u32): void {
  const map = msrPermissions[view - 1];
  for (let i: u32 = 0; i < map.length; i++) map[i] |= ALL_WRITES;
}

function setMsrBit(view: u32, index: u32, which: u32, trap: boolean): void {
  const offset: u32 = index >= AMD_BASE ? AMD_OFFSET : index >= HIGH_BASE ? HIGH_OFFSET : 0;
  const number: u32 = 2 * (index & 0x1fff) + which;
  const bit: u8 = wrapU8(u32(1) << (number & 7));
  const byte: u32 = (offset + (number >> 3)) & 8191;
  const map = msrPermissions[view - 1];
  map[byte] = trap ? map[byte] | bit : map[byte] & ~bit;
}

/** Makes reads of one MSR exit, or not. */
export function trapMsrRead(view: u32, index: u32, trap: boolean): void {
  setMsrBit(view, index, 0, trap);
}

/** Makes writes of one MSR exit, or not. */
export function trapMsrWrite(view: u32, index: u32, trap: boolean): void {
  setMsrBit(view, index, 1, trap);
}
