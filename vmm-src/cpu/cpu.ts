/**
 * Processors and virtual CPUs. A processor (Cpu) carries one virtual CPU (Vcpu)
 * at a time. One that two instances share has two of them: the holder's, which has
 * the real local APIC, and the tenant's, which has a virtual one. Everything here
 * is vendor-neutral.
 */
import "../../compiler/core/dialect.mjs";
import { CpuState, MAX_INSTANCES } from '../abi.ts';

/** What another processor may ask of one (cpu/kick.ts). */
export enum Command {
  NONE = 0,
  /** Forget cached translations of the instance's memory. */
  FLUSH = 1,
  /** Wait in the VMM until let go. */
  HOLD = 2,
  /** Leave the current virtual CPU and carry Cpu.commandVcpu. */
  SWITCH = 3,
  /** Leave virtualization and halt; a native INIT then parks the processor. */
  LEAVE = 4,
  /** The instance of Cpu.commandVcpu has ended: the processor is the other one's, which shares it. */
  UNSHARE = 5,
  /** Carry Cpu.commandVcpu, too: the processor is shared from then on. */
  SHARE = 6,
}

/** How a virtual CPU begins. */
export enum StartKind {
  /** Waiting for its instance's SIPI, all registers as after INIT (SDM Vol. 3A, table 11-1). */
  WAIT_FOR_SIPI = 0,
  /** In 64-bit mode at `startRip` with RSI = `startRsi`: Linux's 64-bit boot protocol. */
  BOOT_64 = 1,
}

/** What a virtual CPU waits for while it executes nothing, on a processor that is shared. */
export enum Idle {
  NONE = 0,
  /** HLT: an interrupt. */
  HALT = 1,
  /** HLT with interrupts off: nothing that the VMM sends. */
  HALT_DEAF = 2,
  /** MWAIT: an interrupt, or a write that nobody sees from here; so it goes on after a while in any case. */
  MWAIT = 3,
  /** The SIPI of its instance, as at its beginning or after an INIT. */
  STARTUP = 4,
}

/** General registers by their number in instruction encodings: RAX RCX RDX RBX (RSP unused) RBP RSI RDI R8..R15. */
export type Registers = FixedArray<u64, 16>;
export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RSI = 6;
export const RDI = 7;

/**
 * The exit stub (exit.asm in boot/) finds it just below the host's RSP, which is the
 * address of `stackTop`.
 * @asm
 */
export class Vcpu extends Struct {
  registers: Registers;
  /** Stack of the processor that carries this virtual CPU. */
  stackTop: HostVirtual;
  cpu: Cpu | null;
  /** Its VMCS or VMCB. */
  control: HostPhysical;
  /** On VT-x: 0 until the first VM entry with its current VMCS state. */
  launched: u32;
  /** Number of its instance, from 1. */
  instance: u32;
  /** Processor number. */
  index: u32;
  start: StartKind;
  startRip: GuestPhysical;
  startRsi: GuestPhysical;
  startCr3: GuestPhysical;
  startGdt: GuestPhysical;
  /** ICR high word and LDR as the guest wrote them, while its local APIC is guarded. */
  icrHigh: u32;
  ldr: u32;
  /** An NMI that could not be injected beside another event waits here. */
  nmiPending: u32;
  /** 1: `ldr` was kept from the real LDR and goes there with the next hold. */
  exposeLdr: u32;
  idle: Idle;
  /** DIRECT_* bits: what is its guest's own, not to be trapped. */
  direct: u32;
  /** Which memory map and MSRs it is given: its instance's, or those of sharedView. */
  view: u32;
  reserved: u32;
  /** By reason (cpu/exit.ts); a power of two, so that a mask is all the check an index needs. */
  exits: FixedArray<u64, 128>;
}
assertLayout<Vcpu>(1256, { stackTop: 128, cpu: 136, control: 144, launched: 152, exits: 232 });
export const EXIT_MASK: u32 = 127;

/** Vcpu.direct: no port exits. */
export const DIRECT_PORTS: u32 = 1;
/** Its guest's page tables are the only ones. */
export const DIRECT_TABLES: u32 = 2;
/** Nothing exits that need not. */
export const DIRECT_PROCESSOR: u32 = 4;

/** @asm */
export class Cpu extends Struct {
  /** NMIs that arrived while the VMM ran and are not yet handed to the guest. */
  nmiCount: u32;
  index: u32;
  apicId: u32;
  state: CpuState;
  vcpu: Vcpu | null;
  commandVcpu: Vcpu | null;
  command: Command;
  /** INITs still to come of commands that were carried out while polling. */
  strayInits: u32;
  /** 1 while held. */
  held: u32;
  /** Vector of the last SIPI that started it, NO_VECTOR before. */
  sipiVector: u32;
  /** Set when a guarded guest's own INIT is on its way: any other is left over from an order. */
  guestInit: u32;
  /** On AMD-V: vector of a guest's SIPI that is on its way, with bit 8 set; 0 for none. */
  guestSipi: u32;
  cr4AtCapture: u64;
  /** On AMD-V: signals that were sent and not yet seen. */
  signals: u32;
  /** On AMD-V: signals that the last NMI stood for; 0 if it was the guest's own. */
  signalled: u32;
  /** While two instances share it: whose the real local APIC is, and who has a virtual one. */
  holder: Vcpu | null;
  tenant: Vcpu | null;
  /** Until then an INIT without an order may be one that called it to its tenant, before that was gone. TSC. */
  strayUntil: u64;
  /** 1: another processor has posted something for its tenant, and it has not looked yet. */
  rung: u32;
  /** Processors that are about to post something for its tenant, and to ring it. */
  ringing: u32;
}
assertLayout<Cpu>(104, { vcpu: 16 });
export const NO_VECTOR: u32 = 0xffffffff;

/** @asm */
export const cpus: FixedArray<Cpu, 32> = zeroed(64);
/** One per instance and processor. */
export const vcpus: FixedArray<FixedArray<Vcpu, 32>, 2> = zeroed(64);

/** The virtual CPU of an instance (from 1) on a processor. */
export function vcpuOf(instance: u32, cpu: u32): Vcpu {
  return vcpus[instance - 1][cpu];
}

/** The view of an instance's virtual CPUs on shared processors: in it the local APIC's page is another or missing, and more MSRs exit. */
export function sharedView(instance: u32): u32 {
  return MAX_INSTANCES + instance;
}

/** The virtual CPU whose local APIC is the processor's own, if there is one. */
export function apicHolderOf(cpu: Cpu): Vcpu | null {
  const holder = cpu.holder;
  if (holder !== null) return holder;
  return cpu.tenant === null ? cpu.vcpu : null;
}

/** The virtual CPU of an instance that has a share of a processor. */
export function tenantOf(cpu: Cpu, instance: u32): Vcpu | null {
  const tenant = cpu.tenant;
  return tenant !== null && tenant.instance === instance ? tenant : null;
}

/** Whether a virtual CPU has a share of a processor whose local APIC another instance holds. */
export function isTenant(vcpu: Vcpu): boolean {
  const cpu = vcpu.cpu;
  return cpu !== null && cpu.tenant === vcpu;
}

/** Whether a processor carries a virtual CPU of an instance, now or with its next turn. */
export function carries(cpu: Cpu, instance: u32): boolean {
  const vcpu = cpu.vcpu;
  const holder = cpu.holder;
  const tenant = cpu.tenant;
  return (vcpu !== null && vcpu.instance === instance) || (holder !== null && holder.instance === instance)
    || (tenant !== null && tenant.instance === instance);
}

/** Whether a processor runs nothing until it gets a SIPI, the VMM's or its guest's. */
export function isWaiting(cpu: Cpu): boolean {
  return cpu.state === CpuState.WAITING || cpu.state === CpuState.PARKED;
}

/** The processor that carries a virtual CPU now. */
export function cpuOf(vcpu: Vcpu): Cpu {
  const cpu = vcpu.cpu;
  if (cpu === null) unreachable();
  return cpu;
}
