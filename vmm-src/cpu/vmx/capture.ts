/**
 * Late launch: the running kernel becomes a guest, on this processor, with its
 * next instruction. Read top to bottom: VMX on, VMCS from the live state, and the
 * assembly stub enters. The kernel's IDT and GDT stay loaded until the first VM
 * exit, so an NMI on the way is simply Linux's.
 */
import { CpuState, Result } from '../../abi.ts';
import {
  TableRegister, invept, invvpid, loadAccessRights, loadSegmentLimit, readCr0, readCr4, readCs, readDr7, readDs,
  readEs, readFs, readGs, readLdtr, readMsr, readSs, readTr, storeGdt, storeIdt, vmread, vmwrite, vmxoff, vmxon, writeCr4,
} from '../../machine/intrinsics.ts';
import {
  IA32_DEBUGCTL, IA32_EFER, IA32_FS_BASE, IA32_GS_BASE, IA32_SYSENTER_CS, IA32_SYSENTER_EIP, IA32_SYSENTER_ESP,
} from '../../machine/msr.ts';
import { CR4_VMXE, RFLAGS_RESERVED1 } from '../../machine/registers.ts';
import { ACTIVITY_ACTIVE, RIGHTS_UNUSABLE, VMCS_SEGMENT_STEP, Vmcs } from '../../machine/vmcs.ts';
import { Cpu, Vcpu } from '../cpu.ts';
import { mapPointer } from '../memory-map.ts';
import { stackTop } from '../host.ts';
import { activateVmcs, vmxonRegion, vpidOf, writeFixedFields } from './vcpu.ts';

/** Segment numbers in the order of the VMCS. */
const SEGMENT_ES: u32 = 0;
const SEGMENT_CS: u32 = 1;
const SEGMENT_SS: u32 = 2;
const SEGMENT_DS: u32 = 3;
const SEGMENT_FS: u32 = 4;
const SEGMENT_GS: u32 = 5;
const SEGMENT_LDTR: u32 = 6;
const SEGMENT_TR: u32 = 7;
const ACCESSED: u32 = 1;
/** Fields of LAR's result that are also fields of the VMCS's access rights. */
const LAR_RIGHTS: u32 = 0xf0ff;

/** Turns virtualization on; false leaves the processor as it was. */
export function turnOn(cpu: Cpu): boolean {
  const cr4 = readCr4();
  if ((cr4 & CR4_VMXE) !== 0n) return false;
  cpu.cr4AtCapture = cr4;
  writeCr4(cr4 | CR4_VMXE);
  if (vmxon(vmxonRegion(cpu.index))) return true;
  writeCr4(cr4);
  return false;
}

/** Turns virtualization off where no guest state has to be put back: after a failed entry, or on a processor that halts. */
export function turnOff(cpu: Cpu): void {
  vmxoff();
  writeCr4(readCr4() & ~CR4_VMXE);
  cpu.vcpu = null;
  cpu.state = CpuState.BARE;
}

/** A segment as the processor holds it. LAR and LSL see LDT selectors too, which a look into the GDT would miss. */
function writeSegment(segment: u32, selector: u16, base: u64): void {
  const rights = loadAccessRights(selector);
  const unusable = (selector & 0xfffc) === 0 || rights === 0;
  const held: u64 = unusable ? RIGHTS_UNUSABLE : u64((rights >> 8) & LAR_RIGHTS | (segment < SEGMENT_LDTR ? ACCESSED : 0));
  const step: u32 = segment * VMCS_SEGMENT_STEP;
  vmwrite(Vmcs.GUEST_ES_SELECTOR + step, u64(selector));
  vmwrite(Vmcs.GUEST_ES_ACCESS_RIGHTS + step, held);
  vmwrite(Vmcs.GUEST_ES_LIMIT + step, unusable ? 0n : u64(loadSegmentLimit(selector)));
  vmwrite(Vmcs.GUEST_ES_BASE + step, base);
}

/** Base of a system segment from its 16-byte descriptor (SDM Vol. 3A, figure 8-4). */
function systemBase(gdt: HostVirtual, selector: u16): u64 {
  if ((selector & 0xfffc) === 0) return 0n;
  const descriptor: HostVirtual = gdt + u64(selector & 0xfff8);
  const low = load64(descriptor);
  return ((low >> 16n) & 0xffffffn) | ((low >> 32n) & 0xff000000n) | (load64(descriptor + 8n) << 32n);
}

function writeSegments(gdt: HostVirtual): void {
  writeSegment(SEGMENT_ES, readEs(), 0n);
  writeSegment(SEGMENT_CS, readCs(), 0n);
  writeSegment(SEGMENT_SS, readSs(), 0n);
  writeSegment(SEGMENT_DS, readDs(), 0n);
  writeSegment(SEGMENT_FS, readFs(), readMsr(IA32_FS_BASE));
  writeSegment(SEGMENT_GS, readGs(), readMsr(IA32_GS_BASE));
  const ldtr = readLdtr();
  const tr = readTr();
  writeSegment(SEGMENT_LDTR, ldtr, systemBase(gdt, ldtr));
  writeSegment(SEGMENT_TR, tr, systemBase(gdt, tr));
}

/**
 * Builds the guest state from this processor's. VMX is on and the virtual CPU's
 * VMCS fields are written; the stub's VMLAUNCH follows. `rip`, `rsp` and `cr3`
 * are where the kernel goes on.
 */
export function captureState(vcpu: Vcpu, cpu: Cpu, rip: u64, rsp: u64, cr3: u64): Result {
  vcpu.cpu = cpu;
  vcpu.stackTop = stackTop(cpu.index);
  cpu.vcpu = vcpu;
  if (!activateVmcs(vcpu)) return Result.PROCESSOR;
  const cr4 = readCr4();
  writeFixedFields(vcpu, cpu, cr4);

  const table: TableRegister = zeroed();
  storeIdt(table);
  vmwrite(Vmcs.GUEST_IDTR_BASE, table.base);
  vmwrite(Vmcs.GUEST_IDTR_LIMIT, u64(table.limit));
  storeGdt(table);
  vmwrite(Vmcs.GUEST_GDTR_BASE, table.base);
  vmwrite(Vmcs.GUEST_GDTR_LIMIT, u64(table.limit));
  writeSegments(table.base);

  const cr0 = readCr0();
  vmwrite(Vmcs.GUEST_CR0, cr0);
  vmwrite(Vmcs.CR0_SHADOW, cr0);
  vmwrite(Vmcs.GUEST_CR3, cr3);
  vmwrite(Vmcs.GUEST_CR4, cr4);
  vmwrite(Vmcs.CR4_SHADOW, cpu.cr4AtCapture);
  vmwrite(Vmcs.GUEST_EFER, readMsr(IA32_EFER));
  vmwrite(Vmcs.GUEST_DR7, readDr7());
  vmwrite(Vmcs.GUEST_DEBUGCTL, readMsr(IA32_DEBUGCTL));
  vmwrite(Vmcs.GUEST_SYSENTER_CS, readMsr(IA32_SYSENTER_CS));
  vmwrite(Vmcs.GUEST_SYSENTER_ESP, readMsr(IA32_SYSENTER_ESP));
  vmwrite(Vmcs.GUEST_SYSENTER_EIP, readMsr(IA32_SYSENTER_EIP));
  vmwrite(Vmcs.GUEST_RIP, rip);
  vmwrite(Vmcs.GUEST_RSP, rsp);
  vmwrite(Vmcs.GUEST_RFLAGS, RFLAGS_RESERVED1);
  vmwrite(Vmcs.GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
  vmwrite(Vmcs.GUEST_INTERRUPTIBILITY, 0n);
  vmwrite(Vmcs.GUEST_PENDING_DEBUG, 0n);
  invept(mapPointer(vcpu.view));
  invvpid(vpidOf(vcpu));
  return Result.OK;
}
