/** VM exits as VT-x tells them, put into the terms of cpu/exit.ts. */
import { vmread } from '../../machine/intrinsics.ts';
import { APIC_DEFAULT_BASE } from '../../machine/apic.ts';
import { APIC_QUALIFICATION_OFFSET, EXIT_REASON_BASIC, EXIT_REASON_ENTRY_FAILURE, ExitReason, INTERRUPTION_TYPE, INTERRUPTION_TYPE_NMI, Vmcs } from '../../machine/vmcs.ts';
import { EXIT_MASK, Vcpu, cpuOf } from '../cpu.ts';
import { Exit, IoExit, TaskPriorityExit } from '../exit.ts';
import { adaptControls } from './direct.ts';
import { advance, deliverPendingNmi, guestRegister, injectGp, reinjectInterrupted, writeGuestCr0, writeGuestCr4 } from './guest.ts';

/** Qualification of an I/O instruction (SDM Vol. 3D, table 28-5): size - 1 in bits 0-2, direction in 3, string in 4, port in 16-31. */
const IO_SIZE: u64 = 7n;
const IO_IN: u64 = 8n;
const IO_STRING: u64 = 0x10n;

/** Counts the exit; whether it is a CPUID, the commonest one. */
export function isCpuidExit(vcpu: Vcpu): boolean {
  const reason: u32 = wrapU32(vmread(Vmcs.EXIT_REASON) & EXIT_REASON_BASIC);
  vcpu.exits[reason & EXIT_MASK]++;
  vcpu.launched = 1;
  return reason === ExitReason.CPUID;
}

/** MOV to CR8 in the qualification's low bits, access type in 4 and 5 (SDM Vol. 3D, table 28-3). */
const MOV_TO_CR8: u32 = 8;
const MOV_FROM_CR8: u32 = 0x18;

function isTaskPriority(): boolean {
  const what: u32 = wrapU32(vmread(Vmcs.EXIT_QUALIFICATION)) & 0x3f;
  return what === MOV_TO_CR8 || what === MOV_FROM_CR8;
}

/** What a TASK_PRIORITY exit is. */
export function readTaskPriorityExit(_vcpu: Vcpu, out: TaskPriorityExit): void {
  const qualification = vmread(Vmcs.EXIT_QUALIFICATION);
  out.register = wrapU32(qualification >> 8n) & 15;
  out.isWrite = (wrapU32(qualification) & 0x3f) === MOV_TO_CR8;
}

/** Only a tenant exits for these: an NMI is its holder's, and handed to that with the next entry. */
function takeException(vcpu: Vcpu): Exit {
  const info = wrapU32(vmread(Vmcs.EXIT_INTERRUPTION_INFO));
  if ((info & INTERRUPTION_TYPE) !== INTERRUPTION_TYPE_NMI) return Exit.MACHINE_CHECK;
  atomicAdd(cpuOf(vcpu).nmiCount, 1);
  return Exit.DONE;
}

/** CR0 and CR4 exit only when the guest changes a bit that VMX holds (SDM Vol. 3D, table 28-3). */
function handleCrAccess(vcpu: Vcpu): void {
  const qualification = vmread(Vmcs.EXIT_QUALIFICATION);
  const value = guestRegister(vcpu, wrapU32(qualification >> 8n) & 15);
  const what: u32 = wrapU32(qualification) & 0x3f;
  let written = false;
  if (what === 0) {
    written = writeGuestCr0(vcpu, value);
    adaptControls(vcpu);
  }
  else if (what === 4) written = writeGuestCr4(vcpu, value);
  if (written) advance(vcpu);
  else injectGp(vcpu);
}

/** What any other exit was for. An event whose delivery it interrupted is delivered again, unless the handler decides otherwise. */
export function takeExit(vcpu: Vcpu): Exit {
  const full = vmread(Vmcs.EXIT_REASON);
  if ((full & EXIT_REASON_ENTRY_FAILURE) !== 0n) return Exit.ENTRY_FAILURE;
  reinjectInterrupted();
  const reason: u32 = wrapU32(full & EXIT_REASON_BASIC);
  switch (reason) {
    case ExitReason.EXCEPTION_OR_NMI: return takeException(vcpu);
    case ExitReason.CR_ACCESS:
      if (isTaskPriority()) return Exit.TASK_PRIORITY;
      handleCrAccess(vcpu);
      return Exit.DONE;
    // A tenant that has lowered its task priority so far gets its interrupt with the entry.
    case ExitReason.NMI_WINDOW: case ExitReason.TPR_BELOW_THRESHOLD: return Exit.DONE;
    case ExitReason.APIC_ACCESS: return Exit.MEMORY;
    case ExitReason.MONITOR_TRAP_FLAG:
      deliverPendingNmi(vcpu);
      return Exit.DONE;
    // VMX is visible but not to be had: VMXON faults as where firmware has locked it off, the rest as outside VMX operation.
    case ExitReason.VMXON: return Exit.REFUSED;
    case ExitReason.VMCLEAR: case 20: case 21: case 22: case 23: case 24: case 25: case 26:
    case ExitReason.INVEPT: case ExitReason.INVVPID: case ExitReason.GETSEC:
      return Exit.UNDEFINED;
    case ExitReason.TRIPLE_FAULT: case ExitReason.INIT: case ExitReason.SIPI: case ExitReason.INVD: case ExitReason.VMCALL:
    case ExitReason.IO: case ExitReason.RDMSR: case ExitReason.WRMSR: case ExitReason.EPT_VIOLATION:
    case ExitReason.PREEMPTION_TIMER: case ExitReason.XSETBV: case ExitReason.EXTERNAL_INTERRUPT: case ExitReason.INTERRUPT_WINDOW:
    case ExitReason.HLT: case ExitReason.MWAIT: case ExitReason.APIC_WRITE:
      return reason as Exit;
    default: return Exit.UNKNOWN;
  }
}

/** What a panic says of an entry failure: exit reason and qualification. */
export function failureReason(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.EXIT_REASON);
}

export function failureDetail(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.EXIT_QUALIFICATION);
}

/** Vector of a SIPI exit. */
export function sipiVector(_vcpu: Vcpu): u64 {
  return vmread(Vmcs.EXIT_QUALIFICATION) & 0xffn;
}

/** Which register an APIC_WRITE exit is of, by its offset in the page. */
export function writtenRegister(_vcpu: Vcpu): u32 {
  return wrapU32(vmread(Vmcs.EXIT_QUALIFICATION) & APIC_QUALIFICATION_OFFSET);
}

/** Where a MEMORY exit touched. */
export function touchedAddress(_vcpu: Vcpu): GuestPhysical {
  if ((vmread(Vmcs.EXIT_REASON) & EXIT_REASON_BASIC) === u64(ExitReason.APIC_ACCESS)) {
    return u64(APIC_DEFAULT_BASE) | (vmread(Vmcs.EXIT_QUALIFICATION) & APIC_QUALIFICATION_OFFSET);
  }
  return vmread(Vmcs.GUEST_PHYSICAL_ADDRESS);
}

/** What an IO exit is. */
export function readIoExit(_vcpu: Vcpu, out: IoExit): void {
  const qualification = vmread(Vmcs.EXIT_QUALIFICATION);
  out.port = wrapU16(qualification >> 16n);
  out.size = wrapU8(qualification & IO_SIZE) + 1;
  out.isIn = (qualification & IO_IN) !== 0n;
  out.isString = (qualification & IO_STRING) !== 0n;
}

/** What an NMI exit was for: on VT-x the guest takes its NMIs itself, so there is none. */
export function takeSignal(_vcpu: Vcpu): Exit {
  return Exit.NMI;
}

/** Hands an NMI that was for the guest to it. */
export function passNmi(_vcpu: Vcpu): void {}
