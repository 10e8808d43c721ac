/**
 * The way out: the guest becomes the bare operating system again, in place, with
 * everything as its kernel believes it to be. What VMRUN switched is put back
 * here and in boot/svm/release.asm, whose last jump lands in the kernel's own
 * module; the rest has never left the processor.
 */
import { CpuState } from '../../abi.ts';
import { writeCr2, writeDr6, writeDr7, writeMsr } from '../../machine/intrinsics.ts';
import { EFER_SVME, IA32_PAT, IA32_SPEC_CTRL } from '../../machine/msr.ts';
import { NESTED_PAGING } from '../../machine/vmcb.ts';
import { Cpu, RAX, RDX, Vcpu } from '../cpu.ts';
import { transitionTables } from '../host.ts';
import { hasSpecControl } from './capability.ts';
import { undeliveredNmis } from './guest.ts';
import { vmcbOf } from './vcpu.ts';

/**
 * What boot/svm/release.asm loads, in its order.
 * @asm
 */
export class ReleaseState extends Struct {
  cr4: u64;
  cr0: u64;
  transitionCr3: u64;
  efer: u64;
  gdtr: FixedArray<u8, 16>;
  idtr: FixedArray<u8, 16>;
  rip: u64;
  rsp: u64;
  vcpu: HostVirtual;
  ds: u16;
  es: u16;
  ss: u16;
  cs: u16;
}
assertLayout<ReleaseState>(96);
const states: FixedArray<ReleaseState, 32> = zeroed(64);

/** In boot/svm/release.asm; does not return. */
declare function leaveVmm(state: ReleaseState): never;

function setTableRegister(place: FixedArray<u8, 16>, limit: u32, base: u64): void {
  store16(addressOf(place), wrapU16(limit));
  store64(addressOf(place) + 2n, base);
}

/** Nothing to prepare: no NMI arrives while the kernel's tables are put back. */
export function prepareRelease(): void {}

/** boot/svm/release.asm goes to as many levels of page tables as the kernel has. */
export function followsPaging(_vcpu: Vcpu): boolean {
  return true;
}

/** Releases this processor; its virtual CPU has just asked for it by VMMCALL and goes on after it, with RAX = 0 and RDX the NMIs still due. */
export function releaseCpu(vcpu: Vcpu, cpu: Cpu): never {
  const vmcb = vmcbOf(vcpu);
  const state = states[cpu.index];
  state.cr0 = vmcb.cr0;
  state.cr4 = vmcb.cr4;
  state.transitionCr3 = addressOf(transitionTables);
  state.efer = vmcb.efer & ~EFER_SVME;
  setTableRegister(state.gdtr, vmcb.gdtr.limit, vmcb.gdtr.base);
  setTableRegister(state.idtr, vmcb.idtr.limit, vmcb.idtr.base);
  state.ds = vmcb.ds.selector;
  state.es = vmcb.es.selector;
  state.ss = vmcb.ss.selector;
  state.cs = vmcb.cs.selector;
  state.rip = vmcb.rip;
  state.rsp = vmcb.rsp;
  state.vcpu = addressOf(vcpu);
  if ((vmcb.nestedControl & NESTED_PAGING) !== 0n) writeMsr(IA32_PAT, vmcb.pat);
  if (hasSpecControl()) writeMsr(IA32_SPEC_CTRL, vmcb.specControl);
  writeCr2(vmcb.cr2);
  writeDr6(vmcb.dr6);
  writeDr7(vmcb.dr7);
  vcpu.registers[RAX] = 0n;
  vcpu.registers[RDX] = u64(undeliveredNmis(vcpu));
  cpu.state = CpuState.BARE;
  cpu.vcpu = null;
  leaveVmm(state);
}
