/** The virtual machine control block of AMD-V (APM Vol. 2, appendix B) and its values. */

/** A segment register; attributes are bits 40-47 and 52-55 of its descriptor. */
export class VmcbSegment extends Struct { selector: u16; attributes: u16; limit: u32; base: u64 }
assertLayout<VmcbSegment>(16);

export class Vmcb extends Struct {
  interceptCr: u32;
  interceptDr: u32;
  interceptExceptions: u32;
  intercept1: u32;
  intercept2: u32;
  intercept3: u32;
  reserved018: FixedArray<u64, 5>;
  ioPermissions: HostPhysical;
  msrPermissions: HostPhysical;
  tscOffset: u64;
  asid: u32;
  tlbControl: u32;
  interruptControl: u64;
  interruptShadow: u64;
  exitCode: u64;
  exitInfo1: u64;
  exitInfo2: u64;
  exitInterruption: u64;
  nestedControl: u64;
  reserved098: FixedArray<u64, 2>;
  eventInjection: u64;
  nestedCr3: u64;
  lbrControl: u64;
  clean: u64;
  nextRip: u64;
  reserved0d0: FixedArray<u64, 102>;
  es: VmcbSegment;
  cs: VmcbSegment;
  ss: VmcbSegment;
  ds: VmcbSegment;
  fs: VmcbSegment;
  gs: VmcbSegment;
  gdtr: VmcbSegment;
  ldtr: VmcbSegment;
  idtr: VmcbSegment;
  tr: VmcbSegment;
  reserved4a0: FixedArray<u8, 43>;
  cpl: u8;
  reserved4cc: u32;
  efer: u64;
  reserved4d8: FixedArray<u64, 14>;
  cr4: u64;
  cr3: u64;
  cr0: u64;
  dr7: u64;
  dr6: u64;
  rflags: u64;
  rip: u64;
  reserved580: FixedArray<u64, 11>;
  rsp: u64;
  reserved5e0: FixedArray<u64, 3>;
  rax: u64;
  star: u64;
  lstar: u64;
  cstar: u64;
  sfmask: u64;
  kernelGsBase: u64;
  sysenterCs: u64;
  sysenterEsp: u64;
  sysenterEip: u64;
  cr2: u64;
  reserved648: FixedArray<u64, 4>;
  pat: u64;
  reserved670: FixedArray<u64, 14>;
  specControl: u64;
  reserved6e8: FixedArray<u64, 291>;
}
assertLayout<Vmcb>(4096, {
  ioPermissions: 0x40, asid: 0x58, interruptControl: 0x60, exitCode: 0x70, nestedControl: 0x90, eventInjection: 0xa8, nestedCr3: 0xb0,
  clean: 0xc0, nextRip: 0xc8, es: 0x400, tr: 0x490, cpl: 0x4cb, efer: 0x4d0, cr4: 0x548, rip: 0x578, rsp: 0x5d8, rax: 0x5f8, cr2: 0x640, pat: 0x668, specControl: 0x6e0,
});
/** Bytes up to the last field that has a name here: the rest stays zero. */
export const VMCB_FIELDS: u64 = 0x6e8n;

/** interceptCr: MOV from and to CR8. */
export const INTERCEPT_CR8: u32 = 0x1000100;
/** intercept1 (offset 00Ch). */
export const INTERCEPT_INTR: u32 = 0x1;
export const INTERCEPT_NMI: u32 = 0x2;
export const INTERCEPT_VINTR: u32 = 0x10;
export const INTERCEPT_CPUID: u32 = 0x40000;
export const INTERCEPT_IRET: u32 = 0x100000;
export const INTERCEPT_INVD: u32 = 0x400000;
export const INTERCEPT_HLT: u32 = 0x1000000;
export const INTERCEPT_INVLPGA: u32 = 0x4000000;
export const INTERCEPT_IO: u32 = 0x8000000;
export const INTERCEPT_MSR: u32 = 0x10000000;
export const INTERCEPT_SHUTDOWN: u32 = 0x80000000;
/** intercept2 (offset 010h): VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT. */
export const INTERCEPT_SVM_INSTRUCTIONS: u32 = 0x7f;
export const INTERCEPT_MWAIT: u32 = 0x1800;

export const TLB_CONTROL_FLUSH_ALL: u32 = 1;
export const NESTED_PAGING: u64 = 1n;

/** interruptControl (offset 060h): a virtual interrupt is pending, of the highest priority; the processor that takes it clears the first of these bits. */
export const VIRTUAL_INTERRUPT: u64 = 0x1f0100n;
export const VIRTUAL_INTERRUPT_PENDING: u64 = 0x100n;
/** Its vector. */
export const VIRTUAL_VECTOR: u64 = 0xff00000000n;
export const VIRTUAL_VECTOR_SHIFT: u64 = 32n;
/** The guest's interrupt flag masks virtual interrupts only, that of the VMM the real ones (15.21.1). */
export const INTERRUPT_MASKING: u64 = 0x1000000n;
export const INTERRUPT_SHADOW: u64 = 1n;

/** eventInjection and exitInterruption (APM Vol. 2, 15.20): vector in bits 0-7, type in 8-10, error code in 32-63. */
export const EVENT_VALID: u64 = 0x80000000n;
export const EVENT_VECTOR: u64 = 0xffn;
export const EVENT_CODE_VALID: u64 = 0x800n;
export const EVENT_TYPE: u64 = 0x700n;
export const EVENT_NMI: u64 = 0x200n;
export const EVENT_EXCEPTION: u64 = 0x300n;

/** Exit codes (APM Vol. 2, appendix C). */
export enum ExitCode {
  CR8_READ = 0x08,
  CR8_WRITE = 0x18,
  MACHINE_CHECK = 0x52,
  INTR = 0x60,
  NMI = 0x61,
  VINTR = 0x64,
  CPUID = 0x72,
  IRET = 0x74,
  INVD = 0x76,
  HLT = 0x78,
  INVLPGA = 0x7a,
  IO = 0x7b,
  MSR = 0x7c,
  SHUTDOWN = 0x7f,
  VMRUN = 0x80,
  VMMCALL = 0x81,
  VMLOAD = 0x82,
  VMSAVE = 0x83,
  STGI = 0x84,
  CLGI = 0x85,
  SKINIT = 0x86,
  MWAIT = 0x8b,
  MWAIT_ARMED = 0x8c,
  NESTED_PAGE_FAULT = 0x400,
  INVALID = 0xffffffff,
}

/** exitInfo1 of an I/O instruction: direction in bit 0, string in 2, size in 4-6, port in 16-31; exitInfo2 is the next RIP (15.10.2). */
export const IO_INFO_IN: u64 = 1n;
export const IO_INFO_STRING: u64 = 4n;
export const IO_INFO_SIZE_SHIFT: u64 = 4n;
/** exitInfo1 of a control register's access: whether it was a MOV, and the general register (15.8.1). */
export const CR_INFO_MOV: u64 = 0x8000000000000000n;
export const CR_INFO_REGISTER: u64 = 0xfn;
/** exitInfo1 of an MSR access: 1 if it writes (15.11). */
export const MSR_INFO_WRITE: u64 = 1n;

/** Attributes of segments after INIT and in 64-bit mode. */
export const ATTRIBUTES_CODE16: u16 = 0x9b;
export const ATTRIBUTES_DATA16: u16 = 0x93;
export const ATTRIBUTES_LDT: u16 = 0x82;
export const ATTRIBUTES_BUSY_TSS: u16 = 0x8b;
export const ATTRIBUTES_CODE64: u16 = 0xa9b;
export const ATTRIBUTES_DATA32: u16 = 0xc93;
export const ATTRIBUTES_LONG: u16 = 0x200;
