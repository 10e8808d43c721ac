/** PCI configuration space (PCI Local Bus 3.0, chapter 6; PCI Express Base 5.0, 7.5), as far as the VMM looks at it. */
export const PCI_VENDOR_ID: u32 = 0;
export const PCI_CLASS: u32 = 0x0b;
export const PCI_SUBCLASS: u32 = 0x0a;
export const PCI_COMMAND: u32 = 0x04;
export const PCI_COMMAND_MEMORY: u32 = 2;
export const PCI_COMMAND_MASTER: u32 = 4;
export const PCI_STATUS: u32 = 0x06;
export const PCI_HEADER_TYPE: u32 = 0x0e;
/** Base address registers of a function that is no bridge; bits 2:1 say how wide one in memory is. */
export const PCI_BAR: u32 = 0x10;
export const PCI_BARS: u32 = 6;
export const PCI_BAR_KIND: u32 = 7;
export const PCI_BAR_64_BITS: u32 = 4;
export const PCI_SECONDARY_BUS: u32 = 0x19;
/** Of a bridge: base in the low half, limit in the high half, in units of 1 MiB from bit 4 on. */
export const PCI_MEMORY_WINDOW: u32 = 0x20;
export const PCI_PREFETCH_WINDOW: u32 = 0x24;
export const PCI_PREFETCH_BASE_HIGH: u32 = 0x28;
export const PCI_PREFETCH_LIMIT_HIGH: u32 = 0x2c;
export const PCI_CAPABILITIES: u32 = 0x34;

export const PCI_NO_VENDOR: u32 = 0xffff;
export const PCI_CLASS_BRIDGE: u8 = 6;
export const PCI_SUBCLASS_PCI_BRIDGE: u8 = 4;
export const PCI_MULTIFUNCTION: u8 = 0x80;
export const PCI_STATUS_CAPABILITIES: u32 = 0x10;
export const PCI_CAPABILITY_MSI: u32 = 5;
export const PCI_CAPABILITY_EXPRESS: u32 = 0x10;
export const PCI_CAPABILITY_MSIX: u32 = 0x11;

/** MSI (PCI Local Bus 3.0, 6.8.1): its control register, how many messages it can and may send in bits 3:1 and 6:4, as powers of two; then address, data, mask bits. */
export const MSI_CONTROL: u32 = 2;
export const MSI_ENABLE: u32 = 1;
export const MSI_64_BITS: u32 = 0x80;
export const MSI_MASKABLE: u32 = 0x100;
export const MSI_MESSAGE: u32 = 4;
/** MSI-X (6.8.2): control, with the number of entries less one; the table's BAR and offset. Of an entry: its control word. */
export const MSIX_CONTROL: u32 = 2;
export const MSIX_ENTRIES: u32 = 0x7ff;
export const MSIX_MASKED: u32 = 0x4000;
export const MSIX_ENABLE: u32 = 0x8000;
export const MSIX_TABLE: u32 = 4;
export const MSIX_ENTRY: u32 = 16;
export const MSIX_ENTRY_CONTROL: u32 = 12;
export const MSIX_ENTRY_MASKED: u32 = 1;
/** A message's address (SDM Vol. 3A, 12.11.1); its data has vector and mode where the ICR has them. */
export const MESSAGE_ADDRESS: u32 = 0xfee00000;
export const MESSAGE_ADDRESS_MASK: u32 = 0xfff00000;
export const MESSAGE_DESTINATION_SHIFT: u32 = 12;
export const MESSAGE_LOGICAL: u32 = 4;

/** Within the PCI Express capability: 32-bit words that hold two registers each. */
export const PCIE_FLAGS: u32 = 0x02;
export const PCIE_FLAGS_SLOT: u32 = 0x100;
/** Link Control, and Link Status above it. */
export const PCIE_LINK: u32 = 0x10;
export const PCIE_LINK_ACTIVE: u32 = 0x20000000;
export const PCIE_SLOT_CAPABILITIES: u32 = 0x14;
/** The slot has a power controller. */
export const PCIE_SLOT_POWER_CONTROLLER: u32 = 2;
export const PCIE_SLOT_HOT_PLUG: u32 = 0x40;
/** Slot Control, and Slot Status above it. */
export const PCIE_SLOT: u32 = 0x18;
export const PCIE_SLOT_POWER_INDICATOR: u32 = 0x300;
export const PCIE_SLOT_POWER_INDICATOR_ON: u32 = 0x100;
export const PCIE_SLOT_POWER_INDICATOR_OFF: u32 = 0x300;
export const PCIE_SLOT_POWER_OFF: u32 = 0x400;
export const PCIE_SLOT_CONTROL: u32 = 0xffff;
export const PCIE_SLOT_ATTENTION: u32 = 0x10000;
export const PCIE_SLOT_PRESENCE_CHANGED: u32 = 0x80000;
export const PCIE_SLOT_PRESENT: u32 = 0x400000;
export const PCIE_SLOT_LINK_CHANGED: u32 = 0x1000000;

/** Extended capabilities (PCI Express 5.0, 7.6.3): where they begin; a header's number, and the offset of the next one. */
export const PCIE_EXTENDED_CAPABILITIES: u32 = 0x100;
export const PCIE_EXTENDED_ID: u32 = 0xffff;
export const PCIE_EXTENDED_NEXT_SHIFT: u32 = 20;
export const PCIE_ATS: u32 = 0x0f;
export const PCIE_ATS_CONTROL: u32 = 6;
export const PCIE_ATS_ENABLE: u32 = 0x8000;
