/**
 * What the processor checks at VM entry (SDM Vol. 3C, 27.2 and 27.3), as far as the
 * VMM's states come near it. Field numbers are written out here (Vol. 3D, appendix
 * B), so that a wrong one in the VMM shows.
 */
import type { Processor } from "./machine.ts";

const PROCESSOR_BASED = 0x4002;
const ENTRY_CONTROLS = 0x4012;
const CONTROLS = [
  { name: "pin-based controls", field: 0x4000, msr: 0x48d },
  { name: "processor-based controls", field: PROCESSOR_BASED, msr: 0x48e },
  { name: "secondary controls", field: 0x401e, msr: 0x48b },
  { name: "exit controls", field: 0x400c, msr: 0x48f },
  { name: "entry controls", field: ENTRY_CONTROLS, msr: 0x490 },
];
const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"] as const;
const CR4_EXISTING = 0x7737ffn;
const ACTIVITY_HLT = 1n;
const ACTIVITY_WAIT_FOR_SIPI = 3n;

function canonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}

/** All reasons why VMLAUNCH or VMRESUME would fail on this processor now. */
export function entryProblems(processor: Processor): string[] {
  const problems: string[] = [];
  const check = (holds: boolean, rule: string): void => { if (!holds) problems.push(rule); };
  const read = (field: number): bigint => processor.field(field);

  for (const { name, field, msr } of CONTROLS) {
    const capability = processor.msrs.get(msr)!;
    const required = capability & 0xffffffffn;
    check((read(field) & required) === required && (read(field) & ~(capability >> 32n)) === 0n, `${name} are not what MSR 0x${msr.toString(16)} allows`);
  }
  for (const field of [0x4004, 0x4006, 0x4008, 0x400a, 0x400e, 0x4010, 0x4014, 0x6000, 0x6002]) read(field);
  for (const field of [0x2000, 0x2002, 0x2004]) check((read(field) & 0xfffn) === 0n, "bitmaps are not page aligned");
  const nested = (read(0x401e) & 2n) !== 0n;
  check(nested === ((read(0x401e) & 0x80n) !== 0n), "EPT and unrestricted guest are not together");
  if (nested) check((read(0x201a) & 0xfffn) === 0x1en && read(0x201a) >> 48n === 0n, "EPT pointer");
  else check((read(0x6800) & 0x80000001n) === 0x80000001n, "guest CR0 without PG and PE, and no unrestricted guest");
  apicProblems(read, check);
  check(read(0) !== 0n, "VPID 0");
  check(read(0x2800) === 0xffff_ffff_ffff_ffffn, "VMCS link pointer");
  hostProblems(read, check);
  guestProblems(read, check);
  segmentProblems(read, check);
  eventProblems(read, check);
  return problems;
}

type Read = (field: number) => bigint;
type Check = (holds: boolean, rule: string) => void;

/** Virtualization of the local APIC (27.2.1.1). */
function apicProblems(read: Read, check: Check): void {
  const secondary = read(0x401e);
  const [accesses, x2apic, registers] = [1n, 0x10n, 0x100n].map((bit) => (secondary & bit) !== 0n);
  const shadow = (read(PROCESSOR_BASED) & 0x200000n) !== 0n;
  check(shadow || !(x2apic || registers), "APIC virtualization without a TPR shadow");
  check(!(accesses && x2apic), "both an APIC-access page and x2APIC mode");
  if (accesses) check((read(0x2014) & 0xfffn) === 0n && read(0x2014) !== 0n, "APIC-access page");
  if (shadow) check((read(0x2012) & 0xfffn) === 0n && read(0x2012) !== 0n, "virtual-APIC page");
  if (shadow) check(read(0x401c) < 16n, "TPR threshold");
}

function hostProblems(read: Read, check: Check): void {
  for (const field of [0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a, 0xc0c]) check((read(field) & 7n) === 0n, "host selector with RPL or TI");
  check(read(0xc02) !== 0n && read(0xc0c) !== 0n, "host CS or TR is null");
  check((read(0x6c00) & 0x80000021n) === 0x80000021n, "host CR0 without PG, NE or PE");
  check((read(0x6c04) & 0x2020n) === 0x2020n && (read(0x6c04) & ~CR4_EXISTING) === 0n, "host CR4");
  check((read(0x2c02) & 0x500n) === 0x500n, "host EFER without LME and LMA");
  check((read(0x6c02) & 0xfffn) === 0n, "host CR3");
  for (const field of [0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x6c16]) check(canonical(read(field)), `host address in field 0x${field.toString(16)} is not canonical`);
  read(0x4c00);
  read(0x6c14);
}

function guestProblems(read: Read, check: Check): void {
  const cr0 = read(0x6800);
  const cr4 = read(0x6804);
  const efer = read(0x2806);
  const long = (read(ENTRY_CONTROLS) & 0x200n) !== 0n;
  const paging = (cr0 & 0x80000000n) !== 0n;
  check((cr0 & 0x20n) !== 0n, "guest CR0 without NE");
  check(!paging || (cr0 & 1n) !== 0n, "guest CR0 with PG and without PE");
  check((cr0 >> 32n) === 0n, "guest CR0 with high bits");
  check((cr4 & 0x2000n) !== 0n, "guest CR4 without VMXE");
  check((cr4 & ~CR4_EXISTING) === 0n, "guest CR4 with reserved bits");
  if (long) check(paging && (cr4 & 0x20n) !== 0n, "IA-32e mode without PG and PAE");
  else check((cr4 & 0x20000n) === 0n, "PCIDE outside IA-32e mode");
  check(((efer & 0x400n) !== 0n) === long, "EFER.LMA is not the entry control's IA-32e mode");
  check(!paging || ((efer & 0x400n) !== 0n) === ((efer & 0x100n) !== 0n), "EFER.LMA and LME differ with paging");
  check(read(0x6802) >> 52n === 0n, "guest CR3");
  check(read(0x681a) >> 32n === 0n, "guest DR7 with high bits");
  check((read(0x2802) & ~0xdfc3n) === 0n, "guest DEBUGCTL with reserved bits");
  check(canonical(read(0x6824)) && canonical(read(0x6826)), "SYSENTER address is not canonical");
  read(0x482a);
  for (const [base, limit] of [[0x6816, 0x4810], [0x6818, 0x4812]] as const) {
    check(canonical(read(base)) && read(limit) >> 16n === 0n, "GDTR or IDTR");
  }
  const rip = read(0x681e);
  const code64 = long && (read(0x4816) & 0x2000n) !== 0n;
  check(code64 ? canonical(rip) : rip >> 32n === 0n, "guest RIP");
  const flags = read(0x6820);
  check((flags & 2n) !== 0n && (flags & ~0x3f7fd7n) === 0n, "guest RFLAGS");
  check((flags & 0x20000n) === 0n || (!long && (cr0 & 1n) !== 0n), "virtual-8086 mode");
}

function segmentProblems(read: Read, check: Check): void {
  const long = (read(ENTRY_CONTROLS) & 0x200n) !== 0n;
  const real = (read(0x6800) & 1n) === 0n;
  SEGMENTS.forEach((name, i) => {
    const rights = read(0x4814 + 2 * i);
    const selector = read(0x800 + 2 * i);
    const limit = read(0x4800 + 2 * i);
    const base = read(0x6806 + 2 * i);
    const usable = (rights & 0x10000n) === 0n;
    const type = rights & 15n;
    const system = i >= 6;
    if (usable || i === 1 || name === "TR" || name === "FS" || name === "GS") check(canonical(base), `${name} base`);
    check(limit >> 32n === 0n, `${name} limit`);
    if (name === "CS" || name === "TR") check(usable, `${name} is unusable`);
    if (!usable) return;
    check((rights & 0xf00n) === 0n && rights >> 17n === 0n, `${name} access rights with reserved bits`);
    check((rights & 0x80n) !== 0n, `${name} is not present`);
    check(((rights & 0x10n) === 0n) === system, `${name} descriptor type`);
    check((limit & 0xfffn) === 0xfffn || (rights & 0x8000n) === 0n, `${name}: G is set, the low limit bits are not`);
    check(limit >> 20n === 0n || (rights & 0x8000n) !== 0n, `${name}: G is clear, the high limit bits are set`);
    if (name === "CS") check((type & 9n) === 9n || type === 3n, "CS type");
    if (name === "CS" && long) check((rights & 0x6000n) !== 0x6000n, "CS has both L and D");
    if (name === "SS") check(type === 3n || type === 7n, "SS type");
    if (name === "SS" && (real || (read(0x4816) & 15n) === 3n)) check((rights & 0x60n) === 0n, "SS DPL");
    if (!system && i !== 1 && i !== 2) check((type & 1n) !== 0n && ((type & 8n) === 0n || (type & 2n) !== 0n), `${name} type`);
    if (name === "LDTR") check(type === 2n && (selector & 4n) === 0n, "LDTR");
    if (name === "TR") check((type === 11n || (type === 3n && !long)) && (selector & 4n) === 0n, "TR");
    if (i !== 4 && i !== 5 && !system) check(base >> 32n === 0n, `${name} base with high bits`);
  });
}

function eventProblems(read: Read, check: Check): void {
  const activity = read(0x4826);
  const blocking = read(0x4824);
  const info = read(0x4016);
  const type = (info >> 8n) & 7n;
  const vector = info & 0xffn;
  const injects = (info & 0x80000000n) !== 0n;
  check(activity <= 3n, "activity state");
  check((blocking & ~0x1fn) === 0n && (blocking & 3n) !== 3n, "interruptibility");
  check((blocking & 1n) === 0n || (read(0x6820) & 0x200n) !== 0n, "blocking by STI with interrupts off");
  check((blocking & 3n) === 0n || activity === 0n, "blocking by STI or MOV SS while not active");
  const singleStep = (read(0x6820) & 0x100n) !== 0n && (read(0x2802) & 2n) === 0n;
  if ((blocking & 3n) !== 0n || activity === ACTIVITY_HLT) {
    check(((read(0x6822) & 0x4000n) !== 0n) === singleStep, "pending single step does not agree with TF and BTF");
  }
  if (!injects) return;
  check((info & 0x7ffff000n) === 0n && type !== 1n && type !== 7n, "interruption information");
  check(type !== 2n || vector === 2n, "NMI with another vector");
  check(type !== 3n || vector < 32n, "exception with a vector above 31");
  const hasCode = type === 3n && [8n, 10n, 11n, 12n, 13n, 14n, 17n, 21n].includes(vector) && (read(0x6800) & 1n) !== 0n;
  check(((info & 0x800n) !== 0n) === hasCode, "error code");
  if (hasCode) check(read(0x4018) >> 16n === 0n, "error code's high bits");
  if (type >= 4n) check(read(0x401a) >= 1n && read(0x401a) <= 15n, "instruction length of a software event");
  check(type !== 0n || ((read(0x6820) & 0x200n) !== 0n && (blocking & 3n) === 0n), "external interrupt while blocked");
  check(type !== 2n || (blocking & 3n) === 0n, "NMI while blocked by STI or MOV SS");
  check(activity !== ACTIVITY_WAIT_FOR_SIPI, "event while waiting for SIPI");
}
