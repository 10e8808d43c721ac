/**
 * VM exits. Follow one: boot/exit.asm → handleExit, or handleRareExit → a handler
 * below or in instance/ → boot/exit.asm, with the guest's registers in the Vcpu.
 */
import {
  ABI_VERSION, CPUID_SIGNATURE, CpuState, EventType, SIGNATURE_EBX, SIGNATURE_ECX, SIGNATURE_EDX, StopReason,
} from '../abi.ts';
import { Command, EXIT_MASK, RAX, RBX, RCX, RDX, Vcpu, cpuOf } from '../cpu/cpu.ts';
import { isX2apic } from '../cpu/local-apic.ts';
import { finishOrder, hasOrder, takeOrder } from '../cpu/kick.ts';
import {
  advance, deliverPendingNmi, guestCpl, guestCr4, guestRegister, guestRip, injectGp, injectUd, reinjectInterrupted, writeGuestCr0,
  writeGuestCr4,
} from '../cpu/vmx/guest.ts';
import { hasJustStarted, startAtVector, waitForSipi } from '../cpu/vmx/start.ts';
import { tick } from '../devices/tick.ts';
import { record } from '../events.ts';
import { leaveAndHalt } from '../instance/capture.ts';
import { handleHypercall } from '../instance/hypercall.ts';
import { handleIo } from '../instance/io.ts';
import { X2APIC_ICR, instanceOf, isSharedMsr } from '../instance/instance.ts';
import { writeX2apicIcr } from '../instance/ipi.ts';
import { handleEptViolation } from '../instance/mmio.ts';
import { stopSelf, switchTo } from '../instance/stop.ts';
import { CpuidResult, cpuid, vmread, writebackInvalidate, xsetbv } from '../machine/intrinsics.ts';
import { CPUID_1_ECX_OSXSAVE, CPUID_7_ECX_LA57, CPUID_7_ECX_OSPKE, CR4_OSXSAVE, CR4_PKE } from '../machine/registers.ts';
import { EXIT_REASON_BASIC, EXIT_REASON_ENTRY_FAILURE, ExitReason, Vmcs } from '../machine/vmcs.ts';
import { panic } from './panic.ts';

const CPUID_FEATURES: u32 = 1;
const CPUID_EXTENDED_FEATURES: u32 = 7;
/** XCR0: x87 must be set, AVX needs SSE (SDM Vol. 3A, 2.6). */
const XCR0_X87: u64 = 1n;
const XCR0_SSE: u64 = 2n;
const XCR0_AVX: u64 = 4n;
/** Bound registers, AVX-512 state and tile state come in groups. */
const XCR0_BOUNDS: u64 = 0x18n;
const XCR0_AVX512: u64 = 0xe0n;
const XCR0_TILES: u64 = 0x60000n;
const CPUID_XSAVE: u32 = 13;

/**
 * CPUID as the bare machine answers it. No feature is hidden, not even VMX, and
 * the hypervisor bit is not set: kernels read these once, and would go on to
 * believe what was true only while the VMM was there. Bits that mirror CR4 are
 * the guest's; 5-level paging stays out, since a release could not follow it.
 */
function handleCpuid(vcpu: Vcpu): void {
  const result: CpuidResult = zeroed();
  const leaf: u32 = wrapU32(vcpu.registers[RAX]);
  const subleaf: u32 = wrapU32(vcpu.registers[RCX]);
  cpuid(leaf, subleaf, result);
  if (leaf === CPUID_FEATURES) {
    result.ecx &= ~CPUID_1_ECX_OSXSAVE;
    if ((guestCr4() & CR4_OSXSAVE) !== 0n) result.ecx |= CPUID_1_ECX_OSXSAVE;
  } else if (leaf === CPUID_EXTENDED_FEATURES && subleaf === 0) {
    result.ecx &= ~(CPUID_7_ECX_OSPKE | CPUID_7_ECX_LA57);
    if ((guestCr4() & CR4_PKE) !== 0n) result.ecx |= CPUID_7_ECX_OSPKE;
  } else if (leaf === CPUID_SIGNATURE) {
    result.eax = CPUID_SIGNATURE + 1;
    result.ebx = SIGNATURE_EBX;
    result.ecx = SIGNATURE_ECX;
    result.edx = SIGNATURE_EDX;
  } else if (leaf === CPUID_SIGNATURE + 1) {
    result.eax = ABI_VERSION;
    result.ebx = vcpu.instance;
    result.ecx = vcpu.index;
    result.edx = 0;
  }
  vcpu.registers[RAX] = u64(result.eax);
  vcpu.registers[RBX] = u64(result.ebx);
  vcpu.registers[RCX] = u64(result.ecx);
  vcpu.registers[RDX] = u64(result.edx);
  advance();
}

function lowHalves(high: u64, low: u64): u64 {
  return (high << 32n) | (low & 0xffffffffn);
}

/** The combinations of state components that XSETBV takes (SDM Vol. 1, 13.3). */
function isConsistent(xcr0: u64): boolean {
  const avx = xcr0 & (XCR0_SSE | XCR0_AVX);
  const avx512 = xcr0 & XCR0_AVX512;
  const bounds = xcr0 & XCR0_BOUNDS;
  const tiles = xcr0 & XCR0_TILES;
  if ((xcr0 & XCR0_X87) === 0n || avx === XCR0_AVX) return false;
  if (avx512 !== 0n && (avx512 !== XCR0_AVX512 || (xcr0 & XCR0_AVX) === 0n)) return false;
  return (bounds === 0n || bounds === XCR0_BOUNDS) && (tiles === 0n || tiles === XCR0_TILES);
}

/** XSETBV exits always; a value that the processor would refuse gets the same #GP here. */
function handleXsetbv(vcpu: Vcpu): void {
  const value = lowHalves(vcpu.registers[RDX], vcpu.registers[RAX]);
  const supported: CpuidResult = zeroed();
  cpuid(CPUID_XSAVE, 0, supported);
  const allowed = lowHalves(u64(supported.edx), u64(supported.eax));
  if (guestCpl() !== 0 || wrapU32(vcpu.registers[RCX]) !== 0 || (value & ~allowed) !== 0n || !isConsistent(value)) {
    injectGp();
    return;
  }
  xsetbv(0, value);
  advance();
}

/** CR0 and CR4 exit only when the guest changes a bit that VMX holds (SDM Vol. 3D, table 28-3). */
function handleCrAccess(vcpu: Vcpu, qualification: u64): void {
  const value = guestRegister(vcpu, wrapU32(qualification >> 8n) & 15);
  const what: u32 = wrapU32(qualification) & 0x3f;
  let written = false;
  if (what === 0) written = writeGuestCr0(value);
  else if (what === 4) written = writeGuestCr4(vcpu, value);
  if (written) advance();
  else injectGp();
}

/**
 * A guarded MSR. An x2APIC ICR is delivered as far as it may be. Settings of the
 * whole package (MTRRs, microcode) stay as they are: kernels write them back as
 * they found them, so a write without effect is what they expect. The rest is
 * refused and recorded.
 */
function handleWrmsr(vcpu: Vcpu): void {
  const index: u32 = wrapU32(vcpu.registers[RCX]);
  if (index === X2APIC_ICR && isX2apic()) {
    writeX2apicIcr(vcpu, lowHalves(vcpu.registers[RDX], vcpu.registers[RAX]));
    advance();
    return;
  }
  if (isSharedMsr(index)) {
    advance();
    return;
  }
  record(EventType.MSR_VIOLATION, vcpu.instance, vcpu.index, u64(index) | (1n << 32n), guestRip());
  injectGp();
}

/** MSRs outside the bitmap's ranges exit on any access; they do not exist. */
function handleRdmsr(): void {
  injectGp();
}

/** Carries out what another processor has ordered (cpu/kick.ts), if it has. */
function obeyOrder(vcpu: Vcpu): boolean {
  const command = takeOrder(vcpu);
  if (command === Command.NONE) return false;
  if (command === Command.LEAVE) leaveAndHalt(vcpu);
  if (command === Command.SWITCH) {
    const cpu = cpuOf(vcpu);
    const next = cpu.commandVcpu;
    if (next === null) unreachable();
    switchTo(vcpu, next);
    finishOrder(cpu);
  }
  return true;
}

/** INIT and SIPI: either another processor's order or the guest's own. */
function handleStartup(vcpu: Vcpu, reason: u32, vector: u64): void {
  if (obeyOrder(vcpu)) return;
  const cpu = cpuOf(vcpu);
  if (reason === ExitReason.INIT) {
    // A guarded guest's INITs are announced; another one is left over from an order that was carried out without it.
    if (instanceOf(vcpu.instance).apicGuarded && atomicExchange(cpu.guestInit, 0) === 0) return;
    if (hasJustStarted(cpu)) return;
    waitForSipi(cpu);
    record(EventType.CPU_WAITING, vcpu.instance, cpu.index, 0n, 0n);
  } else if (cpu.state === CpuState.WAITING && vector !== 0n) {
    startAtVector(vcpu, vector);
    record(EventType.CPU_STARTED, vcpu.instance, cpu.index, vector, 0n);
  }
}

/** Everything but the commonest exit, some of which may have interrupted the delivery of an event. */
function handleOther(vcpu: Vcpu, reason: u32): void {
  const qualification = vmread(Vmcs.EXIT_QUALIFICATION);
  reinjectInterrupted();
  switch (reason) {
    case ExitReason.INIT: handleStartup(vcpu, reason, 0n); break;
    case ExitReason.SIPI: handleStartup(vcpu, reason, qualification & 0xffn); break;
    case ExitReason.VMCALL: handleHypercall(vcpu); break;
    case ExitReason.EPT_VIOLATION: handleEptViolation(vcpu, vmread(Vmcs.GUEST_PHYSICAL_ADDRESS)); break;
    case ExitReason.IO: handleIo(vcpu, qualification); break;
    case ExitReason.WRMSR: handleWrmsr(vcpu); break;
    case ExitReason.RDMSR: handleRdmsr(); break;
    case ExitReason.CR_ACCESS: handleCrAccess(vcpu, qualification); break;
    case ExitReason.XSETBV: handleXsetbv(vcpu); break;
    case ExitReason.PREEMPTION_TIMER: tick(); break;
    case ExitReason.MONITOR_TRAP_FLAG: deliverPendingNmi(vcpu); break;
    case ExitReason.INVD:
      writebackInvalidate();
      advance();
      break;
    // VMX is visible but not to be had: VMXON faults as where firmware has locked it off, the rest as outside VMX operation.
    case ExitReason.VMXON: injectGp(); break;
    case ExitReason.VMCLEAR: case 20: case 21: case 22: case 23: case 24: case 25: case 26:
    case ExitReason.INVEPT: case ExitReason.INVVPID: case ExitReason.GETSEC:
      injectUd();
      break;
    case ExitReason.TRIPLE_FAULT: stopSelf(vcpu, StopReason.TRIPLE_FAULT); break;
    default: stopSelf(vcpu, StopReason.UNHANDLED); break;
  }
}

/**
 * Every exit but CPUID; returns the virtual CPU that this processor enters next.
 * The stub has saved all registers for this one.
 * @entry
 */
export function handleRareExit(vcpu: Vcpu): Vcpu {
  const full = vmread(Vmcs.EXIT_REASON);
  if ((full & EXIT_REASON_ENTRY_FAILURE) !== 0n) panic('VM entry failed, exit reason and qualification:', full, vmread(Vmcs.EXIT_QUALIFICATION));
  const cpu = cpuOf(vcpu);
  const reason: u32 = wrapU32(full & EXIT_REASON_BASIC);
  const isSignal = reason === ExitReason.INIT || reason === ExitReason.SIPI;
  if (hasOrder(cpu) && !isSignal && instanceOf(vcpu.instance).apicGuarded) {
    // The guest repeats what it exited for, if it still has this processor then.
    reinjectInterrupted();
    obeyOrder(vcpu);
  } else handleOther(vcpu, reason);
  const next = cpu.vcpu;
  if (next === null) unreachable();
  return next;
}

/**
 * Handles an exit of `vcpu` if it is the commonest, after which the same virtual
 * CPU goes on; otherwise false, and the stub calls handleRareExit. Most registers
 * are not saved yet: only RAX, RBX, RCX and RDX may be used.
 * @entry
 */
export function handleExit(vcpu: Vcpu): boolean {
  const reason: u32 = wrapU32(vmread(Vmcs.EXIT_REASON) & EXIT_REASON_BASIC);
  vcpu.exits[reason & EXIT_MASK]++;
  vcpu.launched = 1;
  if (reason !== ExitReason.CPUID) return false;
  handleCpuid(vcpu);
  return true;
}
