/**
 * The way out: the guest becomes the bare operating system again, in place, with
 * everything as its kernel believes it to be. VMX goes off here; the registers
 * that only assembly can load follow in boot/vmx/release.asm, whose last jump lands in
 * the kernel's own module.
 */
import { CpuState } from '../../abi.ts';
import { TableRegister, readCr4, vmread, vmwrite, vmxoff, writeDr7, writeMsr } from '../../machine/intrinsics.ts';
import {
  IA32_DEBUGCTL, IA32_EFER, IA32_SYSENTER_CS, IA32_SYSENTER_EIP, IA32_SYSENTER_ESP,
} from '../../machine/msr.ts';
import { CR4_LA57, CR4_VMXE, VECTOR_NMI } from '../../machine/registers.ts';
import { Vmcs } from '../../machine/vmcs.ts';
import { Cpu, RAX, RDX, Vcpu } from '../cpu.ts';
import { undeliveredNmis } from './guest.ts';
import { Gate, setGate, transitionTables } from '../host.ts';
import { retire } from './vcpu.ts';

/**
 * What boot/vmx/release.asm loads, in its order.
 * @asm
 */
export class ReleaseState extends Struct {
  cr4: u64;
  cr0: u64;
  transitionCr3: u64;
  gdtr: FixedArray<u8, 16>;
  idtr: FixedArray<u8, 16>;
  /** A GDTR that covers only taskDescriptor, at the guest's TR selector. */
  taskGdtr: FixedArray<u8, 16>;
  /** The guest's TSS descriptor, not busy: LTR wants it so, and Linux keeps the real one read-only. */
  taskDescriptor: FixedArray<u64, 2>;
  fsBase: u64;
  gsBase: u64;
  rip: u64;
  rsp: u64;
  cpu: HostVirtual;
  vcpu: HostVirtual;
  tr: u16;
  ldtr: u16;
  ds: u16;
  es: u16;
  fs: u16;
  gs: u16;
  ss: u16;
  cs: u16;
}
assertLayout<ReleaseState>(152);
const states: FixedArray<ReleaseState, 32> = zeroed(64);

/** While boot/vmx/release.asm puts the kernel's tables back: NMI only, on whatever stack is loaded. */
const releaseIdt: FixedArray<Gate, 3> = zeroed(64);
/** @asm */
export const releaseIdtr: TableRegister = zeroed(16);
const RELEASE_IDT_LIMIT: u16 = 47;
declare function releaseNmiStub(): HostVirtual;

/** Once, before the first release. */
export function prepareRelease(): void {
  setGate(releaseIdt[VECTOR_NMI], releaseNmiStub(), 0n);
  releaseIdtr.limit = RELEASE_IDT_LIMIT;
  releaseIdtr.base = addressOf(releaseIdt);
}

/**
 * Whether the processor is on as many levels of page tables as the kernel, which it must be to go back there. If
 * not, the next VM exit takes it there (SDM Vol. 3C, 29.5.1): the kernel is to ask again.
 */
export function followsPaging(_vcpu: Vcpu): boolean {
  const cr4 = vmread(Vmcs.GUEST_CR4);
  if (((cr4 ^ readCr4()) & CR4_LA57) === 0n) return true;
  vmwrite(Vmcs.HOST_CR4, readCr4() ^ CR4_LA57);
  vmwrite(Vmcs.HOST_CR3, addressOf(transitionTables));
  return false;
}

/** In boot/vmx/release.asm; does not return. */
declare function leaveVmm(state: ReleaseState): never;

const TSS_AVAILABLE: u64 = 0x89n;

function setTableRegister(place: FixedArray<u8, 16>, limit: u64, base: u64): void {
  store16(addressOf(place), wrapU16(limit));
  store64(addressOf(place) + 2n, base);
}

/** A 64-bit TSS descriptor from its parts (SDM Vol. 3A, figure 9-4). */
function buildTaskDescriptor(state: ReleaseState, base: u64, limit: u64): void {
  state.taskDescriptor[0] = (limit & 0xffffn) | ((base & 0xffffffn) << 16n) | (TSS_AVAILABLE << 40n)
    | (((limit >> 16n) & 0xfn) << 48n) | (((base >> 24n) & 0xffn) << 56n);
  state.taskDescriptor[1] = base >> 32n;
  const offset: u64 = u64(state.tr & 0xfff8);
  setTableRegister(state.taskGdtr, offset + 15n, addressOf(state.taskDescriptor) - offset);
}

/** Releases this processor; its virtual CPU has just asked for it by VMCALL and goes on after it, with RAX = 0 and RDX the NMIs still due. */
export function releaseCpu(vcpu: Vcpu, cpu: Cpu): never {
  const state = states[cpu.index];
  state.cr0 = vmread(Vmcs.GUEST_CR0);
  state.cr4 = vmread(Vmcs.GUEST_CR4) & ~CR4_VMXE;
  state.transitionCr3 = addressOf(transitionTables);
  setTableRegister(state.gdtr, vmread(Vmcs.GUEST_GDTR_LIMIT), vmread(Vmcs.GUEST_GDTR_BASE));
  setTableRegister(state.idtr, vmread(Vmcs.GUEST_IDTR_LIMIT), vmread(Vmcs.GUEST_IDTR_BASE));
  state.tr = wrapU16(vmread(Vmcs.GUEST_TR_SELECTOR));
  buildTaskDescriptor(state, vmread(Vmcs.GUEST_TR_BASE), vmread(Vmcs.GUEST_TR_LIMIT));
  state.ldtr = wrapU16(vmread(Vmcs.GUEST_LDTR_SELECTOR));
  state.ds = wrapU16(vmread(Vmcs.GUEST_DS_SELECTOR));
  state.es = wrapU16(vmread(Vmcs.GUEST_ES_SELECTOR));
  state.fs = wrapU16(vmread(Vmcs.GUEST_FS_SELECTOR));
  state.gs = wrapU16(vmread(Vmcs.GUEST_GS_SELECTOR));
  state.ss = wrapU16(vmread(Vmcs.GUEST_SS_SELECTOR));
  state.cs = wrapU16(vmread(Vmcs.GUEST_CS_SELECTOR));
  state.fsBase = vmread(Vmcs.GUEST_FS_BASE);
  state.gsBase = vmread(Vmcs.GUEST_GS_BASE);
  state.rip = vmread(Vmcs.GUEST_RIP);
  state.rsp = vmread(Vmcs.GUEST_RSP);
  state.cpu = addressOf(cpu);
  state.vcpu = addressOf(vcpu);
  writeMsr(IA32_SYSENTER_CS, vmread(Vmcs.GUEST_SYSENTER_CS));
  writeMsr(IA32_SYSENTER_ESP, vmread(Vmcs.GUEST_SYSENTER_ESP));
  writeMsr(IA32_SYSENTER_EIP, vmread(Vmcs.GUEST_SYSENTER_EIP));
  writeMsr(IA32_EFER, vmread(Vmcs.GUEST_EFER));
  writeMsr(IA32_DEBUGCTL, vmread(Vmcs.GUEST_DEBUGCTL));
  writeDr7(vmread(Vmcs.GUEST_DR7));
  vcpu.registers[RAX] = 0n;
  vcpu.registers[RDX] = u64(undeliveredNmis(vcpu));
  retire(vcpu);
  vmxoff();
  cpu.state = CpuState.BARE;
  cpu.vcpu = null;
  leaveVmm(state);
}
