/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the VMM, the Linux module and the understudy command say to each other.
 * The VMM's side is vmm-src/abi.ts; its layout assertions keep the two equal.
 * Sizes in bytes, addresses physical, times in TSC ticks unless said otherwise.
 */
#ifndef UNDERSTUDY_ABI_H
#define UNDERSTUDY_ABI_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/ioctl.h>
typedef __u8 us_u8; typedef __u16 us_u16; typedef __u32 us_u32; typedef __u64 us_u64;
#else
#include <stdint.h>
#include <sys/ioctl.h>
typedef uint8_t us_u8; typedef uint16_t us_u16; typedef uint32_t us_u32; typedef uint64_t us_u64;
#endif

#define US_ABI_VERSION 1u
#define US_MAX_CPUS 32
#define US_MAX_INSTANCES 2
#define US_MAX_RANGES 64
#define US_MAX_FUNCTIONS 64
#define US_EXIT_REASONS 80

/* ---- the VMM image ------------------------------------------------------------- */

#define US_IMAGE_MAGIC 0x5944545352444e55ull	/* "UNDRSTDY" */

/* First bytes of vmm-*.img, and of the region once loaded. */
struct us_image_header {
	us_u64 magic;
	us_u32 abi_version;
	us_u32 crc32;		/* IEEE CRC-32 of bytes [4096, file_size) of the file */
	us_u64 file_size;
	us_u64 memory_size;	/* with zeroed storage: the region must be at least this large */
	us_u64 enter_offset;	/* of the late-launch entry, from the region's start */
	us_u64 tables_offset;	/* of three pages the loader fills: PML5 where the kernel has one, PML4, PDPT; 8 KiB aligned */
	us_u64 annex_size;	/* of zeroed memory that the VMM needs beside the region: the annex must be at least this large; 0: none */
};

#define US_BOOT_INFO_OFFSET 256	/* of struct us_boot_info in the region's first page */

struct us_memory_range { us_u64 base, size; us_u32 type, reserved; };	/* type as in E820 */

/* Written by the loader before the first CPU enters. */
struct us_boot_info {
	us_u64 region_base, region_size;
	us_u64 annex_base, annex_size;	/* 2 MiB aligned */
	us_u64 rsdp;		/* 0: the VMM searches the BIOS area */
	us_u32 tsc_khz;
	us_u32 cpu_count;	/* possible CPUs; index into apic_id = CPU number everywhere in this ABI */
	us_u32 apic_id[US_MAX_CPUS];	/* ~0: no such processor */
	us_u32 range_count, reserved;
	struct us_memory_range range[US_MAX_RANGES];	/* the firmware's memory map */
};

/*
 * Late launch, on each CPU with interrupts off, from code that is mapped at the same
 * address by the launch tables (identity map of physical memory in the lower half,
 * the kernel's own upper half):
 *   RDI CPU number, RSI RIP to go on at, RDX RSP to go on with, RCX the kernel's CR3, RBX the same
 * The CPU goes on at RSI with RSP as given, RBX, RBP, R12-R15 untouched and RAX = 0 as a
 * guest on its own CR3, or RAX = one of US_E* as before, still on the launch tables.
 */

/*
 * Before the first CPU enters, the VMM prepares itself in slices of a few thousand
 * instructions, so that no interrupt waits long: the same entry with RDI = US_PREPARE | step,
 * step = 0, 1, 2, ... for as long as it answers US_E_AGAIN; US_OK ends it, all else is a refusal.
 */
#define US_PREPARE 0x80000000u

/* ---- hypercalls: VMCALL at CPL 0, RAX number, RDI RSI RDX arguments, RAX result ----- */

#define US_HC(n) (0x55530000u + (n))
#define US_HC_ATTACH		US_HC(1)	/* a kernel's module has found the VMM beneath it */
#define US_HC_RELEASE_BEGIN	US_HC(2)	/* RDX mask of online CPUs, each of which must then call RELEASE; the others are released here */
#define US_HC_RELEASE		US_HC(3)	/* this CPU is bare when it returns 0; RDX: NMIs it must send itself */
#define US_HC_STATUS		US_HC(4)	/* RDI buffer, RSI length >= sizeof(struct us_status) */
#define US_HC_EVENTS		US_HC(5)	/* RDI buffer, RSI length, RDX first sequence number: struct us_events */
#define US_HC_CONSOLE_READ	US_HC(6)	/* RDI buffer, RSI length, RDX instance: struct us_console */
#define US_HC_CONSOLE_WRITE	US_HC(7)	/* RDI buffer (struct us_console), RSI length, RDX instance */
#define US_HC_BOOT		US_HC(8)	/* RDI struct us_boot_request, RSI its size */
#define US_HC_STOP		US_HC(9)	/* RDX instance: ends it, its resources are free */
#define US_HC_TAKE		US_HC(10)	/* grant the caller's instance everything that is free */
#define US_HC_GIVE_BACK		US_HC(11)	/* RDX instance (stopped): its resources return to the caller's instance */
#define US_HC_HIDE		US_HC(12)	/* RDX bdf of a PCI function that no instance holds: none gets it any more */
#define US_HC_EJECT		US_HC(13)	/* RDX bdf of such a function: hides all that is in its slot, and switches the slot off */
#define US_HC_DEVIRTUALIZE	US_HC(14)	/* RDX mask of online CPUs, RSI US_TRAPPED_* bits: these parts are the caller's own from now on */
#define US_HC_WEIGHT		US_HC(16)	/* RDX instance | weight << 32: of its turns on shared CPUs, from now on */
#define US_HC_PAUSE		US_HC(17)	/* RDX another instance | 1 << 32: it gets no more turns on shared CPUs; | 0: it does again */

/* Buffers are guest-physical, 4 KiB aligned, contiguous, inside the caller's instance. */

enum us_error {
	US_OK = 0,
	US_E_UNKNOWN = 1,	/* no such hypercall */
	US_E_BUFFER = 2,	/* buffer not aligned, too small, or not the caller's memory */
	US_E_INSTANCE = 3,	/* no such instance, or in the wrong state */
	US_E_BUSY = 4,		/* another instance still runs */
	US_E_MEMORY = 5,	/* range not aligned, not the caller's, or overlapping the VMM */
	US_E_TOO_SMALL = 6,	/* kernel and initrd do not fit the range */
	US_E_KERNEL = 7,	/* not a bzImage with a 64-bit entry */
	US_E_CPU = 8,		/* CPU not the caller's, or not given up (still online) */
	US_E_ACPI = 9,		/* no usable ACPI tables */
	US_E_PROCESSOR = 10,		/* this CPU did not take an instruction of VT-x or AMD-V */
	US_E_CAPABILITY = 11,	/* the CPU lacks something the VMM needs */
	US_E_TABLES = 12,	/* the VMM's page-table pool is used up */
	US_E_COMMAND_LINE = 13,	/* command line too long */
	US_E_AGAIN = 14,	/* preparation has a next step */
	US_E_FUNCTION = 15,	/* a PCI function can't be granted, or is held */
	US_E_SLOT = 16,		/* the port above has no slot that the VMM can switch off */
	US_E_DIRECT = 17,	/* parts of the instance are its own already, or no part would be left trapped */
	US_E_X2APIC = 18,	/* interrupts are remapped in x2APIC mode, and a kernel without an IOMMU can't be in xAPIC mode beside that */
};

#define US_MAX_WEIGHT 100
#define US_MAX_GRANTS 32
struct us_boot_request {
	us_u64 memory_base, memory_size;	/* 2 MiB aligned */
	us_u64 kernel_address, kernel_size;	/* the bzImage file as staged inside the range */
	us_u64 initrd_address, initrd_size;	/* final place, page aligned, inside the range */
	us_u64 cpu_mask;			/* processors that it gets whole */
	us_u64 share_mask;			/* processors of the caller's, of which it gets a share */
	us_u32 function_count, weight;		/* of its shares: 1 to US_MAX_WEIGHT */
	us_u16 bdf[US_MAX_GRANTS];		/* PCI functions: shielded ones, or the caller's, whose drivers have let them go; all of a bus, and not of bus 0 */
	char command_line[2048];		/* NUL-terminated */
};

/* What of an instance can be trapped; DMA of its devices with I/O and memory, where there is an IOMMU. */
enum us_trapped { US_TRAPPED_PROCESSOR = 1, US_TRAPPED_MEMORY = 2, US_TRAPPED_IO = 4, US_TRAPPED_ALL = 7, US_TRAPPED_DMA = 8 };

enum us_instance_state { US_INSTANCE_NONE, US_INSTANCE_RUNNING, US_INSTANCE_STOPPED };
enum us_cpu_state { US_CPU_BARE, US_CPU_RUNNING, US_CPU_WAITING, US_CPU_PARKED, US_CPU_FAILED };	/* waiting: for the OS's SIPI; parked: no instance uses it */

struct us_instance_status {
	us_u32 state, range_count;
	us_u64 cpu_mask, share_mask;		/* processors that it holds; of which it has a share beside their holder */
	us_u32 weight, paused;			/* of its turns on shared processors */
	us_u64 ran, worst_wait;			/* ticks that it ran in its turns there, and the longest that it waited for one */
	us_u64 start_tick, stop_tick;
	us_u64 exits[US_EXIT_REASONS];		/* by reason: vmm-src/cpu/exit.ts */
	struct us_memory_range range[US_MAX_RANGES];	/* RAM it holds */
};

struct us_cpu_status { us_u32 apic_id, instance, state, reserved; us_u64 exits; };

#define US_SHIELDED 254	/* as a function's instance: plugged in since the capture, no instance sees it */
#define US_HIDDEN 253	/* the same: on its way out of the machine, no instance gets it */
struct us_function_status { us_u16 bdf, instance; us_u32 id, class_code, reserved; };	/* bdf: bus<<8|device<<3|function; id: device<<16|vendor */

struct us_status {
	us_u32 abi_version, own_instance, cpu_count, function_count;
	us_u64 now;
	us_u32 tsc_khz, still_trapped;		/* of the caller's instance: US_TRAPPED_* bits */
	us_u64 region_base, region_size, annex_base, annex_size;
	struct us_instance_status instance[US_MAX_INSTANCES];	/* [0] is instance 1 */
	struct us_cpu_status cpu[US_MAX_CPUS];
	struct us_function_status function[US_MAX_FUNCTIONS];
	us_u64 unconditional[2];	/* exits that this kind of processor always makes, or that keep the VMM in place: bit n % 64 of n / 64 for reason n */
};

enum us_event_type {
	US_EVENT_CAPTURED = 1,		/* a: 0 at start, 1 as a CPU came online later */
	US_EVENT_LAUNCHED = 2,		/* a: kernel entry point */
	US_EVENT_USERSPACE = 3,		/* the instance's module attached */
	US_EVENT_STOPPED = 4,		/* a: enum us_stop_reason */
	US_EVENT_GRANTED = 5,		/* a: enum us_resource, b: CPU number, bytes, or bdf */
	US_EVENT_RELEASED = 6,
	US_EVENT_MEMORY_VIOLATION = 7,	/* a: guest-physical address, b: RIP */
	US_EVENT_IPI_VIOLATION = 8,	/* a: ICR, b: RIP */
	US_EVENT_MSR_VIOLATION = 9,	/* a: MSR | write << 32, b: RIP */
	US_EVENT_CPU_WAITING = 10,	/* INIT */
	US_EVENT_CPU_STARTED = 11,	/* a: SIPI vector */
	US_EVENT_REVOKED = 12,		/* as granted */
	US_EVENT_DISCOVERED = 13,	/* a: bdf, b: id of a PCI function that was plugged in */
	US_EVENT_DMA_VIOLATION = 14,	/* instance: the device's, 0 if it is nobody's; a: address, b: bdf | write << 16 */
	US_EVENT_HIDDEN = 15,		/* a: bdf, b: id of one that is to leave the machine */
	US_EVENT_REMOVED = 16,		/* a: bdf, b: id of one that has left it */
	US_EVENT_DEVIRTUALIZED = 17,	/* a: US_TRAPPED_* bits that are trapped no more */
	US_EVENT_INTERRUPT_VIOLATION = 18, /* instance: as 14; a: remapping entry | 1 << 32 if its kernel sends it elsewhere; b: bdf */
	US_EVENT_IO_TABLES = 19,	/* the instance's I/O page tables are too many; a: how many there is room for; b: 1 if none is checked therefore */
};
enum us_stop_reason { US_STOP_POWEROFF = 1, US_STOP_RESET = 2, US_STOP_KILLED = 3, US_STOP_TRIPLE_FAULT = 4, US_STOP_UNHANDLED = 5 };
enum us_resource { US_RESOURCE_CPU = 1, US_RESOURCE_MEMORY = 2, US_RESOURCE_FUNCTION = 3, US_RESOURCE_PLATFORM = 4, US_RESOURCE_SHARE = 5 };

struct us_event { us_u64 tick; us_u32 type; us_u16 instance, cpu; us_u64 a, b; };
struct us_events { us_u64 next_sequence; us_u32 count, reserved; struct us_event event[]; };
struct us_console { us_u32 count, reserved; us_u8 byte[]; };	/* READ: count filled in; WRITE: count in, accepted count out */

/* CPUID leaf 0x40000000 beneath the VMM: EBX ECX EDX = "Understudy  ", EAX = 0x40000001;
 * leaf 0x40000001: EAX ABI version, EBX own instance (1..), ECX own CPU number, EDX US_CPUID_SHARED. */
#define US_CPUID_SIGNATURE 0x40000000u
#define US_CPUID_SHARED 1u		/* the CPU is shared with another instance, and must stay online */
#define US_SIGNATURE_EBX 0x65646e55u	/* "Unde" */
#define US_SIGNATURE_ECX 0x75747372u	/* "rstu" */
#define US_SIGNATURE_EDX 0x20207964u	/* "dy  " */

/* ---- /dev/understudy ------------------------------------------------------------ */

struct us_start { us_u64 image, image_size, ranges, range_count, rsdp; };	/* pointers as integers */
struct us_call { us_u32 number, result; us_u64 argument, buffer, length, value; };	/* buffer copied in and out; argument → RDX; value ← RDX */
struct us_stage { us_u64 address, source, length; };	/* copies into memory blocks that are offline */
struct us_memory { us_u64 base, size; };	/* whole memory blocks */
enum us_module_state { US_BARE, US_CAPTURED, US_ATTACHED };
struct us_pauses {
	us_u32 state, cpu_count;	/* enum us_module_state; possible CPUs */
	us_u64 capture_ticks[US_MAX_CPUS], release_ticks[US_MAX_CPUS];	/* interrupts-off ticks of the last capture and release, 0: none */
	us_u64 region_base, region_size, annex_base, annex_size;
	us_u32 tsc_khz, reserved;
};

/* What a CPU can do, for `understudy check`: MSRs are zero where CPUID says that there is no VMX. */
#define US_VMX_MSR_COUNT 18			/* IA32_VMX_BASIC (0x480) .. IA32_VMX_VMFUNC (0x491) */
struct us_cpu_capability {
	us_u32 online, encrypts;		/* encrypts: the kernel's page tables lie in encrypted memory */
	us_u64 cr4, feature_control, vmx[US_VMX_MSR_COUNT];	/* vmx[n]: MSR 0x480 + n */
	us_u64 efer, vm_cr;			/* zero where CPUID says that there is no SVM */
};
struct us_capabilities { us_u32 state, cpu_count; struct us_cpu_capability cpu[US_MAX_CPUS]; };

/*
 * START fails with: EALREADY captured or attached · ENODEV neither VT-x nor AMD-V, or a capability is missing ·
 * EOPNOTSUPP memory encryption or no 1 GiB pages · E2BIG too many CPUs · EBUSY a CPU uses VT-x or AMD-V already ·
 * ENOEXEC no VMM image · EPROTO another ABI version · EINVAL impossible sizes or offsets ·
 * EBADMSG wrong checksum · EFBIG larger than region or annex can be · ENOMEM no contiguous memory for one of them ·
 * EIO an instruction of VT-x or AMD-V failed. VANISH: ENODEV bare already · EBUSY another instance still runs ·
 * EIO a CPU stayed beneath. DEVIRTUALIZE: ENODEV bare · EBUSY another instance is there · EPERM something of that kind is
 * not this instance's · EALREADY nothing would be left trapped. CALL: ENODEV bare · EINVAL not a call for user space.
 * STAGE: ENODEV bare · EINVAL not page aligned · EBUSY part of it is online · EFAULT not RAM.
 * JOIN: ENODEV bare · EINVAL not whole blocks · EEXIST part of it is this kernel's already · ENOMEM no memory for its pages' descriptions.
 */
#define US_IOC_START	_IOW('u', 1, struct us_start)
#define US_IOC_VANISH	_IO('u', 2)
#define US_IOC_CALL	_IOWR('u', 3, struct us_call)
#define US_IOC_STAGE	_IOW('u', 4, struct us_stage)
#define US_IOC_PAUSES	_IOR('u', 5, struct us_pauses)
#define US_IOC_DEVIRTUALIZE	_IO('u', 8)	/* the argument itself: US_TRAPPED_* bits, not all that are left */
#define US_IOC_CAPABILITIES	_IOR('u', 6, struct us_capabilities)
#define US_IOC_JOIN	_IOW('u', 7, struct us_memory)

#endif
