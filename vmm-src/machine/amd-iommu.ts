/** AMD's IOMMU: registers, device table, commands, events (AMD I/O Virtualization Technology, 48882 rev. 3.08, chapters 2 and 3). */

/** Registers, as offsets in the unit's memory (3.4). */
export const AMD_SIZE: u64 = 0x4000n;
export const AMD_DEVICE_TABLE: u32 = 0x00;
export const AMD_COMMANDS: u32 = 0x08;
export const AMD_EVENTS: u32 = 0x10;
export const AMD_CONTROL: u32 = 0x18;
export const AMD_FEATURES: u32 = 0x30;
export const AMD_PAGE_REQUESTS: u32 = 0x38;
export const AMD_GUEST_INTERRUPTS: u32 = 0xe0;
export const AMD_PAGE_REQUESTS_B: u32 = 0xf0;
export const AMD_EVENTS_B: u32 = 0xf8;
export const AMD_TABLE_SEGMENT: u32 = 0x100;
export const AMD_TABLE_SEGMENT_LAST: u32 = 0x130;
export const AMD_COMMAND_HEAD: u32 = 0x2000;
export const AMD_COMMAND_TAIL: u32 = 0x2008;
export const AMD_EVENT_HEAD: u32 = 0x2010;
export const AMD_EVENT_TAIL: u32 = 0x2018;
export const AMD_STATUS: u32 = 0x2020;

/** Of a base register: the address; the length of a ring as a power of two entries of 16 bytes; of the device table, pages but one. */
export const AMD_ADDRESS: u64 = 0xffffffffff000n;
export const AMD_RING_SHIFT: u64 = 56n;
export const AMD_RING_LENGTH: u64 = 15n;
export const AMD_TABLE_PAGES: u64 = 0x1ffn;

/** Control. */
export const AMD_ENABLE: u64 = 1n;
export const AMD_EVENTS_ON: u64 = 4n;
export const AMD_COHERENT: u64 = 0x400n;
export const AMD_COMMANDS_ON: u64 = 0x1000n;
/** Entries of interrupt tables have 16 bytes, and destinations of 32 bits. */
export const AMD_WIDE_ENTRIES: u64 = 0x20000n;
export const AMD_WIDE_DESTINATIONS: u64 = 0x4000000000000n;
/** The device table is in segments. */
export const AMD_SEGMENTS: u64 = 0x1c00000000n;
/** Extended features: the command that invalidates everything. */
export const AMD_FEATURE_INVALIDATE_ALL: u64 = 0x40n;

/** Status: an event was logged; the log and the commands run. */
export const AMD_STATUS_OVERFLOW: u32 = 1;
export const AMD_STATUS_EVENT: u32 = 2;
export const AMD_STATUS_EVENTS_RUN: u32 = 8;
export const AMD_STATUS_COMMANDS_RUN: u32 = 0x10;

/** Device table entries, 32 bytes; of the first 8 of them: valid, with a table of so many levels, which may be read and written. */
export const AMD_ENTRY: u64 = 32n;
export const AMD_VALID: u64 = 3n;
export const AMD_ENTRY_VALID: u64 = 1n;
export const AMD_TRANSLATES: u64 = 2n;
export const AMD_LEVELS: u64 = 0xe00n;
export const AMD_LEVELS_SHIFT: u64 = 9n;
export const AMD_4_LEVELS: u64 = 0x800n;
/** Tables of a guest's. */
export const AMD_GUEST: u64 = 0x80000000000000n;
export const AMD_PERMISSIONS: u64 = 0x6000000000000000n;
/** Of the second 8: the domain; the device may keep translations itself. */
export const AMD_DOMAIN: u64 = 0xffffn;
export const AMD_DEVICE_TLB: u64 = 0x100000000n;
/** Of the third 8: the interrupt half is valid, its table has so many entries as a power of two, and fixed interrupts go by it; no others then, unless bits that the VMM leaves clear say so. */
export const AMD_REMAPS: u64 = 1n;
export const AMD_INTERRUPTS_LENGTH_SHIFT: u64 = 1n;
export const AMD_INTERRUPTS_BY_TABLE: u64 = 0x2000000000000000n;

/**
 * Interrupt table entries (2.2.5.2): on, type in bits 4:2, 0 for fixed; of 4 bytes,
 * or of 16 with the vector in the second 8.
 *
 *  4 bytes   31     24 23    16 15         8  7  6  5  4   2  1  0
 *           │    0    │ vector │destination│0│DM│EOI│ type │NF│on│
 *  16 bytes  63     32 31                  8  7  6 …           0
 *           │    0    │  destination 23:0   │  as above         │
 *            127        120 119                 72 71         64
 *           │destin. 31:24 │         0            │   vector    │
 */
export const AMD_ENTRY_ON: u64 = 1n;
export const AMD_ENTRY_DESTINATION_SHIFT: u64 = 8n;
export const AMD_ENTRY_VECTOR_SHIFT: u64 = 16n;
export const AMD_ENTRY_HIGH_DESTINATION: u32 = 0xffffff;
export const AMD_ENTRY_HIGH_SHIFT: u64 = 32n;

/** Commands (2.4): their number is in bits 63:60. What of each is not reserved. */
export const AMD_OPERATION_SHIFT: u64 = 60n;
export const AMD_WAIT: u64 = 1n;
export const AMD_FORGET_DEVICE: u64 = 2n;
export const AMD_FORGET_PAGES: u64 = 3n;
export const AMD_FORGET_DEVICE_TLB: u64 = 4n;
export const AMD_FORGET_INTERRUPTS: u64 = 5n;
export const AMD_COMPLETE_REQUEST: u64 = 7n;
export const AMD_FORGET_ALL: u64 = 8n;
export const AMD_WAIT_STORE: u64 = 1n;
export const AMD_WAIT_INTERRUPT: u64 = 2n;
export const AMD_WAIT_ADDRESS: u64 = 0xffffffffffff8n;
export const AMD_DEVICE_BITS: u64 = 0xffffn;
export const AMD_PAGES_BITS: u64 = 0x0000ffff000fffffn;
export const AMD_PAGES_ADDRESS_BITS: u64 = 0xfffffffffffff007n;
export const AMD_DEVICE_TLB_BITS: u64 = 0x0fffffffffffffffn;
export const AMD_DEVICE_TLB_ADDRESS_BITS: u64 = 0xfffffffffffff035n;
/** One invalidation at a time; the requester, again, whose queue it is for; of all addresses. */
export const AMD_DEVICE_TLB_ONE: u64 = 0x1000000n;
export const AMD_DEVICE_TLB_QUEUE_SHIFT: u64 = 32n;
export const AMD_DEVICE_TLB_ALL: u64 = 0x7ffffffffffff001n;
export const AMD_REQUEST_BITS: u64 = 0x000fffff0000ffffn;
export const AMD_REQUEST_STATUS_BITS: u64 = 0x0000ffff00000004n;

/** Events (2.5): their number is in bits 63:60 too. Those that say that a device was kept from something; the access was a write. */
export const AMD_ILLEGAL_ENTRY: u64 = 1n;
export const AMD_PAGE_FAULT: u64 = 2n;
export const AMD_INVALID_REQUEST: u64 = 8n;
export const AMD_EVENT_WRITE: u64 = 0x20000000000000n;
/** It was an interrupt; the address has the message's data then, whose low bits are the entry's number. */
export const AMD_EVENT_ENTRY: u64 = 0x7ffn;
export const AMD_EVENT_INTERRUPT: u64 = 0x8000000000000n;
