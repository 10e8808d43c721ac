/**
 * Guest states that do not come from a running kernel: after INIT, after SIPI,
 * and the 64-bit entry of Linux's boot protocol.
 */
import { CpuState } from '../../abi.ts';
import { clearVectorState } from '../../machine/intrinsics.ts';
import { EFER_LMA, EFER_LME, EFER_SVME, PAT_RESET } from '../../machine/msr.ts';
import { CR0_CD, CR0_ET, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, DR6_RESET, DR7_RESET, RFLAGS_RESERVED1 } from '../../machine/registers.ts';
import {
  ATTRIBUTES_BUSY_TSS, ATTRIBUTES_CODE16, ATTRIBUTES_CODE64, ATTRIBUTES_DATA16, ATTRIBUTES_DATA32, ATTRIBUTES_LDT,
  TLB_CONTROL_FLUSH_ALL, Vmcb, VmcbSegment,
} from '../../machine/vmcb.ts';
import { Cpu, NO_VECTOR, RDX, RSI, StartKind, Vcpu, cpuOf } from '../cpu.ts';
import { stackTop } from '../host.ts';
import { resetLocalApic } from '../local-apic.ts';
import { activate, loadRest } from './vcpu.ts';

/** EDX after INIT: a family and model that software must not rely on (APM Vol. 2, table 14-1). */
const EDX_AFTER_INIT: u64 = 0x600n;
const CS_AFTER_INIT: u16 = 0xf000;
const CS_BASE_AFTER_INIT: u64 = 0xffff0000n;
const RIP_AFTER_INIT: u64 = 0xfff0n;
const LIMIT_64K: u32 = 0xffff;
const LIMIT_ALL: u32 = 0xffffffff;
/** Selectors of the boot protocol: __BOOT_CS and __BOOT_DS (Linux, Documentation/arch/x86/boot.rst). */
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_GDT_LIMIT: u32 = 0x1f;

function setSegment(segment: VmcbSegment, selector: u16, base: u64, limit: u32, attributes: u16): void {
  segment.selector = selector;
  segment.base = base;
  segment.limit = limit;
  segment.attributes = attributes;
}

function setDataSegments(vmcb: Vmcb, selector: u16, limit: u32, attributes: u16): void {
  setSegment(vmcb.es, selector, 0n, limit, attributes);
  setSegment(vmcb.ss, selector, 0n, limit, attributes);
  setSegment(vmcb.ds, selector, 0n, limit, attributes);
  setSegment(vmcb.fs, selector, 0n, limit, attributes);
  setSegment(vmcb.gs, selector, 0n, limit, attributes);
  setSegment(vmcb.ldtr, 0, 0n, LIMIT_64K, ATTRIBUTES_LDT);
  setSegment(vmcb.tr, 0, 0n, LIMIT_64K, ATTRIBUTES_BUSY_TSS);
}

/** What INIT and a fresh boot have in common: an empty VMCB, empty registers. */
function begin(vcpu: Vcpu, rip: u64): Vmcb {
  for (let i: u32 = 0; i < 16; i++) vcpu.registers[i] = 0n;
  vcpu.nmiPending = 0;
  const vmcb = activate(vcpu);
  vmcb.rip = rip;
  vmcb.rflags = RFLAGS_RESERVED1;
  vmcb.dr6 = DR6_RESET;
  vmcb.dr7 = DR7_RESET;
  vmcb.pat = PAT_RESET;
  return vmcb;
}

/** Registers as INIT leaves them (APM Vol. 2, table 14-1). */
function resetAfterInit(vcpu: Vcpu): Vmcb {
  const vmcb = begin(vcpu, RIP_AFTER_INIT);
  vcpu.registers[RDX] = EDX_AFTER_INIT;
  vmcb.cr0 = CR0_CD | CR0_NW | CR0_ET;
  vmcb.efer = EFER_SVME;
  setDataSegments(vmcb, 0, LIMIT_64K, ATTRIBUTES_DATA16);
  setSegment(vmcb.cs, CS_AFTER_INIT, CS_BASE_AFTER_INIT, LIMIT_64K, ATTRIBUTES_CODE16);
  vmcb.gdtr.limit = LIMIT_64K;
  vmcb.idtr.limit = LIMIT_64K;
  return vmcb;
}

/** The guest's INIT, which has not reached the local APIC: the processor waits in the VMM (#processor/signal.ts). */
export function waitForSipi(vcpu: Vcpu, cpu: Cpu): void {
  resetLocalApic();
  resetAfterInit(vcpu);
  cpu.state = CpuState.WAITING;
  cpu.sipiVector = NO_VECTOR;
}

/** The guest's SIPI: real mode at vector << 12. */
export function startAtVector(vcpu: Vcpu, vector: u64): void {
  const vmcb = resetAfterInit(vcpu);
  setSegment(vmcb.cs, wrapU16(vector << 8n), vector << 12n, LIMIT_64K, ATTRIBUTES_CODE16);
  vmcb.rip = 0n;
  loadRest(vcpu);
  const cpu = cpuOf(vcpu);
  cpu.sipiVector = wrapU32(vector);
  cpu.state = CpuState.RUNNING;
}

/** Whether an INIT that exits only now was sent before the SIPI that has started the processor: here both come by mailbox, in order. */
export function hasJustStarted(_vcpu: Vcpu, _cpu: Cpu): boolean {
  return false;
}

function setBoot64(vcpu: Vcpu): void {
  const vmcb = begin(vcpu, vcpu.startRip);
  vcpu.registers[RSI] = vcpu.startRsi;
  vmcb.cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_PE;
  vmcb.cr3 = vcpu.startCr3;
  vmcb.cr4 = CR4_PAE;
  vmcb.efer = EFER_LME | EFER_LMA | EFER_SVME;
  setDataSegments(vmcb, BOOT_DS, LIMIT_ALL, ATTRIBUTES_DATA32);
  setSegment(vmcb.cs, BOOT_CS, 0n, LIMIT_ALL, ATTRIBUTES_CODE64);
  vmcb.gdtr.base = vcpu.startGdt;
  vmcb.gdtr.limit = BOOT_GDT_LIMIT;
  vmcb.tlbControl = TLB_CONTROL_FLUSH_ALL;
}

/** Gives a virtual CPU a VMCB for this processor, in the state of its start. */
export function buildVcpu(vcpu: Vcpu, cpu: Cpu): boolean {
  vcpu.cpu = cpu;
  vcpu.stackTop = stackTop(cpu.index);
  if (vcpu.start === StartKind.BOOT_64) setBoot64(vcpu);
  else resetAfterInit(vcpu);
  return true;
}

/** Makes this processor carry another virtual CPU, from its start; the caller has retired the one before. */
export function startVcpu(vcpu: Vcpu, cpu: Cpu): boolean {
  cpu.vcpu = vcpu;
  if (!buildVcpu(vcpu, cpu)) return false;
  clearVectorState();
  if (vcpu.start === StartKind.BOOT_64) cpu.state = CpuState.RUNNING;
  else waitForSipi(vcpu, cpu);
  loadRest(vcpu);
  return true;
}
