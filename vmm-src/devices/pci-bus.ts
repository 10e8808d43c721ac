/**
 * The PCI functions of the machine: found once, beneath the first instance, whose
 * they all are; what turns up later is shielded. Configuration space is reached
 * through memory where the MCFG table says so (PCI Firmware 3.3, 4.1.2), which
 * takes one access; otherwise by ports CF8 and CFC (PCI Local Bus 3.0, 3.2.2.3.2),
 * which take two, with the other processors held.
 */
import { EventType, SHIELDED } from '../abi.ts';
import { record } from '../events.ts';
import { portIn32, portOut32 } from '../machine/intrinsics.ts';
import { portRead, portWrite } from '../machine/ports.ts';
import {
  PCI_CLASS, PCI_CLASS_BRIDGE, PCI_HEADER_TYPE, PCI_MULTIFUNCTION, PCI_NO_VENDOR, PCI_SECONDARY_BUS, PCI_SUBCLASS,
  PCI_SUBCLASS_PCI_BRIDGE, PCI_VENDOR_ID,
} from '../machine/pci.ts';
import { PciFunction, addFunction, findFunction, functionAt, functionTotal, resetFunctions } from '../partition.ts';

export const CONFIG_ADDRESS: u16 = 0xcf8;
export const CONFIG_DATA: u16 = 0xcfc;
export const CONFIG_ENABLE: u32 = 0x80000000;
const DEVICES: u32 = 32;
const BUS_SHIFT: u64 = 20n;
const FUNCTION_SHIFT: u64 = 12n;

/** Bus 0's place in memory, 0 where there is none, and the last bus there. */
let ecam: HostPhysical = 0n;
let lastBus: u32 = 0;

/** The MCFG's range of segment 0, from bus 0 on. */
export function setEcam(base: HostPhysical, last: u32): void {
  ecam = base;
  lastBus = last;
}

export function ecamBase(): HostPhysical {
  return ecam;
}

/** Bytes of configuration space in memory; 0 where there is none. */
export function ecamSize(): u64 {
  return ecam === 0n ? 0n : u64(lastBus + 1) << BUS_SHIFT;
}

function addressOfFunction(bdf: u32): HostPhysical {
  return ecam + (u64(bdf) << FUNCTION_SHIFT);
}

function selectByPort(bdf: u32, offset: u32): u16 {
  portOut32(CONFIG_ADDRESS, CONFIG_ENABLE | (bdf << 8) | (offset & 0xfc));
  return CONFIG_DATA + wrapU16(offset & 3);
}

/** Reads 1, 2 or 4 bytes of a function's configuration space, aligned to their size. */
export function readConfig(bdf: u32, offset: u32, size: u32): u32 {
  if (ecam === 0n) return portRead(selectByPort(bdf, offset), size);
  if ((bdf >> 8) > lastBus) return 0xffffffff;
  const at: HostPhysical = addressOfFunction(bdf) + u64(offset);
  if (size === 1) return u32(load8(at));
  return size === 2 ? u32(load16(at)) : load32(at);
}

/** Writes 1, 2 or 4 bytes of a function's configuration space, aligned to their size. */
export function writeConfig(bdf: u32, offset: u32, size: u32, value: u32): void {
  if (ecam === 0n) {
    portWrite(selectByPort(bdf, offset), size, value);
    return;
  }
  if ((bdf >> 8) > lastBus) return;
  const at: HostPhysical = addressOfFunction(bdf) + u64(offset);
  if (size === 1) store8(at, wrapU8(value));
  else if (size === 2) store16(at, wrapU16(value));
  else store32(at, value);
}

export function isPresent(bdf: u32): boolean {
  return readConfig(bdf, PCI_VENDOR_ID, 2) !== PCI_NO_VENDOR;
}

export function isBridge(fn: PciFunction): boolean {
  return fn.config[PCI_CLASS] === PCI_CLASS_BRIDGE;
}

export function isPciBridge(fn: PciFunction): boolean {
  return isBridge(fn) && fn.config[PCI_SUBCLASS] === PCI_SUBCLASS_PCI_BRIDGE;
}

/** Index of the bridge right above a bus; functionTotal() for bus 0, and where there is none. */
export function bridgeAbove(bus: u32): u32 {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (bus !== 0 && isPciBridge(fn) && readConfig(u32(fn.bdf), PCI_SECONDARY_BUS, 1) === bus) return i;
  }
  return functionTotal();
}

/** Records one function, with its whole configuration space. */
function addSnapshot(bdf: u32, owner: u32): PciFunction {
  const fn = addFunction(wrapU16(bdf), owner);
  for (let i: u32 = 0; i < 64; i++) store32(addressOf(fn.config) + u64(i * 4), readConfig(bdf, i * 4, 4));
  return fn;
}

/** Records a function that was not there before. */
function discover(bdf: u32): PciFunction {
  const fn = addSnapshot(bdf, SHIELDED);
  record(EventType.DISCOVERED, 0, 0, u64(bdf), u64(load32(addressOf(fn.config))));
  return fn;
}

/** Records those functions of one device that are not known. */
function scanDevice(bus: u32, device: u32, first: boolean, owner: u32): void {
  let count: u32 = 1;
  for (let number: u32 = 0; number < 8; number++) {
    if (number >= count) return;
    const bdf: u32 = (bus << 8) | (device << 3) | number;
    const known = findFunction(wrapU16(bdf));
    if (known === functionTotal() && !isPresent(bdf)) continue;
    const fn = known < functionTotal() ? functionAt(known) : first ? addSnapshot(bdf, owner) : discover(bdf);
    if (number === 0 && (fn.config[PCI_HEADER_TYPE] & PCI_MULTIFUNCTION) !== 0) count = 8;
  }
}

/** Scans bus 0, and through the bridges the buses that they find below them. */
function scan(first: boolean, owner: u32): void {
  for (let device: u32 = 0; device < DEVICES; device++) scanDevice(0, device, first, owner);
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    const bus: u32 = isPciBridge(fn) ? readConfig(u32(fn.bdf), PCI_SECONDARY_BUS, 1) : 0;
    if (bus === 0) continue;
    for (let device: u32 = 0; device < DEVICES; device++) scanDevice(bus, device, first, owner);
  }
}

/**
 * Finds every function; all belong to `owner`. The caller holds the other
 * processors; CF8 is left as it was.
 */
export function scanPci(owner: u32): void {
  const before = portIn32(CONFIG_ADDRESS);
  resetFunctions();
  scan(true, owner);
  portOut32(CONFIG_ADDRESS, before);
}

/** Looks for functions that were plugged in since; without configuration space in memory nobody may be disturbed for that. */
export function rescanPci(): void {
  if (ecam !== 0n) scan(false, SHIELDED);
}

/** A function that answers and is not known: from now on it is, as shielded. */
export function noticeFunction(bdf: u32): void {
  if (findFunction(wrapU16(bdf)) === functionTotal()) discover(bdf);
}
