/**
 * The VMM's side of linux/abi.h: what the loader writes, what hypercalls carry.
 * Field meanings are documented there; the assertions keep the two layouts equal.
 */
export const ABI_VERSION: u32 = 1;
export const MAX_CPUS = 32;
export const MAX_INSTANCES = 2;
export const MAX_RANGES = 64;
export const MAX_FUNCTIONS = 64;
/** Exit counters per virtual CPU, by basic exit reason. */
export const EXIT_COUNTERS = 80;

export class MemoryRange extends Struct { base: u64; size: u64; type: u32; reserved: u32 }

export class BootInfo extends Struct {
  regionBase: HostPhysical;
  regionSize: u64;
  annexBase: HostPhysical;
  annexSize: u64;
  rsdp: HostPhysical;
  tscKhz: u32;
  cpuCount: u32;
  apicId: FixedArray<u32, 32>;
  rangeCount: u32;
  reserved: u32;
  range: FixedArray<MemoryRange, 64>;
}
assertLayout<BootInfo>(1720, { annexBase: 16, apicId: 48, rangeCount: 176, range: 184 });
/** Where the loader puts BootInfo, from the region's start. */
export const BOOT_INFO_OFFSET: u64 = 256n;
/** Flag of the entry's CPU number: prepare, step in the low bits. */
export const PREPARE: u32 = 0x80000000;

export const HYPERCALL_ATTACH: u32 = 0x55530001;
export const HYPERCALL_RELEASE_BEGIN: u32 = 0x55530002;
export const HYPERCALL_RELEASE: u32 = 0x55530003;
export const HYPERCALL_STATUS: u32 = 0x55530004;
export const HYPERCALL_EVENTS: u32 = 0x55530005;
export const HYPERCALL_CONSOLE_READ: u32 = 0x55530006;
export const HYPERCALL_CONSOLE_WRITE: u32 = 0x55530007;
export const HYPERCALL_BOOT: u32 = 0x55530008;
export const HYPERCALL_STOP: u32 = 0x55530009;
export const HYPERCALL_TAKE: u32 = 0x5553000a;
export const HYPERCALL_GIVE_BACK: u32 = 0x5553000b;
export const HYPERCALL_HIDE: u32 = 0x5553000c;
export const HYPERCALL_EJECT: u32 = 0x5553000d;
export const HYPERCALL_DEVIRTUALIZE: u32 = 0x5553000e;
export const HYPERCALL_WEIGHT: u32 = 0x55530010;
export const HYPERCALL_PAUSE: u32 = 0x55530011;

/** @mustUse */
export enum Result {
  OK = 0,
  UNKNOWN = 1,
  BUFFER = 2,
  INSTANCE = 3,
  BUSY = 4,
  MEMORY = 5,
  TOO_SMALL = 6,
  KERNEL = 7,
  CPU = 8,
  ACPI = 9,
  PROCESSOR = 10,
  CAPABILITY = 11,
  TABLES = 12,
  COMMAND_LINE = 13,
  AGAIN = 14,
  FUNCTION = 15,
  SLOT = 16,
  DIRECT = 17,
  X2APIC = 18,
}

export const COMMAND_LINE_SIZE = 2048;
export const MAX_WEIGHT: u32 = 100;
export const MAX_GRANTS: u32 = 32;
export class BootRequest extends Struct {
  memoryBase: HostPhysical;
  memorySize: u64;
  kernelAddress: HostPhysical;
  kernelSize: u64;
  initrdAddress: HostPhysical;
  initrdSize: u64;
  cpuMask: u64;
  shareMask: u64;
  functionCount: u32;
  weight: u32;
  bdf: FixedArray<u16, 32>;
  commandLine: FixedArray<u8, 2048>;
}
assertLayout<BootRequest>(2184, { cpuMask: 48, bdf: 72, commandLine: 136 });

export enum InstanceState { NONE = 0, RUNNING = 1, STOPPED = 2 }
export enum CpuState { BARE = 0, RUNNING = 1, WAITING = 2, PARKED = 3, FAILED = 4 }

export class InstanceStatus extends Struct {
  state: InstanceState;
  rangeCount: u32;
  cpuMask: u64;
  shareMask: u64;
  weight: u32;
  paused: u32;
  ran: u64;
  worstWait: u64;
  startTick: u64;
  stopTick: u64;
  exits: FixedArray<u64, 80>;
  range: FixedArray<MemoryRange, 64>;
}
assertLayout<InstanceStatus>(2240, { exits: 64, range: 704 });
export class CpuStatus extends Struct { apicId: u32; instance: u32; state: CpuState; reserved: u32; exits: u64 }
/** As a function's instance: plugged in since the capture; on its way out of the machine. */
export const SHIELDED: u32 = 254;
export const HIDDEN: u32 = 253;
export class FunctionStatus extends Struct { bdf: u16; instance: u16; id: u32; classCode: u32; reserved: u32 }

/** still_trapped bits. */
export const TRAPPED_PROCESSOR: u32 = 1;
export const TRAPPED_MEMORY: u32 = 2;
export const TRAPPED_IO: u32 = 4;
export const TRAPPED_ALL: u32 = 7;
/** Devices' accesses to memory, by an IOMMU: with I/O and memory. */
export const TRAPPED_DMA: u32 = 8;

export class Status extends Struct {
  abiVersion: u32;
  ownInstance: u32;
  cpuCount: u32;
  functionCount: u32;
  now: u64;
  tscKhz: u32;
  stillTrapped: u32;
  regionBase: u64;
  regionSize: u64;
  annexBase: u64;
  annexSize: u64;
  instance: FixedArray<InstanceStatus, 2>;
  cpu: FixedArray<CpuStatus, 32>;
  function: FixedArray<FunctionStatus, 64>;
  unconditional: FixedArray<u64, 2>;
}
assertLayout<Status>(6352, { now: 16, regionBase: 32, annexBase: 48, instance: 64, cpu: 4544, function: 5312, unconditional: 6336 });

export enum EventType {
  CAPTURED = 1,
  LAUNCHED = 2,
  USERSPACE = 3,
  STOPPED = 4,
  GRANTED = 5,
  RELEASED = 6,
  MEMORY_VIOLATION = 7,
  IPI_VIOLATION = 8,
  MSR_VIOLATION = 9,
  CPU_WAITING = 10,
  CPU_STARTED = 11,
  REVOKED = 12,
  DISCOVERED = 13,
  DMA_VIOLATION = 14,
  HIDDEN = 15,
  REMOVED = 16,
  DEVIRTUALIZED = 17,
  INTERRUPT_VIOLATION = 18,
  IO_TABLES = 19,
}
export enum StopReason { POWEROFF = 1, RESET = 2, KILLED = 3, TRIPLE_FAULT = 4, UNHANDLED = 5 }
export enum ResourceKind { CPU = 1, MEMORY = 2, FUNCTION = 3, PLATFORM = 4, SHARE = 5 }

export class Event extends Struct { tick: u64; type: EventType; instance: u16; cpu: u16; a: u64; b: u64 }
assertLayout<Event>(32, { type: 8, instance: 12, a: 16 });
export class EventsHeader extends Struct { nextSequence: u64; count: u32; reserved: u32 }
export class ConsoleHeader extends Struct { count: u32; reserved: u32 }

/** CPUID leaves beneath the VMM. */
export const CPUID_SIGNATURE: u32 = 0x40000000;
export const SIGNATURE_EBX: u32 = 0x65646e55;
export const SIGNATURE_ECX: u32 = 0x75747372;
export const SIGNATURE_EDX: u32 = 0x20207964;
/** In EDX of the second leaf: the processor is shared with another instance. */
export const CPUID_SHARED: u32 = 1;
