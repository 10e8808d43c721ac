/**
 * Why a guest has exited, as everything outside cpu/ knows it, and the index of
 * its counter. What VT-x has too is numbered like its basic exit reasons (SDM
 * Vol. 3D, appendix C), so that its exits need no translation.
 */
export enum Exit {
  /** A non-maskable interrupt; on processors that are signalled by NMI. */
  NMI = 0,
  /** An interrupt for the holder of a shared processor arrived while its tenant ran; it is still to be taken. */
  INTERRUPT = 1,
  TRIPLE_FAULT = 2,
  INIT = 3,
  SIPI = 4,
  /** The guest takes interrupts now. */
  INTERRUPT_WINDOW = 7,
  CPUID = 10,
  HALT = 12,
  INVD = 13,
  HYPERCALL = 18,
  /** An instruction of VT-x, of which this is one. */
  VMXON = 27,
  CONTROL_REGISTER = 28,
  IO = 30,
  RDMSR = 31,
  WRMSR = 32,
  MWAIT = 36,
  /** A touch that the memory map does not let through. */
  MEMORY = 48,
  /** The timer that setTimer has armed. */
  TIMER = 52,
  XSETBV = 55,
  /** The processor has written a register of a tenant's virtual local APIC, behind the instruction. */
  APIC_WRITE = 56,
  /** An instruction that is #UD as long as virtualization is off. */
  UNDEFINED = 70,
  /** One that is #GP where firmware has turned virtualization off. */
  REFUSED = 71,
  /** The processor's own business, dealt with already. */
  DONE = 72,
  /** The processor did not accept the guest's state. */
  ENTRY_FAILURE = 73,
  UNKNOWN = 74,
  /** MOV to or from CR8. */
  TASK_PRIORITY = 75,
  MACHINE_CHECK = 76,
}

/** A MOV to or from CR8, with the general register by its encoding. */
export class TaskPriorityExit extends Struct {
  register: u32;
  isWrite: boolean;
  padding0: u8;
  padding1: u16;
}

/** An I/O instruction. */
export class IoExit extends Struct {
  port: u16;
  /** Bytes: 1, 2 or 4. */
  size: u8;
  isIn: boolean;
  /** INS or OUTS. */
  isString: boolean;
  padding0: u8;
  padding1: u16;
}
