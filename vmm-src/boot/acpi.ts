/**
 * The machine's ACPI tables: where its devices are, and a copy for an instance
 * that holds only part of it. The copy says what is true for that instance:
 * - MADT: its own processors first, so that `maxcpus=` starts just those; the others
 *   stay listed, since they may join it later;
 * - FADT: physical APIC destinations, because logical ids would collide;
 * - SRAT: all memory is one node, or the kernel refuses memory above its own later;
 * - DMAR and IVRS left out: the IOMMU is not the instance's.
 */
import { Result, MAX_CPUS } from '../abi.ts';
import { setIoapicBase } from '../devices/ioapic.ts';
import { setEcam } from '../devices/pci-bus.ts';
import { platform } from '../devices/platform.ts';
import { readDmar, readIvrs } from './acpi-iommu.ts';
import { resetIommu } from '../devices/iommu/iommu.ts';
import { bootInfo } from '../machine/region.ts';
import { SIZE_1G } from '../machine/registers.ts';
import {
  FACS_SIZE, FADT_FORCE_PHYSICAL_DESTINATION, FADT_RESET_SUPPORTED, FADT_SIZE_FLAGS, FADT_SIZE_RESET, Fadt, HPET_ADDRESS,
  MADT_ENTRIES, MADT_IOAPIC, MADT_LOCAL_APIC, MADT_LOCAL_X2APIC, MCFG_ENTRIES, MadtIoapic, McfgEntry, MadtLocalApic, MadtX2apic, RSDP_SIGNATURE,
  RSDP_SIZE_V1, Rsdp, SPACE_IO, SRAT_ENABLED, SRAT_MEMORY, SratCpu, SratHeader, SratMemory, TableHeader,
} from './acpi-tables.ts';

const FADT = fourCC('FACP');
const MADT = fourCC('APIC');
const MCFG = fourCC('MCFG');
const HPET = fourCC('HPET');
const SRAT = fourCC('SRAT');
const DMAR = fourCC('DMAR');
const IVRS = fourCC('IVRS');
const XSDT = fourCC('XSDT');
const BIOS_AREA: u64 = 0xe0000n;
const BIOS_AREA_END: u64 = 0x100000n;
const RSDP_ALIGN: u64 = 16n;
const MAX_TABLE: u32 = 0x100000;
const COPY_ALIGN: u64 = 64n;

/** Makes the bytes [at, at + length) add up to zero with the one at `checksum`. */
function setChecksum(at: HostVirtual, length: u32, checksum: u32): void {
  store8(at + u64(checksum), 0);
  store8(at + u64(checksum), wrapU8(0 - sum(at, length)));
}

function sum(at: HostVirtual, length: u32): u32 {
  let total: u32 = 0;
  for (let i: u32 = 0; i < length; i++) total += u32(load8(at + u64(i)));
  return total & 0xff;
}

/** Address of the RSDP (5.2.5.1); 0 if there is none. */
export function findRsdp(): HostPhysical {
  if (bootInfo().rsdp !== 0n) return bootInfo().rsdp;
  for (let at: u64 = BIOS_AREA; at < BIOS_AREA_END; at += RSDP_ALIGN) {
    if (load64(at) === RSDP_SIGNATURE && sum(at, RSDP_SIZE_V1) === 0) return at;
  }
  return 0n;
}

/** The root table's entries: 8 bytes each in an XSDT, 4 in an RSDT. */
class Root extends Struct { table: u64; entrySize: u32; count: u32 }

function findRoot(out: Root): boolean {
  const address = findRsdp();
  if (address === 0n) return false;
  const rsdp = at<Rsdp>(address);
  const extended = rsdp.revision >= 2 && rsdp.xsdt !== 0n;
  out.table = extended ? rsdp.xsdt : u64(rsdp.rsdt);
  out.entrySize = extended ? 8 : 4;
  const length = at<TableHeader>(out.table).length;
  if (length < sizeOf<TableHeader>() || length > MAX_TABLE) return false;
  out.count = (length - sizeOf<TableHeader>()) / out.entrySize;
  return true;
}

function tableAt(root: Root, index: u32): HostPhysical {
  const place: u64 = root.table + u64(sizeOf<TableHeader>() + index * root.entrySize);
  return root.entrySize === 8 ? load64(place) : u64(load32(place));
}

function readFadt(fadt: Fadt): void {
  platform.pm1aEvent = wrapU16(fadt.pm1aEvent);
  platform.pm1bEvent = wrapU16(fadt.pm1bEvent);
  platform.pm1aControl = wrapU16(fadt.pm1aControl);
  platform.pm1bControl = wrapU16(fadt.pm1bControl);
  platform.pm1EventLength = u16(fadt.pm1EventLength);
  platform.pmTimer = wrapU16(fadt.pmTimer);
  platform.gpe0 = wrapU16(fadt.gpe0);
  platform.gpe0Length = u16(fadt.gpe0Length);
  platform.smiCommand = wrapU16(fadt.smiCommand);
  const hasReset = fadt.header.length >= FADT_SIZE_RESET && (fadt.flags & FADT_RESET_SUPPORTED) !== 0;
  if (hasReset && fadt.resetRegister.space === SPACE_IO) {
    platform.reset = wrapU16(fadt.resetRegister.address);
    platform.resetValue = fadt.resetValue;
  }
}

function readMadt(table: HostPhysical): void {
  const length = at<TableHeader>(table).length;
  for (let offset: u32 = MADT_ENTRIES; offset + 2 <= length; offset += u32(load8(table + u64(offset + 1)))) {
    if (load8(table + u64(offset + 1)) === 0) return;
    if (load8(table + u64(offset)) !== MADT_IOAPIC) continue;
    const ioapic = at<MadtIoapic>(table + u64(offset));
    if (ioapic.gsiBase === 0) setIoapicBase(u64(ioapic.address));
  }
}

/** Segment 0's configuration space. */
function readMcfg(table: HostPhysical): void {
  const length = at<TableHeader>(table).length;
  for (let offset: u32 = MCFG_ENTRIES; offset + sizeOf<McfgEntry>() <= length; offset += sizeOf<McfgEntry>()) {
    const entry = at<McfgEntry>(table + u64(offset));
    if (entry.segment !== 0 || entry.firstBus !== 0) continue;
    setEcam(entry.base, u32(entry.lastBus));
    return;
  }
}

/** Fills in devices/platform.ts from the machine's tables; ACPI if there are none. */
export function readPlatform(): Result {
  const root: Root = zeroed();
  if (!findRoot(root)) return Result.ACPI;
  setEcam(0n, 0);
  resetIommu();
  for (let i: u32 = 0; i < root.count; i++) {
    const address = tableAt(root, i);
    const signature = at<TableHeader>(address).signature;
    if (signature === FADT) readFadt(at<Fadt>(address));
    if (signature === MADT) readMadt(address);
    if (signature === MCFG) readMcfg(address);
    if (signature === DMAR) readDmar(address);
    if (signature === IVRS) readIvrs(address);
    if (signature === HPET) {
      platform.hpet = load64(address + u64(HPET_ADDRESS));
      platform.hpetTablePresent = 1;
    }
  }
  platform.acpiFound = 1;
  return platform.pm1aControl === 0 ? Result.ACPI : Result.OK;
}

/** Where copies go: a window that `put` fills from its start. */
class Copier extends Struct { next: u64; end: u64 }

/** Copies `length` bytes; 0 if the window is full. */
function put(copier: Copier, from: HostPhysical, length: u64): HostPhysical {
  const to = copier.next;
  if (length > copier.end - to) return 0n;
  copyBytes(to, from, length);
  copier.next = (to + length + COPY_ALIGN - 1n) & ~(COPY_ALIGN - 1n);
  return to;
}

function apicIdOfEntry(entry: HostVirtual): u32 {
  const type = load8(entry);
  if (type === MADT_LOCAL_APIC) return u32(at<MadtLocalApic>(entry).apicId);
  return at<MadtX2apic>(entry).apicId;
}

function isProcessor(entry: HostVirtual): boolean {
  return load8(entry) === MADT_LOCAL_APIC || load8(entry) === MADT_LOCAL_X2APIC;
}

function holdsApic(apicId: u32, cpuMask: u64): boolean {
  const info = bootInfo();
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (i < info.cpuCount && info.apicId[i] === apicId && (cpuMask >> u64(i) & 1n) !== 0n) return true;
  }
  return false;
}

/** Copies the MADT's entries in an order of three passes: the instance's processors, the other ones, all else. */
function copyMadt(copier: Copier, from: HostPhysical, cpuMask: u64): HostPhysical {
  const length = at<TableHeader>(from).length;
  const to = put(copier, from, u64(length));
  if (to === 0n) return 0n;
  let next: u64 = to + u64(MADT_ENTRIES);
  for (let pass: u32 = 0; pass < 3; pass++) {
    for (let offset: u32 = MADT_ENTRIES; offset + 2 <= length; offset += u32(load8(from + u64(offset + 1)))) {
      const entry: u64 = from + u64(offset);
      const size: u64 = u64(load8(entry + 1n));
      if (size < 2n || u64(offset) + size > u64(length)) break;
      const rank: u32 = !isProcessor(entry) ? 2 : holdsApic(apicIdOfEntry(entry), cpuMask) ? 0 : 1;
      if (rank !== pass) continue;
      copyBytes(next, entry, size);
      next += size;
    }
  }
  setChecksum(to, length, 9);
  return to;
}

function copyFadt(copier: Copier, from: HostPhysical): HostPhysical {
  const length = at<TableHeader>(from).length;
  const original = at<Fadt>(from);
  const hasExtended = length >= sizeOf<Fadt>();
  const dsdt: u64 = original.dsdt === 0 && hasExtended ? original.xDsdt : u64(original.dsdt);
  const facs: u64 = original.facs === 0 && hasExtended ? original.xFacs : u64(original.facs);
  const to = put(copier, from, u64(length));
  if (to === 0n || dsdt === 0n) return 0n;
  const copy = at<Fadt>(to);
  const dsdtCopy = put(copier, dsdt, u64(at<TableHeader>(dsdt).length));
  const facsCopy = facs === 0n ? 0n : put(copier, facs, FACS_SIZE);
  if (dsdtCopy === 0n) return 0n;
  copy.dsdt = u32(dsdtCopy);
  copy.facs = u32(facsCopy);
  if (hasExtended) {
    copy.xDsdt = dsdtCopy;
    copy.xFacs = 0n;
  }
  if (length >= FADT_SIZE_FLAGS) copy.flags |= FADT_FORCE_PHYSICAL_DESTINATION;
  setChecksum(to, length, 9);
  return to;
}

/** One node for every processor and for all memory below `top`. */
function makeSrat(copier: Copier, like: HostPhysical, top: u64): HostPhysical {
  const info = bootInfo();
  const length: u32 = sizeOf<SratHeader>() + info.cpuCount * sizeOf<SratCpu>() + sizeOf<SratMemory>();
  if (u64(length) > copier.end - copier.next) return 0n;
  const to = copier.next;
  fillBytes(to, 0, u64(length));
  copyBytes(to, like, u64(sizeOf<TableHeader>()));
  const srat = at<SratHeader>(to);
  srat.header.signature = SRAT;
  srat.header.length = length;
  srat.header.revision = 3;
  srat.tableRevision = 1;
  let next: u64 = to + u64(sizeOf<SratHeader>());
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (i >= info.cpuCount) break;
    const cpu = at<SratCpu>(next);
    cpu.length = 16;
    cpu.apicId = wrapU8(info.apicId[i]);
    cpu.flags = SRAT_ENABLED;
    next += u64(sizeOf<SratCpu>());
  }
  const memory = at<SratMemory>(next);
  memory.type = SRAT_MEMORY;
  memory.length = 40;
  memory.size = (top + SIZE_1G - 1n) & ~(SIZE_1G - 1n);
  memory.flags = SRAT_ENABLED;
  setChecksum(to, length, 9);
  copier.next = (to + u64(length) + COPY_ALIGN - 1n) & ~(COPY_ALIGN - 1n);
  return to;
}

const MAX_COPIES = 64;
class Copies extends Struct { count: u32; failed: u32; table: FixedArray<u64, 64> }

function addCopy(copies: Copies, table: HostPhysical): void {
  if (table === 0n || copies.count >= MAX_COPIES) copies.failed = 1;
  else {
    copies.table[copies.count] = table;
    copies.count++;
  }
}

function copyTables(root: Root, copier: Copier, copies: Copies, cpuMask: u64, top: u64): void {
  let hasSrat = false;
  for (let i: u32 = 0; i < root.count; i++) {
    const from = tableAt(root, i);
    const header = at<TableHeader>(from);
    if (header.signature === DMAR || header.signature === IVRS) continue;
    if (header.signature === FADT) addCopy(copies, copyFadt(copier, from));
    else if (header.signature === MADT) addCopy(copies, copyMadt(copier, from, cpuMask));
    else addCopy(copies, put(copier, from, u64(header.length)));
    if (header.signature === SRAT) hasSrat = true;
  }
  if (!hasSrat) addCopy(copies, makeSrat(copier, root.table, top));
}

/**
 * Copies the tables for an instance that holds `cpuMask` into [window, window +
 * size); `top` is the end of the machine's RAM. Returns the address of the new
 * RSDP, 0 if there are no tables or they do not fit.
 */
export function copyAcpi(window: HostPhysical, size: u64, cpuMask: u64, top: u64): HostPhysical {
  const root: Root = zeroed();
  if (!findRoot(root)) return 0n;
  const copier: Copier = zeroed();
  copier.next = window;
  copier.end = window + size;
  const copies: Copies = zeroed();
  copyTables(root, copier, copies, cpuMask, top);
  const xsdtLength: u32 = sizeOf<TableHeader>() + copies.count * 8;
  if (copies.failed !== 0 || u64(xsdtLength + sizeOf<Rsdp>()) + COPY_ALIGN > copier.end - copier.next) return 0n;

  const xsdt = copier.next;
  copyBytes(xsdt, root.table, u64(sizeOf<TableHeader>()));
  const header = at<TableHeader>(xsdt);
  header.signature = XSDT;
  header.length = xsdtLength;
  header.revision = 1;
  for (let i: u32 = 0; i < MAX_COPIES; i++) {
    if (i >= copies.count) break;
    store64(xsdt + u64(sizeOf<TableHeader>() + i * 8), copies.table[i]);
  }
  setChecksum(xsdt, xsdtLength, 9);

  const address: u64 = (xsdt + u64(xsdtLength) + COPY_ALIGN - 1n) & ~(COPY_ALIGN - 1n);
  fillBytes(address, 0, u64(sizeOf<Rsdp>()));
  const rsdp = at<Rsdp>(address);
  rsdp.signature = RSDP_SIGNATURE;
  rsdp.revision = 2;
  rsdp.length = sizeOf<Rsdp>();
  rsdp.xsdt = xsdt;
  setChecksum(address, RSDP_SIZE_V1, 8);
  setChecksum(address, sizeOf<Rsdp>(), 32);
  return address;
}
