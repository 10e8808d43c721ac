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
import { EventType, MAX_CPUS, MAX_GRANTS } from '../abi.ts';
import { cpus } from '../cpu/cpu.ts';
import { sendIpi } from '../cpu/local-apic.ts';
import { isIdentical, mapIdentical, unmapRange } from '../cpu/memory-map.ts';
import { MAP_ALL } from '../cpu/permissions.ts';
import { record } from '../events.ts';
import {
  DFR_RESET, FIRST_VALID_VECTOR, ICR_ASSERT, ICR_LOGICAL, ICR_MODE, ICR_MODE_FIXED, ICR_MODE_LOWEST, ICR_MODE_NMI, ICR_VECTOR,
} from '../machine/apic.ts';
import {
  MESSAGE_ADDRESS, MESSAGE_ADDRESS_MASK, MESSAGE_DESTINATION_SHIFT, MESSAGE_LOGICAL, MSIX_CONTROL, MSIX_ENABLE, MSIX_ENTRIES, MSIX_ENTRY_CONTROL,
  MSIX_ENTRY_MASKED, MSIX_MASKED, MSIX_TABLE, MSI_64_BITS, MSI_CONTROL, MSI_ENABLE, MSI_MASKABLE, MSI_MESSAGE, PCI_BAR, PCI_BAR_64_BITS, PCI_BARS,
  PCI_BAR_KIND, PCI_CAPABILITIES, PCI_CAPABILITY_MSI, PCI_CAPABILITY_MSIX, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_STATUS, PCI_STATUS_CAPABILITIES,
} from '../machine/pci.ts';
import { PAGE_SIZE, SIZE_512G } from '../machine/registers.ts';
import { cpuOwner, touchesMemory } from '../partition.ts';
import { isNamed } from './apic-destination.ts';
import { OWN_MESSAGES, messageEntry, ownMessage, routeMessage, unrouteMessage } from './iommu/iommu.ts';
import { readConfig, writeConfig } from './pci-bus.ts';

/** A function, and the places of its capabilities in configuration space; 0: it has none. */
class Source extends Struct {
  bdf: u32;
  msi: u32;
  msix: u32;
  /** Of MSI: slots that follow each other, and what the kernel has written from MSI_MESSAGE on. */
  first: u32;
  count: u32;
  message: FixedArray<u8, 12>;
  /** Of MSI-X: where the table is, 0 if nowhere that its instance reaches. */
  table: HostPhysical;
  entries: u32;
  /** MSIX_MASKED as it was before holdMessages. */
  masked: u32;
}
const sources: FixedArray<Source, 32> = zeroed();
let sourceCount: u32 = 0;
/** The instance that they interrupt. */
let owner: u32 = 0;
/** Pages have come or gone that the instance's processors may have cached. */
let mapChanged: boolean = false;

/** A message as the kernel has it; `refused`: it names a processor of another instance, which was recorded. */
class Slot extends Struct { source: u32; number: u32; address: u32; data: u32; refused: boolean; reserved: FixedArray<u8, 3> }
const slots: FixedArray<Slot, 256> = zeroed();
let slotCount: u32 = 0;
const NO_SLOT: u32 = 0xffffffff;
const NO_CPU: u32 = 0xffffffff;
const MSIX_ENTRY: u32 = 16;
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

/** Whether a slot is one of MSI's, and not of MSI-X's. */
function isOfMsi(index: u32): boolean {
  const source = sources[slots[index].source % MAX_GRANTS];
  return source.first !== NO_SLOT && index - source.first < source.count;
}

function sourceOf(bdf: u32): Source | null {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i < sourceCount && sources[i].bdf === bdf) return sources[i];
  }
  return null;
}

/** The processor of the instance's that a message names, by its APIC's id. The instance is in xAPIC mode. */
function targetOf(slot: Slot): u32 {
  const how: u32 = (slot.address & MESSAGE_LOGICAL) !== 0 ? ICR_LOGICAL : 0;
  const destination: u32 = (slot.address >> MESSAGE_DESTINATION_SHIFT) & 0xff;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const vcpu = cpus[i].vcpu;
    if (vcpu === null || cpuOwner(i) !== owner) continue;
    if (isNamed({ id: cpus[i].apicId, x2apic: false, logical: vcpu.ldr, model: DFR_RESET }, how, destination)) return cpus[i].apicId;
  }
  return NO_CPU;
}

/** Whether a message is an interrupt; while it is being written it may not be one yet. */
function isInterrupt(slot: Slot): boolean {
  const mode: u32 = slot.data & ICR_MODE;
  return (slot.address & MESSAGE_ADDRESS_MASK) === MESSAGE_ADDRESS && (slot.data & ICR_VECTOR) >= FIRST_VALID_VECTOR
    && (mode === ICR_MODE_FIXED || mode === ICR_MODE_LOWEST || mode === ICR_MODE_NMI);
}

/** Has the IOMMU send an interrupt where its kernel wants it, if that is within the instance. */
function route(index: u32): void {
  const slot = slots[index];
  const bdf = sources[slot.source % MAX_GRANTS].bdf;
  const target = isInterrupt(slot) ? targetOf(slot) : NO_CPU;
  if (target === NO_CPU) {
    unrouteMessage(index);
    if (isInterrupt(slot) && !slot.refused) record(EventType.INTERRUPT_VIOLATION, owner, 0, u64(messageEntry(index)) | (1n << 32n), u64(bdf));
    slot.refused = isInterrupt(slot);
    return;
  }
  const mode: u32 = (slot.data & ICR_MODE) === ICR_MODE_NMI ? ICR_MODE_NMI : ICR_MODE_FIXED;
  slot.refused = false;
  routeMessage(index, bdf, slot.data & ICR_VECTOR, mode, target);
}

/** Slots for `count` messages from `number` on; NO_SLOT if there is no room: such a function interrupts nobody. */
function takeSlots(source: u32, number: u32, count: u32): u32 {
  if (count > OWN_MESSAGES - slotCount) return NO_SLOT;
  const first = slotCount;
  for (let i: u32 = 0; i < count; i++) {
    const slot = slots[first + i];
    slot.source = source;
    slot.number = number + i;
    slot.address = 0;
    slot.data = 0;
    slot.refused = false;
  }
  slotCount = first + count;
  return first;
}

/** Offset of MSI's data, with addresses of 32 or 64 bits. */
function dataOffset(source: Source): u32 {
  return (readConfig(source.bdf, source.msi + MSI_CONTROL, 2) & MSI_64_BITS) !== 0 ? 8 : 4;
}

/** Gives the function MSI's message: the kernel's own, or that of the VMM's entries. */
function setMsi(source: Source, address: u32, data: u32): void {
  const at: u32 = source.msi + MSI_MESSAGE;
  writeConfig(source.bdf, at, 4, address);
  if (dataOffset(source) === 8) writeConfig(source.bdf, at + 4, 4, 0);
  writeConfig(source.bdf, at + dataOffset(source), 2, data);
}

/** A function of `instance`, whose processors do not run meanwhile: from here on its messages are looked at. */
export function watchMessages(bdf: u32, instance: u32): void {
  if (sourceCount >= MAX_GRANTS) return;
  const index = sourceCount;
  const source = sources[index];
  sourceCount++;
  owner = instance;
  fillBytes(addressOf(source), 0, u64(sizeOf<Source>()));
  source.bdf = bdf;
  source.msi = findCapability(bdf, PCI_CAPABILITY_MSI);
  source.msix = findCapability(bdf, PCI_CAPABILITY_MSIX);
  source.first = NO_SLOT;
  if (source.msi !== 0) {
    const control = readConfig(bdf, source.msi + MSI_CONTROL, 2);
    source.count = u32(1) << (((control >> 1) & 7) % 6);
    source.first = takeSlots(index, 0, source.count);
    const message: u64 = source.first === NO_SLOT ? 0n : ownMessage(source.first, true);
    setMsi(source, wrapU32(message), 0);
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
    if (!isIdentical(owner, page)) return 0n;
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
  const source = sourceOf(bdf);
  if (source === null || source.msix === 0 || (readConfig(bdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0) return;
  if (source.table !== 0n) mapIdentical(owner, pagesStart(source), pagesEnd(source) - pagesStart(source), MAP_ALL);
  source.entries = (readConfig(bdf, source.msix + MSIX_CONTROL, 2) & MSIX_ENTRIES) + 1;
  source.table = locateTable(source, u64(source.entries * MSIX_ENTRY));
  if (source.table !== 0n) unmapRange(owner, pagesStart(source), pagesEnd(source) - pagesStart(source));
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
  const source = sourceOf(bdf);
  if (source === null) return value;
  let seen = value;
  for (let i: u32 = 0; i < size; i++) {
    const byte = messageByte(source, offset + i);
    if (byte < 12) seen = (seen & ~(u32(0xff) << (8 * i))) | (u32(source.message[byte]) << (8 * i));
  }
  return seen;
}

function updateMsi(source: Source): void {
  if (source.first === NO_SLOT) return;
  const address = load32(addressOf(source.message));
  const isHigh = dataOffset(source) === 8 && load32(addressOf(source.message) + 4n) !== 0;
  const data = u32(load16(addressOf(source.message) + u64(dataOffset(source))));
  for (let i: u32 = 0; i < source.count; i++) {
    slots[source.first + i].address = isHigh ? 0 : address;
    slots[source.first + i].data = (data & ~(source.count - 1)) | ((data + i) & (source.count - 1));
    route(source.first + i);
  }
}

/** A kernel's write to configuration space; false if it is none of a message's, for the function to have it. */
export function writeMessageConfig(bdf: u32, offset: u32, size: u32, value: u32): boolean {
  const source = sourceOf(bdf);
  if (source === null || messageByte(source, offset) === 12) return false;
  for (let i: u32 = 0; i < size; i++) {
    const byte = messageByte(source, offset + i);
    if (byte < 12) source.message[byte] = wrapU8(value >> (8 * i));
  }
  updateMsi(source);
  return true;
}

/** Number of the function whose table has an address, or has registers beside it if `page`; sourceCount if none. */
function tableAt(address: u64, page: boolean): u32 {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    if (i >= sourceCount || sources[i].table === 0n) continue;
    const start: u64 = page ? pagesStart(sources[i]) : sources[i].table;
    const end: u64 = page ? pagesEnd(sources[i]) : sources[i].table + u64(sources[i].entries * MSIX_ENTRY);
    if (address >= start && address < end) return i;
  }
  return sourceCount;
}

/** Whether an address that an instance touched is in a page that has a table of messages. */
export function isMessagePage(instance: u32, address: GuestPhysical): boolean {
  return instance === owner && tableAt(address, true) !== sourceCount;
}

/** The slot of an MSI-X message; NO_SLOT before the kernel has written any of it. */
function slotOf(source: u32, number: u32): u32 {
  for (let i: u32 = 0; i < slotCount; i++) {
    if (slots[i].source === source && slots[i].number === number && !isOfMsi(i)) return i;
  }
  return NO_SLOT;
}

function readWord(address: u64): u32 {
  const source = tableAt(address, false);
  const offset: u32 = wrapU32(address - sources[source % MAX_GRANTS].table);
  if (source === sourceCount || offset % MSIX_ENTRY >= MSIX_WORDS) return load32(address);
  const index = slotOf(source, offset / MSIX_ENTRY);
  if (index === NO_SLOT || offset % MSIX_ENTRY === 4) return 0;
  return offset % MSIX_ENTRY === 0 ? slots[index].address : slots[index].data;
}

/** A load of `size` bytes from such a page. */
export function readMessagePage(address: GuestPhysical, size: u32): u64 {
  const place: u64 = address;
  if (tableAt(place, false) === sourceCount) return size === 1 ? u64(load8(place)) : size === 2 ? u64(load16(place)) : size === 4 ? u64(load32(place)) : load64(place);
  const word: u64 = place & ~3n;
  const low: u64 = u64(readWord(word)) >> (8n * (place & 3n));
  return size < 8 ? low : low | (u64(readWord(word + 4n)) << 32n);
}

/** Gives the function a message of the VMM's for one that its kernel begins to write. */
function newSlot(source: u32, number: u32): u32 {
  const index = takeSlots(source, number, 1);
  if (index === NO_SLOT) return NO_SLOT;
  const entry: u64 = sources[source % MAX_GRANTS].table + u64(number * MSIX_ENTRY);
  store32(entry, wrapU32(ownMessage(index, false)));
  store32(entry + 4n, 0);
  store32(entry + 8n, 0);
  return index;
}

function writeWord(address: u64, value: u32): void {
  const source = tableAt(address, false);
  const offset: u32 = wrapU32(address - sources[source % MAX_GRANTS].table);
  const field: u32 = offset % MSIX_ENTRY;
  if (source === sourceCount || field >= MSIX_WORDS) {
    store32(address, value);
    return;
  }
  const known = slotOf(source, offset / MSIX_ENTRY);
  const index = known === NO_SLOT && value !== 0 ? newSlot(source, offset / MSIX_ENTRY) : known;
  // No processor that xAPIC mode knows has a high half.
  if (index === NO_SLOT || field === 4) return;
  if (field === 0) slots[index].address = value;
  else slots[index].data = value;
  route(index);
}

/** A store to such a page. Of the table only words and pairs of them are written (6.8.2). */
export function writeMessagePage(address: GuestPhysical, size: u32, value: u64): void {
  const place: u64 = address;
  if (tableAt(place, false) === sourceCount) {
    if (size === 1) store8(place, wrapU8(value));
    else if (size === 2) store16(place, wrapU16(value));
    else if (size === 4) store32(place, wrapU32(value));
    else store64(place, value);
    return;
  }
  if ((place & 3n) !== 0n || size < 4) return;
  writeWord(place, wrapU32(value));
  if (size === 8) writeWord(place + 4n, wrapU32(value >> 32n));
}

/** The instance has ended, its functions are quiet. */
export function dropMessages(instance: u32): void {
  if (instance !== owner) return;
  for (let i: u32 = 0; i < slotCount; i++) unrouteMessage(i);
  sourceCount = 0;
  slotCount = 0;
  owner = 0;
}

/** Keeps MSI-X messages back in their functions, where they wait; what is enabled, `mask` or not. */
function maskTables(mask: boolean): void {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    const source = sources[i];
    if (i >= sourceCount || source.msix === 0) continue;
    const at: u32 = source.msix + MSIX_CONTROL;
    const control = readConfig(source.bdf, at, 2);
    if (mask) source.masked = control & MSIX_MASKED;
    writeConfig(source.bdf, at, 2, mask ? control | MSIX_MASKED : (control & ~MSIX_MASKED) | source.masked);
  }
}

/** Whether a function sends a message now, by its own word. */
function isEnabled(slot: Slot, isMsi: boolean): boolean {
  const source = sources[slot.source % MAX_GRANTS];
  if (!isMsi) {
    const control = readConfig(source.bdf, source.msix + MSIX_CONTROL, 2);
    const entry: u64 = source.table + u64(slot.number * MSIX_ENTRY + MSIX_ENTRY_CONTROL);
    return source.table !== 0n && (control & (MSIX_ENABLE | MSIX_MASKED)) === MSIX_ENABLE && (load32(entry) & MSIX_ENTRY_MASKED) === 0;
  }
  const control = readConfig(source.bdf, source.msi + MSI_CONTROL, 2);
  if ((control & MSI_ENABLE) === 0 || slot.number >= u32(1) << (((control >> 4) & 7) % 6)) return false;
  const masks: u32 = (control & MSI_MASKABLE) !== 0 ? readConfig(source.bdf, source.msi + MSI_MESSAGE + dataOffset(source) + 4, 4) : 0;
  return ((masks >> slot.number) & 1) === 0;
}

/** The platform is about to be the instance's, and interrupts to be remapped no more: until releaseMessages. */
export function holdMessages(): void {
  maskTables(true);
}

/** The functions have the messages that their kernel wrote. */
function writeOwnMessages(): void {
  for (let i: u32 = 0; i < slotCount; i++) {
    const slot = slots[i];
    const source = sources[slot.source % MAX_GRANTS];
    const entry: u64 = source.table + u64(slot.number * MSIX_ENTRY);
    if (isOfMsi(i)) {
      if (slot.number === 0) setMsi(source, slot.address, slot.data);
    } else if (source.table !== 0n) {
      store32(entry, slot.address);
      store32(entry + 8n, slot.data);
    }
  }
}

/**
 * Interrupts are remapped no more: functions send what their kernel wrote. MSI that
 * cannot be masked may have been sent into the void meanwhile, so each interrupt that
 * is on is raised once: one too many does no harm.
 */
export function releaseMessages(): void {
  writeOwnMessages();
  maskTables(false);
  for (let i: u32 = 0; i < slotCount; i++) {
    const target = isInterrupt(slots[i]) && isEnabled(slots[i], isOfMsi(i)) ? targetOf(slots[i]) : NO_CPU;
    if (target !== NO_CPU) sendIpi(target, (slots[i].data & (ICR_VECTOR | ICR_MODE_NMI)) | ICR_ASSERT);
  }
  sourceCount = 0;
  slotCount = 0;
  owner = 0;
}
