/** VM exits as AMD-V tells them, put into the terms of cpu/exit.ts. */
import {
  CR_INFO_MOV, CR_INFO_REGISTER, ExitCode, IO_INFO_IN, IO_INFO_SIZE_SHIFT, IO_INFO_STRING, MSR_INFO_WRITE,
} from '../../machine/vmcb.ts';
import { EXIT_MASK, Vcpu, cpuOf } from '../cpu.ts';
import { Exit, IoExit, TaskPriorityExit } from '../exit.ts';
import { deliverPendingNmi, endNmi, injectNmi, reinjectInterrupted } from './guest.ts';
import { acceptNmi } from './interrupts.ts';
import { setHalted, standAtHalt, takeInterrupt } from './share.ts';
import { noteNmi } from './signal.ts';
import { vmcbOf } from './vcpu.ts';

/** Counts the exit if it is a CPUID, the commonest one; whether it is. */
export function isCpuidExit(vcpu: Vcpu): boolean {
  const vmcb = vmcbOf(vcpu);
  vmcb.tlbControl = 0;
  if (wrapU32(vmcb.exitCode) !== ExitCode.CPUID) return false;
  vcpu.exits[Exit.CPUID]++;
  return true;
}

function decode(vcpu: Vcpu): Exit {
  const vmcb = vmcbOf(vcpu);
  switch (wrapU32(vmcb.exitCode)) {
    case ExitCode.NMI: return Exit.NMI;
    case ExitCode.VMMCALL: return Exit.HYPERCALL;
    case ExitCode.NESTED_PAGE_FAULT: return Exit.MEMORY;
    case ExitCode.IO: return Exit.IO;
    case ExitCode.MSR: return (vmcb.exitInfo1 & MSR_INFO_WRITE) !== 0n ? Exit.WRMSR : Exit.RDMSR;
    case ExitCode.INVD: return Exit.INVD;
    case ExitCode.INTR: return takeInterrupt(vcpu);
    case ExitCode.HLT: return Exit.HALT;
    case ExitCode.MWAIT: case ExitCode.MWAIT_ARMED: return Exit.MWAIT;
    case ExitCode.MACHINE_CHECK: return Exit.MACHINE_CHECK;
    // Not every processor says which register it is; no kernel uses CR8 on one that does not.
    case ExitCode.CR8_READ: case ExitCode.CR8_WRITE: return (vmcb.exitInfo1 & CR_INFO_MOV) !== 0n ? Exit.TASK_PRIORITY : Exit.UNDEFINED;
    case ExitCode.SHUTDOWN: return Exit.TRIPLE_FAULT;
    case ExitCode.IRET: case ExitCode.VINTR: return Exit.DONE;
    // SVM is visible but not to be had: as where EFER.SVME is clear.
    case ExitCode.VMRUN: case ExitCode.VMLOAD: case ExitCode.VMSAVE: case ExitCode.STGI: case ExitCode.CLGI:
    case ExitCode.SKINIT: case ExitCode.INVLPGA:
      return Exit.UNDEFINED;
    case ExitCode.INVALID: return Exit.ENTRY_FAILURE;
    default: return Exit.UNKNOWN;
  }
}

/** What any other exit was for. An event whose delivery it interrupted is delivered again, unless the handler decides otherwise. */
export function takeExit(vcpu: Vcpu): Exit {
  reinjectInterrupted(vcpu);
  standAtHalt(vcpu);
  const exit = decode(vcpu);
  vcpu.exits[u32(exit) & EXIT_MASK]++;
  const code: u32 = wrapU32(vmcbOf(vcpu).exitCode);
  if (exit === Exit.NMI) {
    acceptNmi();
    noteNmi(cpuOf(vcpu));
  }
  if (code === ExitCode.IRET) endNmi(vcpu);
  else if (code === ExitCode.VINTR) deliverPendingNmi(vcpu);
  return exit;
}

/** What an NMI was for that came with no order: a startup signal of the guest's own is in the mailbox, or it is the guest's NMI. */
export function takeSignal(vcpu: Vcpu): Exit {
  const cpu = cpuOf(vcpu);
  if (atomicLoad(cpu.guestInit) !== 0) return Exit.INIT;
  if (atomicLoad(cpu.guestSipi) !== 0) return Exit.SIPI;
  return Exit.NMI;
}

/** Hands an NMI that was for the guest to it; on a shared processor, to the holder. */
export function passNmi(vcpu: Vcpu): void {
  const holder = cpuOf(vcpu).holder;
  if (holder === null) injectNmi(vcpu);
  else {
    setHalted(holder, false);
    injectNmi(holder);
  }
}

/** What a panic says of an entry failure. */
export function failureReason(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).exitCode;
}

export function failureDetail(vcpu: Vcpu): u64 {
  return vmcbOf(vcpu).rip;
}

/** Takes the vector of the SIPI in the mailbox. */
export function sipiVector(vcpu: Vcpu): u64 {
  return u64(atomicExchange(cpuOf(vcpu).guestSipi, 0)) & 0xffn;
}

/** No exit is an APIC_WRITE here. */
export function writtenRegister(_vcpu: Vcpu): u32 {
  unreachable();
}

/** Where a MEMORY exit touched. */
export function touchedAddress(vcpu: Vcpu): GuestPhysical {
  return vmcbOf(vcpu).exitInfo2;
}

/** What a TASK_PRIORITY exit is. */
export function readTaskPriorityExit(vcpu: Vcpu, out: TaskPriorityExit): void {
  const vmcb = vmcbOf(vcpu);
  out.register = wrapU32(vmcb.exitInfo1 & CR_INFO_REGISTER);
  out.isWrite = wrapU32(vmcb.exitCode) === ExitCode.CR8_WRITE;
}

/** What an IO exit is. */
export function readIoExit(vcpu: Vcpu, out: IoExit): void {
  const info = vmcbOf(vcpu).exitInfo1;
  out.port = wrapU16(info >> 16n);
  out.size = wrapU8(info >> IO_INFO_SIZE_SHIFT) & 7;
  out.isIn = (info & IO_INFO_IN) !== 0n;
  out.isString = (info & IO_INFO_STRING) !== 0n;
}
