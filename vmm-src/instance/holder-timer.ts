/**
 * The local APIC timer of a shared processor's holder, where the processor has no
 * other timer to end turns with (AMD-V): while the real one serves the VMM, the
 * holder's is a model of it, whose interrupt is raised in the real APIC. All other
 * registers are the real ones.
 */
import { RAX, RCX, RDX, Vcpu, cpuOf } from '../cpu/cpu.ts';
import { readApic, sendSelf, timerState } from '../cpu/local-apic.ts';
import { unmapRange } from '../cpu/memory-map.ts';
import { trapMsrRead, trapMsrWrite } from '#processor/bitmaps.ts';
import { advance, flushMemoryMap } from '#processor/guest.ts';
import { HAS_TURN_TIMER } from '#processor/share.ts';
import { NO_INTERRUPT, VirtualApic, acknowledge, deliverable, endOfInterrupt, resetVirtualApic, setApicRegister } from '../devices/virtual-apic.ts';
import { handOverTimer } from '../devices/virtual-apic-handover.ts';
import { Outcome, readPage, writePage } from '../devices/virtual-apic-registers.ts';
import { advance as advanceTimer, nextDeadline, readDeadline, writeDeadline } from '../devices/virtual-apic-timer.ts';
import {
  APIC_CURRENT_COUNT, APIC_DEFAULT_BASE, APIC_DIVIDE, APIC_INITIAL_COUNT, APIC_LVT_TIMER, APIC_SVR, LVT_PERIODIC, SVR_ENABLE, SVR_RESET,
} from '../machine/apic.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { IA32_TSC_DEADLINE, X2APIC_MSR_BASE } from '../machine/msr.ts';
import { PAGE_SIZE } from '../machine/registers.ts';
import { guardApic, instanceOf } from './instance.ts';

const NEVER: u64 = 0xffffffffffffffffn;
/** Of the one processor that can be shared; its other registers are not used. */
const timer: VirtualApic = zeroed(4096);
let running: boolean = false;

function msrOf(register: u32): u32 {
  return X2APIC_MSR_BASE + (register >> 4);
}

function trapTimer(instance: u32, trap: boolean): void {
  for (let register: u32 = APIC_LVT_TIMER; register <= APIC_DIVIDE; register += 16) {
    if (!isTimerRegister(register)) continue;
    trapMsrRead(instance, msrOf(register), trap);
    trapMsrWrite(instance, msrOf(register), trap);
  }
  trapMsrRead(instance, IA32_TSC_DEADLINE, trap);
  trapMsrWrite(instance, IA32_TSC_DEADLINE, trap);
}

function isTimerRegister(register: u32): boolean {
  return register === APIC_LVT_TIMER || register === APIC_INITIAL_COUNT || register === APIC_CURRENT_COUNT || register === APIC_DIVIDE;
}

function write(register: u32, value: u32): void {
  const outcome = writePage(timer, register, 4, value, readTsc());
  assert(outcome.kind === Outcome.NONE); // the timer's registers come to nothing else
}

/** The holder's timer becomes a model, which goes on where the real one is. On the processor that both will share. */
export function takeTimer(holder: Vcpu): void {
  if (HAS_TURN_TIMER) return;
  const state = timerState();
  resetVirtualApic(timer, holder.instance, cpuOf(holder).apicId, false);
  setApicRegister(timer, APIC_SVR, SVR_RESET | SVR_ENABLE);
  write(APIC_DIVIDE, state.divide);
  write(APIC_LVT_TIMER, state.lvt);
  const periodic = (state.lvt & LVT_PERIODIC) !== 0;
  if (state.current !== 0) write(APIC_INITIAL_COUNT, periodic ? state.initial : state.current);
  if (state.deadline !== 0n) writeDeadline(timer, state.deadline, readTsc());
  running = true;
  unmapRange(holder.instance, APIC_DEFAULT_BASE, PAGE_SIZE);
  trapTimer(holder.instance, true);
  flushMemoryMap(holder);
}

/** The real timer is the holder's again. */
export function returnTimer(holder: Vcpu): void {
  if (HAS_TURN_TIMER) return;
  running = false;
  trapTimer(holder.instance, false);
  guardApic(holder.instance, instanceOf(holder.instance).apicGuarded);
  flushMemoryMap(holder);
  handOverTimer(timer, readTsc());
}

/** The holder ends: nobody's timer is to be served. */
export function dropTimer(): void {
  running = false;
}

/** Raises the holder's timer interrupt if it is due. */
export function serveTimer(now: u64): void {
  if (HAS_TURN_TIMER || !running) return;
  advanceTimer(timer, now);
  const vector = deliverable(timer);
  if (vector === NO_INTERRUPT) return;
  acknowledge(timer, vector);
  endOfInterrupt(timer);
  sendSelf(vector);
}

/** When that is, in TSC ticks; NEVER where the processor has another timer for turns. */
export function timerDeadline(): u64 {
  return HAS_TURN_TIMER || !running ? NEVER : nextDeadline(timer);
}

function isModelled(vcpu: Vcpu): boolean {
  return !HAS_TURN_TIMER && running && cpuOf(vcpu).holder === vcpu;
}

/** Reads a register of the xAPIC page, the timer's from the model. */
export function readHolderApic(vcpu: Vcpu, register: u32): u32 {
  if (!isModelled(vcpu) || !isTimerRegister(register)) return readApic(register);
  return wrapU32(readPage(timer, register, 4, readTsc()));
}

/** Writes a register of the timer; false if the write is not the model's. */
export function writeHolderTimer(vcpu: Vcpu, register: u32, value: u32): boolean {
  if (!isModelled(vcpu) || !isTimerRegister(register)) return false;
  write(register, value);
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
  if (index === IA32_TSC_DEADLINE) writeDeadline(timer, value, readTsc());
  else write(registerOf(index), wrapU32(value));
  advance(vcpu);
  return true;
}
