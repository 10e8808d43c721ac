/** Layouts of the ACPI tables that the VMM reads or changes (ACPI 6.5, chapter 5). */

/** 5.2.6 */
export class TableHeader extends Packed {
  signature: u32;
  length: u32;
  revision: u8;
  checksum: u8;
  oemId: FixedArray<u8, 6>;
  oemTableId: FixedArray<u8, 8>;
  oemRevision: u32;
  creatorId: u32;
  creatorRevision: u32;
}
assertLayout<TableHeader>(36, { checksum: 9 });

/** 5.2.5.3 */
export class Rsdp extends Packed {
  signature: u64;
  checksum: u8;
  oemId: FixedArray<u8, 6>;
  revision: u8;
  rsdt: u32;
  length: u32;
  xsdt: u64;
  extendedChecksum: u8;
  reserved: FixedArray<u8, 3>;
}
assertLayout<Rsdp>(36, { revision: 15, rsdt: 16, xsdt: 24 });
export const RSDP_SIGNATURE: u64 = 0x2052545020445352n;
export const RSDP_SIZE_V1: u32 = 20;

/** Generic address structure, 5.2.3.2. */
export class GenericAddress extends Packed { space: u8; width: u8; offset: u8; access: u8; address: u64 }
export const SPACE_IO: u8 = 1;

/** FADT, 5.2.9, as far as its revision 3. */
export class Fadt extends Packed {
  header: TableHeader;
  facs: u32;
  dsdt: u32;
  reserved0: u8;
  profile: u8;
  sciInterrupt: u16;
  smiCommand: u32;
  acpiEnable: u8;
  acpiDisable: u8;
  s4BiosRequest: u8;
  pstateControl: u8;
  pm1aEvent: u32;
  pm1bEvent: u32;
  pm1aControl: u32;
  pm1bControl: u32;
  pm2Control: u32;
  pmTimer: u32;
  gpe0: u32;
  gpe1: u32;
  pm1EventLength: u8;
  pm1ControlLength: u8;
  pm2ControlLength: u8;
  pmTimerLength: u8;
  gpe0Length: u8;
  gpe1Length: u8;
  gpe1Base: u8;
  cstControl: u8;
  c2Latency: u16;
  c3Latency: u16;
  flushSize: u16;
  flushStride: u16;
  dutyOffset: u8;
  dutyWidth: u8;
  dayAlarm: u8;
  monthAlarm: u8;
  century: u8;
  bootFlags: u16;
  reserved1: u8;
  flags: u32;
  resetRegister: GenericAddress;
  resetValue: u8;
  armFlags: u16;
  minorVersion: u8;
  xFacs: u64;
  xDsdt: u64;
}
assertLayout<Fadt>(148, { dsdt: 40, smiCommand: 48, pm1aEvent: 56, pmTimer: 76, gpe0: 80, flags: 112, resetRegister: 116, xFacs: 132, xDsdt: 140 });
export const FADT_RESET_SUPPORTED: u32 = 0x400;
export const FADT_FORCE_PHYSICAL_DESTINATION: u32 = 0x80000;
/** Length of a FADT that has flags, and of one that has the reset register. */
export const FADT_SIZE_FLAGS: u32 = 116;
export const FADT_SIZE_RESET: u32 = 129;

/** FACS, 5.2.10. */
export const FACS_SIZE: u64 = 64n;

/** MADT, 5.2.12: header, local APIC address, flags, then entries of type and length. */
export const MADT_ENTRIES: u32 = 44;
export const MADT_LOCAL_APIC: u8 = 0;
export const MADT_IOAPIC: u8 = 1;
export const MADT_LOCAL_X2APIC: u8 = 9;
export class MadtLocalApic extends Packed { type: u8; length: u8; uid: u8; apicId: u8; flags: u32 }
export class MadtIoapic extends Packed { type: u8; length: u8; id: u8; reserved: u8; address: u32; gsiBase: u32 }
export class MadtX2apic extends Packed { type: u8; length: u8; reserved: u16; apicId: u32; flags: u32; uid: u32 }

/** HPET, IA-PC HPET 1.0a, 3.2.4: the address follows the event timer block id. */
export const HPET_ADDRESS: u32 = 44;

/** SRAT, 5.2.16. */
export class SratHeader extends Packed { header: TableHeader; tableRevision: u32; reserved: u64 }
assertLayout<SratHeader>(48);
export class SratCpu extends Packed {
  type: u8; length: u8; proximityLow: u8; apicId: u8; flags: u32; sapicEid: u8; proximityHigh: FixedArray<u8, 3>; clockDomain: u32;
}
assertLayout<SratCpu>(16);
export class SratMemory extends Packed {
  type: u8; length: u8; proximity: u32; reserved0: u16; base: u64; size: u64; reserved1: u32; flags: u32; reserved2: u64;
}
assertLayout<SratMemory>(40, { base: 8, flags: 28 });
export const SRAT_MEMORY: u8 = 1;
export const SRAT_ENABLED: u32 = 1;

/** MCFG (PCI Firmware 3.3, 4.1.2): after 8 reserved bytes, where buses of segments have their configuration space in memory. */
export const MCFG_ENTRIES: u32 = 44;
export class McfgEntry extends Packed { base: u64; segment: u16; firstBus: u8; lastBus: u8; reserved: u32 }
assertLayout<McfgEntry>(16);
