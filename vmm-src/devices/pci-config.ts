/**
 * PCI configuration space by ports CF8 and CFC (PCI Local Bus 3.0, 3.2.2.3.2).
 * An instance sees the functions that it holds and the bridges that lead to
 * anything at all; the rest reads as ones, as an empty slot does. The bridges come
 * from a snapshot, so that nobody's CF8 is disturbed.
 */
import { portIn32, portOut32 } from '../machine/intrinsics.ts';
import { PciFunction, addFunction, findFunction, functionAt, functionTotal, resetFunctions } from '../partition.ts';

export const CONFIG_ADDRESS: u16 = 0xcf8;
export const CONFIG_DATA: u16 = 0xcfc;
const ENABLE: u32 = 0x80000000;
const EMPTY: u32 = 0xffff;
const CLASS_OFFSET: u64 = 11n;
const CLASS_BRIDGE: u8 = 6;
const SUBCLASS_OFFSET: u64 = 10n;
const SUBCLASS_PCI_BRIDGE: u8 = 4;
const HEADER_TYPE_OFFSET: u64 = 14n;
const MULTIFUNCTION: u8 = 0x80;
const SECONDARY_BUS_OFFSET: u64 = 0x19n;

let address: u32 = 0;

export function resetPciConfig(): void {
  address = 0;
}

export function configAddress(): u32 {
  return address;
}

export function setConfigAddress(value: u32): void {
  address = value;
}

function readReal(bdf: u32, offset: u32): u32 {
  portOut32(CONFIG_ADDRESS, ENABLE | (bdf << 8) | offset);
  return portIn32(CONFIG_DATA);
}

/** Records one function, with its whole configuration space. */
function addSnapshot(bdf: u32, owner: u32): PciFunction {
  const fn = addFunction(wrapU16(bdf), owner);
  for (let i: u32 = 0; i < 64; i++) store32(addressOf(fn.config) + u64(i * 4), readReal(bdf, i * 4));
  return fn;
}

/** Records the functions of one device. */
function scanDevice(bus: u32, device: u32, owner: u32): void {
  let count: u32 = 1;
  for (let fn: u32 = 0; fn < 8; fn++) {
    if (fn >= count) return;
    const bdf: u32 = (bus << 8) | (device << 3) | fn;
    if ((readReal(bdf, 0) & EMPTY) === EMPTY) continue;
    const found = addSnapshot(bdf, owner);
    if (fn === 0 && (load8(addressOf(found.config) + HEADER_TYPE_OFFSET) & MULTIFUNCTION) !== 0) count = 8;
  }
}

function isBridge(fn: PciFunction): boolean {
  return load8(addressOf(fn.config) + CLASS_OFFSET) === CLASS_BRIDGE;
}

/**
 * Finds every function from bus 0 on through the bridges; all belong to `owner`.
 * The caller holds the other processors, since CF8 and CFC are two accesses; CF8
 * is left as it was.
 */
export function scanPci(owner: u32): void {
  const before = portIn32(CONFIG_ADDRESS);
  resetFunctions();
  for (let device: u32 = 0; device < 32; device++) scanDevice(0, device, owner);
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (!isBridge(fn) || load8(addressOf(fn.config) + SUBCLASS_OFFSET) !== SUBCLASS_PCI_BRIDGE) continue;
    const bus: u32 = u32(load8(addressOf(fn.config) + SECONDARY_BUS_OFFSET));
    if (bus === 0) continue;
    for (let device: u32 = 0; device < 32; device++) scanDevice(bus, device, owner);
  }
  portOut32(CONFIG_ADDRESS, before);
}

/** What an instance that holds no function reads at CFC + `lane`, one byte. */
export function readConfigByte(lane: u32): u8 {
  if ((address & ENABLE) === 0) return 0xff;
  const index = findFunction(wrapU16((address >> 8) & 0xffff));
  if (index >= functionTotal()) return 0xff;
  const fn = functionAt(index);
  if (!isBridge(fn)) return 0xff;
  return fn.config[(address & 0xfc) | lane];
}
