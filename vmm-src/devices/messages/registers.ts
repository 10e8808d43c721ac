/**
 * The messages by which functions of an instance without the platform interrupt it
 * (MSI and MSI-X: PCI Local Bus 3.0, 6.8), where an IOMMU remaps interrupts. Their
 * kernel, which knows of no IOMMU, writes where they are to go; the function gets a
 * message that names an entry of the VMM's, and the entry goes there, if that is a
 * processor of the instance's. This is a translation only: what confines is that
 * the unit lets a requester name no other entries, whatever its messages are.
 *
 * MSI's message lies in configuration space. MSI-X has a table in memory, whose
 * pages exit; other registers there are passed on.
 */
import { MAX_GRANTS } from '../../abi.ts';
import { isIdentical, mapIdentical, unmapRange } from '../../cpu/memory-map.ts';
import { MAP_ALL } from '../../cpu/permissions.ts';
import { loadBytes, storeBytes } from '../../machine/memory.ts';
import {
  MSIX_CONTROL, MSIX_ENTRIES, MSIX_ENTRY, MSIX_TABLE, MSI_64_BITS, MSI_CONTROL, MSI_MESSAGE, PCI_BAR, PCI_BAR_64_BITS, PCI_BARS, PCI_BAR_KIND,
  PCI_CAPABILITIES, PCI_CAPABILITY_MSI, PCI_CAPABILITY_MSIX, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_STATUS, PCI_STATUS_CAPABILITIES,
} from '../../machine/pci.ts';
import { PAGE_SIZE, SIZE_512G } from '../../machine/registers.ts';
import { touchesMemory } from '../../partition.ts';
import { ownMessage, ownMessageData } from '../iommu/iommu.ts';
import { readConfig, writeConfig } from '../pci-bus.ts';
import { NO_SLOT, Source, addSource, findSource, isOfMsi, messageOwner, route, slotAt, slotTotal, sourceAt, sourceTotal, takeSlots } from './slots.ts';

/** Pages have come or gone that the instance's processors may have cached. */
let mapChanged: boolean = false;
/** Address, its high half, and data; then what is the function's. */
const MSIX_WORDS: u32 = 12;
const MOST_CAPABILITIES: u32 = 48;

/** Place of a function's capability; 0 if it has none. */
function findCapability(bdf: u32, id: u32): u32 {
  if ((readConfig(bdf, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES) === 0) return 0;
  let at: u32 = readConfig(bdf, PCI_CAPABILITIES, 1) & 0xfc;
  for (let i: u32 = 0; i < MOST_CAPABILITIES; i++) {
    if (at === 0 || readConfig(bdf, at, 1) === id) return at;
    at = readConfig(bdf, at + 1, 1) & 0xfc;
  }
  return 0;
}

/** Offset of MSI's data, with addresses of 32 or 64 bits. */
export function dataOffset(source: Source): u32 {
  return (readConfig(source.bdf, source.msi + MSI_CONTROL, 2) & MSI_64_BITS) !== 0 ? 8 : 4;
}

/** Gives the function MSI's message: the kernel's own, or that of the VMM's entries. */
export function setMsi(source: Source, address: u32, data: u32): void {
  const at: u32 = source.msi + MSI_MESSAGE;
  writeConfig(source.bdf, at, 4, address);
  if (dataOffset(source) === 8) writeConfig(source.bdf, at + 4, 4, 0);
  writeConfig(source.bdf, at + dataOffset(source), 2, data);
}

/** Gives the function the message of MSI's slots. Whenever its kernel writes one: a reset has the function forget it. */
function giveMsi(source: Source): void {
  if (source.first === NO_SLOT) setMsi(source, 0, 0);
  else setMsi(source, ownMessage(source.first, true), ownMessageData(source.first));
}

/** A function of `instance`, whose processors do not run meanwhile: from here on its messages are looked at. */
export function watchMessages(bdf: u32, instance: u32): void {
  const index = addSource(bdf, instance);
  const source = sourceAt(index);
  source.msi = findCapability(bdf, PCI_CAPABILITY_MSI);
  source.msix = findCapability(bdf, PCI_CAPABILITY_MSIX);
  if (source.msi !== 0) {
    const control = readConfig(bdf, source.msi + MSI_CONTROL, 2);
    source.count = u32(1) << (((control >> 1) & 7) % 6);
    source.first = takeSlots(index, 0, source.count);
    giveMsi(source);
  }
  followTable(bdf);
}

/** Where a function's MSI-X table is by its base address registers; 0 if nowhere that the VMM and the instance reach. */
function locateTable(source: Source, size: u64): HostPhysical {
  const where = readConfig(source.bdf, source.msix + MSIX_TABLE, 4);
  const bar: u32 = PCI_BAR + 4 * (where & 7);
  if (bar >= PCI_BAR + 4 * PCI_BARS) return 0n;
  const low = readConfig(source.bdf, bar, 4);
  const high: u32 = (low & PCI_BAR_KIND) === PCI_BAR_64_BITS ? readConfig(source.bdf, bar + 4, 4) : 0;
  const table: u64 = ((u64(high) << 32n) | u64(low & ~u32(15))) + u64(where & ~u32(7));
  if (table >= SIZE_512G - size || touchesMemory(table, size)) return 0n;
  for (let page: u64 = table & ~(PAGE_SIZE - 1n); page < table + size; page += PAGE_SIZE) {
    if (!isIdentical(messageOwner(), page)) return 0n;
  }
  return table;
}

/** First page of a table, and where the last one ends. */
function pagesStart(source: Source): u64 {
  return source.table & ~(PAGE_SIZE - 1n);
}

function pagesEnd(source: Source): u64 {
  return (source.table + u64(source.entries * MSIX_ENTRY) + PAGE_SIZE - 1n) & ~(PAGE_SIZE - 1n);
}

/** A function decodes its memory: its MSI-X table is where its registers say now. Nobody else reaches what its instance reaches there. */
export function followTable(bdf: u32): void {
  const index = findSource(bdf);
  const source = sourceAt(index);
  if (index === sourceTotal() || source.msix === 0 || (readConfig(bdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0) return;
  if (source.table !== 0n) mapIdentical(messageOwner(), pagesStart(source), pagesEnd(source) - pagesStart(source), MAP_ALL);
  source.entries = (readConfig(bdf, source.msix + MSIX_CONTROL, 2) & MSIX_ENTRIES) + 1;
  source.table = locateTable(source, u64(source.entries * MSIX_ENTRY));
  if (source.table !== 0n) unmapRange(messageOwner(), pagesStart(source), pagesEnd(source) - pagesStart(source));
  mapChanged = true;
}

/** Whether the instance's processors have to forget what they have cached of its map; asked once. */
export function takeMapChange(): boolean {
  const changed = mapChanged;
  mapChanged = false;
  return changed;
}

/** Which byte of MSI's message is at an offset in configuration space; 12 and more: none. */
function messageByte(source: Source, offset: u32): u32 {
  const length: u32 = source.msi === 0 ? 0 : dataOffset(source) + 2;
  return offset - (source.msi + MSI_MESSAGE) < length ? offset - (source.msi + MSI_MESSAGE) : 12;
}

/** What a kernel reads of a function's configuration space, `value` being what the function has there. */
export function readMessageConfig(bdf: u32, offset: u32, size: u32, value: u32): u32 {
  const index = findSource(bdf);
  const source = sourceAt(index);
  if (index === sourceTotal()) return value;
  let seen = value;
  for (let i: u32 = 0; i < size; i++) {
    const byte = messageByte(source, offset + i);
    if (byte < 12) seen = (seen & ~(u32(0xff) << (8 * i))) | (u32(source.message[byte]) << (8 * i));
  }
  return seen;
}

function updateMsi(source: Source): void {
  giveMsi(source);
  if (source.first === NO_SLOT) return;
  const address = load32(addressOf(source.message));
  const isHigh = dataOffset(source) === 8 && load32(addressOf(source.message) + 4n) !== 0;
  const data = u32(load16(addressOf(source.message) + u64(dataOffset(source))));
  for (let i: u32 = 0; i < source.count; i++) {
    slotAt(source.first + i).address = isHigh ? 0 : address;
    slotAt(source.first + i).data = (data & ~(source.count - 1)) | ((data + i) & (source.count - 1));
    route(source.first + i);
  }
}

/** A kernel's write to configuration space; false if it is none of a message's, for the function to have it. */
export function writeMessageConfig(bdf: u32, offset: u32, size: u32, value: u32): boolean {
  const index = findSource(bdf);
  const source = sourceAt(index);
  if (index === sourceTotal() || messageByte(source, offset) === 12) return false;
  for (let i: u32 = 0; i < size; i++) {
    const byte = messageByte(source, offset + i);
    if (byte < 12) source.message[byte] = wrapU8(value >> (8 * i));
  }
  updateMsi(source);
  return true;
}

/** Number of the function whose table has an address, or has registers beside it if `page`; sourceTotal() if none. */
function tableAt(address: u64, page: boolean): u32 {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i >= sourceTotal() || sourceAt(i).table === 0n) continue;
    const start: u64 = page ? pagesStart(sourceAt(i)) : sourceAt(i).table;
    const end: u64 = page ? pagesEnd(sourceAt(i)) : sourceAt(i).table + u64(sourceAt(i).entries * MSIX_ENTRY);
    if (address >= start && address < end) return i;
  }
  return sourceTotal();
}

/** Whether an address that an instance touched is in a page that has a table of messages. */
export function isMessagePage(instance: u32, address: GuestPhysical): boolean {
  return instance === messageOwner() && tableAt(address, true) !== sourceTotal();
}

/** The slot of an MSI-X message; NO_SLOT before the kernel has written any of it. */
function slotOf(source: u32, number: u32): u32 {
  for (let i: u32 = 0; i < slotTotal(); i++) {
    if (slotAt(i).source === source && slotAt(i).number === number && !isOfMsi(i)) return i;
  }
  return NO_SLOT;
}

function readWord(address: u64): u32 {
  const source = tableAt(address, false);
  const offset: u32 = wrapU32(address - sourceAt(source).table);
  if (source === sourceTotal() || offset % MSIX_ENTRY >= MSIX_WORDS) return load32(address);
  const index = slotOf(source, offset / MSIX_ENTRY);
  if (index === NO_SLOT || offset % MSIX_ENTRY === 4) return 0;
  return offset % MSIX_ENTRY === 0 ? slotAt(index).address : slotAt(index).data;
}

/** A load of `size` bytes from such a page. */
export function readMessagePage(address: GuestPhysical, size: u32): u64 {
  const place: u64 = address;
  if (tableAt(place, false) === sourceTotal()) return loadBytes(place, size);
  const word: u64 = place & ~3n;
  const low: u64 = u64(readWord(word)) >> (8n * (place & 3n));
  return size < 8 ? low : low | (u64(readWord(word + 4n)) << 32n);
}

/** Gives the function the message of a slot of MSI-X's. Whenever its kernel writes one: a reset has the function forget it. */
function giveMessage(source: u32, number: u32, index: u32): void {
  const entry: u64 = sourceAt(source).table + u64(number * MSIX_ENTRY);
  store32(entry, ownMessage(index, false));
  store32(entry + 4n, 0);
  store32(entry + 8n, ownMessageData(index));
}

function writeWord(address: u64, value: u32): void {
  const source = tableAt(address, false);
  const offset: u32 = wrapU32(address - sourceAt(source).table);
  const field: u32 = offset % MSIX_ENTRY;
  if (source === sourceTotal() || field >= MSIX_WORDS) {
    store32(address, value);
    return;
  }
  const known = slotOf(source, offset / MSIX_ENTRY);
  const index = known === NO_SLOT && value !== 0 ? takeSlots(source, offset / MSIX_ENTRY, 1) : known;
  // No processor that xAPIC mode knows has a high half.
  if (index === NO_SLOT || field === 4) return;
  giveMessage(source, offset / MSIX_ENTRY, index);
  if (field === 0) slotAt(index).address = value;
  else slotAt(index).data = value;
  route(index);
}

/** A store to such a page. Of the table only words and pairs of them are written (6.8.2). */
export function writeMessagePage(address: GuestPhysical, size: u32, value: u64): void {
  const place: u64 = address;
  if (tableAt(place, false) === sourceTotal()) {
    storeBytes(place, size, value);
    return;
  }
  if ((place & 3n) !== 0n || size < 4) return;
  writeWord(place, wrapU32(value));
  if (size === 8) writeWord(place + 4n, wrapU32(value >> 32n));
}
