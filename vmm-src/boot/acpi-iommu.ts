/** Where the machine's IOMMUs are, by the tables that name them: DMAR (VT-d 4.1, chapter 8) and IVRS (AMD I/O virtualization 3.08, 5.2). */
import { foundAmd, foundAmdRequester, foundIoapic, foundVtd, refuseIommu } from '../devices/iommu/iommu.ts';
import { TableHeader } from './acpi-tables.ts';

/** Remapping structures follow header, address width, flags and 10 reserved bytes. */
const DMAR_ENTRIES: u32 = 48;
const DMAR_HARDWARE_UNIT: u16 = 0;
class HardwareUnit extends Packed { type: u16; length: u16; flags: u8; size: u8; segment: u16; base: u64 }
assertLayout<HardwareUnit>(16);

/** Intel's units. What is of other segments than the first, or has more than a page of registers, the VMM does not drive. */
export function readDmar(table: HostPhysical): void {
  const length = at<TableHeader>(table).length;
  let offset: u32 = DMAR_ENTRIES;
  while (offset + sizeOf<HardwareUnit>() <= length) {
    const unit = at<HardwareUnit>(table + u64(offset));
    if (unit.length < 4) return;
    if (unit.type === DMAR_HARDWARE_UNIT) {
      if (unit.segment !== 0 || (unit.size & 15) !== 0) refuseIommu();
      else foundVtd(unit.base);
    }
    offset += u32(unit.length);
  }
}

/** Hardware definition blocks follow header, IVinfo and 8 reserved bytes; a unit has one of each of several revisions. */
const IVRS_ENTRIES: u32 = 48;
const IVHD: u8 = 0x10;
const IVHD_EXTENDED: u8 = 0x11;
const IVHD_NAMED: u8 = 0x40;
class HardwareDefinition extends Packed { type: u8; flags: u8; length: u16; unit: u16; capability: u16; base: u64; segment: u16; info: u16; features: u32 }
assertLayout<HardwareDefinition>(24);
/** Where device entries begin, in the first revision and in the others. */
const IVHD_DEVICES: u32 = 24;
const IVHD_EXTENDED_DEVICES: u32 = 40;

/** Device entries (5.2.2.1): one is for all requesters; the others but padding name one, or an end of a range. */
const PADDING: u8 = 0;
const ALL: u8 = 1;
const REQUESTER: u64 = 1n;
const LAST_REQUESTER: u32 = 0xffff;
/** An entry for a device that is on no bus (5.2.2.1): 8 bytes with the requester it speaks as, and the kind. */
const SPECIAL: u8 = 0x48;
const SPECIAL_REQUESTER: u64 = 5n;
const SPECIAL_KIND: u64 = 7n;
const KIND_IOAPIC: u8 = 1;
/** Entries of this type have a length of their own, at this offset; of others the two high bits of the type tell it. */
const NAMED: u8 = 0xf0;
const NAMED_LENGTH: u64 = 21n;
const NAMED_SIZE: u32 = 22;

function deviceEntrySize(entry: HostPhysical): u32 {
  const type = load8(entry);
  if (type === NAMED) return NAMED_SIZE + u32(load8(entry + NAMED_LENGTH));
  return u32(4) << u32(type >> 6);
}

/** Whom a block's device entries say that its unit is for, as a range, and as whom the IOAPIC speaks. */
function readDevices(block: HostPhysical, first: u32, length: u32): void {
  const base = at<HardwareDefinition>(block).base;
  let offset: u32 = first;
  while (offset + 4 <= length) {
    const entry: u64 = block + u64(offset);
    const type = load8(entry);
    if (type === ALL) {
      foundAmdRequester(base, 0);
      foundAmdRequester(base, LAST_REQUESTER);
    } else if (type !== PADDING && type !== SPECIAL && type !== NAMED) foundAmdRequester(base, u32(load16(entry + REQUESTER)));
    if (type === SPECIAL && load8(entry + SPECIAL_KIND) === KIND_IOAPIC) foundIoapic(u32(load16(entry + SPECIAL_REQUESTER)));
    offset += deviceEntrySize(entry);
  }
}

/** AMD's units. */
export function readIvrs(table: HostPhysical): void {
  const length = at<TableHeader>(table).length;
  let offset: u32 = IVRS_ENTRIES;
  while (offset + sizeOf<HardwareDefinition>() <= length) {
    const block: u64 = table + u64(offset);
    const unit = at<HardwareDefinition>(block);
    if (unit.length < 4) return;
    if (unit.type === IVHD || unit.type === IVHD_EXTENDED || unit.type === IVHD_NAMED) {
      if (unit.segment !== 0) refuseIommu();
      else foundAmd(unit.base);
      readDevices(block, unit.type === IVHD ? IVHD_DEVICES : IVHD_EXTENDED_DEVICES, u32(unit.length));
    }
    offset += u32(unit.length);
  }
}
