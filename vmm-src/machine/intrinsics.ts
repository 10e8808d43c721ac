/**
 * What only the processor can do. Each function is one instruction or the
 * shortest sequence that leaves no choice; intrinsics.h is the C twin, and the
 * simulated machine in test/vmm is the JavaScript one.
 */
import "../../compiler/core/dialect.mjs";

export class CpuidResult extends Struct { eax: u32; ebx: u32; ecx: u32; edx: u32 }
assertLayout<CpuidResult>(16, { eax: 0, ebx: 4, ecx: 8, edx: 12 });

/** GDTR or IDTR as SGDT and SIDT store it. */
export class TableRegister extends Packed { limit: u16; base: u64 }
assertLayout<TableRegister>(10, { limit: 0, base: 2 });

export declare function cpuid(leaf: u32, subleaf: u32, out: CpuidResult): void;
export declare function readTsc(): u64;
export declare function readMsr(index: u32): u64;
export declare function writeMsr(index: u32, value: u64): void;
export declare function xgetbv(index: u32): u64;
export declare function xsetbv(index: u32, value: u64): void;

export declare function readCr0(): u64;
export declare function writeCr0(value: u64): void;
export declare function readCr2(): u64;
export declare function readCr3(): u64;
export declare function readCr4(): u64;
export declare function writeCr4(value: u64): void;
export declare function writeCr2(value: u64): void;
export declare function readDr6(): u64;
export declare function writeDr6(value: u64): void;
/** DR0 to DR3, by number. */
export declare function readBreakpoint(number: u32): u64;
export declare function writeBreakpoint(number: u32, value: u64): void;
export declare function readDr7(): u64;
export declare function writeDr7(value: u64): void;

export declare function storeGdt(out: TableRegister): void;
export declare function storeIdt(out: TableRegister): void;
export declare function readEs(): u16;
export declare function readCs(): u16;
export declare function readSs(): u16;
export declare function readDs(): u16;
export declare function readFs(): u16;
export declare function readGs(): u16;
export declare function readLdtr(): u16;
export declare function readTr(): u16;
/** LAR: access rights at bits 8 to 23; 0 for a selector that has none. */
export declare function loadAccessRights(selector: u16): u32;
/** LSL: the limit in bytes; 0 for a selector that has none. */
export declare function loadSegmentLimit(selector: u16): u32;

export declare function portIn8(port: u16): u8;
export declare function portIn16(port: u16): u16;
export declare function portIn32(port: u16): u32;
export declare function portOut8(port: u16, value: u8): void;
export declare function portOut16(port: u16, value: u16): void;
export declare function portOut32(port: u16, value: u32): void;

/** VMX instructions answer false on VMfailInvalid and VMfailValid (SDM Vol. 3C, 31.2). */
export declare function vmxon(region: HostPhysical): boolean;
export declare function vmxoff(): void;
export declare function vmclear(vmcs: HostPhysical): boolean;
export declare function vmptrld(vmcs: HostPhysical): boolean;
export declare function vmread(field: u32): u64;
/** A field that does not exist is a bug in the VMM: traps. */
export declare function vmwrite(field: u32, value: u64): void;
/** Single-context INVEPT (type 1). */
export declare function invept(eptPointer: u64): void;
/** Single-context INVVPID (type 1). */
export declare function invvpid(vpid: u16): void;

/** AMD-V (APM Vol. 3): global interrupt flag set and clear, with the interrupt flag the other way round; what VMRUN leaves in the processor, from and to a VMCB. */
export declare function stgi(): void;
export declare function clgi(): void;
export declare function vmsave(vmcb: HostPhysical): void;
export declare function vmload(vmcb: HostPhysical): void;

export declare function writebackInvalidate(): void;
/** CLFLUSH: the 64 bytes around an address are in memory, and in no cache. */
export declare function writeBackLine(address: HostVirtual): void;
/** Spin-loop hint. */
export declare function pause(): void;
/** Interrupts on for a few instructions, then off: the first that is pending goes through the VMM's own IDT. */
export declare function acceptInterrupts(): void;
/** XSAVE and XRSTOR of the `components`, in the standard format; with `supervisor` their compacted twins XSAVES and XRSTORS. 64-byte aligned. */
export declare function xsave(area: HostVirtual, components: u64, supervisor: boolean): void;
export declare function xrstor(area: HostVirtual, components: u64, supervisor: boolean): void;
/** FPU and vector registers and XCR0 as after RESET, so that one instance's values do not show in another. */
export declare function clearVectorState(): void;
/** Never returns. */
export declare function haltForever(): never;
