/**
 * VM exits. Follow one: exit.asm in boot/ → handleExit, or handleRareExit → a handler
 * below or in instance/ → exit.asm, with the guest's registers in the Vcpu.
 */
import {
  ABI_VERSION, CPUID_SHARED, CPUID_SIGNATURE, CpuState, EventType, SIGNATURE_EBX, SIGNATURE_ECX, SIGNATURE_EDX, StopReason,
} from '../abi.ts';
import { Command, Cpu, RAX, RBX, RCX, RDX, StartKind, Vcpu, cpuOf, isTenant } from '../cpu/cpu.ts';
import { isX2apic } from '../cpu/local-apic.ts';
import { finishOrder, hasOrder, takeOrder } from '../cpu/kick.ts';
import { Exit } from '../cpu/exit.ts';
import { failureDetail, failureReason, isCpuidExit, passNmi, sipiVector, takeExit, takeSignal, touchedAddress, writtenRegister } from '#processor/exits.ts';
import { advance, guestCpl, guestCr4, guestRip, injectGp, injectUd } from '#processor/guest.ts';
import { readVirtualizationMsr, writeVirtualizationMsr } from '#processor/msrs.ts';
import { waitForSignal, waitsHere } from '#processor/signal.ts';
import { hasJustStarted, startAtVector, waitForSipi } from '#processor/start.ts';
import { tick } from '../devices/tick.ts';
import { record } from '../events.ts';
import { leaveAndHalt } from '../instance/capture.ts';
import { readHolderMsr, writeHolderMsr } from '../instance/holder-timer.ts';
import { handleHypercall } from '../instance/hypercall.ts';
import { handleIo } from '../instance/io.ts';
import { X2APIC_ICR, instanceOf, isSharedMsr } from '../instance/instance.ts';
import { writeX2apicIcr } from '../instance/ipi.ts';
import { handleMemoryExit } from '../instance/mmio.ts';
import { handleHalt, handleMachineCheck, handleMwait, nextTurn, share, unshare } from '../instance/share.ts';
import { stopSelf, switchTo } from '../instance/stop.ts';
import { acceptTenantApic, handleTaskPriority, readTenantMsr, writeTenantMsr } from '../instance/tenant-apic.ts';
import { CpuidResult, cpuid, readMsr, readTsc, writebackInvalidate, xsetbv } from '../machine/intrinsics.ts';
import { APIC_BASE_BSP, IA32_APIC_BASE } from '../machine/msr.ts';
import { CPUID_1_ECX_OSXSAVE, CPUID_7_ECX_OSPKE, CR4_OSXSAVE, CR4_PKE } from '../machine/registers.ts';
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
 * the guest's.
 */
function handleCpuid(vcpu: Vcpu): void {
  const result: CpuidResult = zeroed();
  const leaf: u32 = wrapU32(vcpu.registers[RAX]);
  const subleaf: u32 = wrapU32(vcpu.registers[RCX]);
  cpuid(leaf, subleaf, result);
  if (leaf === CPUID_FEATURES) {
    result.ecx &= ~CPUID_1_ECX_OSXSAVE;
    if ((guestCr4(vcpu) & CR4_OSXSAVE) !== 0n) result.ecx |= CPUID_1_ECX_OSXSAVE;
  } else if (leaf === CPUID_EXTENDED_FEATURES && subleaf === 0) {
    result.ecx &= ~CPUID_7_ECX_OSPKE;
    if ((guestCr4(vcpu) & CR4_PKE) !== 0n) result.ecx |= CPUID_7_ECX_OSPKE;
  } else if (leaf === CPUID_SIGNATURE) {
    result.eax = CPUID_SIGNATURE + 1;
    result.ebx = SIGNATURE_EBX;
    result.ecx = SIGNATURE_ECX;
    result.edx = SIGNATURE_EDX;
  } else if (leaf === CPUID_SIGNATURE + 1) {
    result.eax = ABI_VERSION;
    result.ebx = vcpu.instance;
    result.ecx = vcpu.index;
    result.edx = cpuOf(vcpu).tenant === null ? 0 : CPUID_SHARED;
  }
  vcpu.registers[RAX] = u64(result.eax);
  vcpu.registers[RBX] = u64(result.ebx);
  vcpu.registers[RCX] = u64(result.ecx);
  vcpu.registers[RDX] = u64(result.edx);
  advance(vcpu);
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
  if (guestCpl(vcpu) !== 0 || wrapU32(vcpu.registers[RCX]) !== 0 || (value & ~allowed) !== 0n || !isConsistent(value)) {
    injectGp(vcpu);
    return;
  }
  xsetbv(0, value);
  advance(vcpu);
}

/**
 * A guarded MSR. An x2APIC ICR is delivered as far as it may be. Settings of the
 * whole package (MTRRs, microcode) stay as they are: kernels write them back as
 * they found them, so a write without effect is what they expect. What shows
 * virtualization is the back end's to answer. The rest is refused and recorded.
 */
function handleWrmsr(vcpu: Vcpu): void {
  const index: u32 = wrapU32(vcpu.registers[RCX]);
  const value = lowHalves(vcpu.registers[RDX], vcpu.registers[RAX]);
  if (writeHolderMsr(vcpu, index, value)) return;
  if (index === X2APIC_ICR && isX2apic() && !isTenant(vcpu)) {
    writeX2apicIcr(vcpu, value);
    advance(vcpu);
  } else if (isSharedMsr(index) || writeVirtualizationMsr(vcpu, index, value)) advance(vcpu);
  else if (isTenant(vcpu)) writeTenantMsr(vcpu, index, value);
  else {
    record(EventType.MSR_VIOLATION, vcpu.instance, vcpu.index, u64(index) | (1n << 32n), guestRip(vcpu));
    injectGp(vcpu);
  }
}

/**
 * The second instance's bootstrap processor is to find itself marked, even where
 * the mark cannot be moved (QEMU's processors). An MSR that shows virtualization;
 * any other exits because it is outside the bitmap's ranges, and does not exist.
 */
function handleRdmsr(vcpu: Vcpu): void {
  if ((isTenant(vcpu) && readTenantMsr(vcpu)) || readHolderMsr(vcpu)) return;
  if (wrapU32(vcpu.registers[RCX]) === IA32_APIC_BASE) {
    const rest: u64 = readMsr(IA32_APIC_BASE) & ~APIC_BASE_BSP;
    const value: u64 = vcpu.start === StartKind.BOOT_64 ? rest | APIC_BASE_BSP : rest;
    vcpu.registers[RAX] = value & 0xffffffffn;
    vcpu.registers[RDX] = value >> 32n;
    advance(vcpu);
  } else if (readVirtualizationMsr(vcpu, wrapU32(vcpu.registers[RCX]))) advance(vcpu);
  else injectGp(vcpu);
}

/** Carries out what another processor has ordered (cpu/kick.ts), if it has. */
function obeyOrder(vcpu: Vcpu): boolean {
  const command = takeOrder(vcpu);
  if (command === Command.NONE) return false;
  if (command === Command.LEAVE) leaveAndHalt(vcpu);
  if (command === Command.SWITCH || command === Command.SHARE || command === Command.UNSHARE) {
    const cpu = cpuOf(vcpu);
    const named = cpu.commandVcpu;
    if (named === null) unreachable();
    if (command === Command.SWITCH) switchTo(vcpu, named);
    else if (command === Command.SHARE) share(vcpu, named);
    else unshare(cpu, named);
    finishOrder(cpu);
  }
  return true;
}

/** An INIT of the guest's own: its processor waits for the SIPI. */
function handleInit(vcpu: Vcpu): void {
  const cpu = cpuOf(vcpu);
  const announced = atomicExchange(cpu.guestInit, 0) !== 0;
  // A shared processor is rung by INIT; its holder does not get one of its own, which would be the tenant's end, too.
  if (cpu.tenant !== null || (!announced && readTsc() < cpu.strayUntil)) return;
  // A guarded guest's INITs are announced; another one is left over from an order that was carried out without it.
  if ((instanceOf(vcpu.instance).apicGuarded && !announced) || hasJustStarted(vcpu, cpu)) return;
  waitForSipi(vcpu, cpu);
  record(EventType.CPU_WAITING, vcpu.instance, cpu.index, 0n, 0n);
}

function handleSipi(vcpu: Vcpu, vector: u64): void {
  const cpu = cpuOf(vcpu);
  if (cpu.state !== CpuState.WAITING || vector === 0n) return;
  startAtVector(vcpu, vector);
  record(EventType.CPU_STARTED, vcpu.instance, cpu.index, vector, 0n);
}

/** A signal: another processor's order, or the guest's own INIT, SIPI or NMI. */
function handleSignal(vcpu: Vcpu, exit: Exit): void {
  if (obeyOrder(vcpu)) return;
  const own = exit === Exit.NMI ? takeSignal(vcpu) : exit;
  if (own === Exit.INIT) handleInit(vcpu);
  else if (own === Exit.SIPI) handleSipi(vcpu, sipiVector(vcpu));
  else passNmi(vcpu);
}

/** Handles every exit but CPUID, some of which may have interrupted the delivery of an event. */
function handleOther(vcpu: Vcpu, exit: Exit): void {
  switch (exit) {
    case Exit.INIT: case Exit.SIPI: case Exit.NMI: handleSignal(vcpu, exit); break;
    case Exit.HYPERCALL: handleHypercall(vcpu); break;
    case Exit.MEMORY: handleMemoryExit(vcpu, touchedAddress(vcpu)); break;
    case Exit.IO: handleIo(vcpu); break;
    case Exit.WRMSR: handleWrmsr(vcpu); break;
    case Exit.RDMSR: handleRdmsr(vcpu); break;
    case Exit.XSETBV: handleXsetbv(vcpu); break;
    // On a shared processor these only end a turn, or begin one.
    case Exit.TIMER: if (cpuOf(vcpu).tenant === null) tick(vcpu); break;
    case Exit.INTERRUPT: case Exit.INTERRUPT_WINDOW: break;
    case Exit.HALT: handleHalt(vcpu); break;
    case Exit.MWAIT: handleMwait(vcpu); break;
    case Exit.TASK_PRIORITY: handleTaskPriority(vcpu); break;
    case Exit.APIC_WRITE: acceptTenantApic(vcpu, writtenRegister(vcpu)); break;
    case Exit.MACHINE_CHECK: handleMachineCheck(vcpu); break;
    case Exit.INVD:
      writebackInvalidate();
      advance(vcpu);
      break;
    case Exit.REFUSED: injectGp(vcpu); break;
    case Exit.UNDEFINED: injectUd(vcpu); break;
    case Exit.DONE: break;
    case Exit.TRIPLE_FAULT: stopSelf(vcpu, StopReason.TRIPLE_FAULT); break;
    default: stopSelf(vcpu, StopReason.UNHANDLED); break;
  }
}

function isSignal(exit: Exit): boolean {
  return exit === Exit.INIT || exit === Exit.SIPI || exit === Exit.NMI;
}

/**
 * Every exit but CPUID; returns the virtual CPU that this processor enters next.
 * The stub has saved all registers for this one.
 * @entry
 */
export function handleRareExit(vcpu: Vcpu): Vcpu {
  const exit = takeExit(vcpu);
  if (exit === Exit.ENTRY_FAILURE) panic('VM entry failed, reason and detail:', failureReason(vcpu), failureDetail(vcpu));
  const cpu = cpuOf(vcpu);
  // The guest repeats what it exited for, if it still has this processor then.
  if (hasOrder(cpu) && !isSignal(exit) && instanceOf(vcpu.instance).apicGuarded) obeyOrder(vcpu);
  else handleOther(vcpu, exit);
  let next = cpu.tenant === null ? carried(cpu) : nextTurn(cpu, exit);
  while (waitsHere(cpu)) {
    waitForSignal(cpu);
    handleSignal(next, Exit.NMI);
    next = carried(cpu);
  }
  return next;
}

function carried(cpu: Cpu): Vcpu {
  const vcpu = cpu.vcpu;
  if (vcpu === null) unreachable();
  return vcpu;
}

/**
 * Handles an exit of `vcpu` if it is the commonest, after which the same virtual
 * CPU goes on; otherwise false, and the stub calls handleRareExit. Most registers
 * are not saved yet: only RAX, RBX, RCX and RDX may be used.
 * @entry
 */
export function handleExit(vcpu: Vcpu): boolean {
  if (!isCpuidExit(vcpu)) return false;
  handleCpuid(vcpu);
  return true;
}
