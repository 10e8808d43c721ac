/**
 * The local APIC timer of a shared processor's holder, where the processor has no
 * other timer to end turns with (AMD-V): while the real one serves the VMM, the
 * holder's is a model of it, whose interrupt is raised in the real APIC. All other
 * registers are the real ones.
 */
import { Cpu, RAX, RCX, RDX, Vcpu, cpuOf, sharedView } from '../cpu/cpu.ts';
import { readApic, sendSelf, timerState } from '../cpu/local-apic.ts';
import { openView } from '../cpu/memory-map.ts';
import { copyMsrs, trapMsrRead, trapMsrWrite } from '#processor/bitmaps.ts';
import { advance } from '#processor/guest.ts';
import { HAS_TURN_TIMER } from '#processor/share.ts';
import { adoptView } from '#processor/vcpu.ts';
import { NO_INTERRUPT, VirtualApic, acknowledge, deliverable, endOfInterrupt, resetVirtualApic, setApicRegister } from '../devices/virtual-apic.ts';
import { handOverTimer } from '../devices/virtual-apic-handover.ts';
import { Outcome, readPage, writePage } from '../devices/virtual-apic-registers.ts';
import { advance as advanceTimer, nextDeadline, readDeadline, writeDeadline } from '../devices/virtual-apic-timer.ts';
import {
  APIC_CURRENT_COUNT, APIC_DIVIDE, APIC_INITIAL_COUNT, APIC_LVT_TIMER, APIC_SVR, LVT_PERIODIC, SVR_ENABLE, SVR_RESET,
} from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { IA32_TSC_DEADLINE, X2APIC_MSR_BASE } from '../machine/msr.ts';

const NEVER: u64 = 0xffffffffffffffffn;
/** One for each processor; their other registers are not used. */
const timers: FixedArray<VirtualApic, 32> = zeroed(4096);

function msrOf(register: u32): u32 {
  return X2APIC_MSR_BASE + (register >> 4);
}

/** The view of an instance's holders: every access to the local APIC's page exits, and to the timer's MSRs. */
function openHolderView(instance: u32): void {
  if (!openView(instance, 0n)) return;
  const view = sharedView(instance);
  copyMsrs(instance, view);
  for (let register: u32 = APIC_LVT_TIMER; register <= APIC_DIVIDE; register += 16) {
    if (!isTimerRegister(register)) continue;
    trapMsrRead(view, msrOf(register), true);
    trapMsrWrite(view, msrOf(register), true);
  }
  trapMsrRead(view, IA32_TSC_DEADLINE, true);
  trapMsrWrite(view, IA32_TSC_DEADLINE, true);
}

function isTimerRegister(register: u32): boolean {
  return register === APIC_LVT_TIMER || register === APIC_INITIAL_COUNT || register === APIC_CURRENT_COUNT || register === APIC_DIVIDE;
}

function timerOf(vcpu: Vcpu): VirtualApic {
  return timers[cpuOf(vcpu).index];
}

function write(timer: VirtualApic, register: u32, value: u32): void {
  const outcome = writePage(timer, register, 4, value, readTsc());
  assert(outcome.kind === Outcome.NONE); // the timer's registers come to nothing else
}

/** The holder's timer becomes a model, which goes on where the real one is. On the processor that both share, whose timer has just been measured. */
export function takeTimer(holder: Vcpu): void {
  if (HAS_TURN_TIMER) return;
  const state = timerState();
  const timer = timerOf(holder);
  resetVirtualApic(timer, holder.instance, cpuOf(holder).apicId, false);
  setApicRegister(timer, APIC_SVR, SVR_RESET | SVR_ENABLE);
  write(timer, APIC_DIVIDE, state.divide);
  write(timer, APIC_LVT_TIMER, state.lvt);
  const periodic = (state.lvt & LVT_PERIODIC) !== 0;
  if (state.current !== 0) write(timer, APIC_INITIAL_COUNT, periodic ? state.initial : state.current);
  if (state.deadline !== 0n) writeDeadline(timer, state.deadline, readTsc());
  openHolderView(holder.instance);
  adoptView(holder, sharedView(holder.instance));
}

/** The real timer is the holder's again. */
export function returnTimer(holder: Vcpu): void {
  if (HAS_TURN_TIMER) return;
  adoptView(holder, holder.instance);
  handOverTimer(timerOf(holder), readTsc());
}

/** Raises the timer interrupt of a processor's holder if it is due; whether it was. */
export function serveTimer(cpu: Cpu, now: u64): boolean {
  if (HAS_TURN_TIMER || cpu.holder === null) return false;
  const timer = timers[cpu.index];
  advanceTimer(timer, now);
  const vector = deliverable(timer);
  if (vector === NO_INTERRUPT) return false;
  acknowledge(timer, vector);
  endOfInterrupt(timer);
  sendSelf(vector);
  return true;
}

/** When that is, in TSC ticks; NEVER where the processor has another timer for turns. */
export function timerDeadline(cpu: Cpu): u64 {
  return HAS_TURN_TIMER || cpu.holder === null ? NEVER : nextDeadline(timers[cpu.index]);
}

function isModelled(vcpu: Vcpu): boolean {
  return !HAS_TURN_TIMER && cpuOf(vcpu).holder === vcpu;
}

/** Reads a register of the xAPIC page, the timer's from the model. */
export function readHolderApic(vcpu: Vcpu, register: u32): u32 {
  if (!isModelled(vcpu) || !isTimerRegister(register)) return readApic(register);
  return wrapU32(readPage(timerOf(vcpu), register, 4, readTsc()));
}

/** Writes a register of the timer; false if the write is not the model's. */
export function writeHolderTimer(vcpu: Vcpu, register: u32, value: u32): boolean {
  if (!isModelled(vcpu) || !isTimerRegister(register)) return false;
  write(timerOf(vcpu), register, value);
  return true;
}

function registerOf(index: u32): u32 {
  return (index - X2APIC_MSR_BASE) << 4;
}

function isTimerMsr(vcpu: Vcpu, index: u32): boolean {
  if (!isModelled(vcpu)) return false;
  return index === IA32_TSC_DEADLINE || (index >= X2APIC_MSR_BASE && isTimerRegister(registerOf(index)));
}

/** RDMSR of one of the timer's; false if it is none. */
export function readHolderMsr(vcpu: Vcpu): boolean {
  const index: u32 = wrapU32(vcpu.registers[RCX]);
  if (!isTimerMsr(vcpu, index)) return false;
  const now = readTsc();
  const timer = timerOf(vcpu);
  advanceTimer(timer, now);
  const value: u64 = index === IA32_TSC_DEADLINE ? readDeadline(timer) : readPage(timer, registerOf(index), 4, now);
  vcpu.registers[RAX] = value & 0xffffffffn;
  vcpu.registers[RDX] = value >> 32n;
  advance(vcpu);
  return true;
}

/** WRMSR of one of the timer's; false if it is none. */
export function writeHolderMsr(vcpu: Vcpu, index: u32, value: u64): boolean {
  if (!isTimerMsr(vcpu, index)) return false;
  const timer = timerOf(vcpu);
  if (index === IA32_TSC_DEADLINE) writeDeadline(timer, value, readTsc());
  else write(timer, registerOf(index), wrapU32(value));
  advance(vcpu);
  return true;
}
