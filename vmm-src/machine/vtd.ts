/** Intel's IOMMU in legacy mode: registers, table entries, descriptors (VT-d specification 4.1, chapters 6, 9 and 11). */
import "../../compiler/core/dialect.mjs";

/** Registers, as offsets in the unit's page (11.4). */
export const VTD_SIZE: u64 = 0x1000n;
export const VTD_CAP: u32 = 0x08;
export const VTD_ECAP: u32 = 0x10;
export const VTD_GCMD: u32 = 0x18;
export const VTD_GSTS: u32 = 0x1c;
export const VTD_RTADDR: u32 = 0x20;
export const VTD_CCMD: u32 = 0x28;
export const VTD_FSTS: u32 = 0x34;
export const VTD_FECTL: u32 = 0x38;
export const VTD_IQH: u32 = 0x80;
export const VTD_IQT: u32 = 0x88;
export const VTD_IQA: u32 = 0x90;
export const VTD_IECTL: u32 = 0xa0;
export const VTD_IRTA: u32 = 0xb8;
export const VTD_PRCTL: u32 = 0xe0;
/** Behind the control register of each of the three events. */
export const VTD_EVENT_DATA: u32 = 4;
export const VTD_EVENT_ADDRESS: u32 = 8;
export const VTD_EVENT_HIGH: u32 = 12;

/** Global Command and Status: a bit at the same place in both. Written back with every command are those of CONTINUING. */
export const VTD_TRANSLATION: u32 = 0x80000000;
export const VTD_ROOT_POINTER: u32 = 0x40000000;
export const VTD_FAULT_LOG: u32 = 0x10000000;
export const VTD_WRITE_BUFFER: u32 = 0x08000000;
export const VTD_QUEUE: u32 = 0x04000000;
export const VTD_INTERRUPTS: u32 = 0x02000000;
/** The unit has taken an interrupt remapping table. */
export const VTD_INTERRUPT_POINTER: u32 = 0x01000000;
export const VTD_CONTINUING: u32 = 0x96ffffff;

/** Capability Register. */
export const VTD_CAP_WRITE_BUFFER: u64 = 0x10n;
export const VTD_CAP_39_BITS: u64 = 0x200n;
export const VTD_CAP_48_BITS: u64 = 0x400n;
/** Pages of 2 MiB and of 1 GiB. */
export const VTD_CAP_LARGE_PAGES: u64 = 0xc00000000n;

export function vtdDomains(capability: u64): u32 {
  return u32(1) << (4 + 2 * wrapU32(capability & 7n));
}

/** Offset of the fault records, 16 bytes each, and how many there are. */
export function vtdFaultOffset(capability: u64): u32 {
  return 16 * wrapU32((capability >> 24n) & 0x3ffn);
}

export function vtdFaultCount(capability: u64): u32 {
  return wrapU32((capability >> 40n) & 0xffn) + 1;
}

/** Extended Capability Register: the tables need not be written back to memory; queued invalidation; devices with caches of their own. */
export const VTD_ECAP_COHERENT: u64 = 1n;
export const VTD_ECAP_QUEUE: u64 = 2n;
export const VTD_ECAP_DEVICE_TLB: u64 = 4n;

/** Offset of the IOTLB Invalidate Register, which has the address register before it. */
export function vtdIotlbOffset(extended: u64): u32 {
  return 16 * wrapU32((extended >> 8n) & 0x3ffn) + 8;
}

/** Root Table Address: bits 11:10 choose the mode, 0 for legacy. Invalidation Queue Address: descriptors of 32 bytes, and the size as a power of two pages. */
export const VTD_ROOT_MODE: u64 = 0xc00n;
export const VTD_QUEUE_WIDE: u64 = 0x800n;
export const VTD_QUEUE_SIZE: u64 = 7n;
export const VTD_ADDRESS: u64 = 0xfffffffffffff000n;

/** High half of the context command and the IOTLB command: invalidate, and what was done for it: everything. */
export const VTD_INVALIDATE: u32 = 0x80000000;
export const VTD_CONTEXT_DONE_GLOBAL: u32 = 0x08000000;
export const VTD_IOTLB_DONE_GLOBAL: u32 = 0x02000000;

/** Fault Status: records are lost, a record waits, the queue has an error. */
export const VTD_FAULT_OVERFLOW: u32 = 1;
export const VTD_FAULT_PENDING: u32 = 2;
export const VTD_QUEUE_ERRORS: u32 = 0x70;
/** Of these: the descriptor at the head is none; a device did not answer in time, and descriptors that wait for it are dropped. */
export const VTD_QUEUE_REFUSED: u32 = 0x10;
export const VTD_QUEUE_TIMEOUT: u32 = 0x40;
/** Fault Event Control, as those of the other events: no interrupt. */
export const VTD_FAULT_MASKED: u32 = 0x80000000;
/** Last word of a fault record: the record is there; the access was a read. */
export const VTD_FAULT: u32 = 0x80000000;
export const VTD_FAULT_READ: u32 = 0x40000000;

/** Root and context entries are 16 bytes. Of a context entry: present, translation type in bits 3:2; domain in the high half, and levels - 2. */
export const VTD_PRESENT: u64 = 1n;
export const VTD_TYPE: u64 = 0xcn;
export const VTD_TYPE_PASS: u64 = 8n;
/** Translated, for the device's own cache too. */
export const VTD_TYPE_DEVICE_TLB: u64 = 4n;
export const VTD_DOMAIN_SHIFT: u64 = 8n;
export const VTD_LEVELS: u64 = 7n;

/** Descriptors (6.5.2): the kind, and what of each kind is not reserved. */
export const VTD_CONTEXT: u64 = 1n;
export const VTD_IOTLB: u64 = 2n;
export const VTD_DEVICE_TLB: u64 = 3n;
export const VTD_INTERRUPT_CACHE: u64 = 4n;
export const VTD_WAIT: u64 = 5n;
export const VTD_KIND: u64 = 0xe0fn;
export const VTD_GRANULARITY: u64 = 0x30n;
export const VTD_IOTLB_BITS: u64 = 0xffff00f2n;
export const VTD_IOTLB_ADDRESS_BITS: u64 = 0xfffffffffffff07fn;
export const VTD_DEVICE_TLB_BITS: u64 = 0xfff0ffff001ff003n;
export const VTD_DEVICE_TLB_ADDRESS_BITS: u64 = 0xfffffffffffff001n;
export const VTD_INTERRUPT_CACHE_BITS: u64 = 0x0000fffff8000014n;
/** Everything; of the IOTLB with reads and writes drained. */
export const VTD_CONTEXT_ALL: u64 = 0x11n;
export const VTD_IOTLB_ALL: u64 = 0xd2n;
/** Of a device's own cache: one invalidation of it at a time; of all addresses. */
export const VTD_DEVICE_TLB_ONE: u64 = 0x10000n;
export const VTD_DEVICE_TLB_REQUESTER: u64 = 32n;
export const VTD_DEVICE_TLB_ALL: u64 = 0x7ffffffffffff001n;
export const VTD_WAIT_INTERRUPT: u64 = 0x10n;
export const VTD_WAIT_STORE: u64 = 0x20n;
/** What it stores: 1. */
export const VTD_WAIT_DONE: u64 = 0x100000000n;

/** Extended Capability Register: the unit remaps interrupts. Interrupt Remapping Table Address: x2APIC mode; the number of entries is 2 to the power of its low bits, plus 1. */
export const VTD_ECAP_INTERRUPTS: u64 = 8n;
export const VTD_TABLE_X2APIC: u64 = 0x800n;
export const VTD_TABLE_LENGTH: u64 = 0xfn;

/**
 * Interrupt remapping table entry (9.10). In xAPIC mode the destination is in bits
 * 47:40. Of the available bits the VMM uses one: an entry of the kernel's that is
 * not let through.
 *
 *  low   63       32 31 24 23    16 15    14 12 11   8  7  5  4  3  2  1   0
 *       │destination│  0  │ vector │post│   0  │ avail │mode│TM│RH│DM│FPD│ P │
 *  high  63                   20 19  18 17  16 15           0
 *       │           0           │verify│ which│ requester    │
 */
export const VTD_ENTRY_NO_FAULT: u64 = 2n;
export const VTD_ENTRY_LOGICAL: u64 = 4n;
export const VTD_ENTRY_MODE_SHIFT: u64 = 5n;
export const VTD_ENTRY_MODE: u64 = 7n;
export const VTD_ENTRY_REFUSED: u64 = 0x100n;
export const VTD_ENTRY_POSTED: u64 = 0x8000n;
export const VTD_ENTRY_VECTOR_SHIFT: u64 = 16n;
export const VTD_ENTRY_X2APIC_SHIFT: u64 = 32n;
export const VTD_ENTRY_XAPIC_SHIFT: u64 = 40n;
export const VTD_ENTRY_REQUESTER: u64 = 0xffffn;
/** The requester is compared, all of it. */
export const VTD_ENTRY_VERIFIED: u64 = 0x40000n;

/** Interrupt entry cache invalidation: of 2 to the power of a mask entries, or of all (6.5.2.7). */
export const VTD_ENTRIES_SELECTED: u64 = 0x10n;
export const VTD_ENTRIES_MASK_SHIFT: u64 = 27n;
export const VTD_ENTRIES_MASK: u64 = 0x1fn;
export const VTD_ENTRIES_INDEX_SHIFT: u64 = 32n;
export const VTD_ENTRIES_INDEX: u64 = 0xffffn;

/** Fault reason, in the last word of a fault record; those of interrupts follow each other. Of these the record names the table's entry (7.1.1, 11.4.14). */
export const VTD_FAULT_REASON: u32 = 0xff;
export const VTD_FAULT_FIRST_INTERRUPT: u32 = 0x20;
export const VTD_FAULT_LAST_INTERRUPT: u32 = 0x2f;
export const VTD_FAULT_INDEX_SHIFT: u64 = 48n;

/** A message in the remappable form (5.1.2.2): the index, whose bit 15 is apart, and that the data's low half is added to it. */
export const VTD_MESSAGE: u64 = 0xfee00010n;
export const VTD_MESSAGE_ADDS: u64 = 8n;
export function vtdMessage(index: u32): u64 {
  return VTD_MESSAGE | (u64(index & 0x7fff) << 5n) | (u64(index >> 15) << 2n);
}
