/**
 * Late launch: the running kernel becomes a guest, on this processor, with its
 * next instruction. Read top to bottom: SVM on, VMCB from the live state, and the
 * assembly stub enters. The kernel's tables stay loaded until the stub has cleared
 * the global interrupt flag, so an NMI on the way is simply Linux's.
 */
import { CpuState, Result } from '../../abi.ts';
import {
  TableRegister, loadAccessRights, loadSegmentLimit, readCr0, readCr2, readCr4, readCs, readDr6, readDr7, readDs, readEs, readMsr,
  readSs, stgi, storeGdt, storeIdt, vmsave, writeMsr,
} from '../../machine/intrinsics.ts';
import { EFER_SVME, IA32_EFER, IA32_PAT, IA32_SPEC_CTRL, VM_HSAVE_PA } from '../../machine/msr.ts';
import { RFLAGS_RESERVED1 } from '../../machine/registers.ts';
import { VmcbSegment } from '../../machine/vmcb.ts';
import { Cpu, Vcpu } from '../cpu.ts';
import { fillHostState, stackTop } from '../host.ts';
import { hasSpecControl } from './capability.ts';
import { activate } from './vcpu.ts';

type SavePage = FixedArray<u64, 512>;
/** Where VMRUN keeps the VMM's own state, by processor. */
const hostSaves: FixedArray<SavePage, 32> = zeroed(4096);

/** Turns virtualization on; false leaves the processor as it was. */
export function turnOn(cpu: Cpu): boolean {
  const efer = readMsr(IA32_EFER);
  if ((efer & EFER_SVME) !== 0n) return false;
  cpu.cr4AtCapture = readCr4();
  writeMsr(IA32_EFER, efer | EFER_SVME);
  writeMsr(VM_HSAVE_PA, u64(addressOf(hostSaves[cpu.index])));
  fillHostState();
  return true;
}

/** Turns virtualization off where no guest state has to be put back: after a failed entry, or on a processor that halts. */
export function turnOff(cpu: Cpu): void {
  stgi();
  writeMsr(VM_HSAVE_PA, 0n);
  writeMsr(IA32_EFER, readMsr(IA32_EFER) & ~EFER_SVME);
  cpu.vcpu = null;
  cpu.state = CpuState.BARE;
}

/** A segment as the processor holds it. LAR and LSL see LDT selectors too, which a look into the GDT would miss. */
function setSegment(segment: VmcbSegment, selector: u16): void {
  const rights = loadAccessRights(selector);
  segment.selector = selector;
  if ((selector & 0xfffc) === 0 || rights === 0) return;
  segment.attributes = wrapU16(((rights >> 8) & 0xff) | ((rights >> 12) & 0xf00));
  segment.limit = loadSegmentLimit(selector);
}

/**
 * Builds the guest state from this processor's. SVM is on; the stub's VMRUN
 * follows. `rip`, `rsp` and `cr3` are where the kernel goes on.
 */
export function captureState(vcpu: Vcpu, cpu: Cpu, rip: u64, rsp: u64, cr3: u64): Result {
  vcpu.cpu = cpu;
  vcpu.stackTop = stackTop(cpu.index);
  cpu.vcpu = vcpu;
  const vmcb = activate(vcpu);
  vmsave(vcpu.control);

  const table: TableRegister = zeroed();
  storeIdt(table);
  vmcb.idtr.base = table.base;
  vmcb.idtr.limit = u32(table.limit);
  storeGdt(table);
  vmcb.gdtr.base = table.base;
  vmcb.gdtr.limit = u32(table.limit);
  setSegment(vmcb.es, readEs());
  setSegment(vmcb.cs, readCs());
  setSegment(vmcb.ss, readSs());
  setSegment(vmcb.ds, readDs());

  vmcb.cr0 = readCr0();
  vmcb.cr2 = readCr2();
  vmcb.cr3 = cr3;
  vmcb.cr4 = cpu.cr4AtCapture;
  vmcb.efer = readMsr(IA32_EFER);
  vmcb.dr6 = readDr6();
  vmcb.dr7 = readDr7();
  vmcb.pat = readMsr(IA32_PAT);
  if (hasSpecControl()) vmcb.specControl = readMsr(IA32_SPEC_CTRL);
  vmcb.rip = rip;
  vmcb.rsp = rsp;
  vmcb.rflags = RFLAGS_RESERVED1;
  return Result.OK;
}
