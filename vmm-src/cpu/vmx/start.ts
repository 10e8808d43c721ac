/**
 * Guest states that do not come from a running kernel: after INIT, after SIPI,
 * and the 64-bit entry of Linux's boot protocol.
 */
import { CpuState } from '../../abi.ts';
import { clearVectorState, invept, invvpid, readCr4, vmread, vmwrite } from '../../machine/intrinsics.ts';
import {
  CR0_CD, CR0_ET, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, CR4_VMXE, DR7_RESET, RFLAGS_RESERVED1,
} from '../../machine/registers.ts';
import { EFER_LMA, EFER_LME } from '../../machine/msr.ts';
import {
  ACTIVITY_ACTIVE, ACTIVITY_WAIT_FOR_SIPI, ENTRY_IA32E_GUEST, RIGHTS_BUSY_TSS, RIGHTS_CODE16, RIGHTS_CODE64, RIGHTS_DATA16, RIGHTS_DATA32,
  RIGHTS_LDT, VMCS_SEGMENT_STEP, Vmcs,
} from '../../machine/vmcs.ts';
import { Cpu, NO_VECTOR, RDX, RSI, StartKind, Vcpu, cpuOf } from '../cpu.ts';
import { controls } from './capability.ts';
import { mapPointer } from '../memory-map.ts';
import { stackTop } from '../host.ts';
import { adaptControls } from './direct.ts';
import { activateVmcs, vpidOf, writeFixedFields } from './vcpu.ts';

/** EDX after INIT: family 6, and nothing else that software may rely on (SDM Vol. 3A, table 11-1). */
const EDX_AFTER_INIT: u64 = 0x600n;
const CR0_AFTER_INIT: u64 = CR0_CD | CR0_NW | CR0_ET;
const CS_AFTER_INIT: u64 = 0xf000n;
const CS_BASE_AFTER_INIT: u64 = 0xffff0000n;
const RIP_AFTER_INIT: u64 = 0xfff0n;
const LIMIT_64K: u64 = 0xffffn;
/** Selectors of the boot protocol: __BOOT_CS and __BOOT_DS (Linux, Documentation/arch/x86/boot.rst). */
const BOOT_CS: u64 = 0x10n;
const BOOT_DS: u64 = 0x18n;
const BOOT_GDT_LIMIT: u64 = 0x1fn;

function clearRegisters(vcpu: Vcpu): void {
  for (let i: u32 = 0; i < 16; i++) vcpu.registers[i] = 0n;
}

function writeSegment(number: u32, selector: u64, base: u64, limit: u64, rights: u64): void {
  const step: u32 = number * VMCS_SEGMENT_STEP;
  vmwrite(Vmcs.GUEST_ES_SELECTOR + step, selector);
  vmwrite(Vmcs.GUEST_ES_BASE + step, base);
  vmwrite(Vmcs.GUEST_ES_LIMIT + step, limit);
  vmwrite(Vmcs.GUEST_ES_ACCESS_RIGHTS + step, rights);
}

function writeTables(gdt: u64, gdtLimit: u64, idtLimit: u64): void {
  vmwrite(Vmcs.GUEST_GDTR_BASE, gdt);
  vmwrite(Vmcs.GUEST_GDTR_LIMIT, gdtLimit);
  vmwrite(Vmcs.GUEST_IDTR_BASE, 0n);
  vmwrite(Vmcs.GUEST_IDTR_LIMIT, idtLimit);
}

/** What INIT and a fresh boot have in common. */
function writeCommon(rip: u64): void {
  vmwrite(Vmcs.GUEST_RIP, rip);
  vmwrite(Vmcs.GUEST_RSP, 0n);
  vmwrite(Vmcs.GUEST_RFLAGS, RFLAGS_RESERVED1);
  vmwrite(Vmcs.GUEST_DR7, DR7_RESET);
  vmwrite(Vmcs.GUEST_DEBUGCTL, 0n);
  vmwrite(Vmcs.GUEST_SYSENTER_CS, 0n);
  vmwrite(Vmcs.GUEST_SYSENTER_ESP, 0n);
  vmwrite(Vmcs.GUEST_SYSENTER_EIP, 0n);
  vmwrite(Vmcs.GUEST_PENDING_DEBUG, 0n);
  vmwrite(Vmcs.GUEST_INTERRUPTIBILITY, 0n);
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, 0n);
}

/** Registers as INIT leaves them (SDM Vol. 3A, table 11-1). */
export function resetAfterInit(vcpu: Vcpu): void {
  clearRegisters(vcpu);
  vcpu.registers[RDX] = EDX_AFTER_INIT;
  writeCommon(RIP_AFTER_INIT);
  vmwrite(Vmcs.GUEST_CR0, CR0_ET | CR0_NE);
  vmwrite(Vmcs.CR0_SHADOW, CR0_AFTER_INIT | CR0_NE);
  vmwrite(Vmcs.GUEST_CR3, 0n);
  vmwrite(Vmcs.GUEST_CR4, CR4_VMXE);
  vmwrite(Vmcs.CR4_SHADOW, 0n);
  vmwrite(Vmcs.GUEST_EFER, 0n);
  vmwrite(Vmcs.VM_ENTRY_CONTROLS, u64(controls.entry & ~ENTRY_IA32E_GUEST));
  writeSegment(1, CS_AFTER_INIT, CS_BASE_AFTER_INIT, LIMIT_64K, RIGHTS_CODE16);
  writeSegment(0, 0n, 0n, LIMIT_64K, RIGHTS_DATA16);
  for (let i: u32 = 2; i < 6; i++) writeSegment(i, 0n, 0n, LIMIT_64K, RIGHTS_DATA16);
  writeSegment(6, 0n, 0n, LIMIT_64K, RIGHTS_LDT);
  writeSegment(7, 0n, 0n, LIMIT_64K, RIGHTS_BUSY_TSS);
  writeTables(0n, LIMIT_64K, LIMIT_64K);
  invvpid(vpidOf(vcpu));
}

/**
 * The INIT exit. A SIPI that arrives while the VMM runs is lost, and Linux sends
 * it a few hundred instructions later: so only what makes the processor wait is
 * written here, the rest when the SIPI is there.
 */
export function waitForSipi(_vcpu: Vcpu, cpu: Cpu): void {
  vmwrite(Vmcs.GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI);
  vmwrite(Vmcs.GUEST_INTERRUPTIBILITY, 0n);
  vmwrite(Vmcs.VM_ENTRY_INTERRUPTION_INFO, 0n);
  cpu.state = CpuState.WAITING;
  cpu.sipiVector = NO_VECTOR;
}

/** The SIPI: real mode at vector << 12. */
export function startAtVector(vcpu: Vcpu, vector: u64): void {
  resetAfterInit(vcpu);
  vmwrite(Vmcs.GUEST_CS_SELECTOR, vector << 8n);
  vmwrite(Vmcs.GUEST_CS_BASE, vector << 12n);
  vmwrite(Vmcs.GUEST_RIP, 0n);
  vmwrite(Vmcs.GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
  invept(mapPointer(vcpu.view));
  adaptControls(vcpu);
  const cpu = cpuOf(vcpu);
  cpu.state = CpuState.RUNNING;
  cpu.sipiVector = wrapU32(vector);
}

/**
 * Whether the processor has been started by a SIPI and not executed anything yet.
 * An INIT that was sent while it waited is blocked there and only exits now
 * (SDM Vol. 3C, 27.4): in the order in which the guest sent them it came first.
 */
export function hasJustStarted(_vcpu: Vcpu, cpu: Cpu): boolean {
  if (cpu.sipiVector === NO_VECTOR) return false;
  return vmread(Vmcs.GUEST_RIP) === 0n && vmread(Vmcs.GUEST_CS_BASE) === u64(cpu.sipiVector) << 12n;
}

function writeBoot64(vcpu: Vcpu): void {
  clearRegisters(vcpu);
  vcpu.registers[RSI] = vcpu.startRsi;
  writeCommon(vcpu.startRip);
  vmwrite(Vmcs.GUEST_CR0, CR0_PG | CR0_NE | CR0_ET | CR0_PE);
  vmwrite(Vmcs.CR0_SHADOW, CR0_PG | CR0_NE | CR0_ET | CR0_PE);
  vmwrite(Vmcs.GUEST_CR3, vcpu.startCr3);
  vmwrite(Vmcs.GUEST_CR4, CR4_PAE | CR4_VMXE);
  vmwrite(Vmcs.CR4_SHADOW, CR4_PAE);
  vmwrite(Vmcs.GUEST_EFER, EFER_LME | EFER_LMA);
  vmwrite(Vmcs.VM_ENTRY_CONTROLS, u64(controls.entry));
  writeSegment(1, BOOT_CS, 0n, 0xffffffffn, RIGHTS_CODE64);
  writeSegment(0, BOOT_DS, 0n, 0xffffffffn, RIGHTS_DATA32);
  for (let i: u32 = 2; i < 6; i++) writeSegment(i, BOOT_DS, 0n, 0xffffffffn, RIGHTS_DATA32);
  writeSegment(6, 0n, 0n, LIMIT_64K, RIGHTS_LDT);
  writeSegment(7, 0n, 0n, LIMIT_64K, RIGHTS_BUSY_TSS);
  writeTables(vcpu.startGdt, BOOT_GDT_LIMIT, 0n);
  vmwrite(Vmcs.GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
}

/** Gives a virtual CPU a VMCS for this processor, in the state of its start, and makes it current. */
export function buildVcpu(vcpu: Vcpu, cpu: Cpu): boolean {
  vcpu.cpu = cpu;
  vcpu.stackTop = stackTop(cpu.index);
  vcpu.nmiPending = 0;
  if (!activateVmcs(vcpu)) return false;
  writeFixedFields(vcpu, cpu, readCr4());
  if (vcpu.start === StartKind.BOOT_64) writeBoot64(vcpu);
  else resetAfterInit(vcpu);
  invept(mapPointer(vcpu.view));
  invvpid(vpidOf(vcpu));
  return true;
}

/** Makes this processor carry another virtual CPU, from its start; the caller has retired the one before. */
export function startVcpu(vcpu: Vcpu, cpu: Cpu): boolean {
  cpu.vcpu = vcpu;
  if (!buildVcpu(vcpu, cpu)) return false;
  clearVectorState();
  if (vcpu.start === StartKind.BOOT_64) cpu.state = CpuState.RUNNING;
  else waitForSipi(vcpu, cpu);
  return true;
}
