/**
 * PCI configuration space as an instance sees it: the functions that it holds,
 * and, if it does not hold the platform, the bridges that lead to anything at all,
 * to be read only. The rest reads as ones, as an empty slot does.
 */
import { portIn32, portOut32 } from '../machine/intrinsics.ts';
import { portRead, portWrite } from '../machine/ports.ts';
import { PCI_COMMAND, PCI_SECONDARY_BUS } from '../machine/pci.ts';
import { PciFunction, findFunction, functionAt, functionTotal, isHeld } from '../partition.ts';
import {
  CONFIG_ADDRESS, CONFIG_DATA, CONFIG_ENABLE, ecamBase, ecamSize, isBridge, isPciBridge, isPresent, noticeFunction, readConfig, writeConfig,
} from './pci-bus.ts';
import { noteRequester } from './iommu/iommu.ts';
import { followTable, readMessageConfig, writeMessageConfig } from './messages/registers.ts';
import { shieldRead, shieldWrite } from './pci-slot.ts';

/** Address bits that only some processors know (AMD's extended access by port): nobody uses them where there is memory for that. */
const EXTENDED_ADDRESS: u32 = 0x7f000000;
const FUNCTION_SHIFT: u64 = 12n;
const OFFSET_MASK: u64 = 0xfffn;

/** What the instance without the platform has in CF8. */
let address: u32 = 0;

export function resetPciConfig(): void {
  address = 0;
}

export function configAddress(): u32 {
  return address;
}

function ones(size: u32): u32 {
  return size === 4 ? 0xffffffff : (u32(1) << (8 * size)) - 1;
}

/** The part of an aligned word that a read of `size` bytes at `offset` wants. */
function partOf(word: u32, offset: u32, size: u32): u32 {
  return (word >> (8 * (offset & 3))) & ones(size);
}

function readOwn(instance: u32, fn: PciFunction, offset: u32, size: u32): u32 {
  if (!isBridge(fn) || offset > 0xff) return readMessageConfig(u32(fn.bdf), offset, size, readConfig(u32(fn.bdf), offset, size));
  const word: u32 = offset & ~u32(3);
  return partOf(shieldRead(instance, fn, word, readConfig(u32(fn.bdf), word, 4)), offset, size);
}

/** Whether a function that is not known has come since the functions were found. */
function isNew(bdf: u32): boolean {
  return functionTotal() !== 0 && isPresent(bdf);
}

/** A function that is not known. One that answers is new, and from now on shielded; what has no vendor may still be a virtual function. */
function readUnknown(bdf: u32, offset: u32, size: u32): u32 {
  if (!isNew(bdf)) return readConfig(bdf, offset, size);
  noticeFunction(bdf);
  return ones(size);
}

/** A bridge of somebody else's: from its snapshot where a look at the real one would disturb CF8. */
function readBridge(fn: PciFunction, offset: u32, size: u32): u32 {
  if (ecamBase() !== 0n) return readConfig(u32(fn.bdf), offset, size);
  return partOf(load32(addressOf(fn.config) + u64(offset & 0xfc)), offset, size);
}

/** With its Command register a kernel lets a function master the bus; the IOMMU must have looked at what it has to say of the function before that. */
function noteCommand(instance: u32, holder: boolean, bdf: u32, offset: u32): void {
  if (holder && (offset & ~u32(3)) === PCI_COMMAND) noteRequester(bdf, instance);
}

/** What `instance` reads of a function: 1, 2 or 4 bytes. `holder`: it holds the platform. */
export function readFunction(instance: u32, holder: boolean, bdf: u32, offset: u32, size: u32): u32 {
  noteCommand(instance, holder, bdf, offset);
  const index = findFunction(wrapU16(bdf));
  if (index === functionTotal()) return holder ? readUnknown(bdf, offset, size) : ones(size);
  const fn = functionAt(index);
  if (fn.owner === instance) return readOwn(instance, fn, offset, size);
  return !holder && isBridge(fn) ? readBridge(fn, offset, size) : ones(size);
}

/** Whether a function is the bridge above functions of another instance, which nobody may write. */
function confinesOther(instance: u32, bridge: PciFunction): boolean {
  if (!isPciBridge(bridge)) return false;
  const bus = readConfig(u32(bridge.bdf), PCI_SECONDARY_BUS, 1);
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (isHeld(fn.owner) && fn.owner !== instance && u32(fn.bdf >> 8) === bus) return true;
  }
  return false;
}

/** What `instance` writes to a function: 1, 2 or 4 bytes. */
export function writeFunction(instance: u32, holder: boolean, bdf: u32, offset: u32, size: u32, value: u32): void {
  noteCommand(instance, holder, bdf, offset);
  const index = findFunction(wrapU16(bdf));
  if (index === functionTotal()) {
    if (holder && !isNew(bdf)) writeConfig(bdf, offset, size, value);
    return;
  }
  const fn = functionAt(index);
  if (fn.owner !== instance) return;
  if (offset <= 0xff && shieldWrite(instance, fn, offset, size, value)) return;
  if (confinesOther(instance, fn) || writeMessageConfig(bdf, offset, size, value)) return;
  writeConfig(bdf, offset, size, value);
  if ((offset & ~u32(3)) === PCI_COMMAND) followTable(bdf);
}

/** Whether an address is in the configuration space that lies in memory. */
export function isEcam(at: GuestPhysical): boolean {
  return ecamBase() !== 0n && at >= u64(ecamBase()) && at - u64(ecamBase()) < ecamSize();
}

/** A load from configuration space in memory. */
export function readEcam(instance: u32, holder: boolean, at: GuestPhysical, size: u32): u64 {
  const place: u64 = at - u64(ecamBase());
  const bdf = wrapU32(place >> FUNCTION_SHIFT);
  const offset = wrapU32(place & OFFSET_MASK);
  if (size < 8) return u64(readFunction(instance, holder, bdf, offset, size));
  return u64(readFunction(instance, holder, bdf, offset, 4)) | (u64(readFunction(instance, holder, bdf, offset + 4, 4)) << 32n);
}

/** A store into configuration space in memory. */
export function writeEcam(instance: u32, holder: boolean, at: GuestPhysical, size: u32, value: u64): void {
  const place: u64 = at - u64(ecamBase());
  const bdf = wrapU32(place >> FUNCTION_SHIFT);
  const offset = wrapU32(place & OFFSET_MASK);
  writeFunction(instance, holder, bdf, offset, size < 8 ? size : 4, wrapU32(value));
  if (size === 8) writeFunction(instance, holder, bdf, offset + 4, 4, wrapU32(value >> 32n));
}

/** Whether an access is one of configuration mechanism 1: CF8 as a whole, or CFC to CFF. CF9 alone resets the machine. */
export function isConfigPort(port: u16, size: u32): boolean {
  return (port === CONFIG_ADDRESS && size === 4) || (port >= CONFIG_DATA && port < CONFIG_DATA + 4);
}

/** The address that an instance has selected; the holder's is the real register. */
function selected(holder: boolean): u32 {
  return holder ? portIn32(CONFIG_ADDRESS) : address;
}

function isFunction(selection: u32): boolean {
  return (selection & CONFIG_ENABLE) !== 0 && (selection & EXTENDED_ADDRESS) === 0;
}

/** IN from a port of configuration mechanism 1. */
export function configIn(instance: u32, holder: boolean, port: u16, size: u32): u32 {
  const selection = selected(holder);
  if (port === CONFIG_ADDRESS) return selection;
  if (!isFunction(selection)) return holder ? portRead(port, size) : ones(size);
  const offset: u32 = (selection & 0xfc) | u32(port & 3);
  const value = readFunction(instance, holder, (selection >> 8) & 0xffff, offset, size);
  if (holder) portOut32(CONFIG_ADDRESS, selection);
  return value;
}

/** OUT to a port of configuration mechanism 1. */
export function configOut(instance: u32, holder: boolean, port: u16, size: u32, value: u32): void {
  if (port === CONFIG_ADDRESS) {
    if (holder) portOut32(CONFIG_ADDRESS, value);
    else address = value;
    return;
  }
  const selection = selected(holder);
  if (!isFunction(selection)) {
    if (holder) portWrite(port, size, value);
    return;
  }
  const offset: u32 = (selection & 0xfc) | u32(port & 3);
  writeFunction(instance, holder, (selection >> 8) & 0xffff, offset, size, value);
  if (holder) portOut32(CONFIG_ADDRESS, selection);
}
