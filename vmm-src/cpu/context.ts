/**
 * What two virtual CPUs of one processor have in common: the state that neither
 * VMCS nor VMCB holds. The VMM uses none of it, so it stays in the processor from
 * exit to entry, and only a change of the virtual CPU saves and loads it: vector
 * registers and everything else of XSAVE with XCR0 and IA32_XSS, DR0 to DR3, and
 * what the back end names (#processor/context.ts). General registers are in the
 * Vcpu. What is not switched, no tenant writes (instance/share.ts).
 */
import { CpuidResult, cpuid, readBreakpoint, readMsr, writeBreakpoint, writeMsr, xgetbv, xrstor, xsave, xsetbv } from '../machine/intrinsics.ts';
import { IA32_INTERRUPT_SSP_TABLE, IA32_PRED_CMD, IA32_U_CET, IA32_XFD, IA32_XFD_ERR, IA32_XSS } from '../machine/msr.ts';
import { Cpu, Vcpu } from './cpu.ts';
import { trapMsrWrite } from '#processor/bitmaps.ts';
import { loadOwn, makeCurrent, passOwnMsrs, resetOwn, saveOwn } from '#processor/context.ts';

/**
 * Room for the XSAVE areas of all shared processors, in as many pieces as their size
 * allows: 832 bytes with AVX, 2.7 KiB with AVX-512, 11 KiB with AMX.
 */
const POOL_SIZE: u32 = 180224;
const pool: FixedArray<u8, 180224> = zeroed(64);
const MAX_AREAS: u32 = 64;
const areaUsed: FixedArray<boolean, 64> = zeroed();

class Context extends Struct {
  /** XSAVE area, 0 while the virtual CPU is alone on its processor. */
  area: HostVirtual;
  xcr0: u64;
  xss: u64;
  xfd: u64;
  xfdError: u64;
  breakpoints: FixedArray<u64, 4>;
}
const contexts: FixedArray<FixedArray<Context, 32>, 2> = zeroed();

const CPUID_XSAVE: u32 = 13;
/** Legacy region and header; MXCSR in the first, XCOMP_BV in the second (SDM Vol. 1, 13.4). */
const XSAVE_HEADER_END: u32 = 576;
const XSAVE_MXCSR: u64 = 24n;
const XSAVE_FCW: u64 = 0n;
const XSAVE_COMPACTION: u64 = 520n;
const COMPACTED: u64 = 0x8000000000000000n;
const FCW_RESET: u16 = 0x37f;
const MXCSR_RESET: u32 = 0x1f80;
const XCR0_RESET: u64 = 1n;
/** Supervisor components that belong to what runs: PASID, CET of both levels, user interrupts, last branch records (SDM Vol. 1, 13.1). */
const SUPERVISOR_COMPONENTS: u64 = 0xdc00n;
/** What of CET is not there is in the control structure. */
const CET_COMPONENTS: u64 = 0x1800n;
/** CPUID.(EAX=0DH,ECX=1):EAX. */
const CPUID_13_XSAVES: u32 = 8;
const CPUID_13_XFD: u32 = 16;
/** CPUID.07H:EDX. */
const CPUID_7_EDX_IBPB: u32 = 0x4000000;

class Features extends Struct {
  user: u64;
  supervisor: u64;
  size: u32;
  hasXfd: boolean;
  hasBarrier: boolean;
  reserved: u16;
}
const features: Features = zeroed();

function sizeOfComponents(mask: u64): u32 {
  const leaf: CpuidResult = zeroed();
  let size = XSAVE_HEADER_END;
  for (let i: u32 = 2; i < 63; i++) {
    if ((mask >> u64(i) & 1n) === 0n) continue;
    cpuid(CPUID_XSAVE, i, leaf);
    size += (leaf.eax + 63) & ~63;
  }
  return size;
}

function learnFeatures(): void {
  const leaf: CpuidResult = zeroed();
  cpuid(CPUID_XSAVE, 0, leaf);
  features.user = (u64(leaf.edx) << 32n) | u64(leaf.eax);
  const standard = leaf.ecx;
  cpuid(CPUID_XSAVE, 1, leaf);
  const saves = (leaf.eax & CPUID_13_XSAVES) !== 0;
  features.hasXfd = (leaf.eax & CPUID_13_XFD) !== 0;
  features.supervisor = saves ? ((u64(leaf.edx) << 32n) | u64(leaf.ecx)) & SUPERVISOR_COMPONENTS : 0n;
  const compacted = sizeOfComponents(features.user | features.supervisor);
  features.size = ((compacted > standard ? compacted : standard) + 63) & ~63;
  cpuid(7, 0, leaf);
  features.hasBarrier = (leaf.edx & CPUID_7_EDX_IBPB) !== 0;
}

/** Lets a view's virtual CPUs write what is switched with them. */
export function passContextMsrs(view: u32): void {
  if (features.supervisor !== 0n) trapMsrWrite(view, IA32_XSS, false);
  if (features.hasXfd) {
    trapMsrWrite(view, IA32_XFD, false);
    trapMsrWrite(view, IA32_XFD_ERR, false);
  }
  if ((features.supervisor & CET_COMPONENTS) !== 0n) {
    for (let i: u32 = IA32_U_CET; i <= IA32_INTERRUPT_SSP_TABLE; i++) trapMsrWrite(view, i, false);
  }
  passOwnMsrs(view);
}

function contextOf(vcpu: Vcpu): Context {
  return contexts[vcpu.instance - 1][vcpu.index];
}

/** An area for XRSTOR to begin from: every component in its initial state. */
function takeArea(): HostVirtual {
  const count = POOL_SIZE / features.size;
  for (let i: u32 = 0; i < MAX_AREAS; i++) {
    if (i >= count || areaUsed[i]) continue;
    areaUsed[i] = true;
    const area: HostVirtual = addressOf(pool) + u64(i * features.size);
    fillBytes(area, 0, u64(features.size));
    store16(area + XSAVE_FCW, FCW_RESET);
    store32(area + XSAVE_MXCSR, MXCSR_RESET);
    if (features.supervisor !== 0n) store64(area + XSAVE_COMPACTION, COMPACTED | features.user | features.supervisor);
    return area;
  }
  return 0n;
}

/** Gives back what a virtual CPU's context needed; it is alone on its processor, or nowhere. */
export function forgetContext(vcpu: Vcpu): void {
  const context = contextOf(vcpu);
  if (context.area !== 0n) areaUsed[wrapU32((context.area - addressOf(pool)) / u64(features.size)) & 63] = false;
  context.area = 0n;
}

/** Whether there is room for the contexts of `cpus` more shared processors, two of each. */
export function hasRoomForContexts(cpus: u32): boolean {
  learnFeatures();
  const areas: u32 = POOL_SIZE / features.size;
  let free: u32 = areas < MAX_AREAS ? areas : MAX_AREAS;
  for (let i: u32 = 0; i < MAX_AREAS; i++) {
    if (areaUsed[i]) free--;
  }
  return free >= 2 * cpus;
}

/** Prepares the contexts of the virtual CPU that runs here and of a new one, which begins as after RESET. The caller has seen that there is room. */
export function prepareContexts(running: Vcpu, fresh: Vcpu): void {
  const kept = contextOf(running);
  const context = contextOf(fresh);
  fillBytes(addressOf(context), 0, u64(sizeOf<Context>()));
  kept.area = takeArea();
  context.area = takeArea();
  assert(kept.area !== 0n && context.area !== 0n);
  context.xcr0 = XCR0_RESET;
  resetOwn(fresh);
}

function save(vcpu: Vcpu): void {
  const context = contextOf(vcpu);
  context.xcr0 = xgetbv(0);
  if (context.xcr0 !== features.user) xsetbv(0, features.user);
  if (features.supervisor !== 0n) {
    context.xss = readMsr(IA32_XSS);
    writeMsr(IA32_XSS, features.supervisor);
  }
  if (features.hasXfd) {
    context.xfd = readMsr(IA32_XFD);
    context.xfdError = readMsr(IA32_XFD_ERR);
    writeMsr(IA32_XFD, 0n);
  }
  xsave(context.area, features.user | features.supervisor, features.supervisor !== 0n);
  for (let i: u32 = 0; i < 4; i++) context.breakpoints[i] = readBreakpoint(i);
  saveOwn(vcpu);
}

/** Loads a context on the processor that has just saved that of `saved`: debug registers and MSRs that are the same in both are not written. */
function load(vcpu: Vcpu, saved: Vcpu): void {
  const context = contextOf(vcpu);
  const other = contextOf(saved);
  xrstor(context.area, features.user | features.supervisor, features.supervisor !== 0n);
  if (features.hasXfd) {
    writeMsr(IA32_XFD, context.xfd);
    writeMsr(IA32_XFD_ERR, context.xfdError);
  }
  if (features.supervisor !== 0n) writeMsr(IA32_XSS, context.xss);
  if (context.xcr0 !== features.user) xsetbv(0, context.xcr0);
  for (let i: u32 = 0; i < 4; i++) {
    if (context.breakpoints[i] !== other.breakpoints[i]) writeBreakpoint(i, context.breakpoints[i]);
  }
  loadOwn(vcpu, saved);
}

/** Makes the processor that runs this carry the other of its two virtual CPUs, which goes on where it was left. */
export function carry(cpu: Cpu, vcpu: Vcpu): void {
  const before = cpu.vcpu;
  if (before === null || before === vcpu) return;
  save(before);
  cpu.vcpu = vcpu;
  makeCurrent(vcpu);
  load(vcpu, before);
  // What one instance has taught the branch predictor must not steer the other.
  if (features.hasBarrier) writeMsr(IA32_PRED_CMD, 1n);
}
