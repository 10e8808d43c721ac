/** I/O ports by an access size that is known only at run time: 1, 2 or 4 bytes. */
import { portIn16, portIn32, portIn8, portOut16, portOut32, portOut8 } from './intrinsics.ts';

export function portRead(port: u16, size: u32): u32 {
  if (size === 1) return u32(portIn8(port));
  if (size === 2) return u32(portIn16(port));
  return portIn32(port);
}

export function portWrite(port: u16, size: u32, value: u32): void {
  if (size === 1) portOut8(port, wrapU8(value));
  else if (size === 2) portOut16(port, wrapU16(value));
  else portOut32(port, value);
}
