/**
 * The registers of a virtual local APIC, as its guest reads and writes them: by the
 * xAPIC page (SDM Vol. 3A, table 12-1) or the x2APIC MSRs (table 12-6), whose number
 * is 800H and the page's offset divided by 16. IA32_APIC_BASE chooses.
 */
import {
  APIC_APR, APIC_CURRENT_COUNT, APIC_DEFAULT_BASE, APIC_DFR, APIC_DIVIDE, APIC_EOI, APIC_ESR, APIC_ICR_HIGH, APIC_ICR_LOW, APIC_ID,
  APIC_INITIAL_COUNT, APIC_IRR, APIC_ISR, APIC_LDR, APIC_LVT_ERROR, APIC_LVT_LINT0, APIC_LVT_LINT1, APIC_LVT_TIMER, APIC_PPR,
  APIC_RRD, APIC_SELF_IPI, APIC_SVR, APIC_TPR, APIC_VERSION, ESR_ILLEGAL_REGISTER, ESR_SEND_ILLEGAL_VECTOR,
  FIRST_VALID_VECTOR, ICR_ASSERT, ICR_BUSY, ICR_LEVEL, ICR_LOGICAL, ICR_MODE, ICR_MODE_LOWEST, ICR_SHORTHAND, ICR_SHORTHAND_SELF,
  ICR_VECTOR, LVT_DELIVERY_MODE, LVT_DELIVERY_STATUS, LVT_LEVEL, LVT_LOW_ACTIVE, LVT_MASKED, LVT_PERIODIC, LVT_REMOTE_IRR,
  LVT_TSC_DEADLINE, LVT_VECTOR, SVR_ENABLE, SVR_SUPPRESS_EOI_BROADCAST, VERSION_EOI_SUPPRESSION,
} from '../machine/apic.ts';
import { APIC_BASE_BSP, APIC_BASE_ENABLE, APIC_BASE_X2APIC, IA32_APIC_BASE, IA32_TSC_DEADLINE, X2APIC_MSR_BASE } from '../machine/msr.ts';
import {
  NO_INTERRUPT, VirtualApic, apicModel, apicRegister, collectPosted, endOfInterrupt, hasLvt, initVirtualApic, isApicEnabled, isX2apicMode, maskLvts,
  noteError, processorPriority, raise, setApicRegister, setIds, setTaskPriority, xapicId,
} from './virtual-apic.ts';
import { advance, currentCount, readDeadline, writeDeadline, writeDivide, writeInitialCount, writeTimerLvt } from './virtual-apic-timer.ts';

/** What a write came to beyond the APIC itself. */
export enum Outcome {
  NONE = 0,
  /** An interrupt command goes out; it may name the sender too, but a shorthand for self alone is done already. */
  COMMAND = 1,
  /** A level-triggered interrupt is done: IOAPICs are told its vector. */
  END_OF_INTERRUPT = 2,
  /** #GP: no such MSR, or no such value. */
  FAULT = 3,
}

/**
 * The caller carries it out.
 * @mustUse
 */
export type ApicOutcome =
  | { kind: Outcome.NONE }
  /** The low word of the ICR, and the destination: 8 bits of it in xAPIC mode, all 32 in x2APIC mode. */
  | { kind: Outcome.COMMAND; command: u32; destination: u32 }
  | { kind: Outcome.END_OF_INTERRUPT; vector: u32 }
  | { kind: Outcome.FAULT };

/** What an MSR holds, or #GP. */
export type MsrValue = { ok: true; value: u64 } | { ok: false };

const NOTHING: ApicOutcome = { kind: Outcome.NONE };
const FAULT: ApicOutcome = { kind: Outcome.FAULT };
const NO_MSR: MsrValue = { ok: false };

const PAGE_END: u32 = 0x400;
const X2APIC_LAST_MSR: u32 = X2APIC_MSR_BASE + 0x3f;
const DESTINATION_SHIFT: u32 = 24;
const X2APIC_DESTINATION_SHIFT: u64 = 32n;
const LDR_BITS: u32 = 0xff000000;
const DFR_MODEL: u32 = 0xf0000000;
const DIVIDE_BITS: u32 = 0xb;
const SVR_FOCUS: u32 = 0x200;
const TPR_BITS: u32 = 0xff;
const ICR_BITS: u32 = ICR_VECTOR | ICR_MODE | ICR_LOGICAL | ICR_ASSERT | ICR_LEVEL | ICR_SHORTHAND;
const LVT_READ_ONLY: u32 = LVT_DELIVERY_STATUS | LVT_REMOTE_IRR;

/** Bits of an LVT entry that software writes (figure 12-8). */
function lvtBits(offset: u32): u32 {
  const common: u32 = LVT_VECTOR | LVT_MASKED;
  if (offset === APIC_LVT_TIMER) return common | LVT_PERIODIC | (apicModel.hasTscDeadline ? LVT_TSC_DEADLINE : 0);
  if (offset === APIC_LVT_ERROR) return common;
  if (offset === APIC_LVT_LINT0 || offset === APIC_LVT_LINT1) return common | LVT_DELIVERY_MODE | LVT_LOW_ACTIVE | LVT_LEVEL;
  return common | LVT_DELIVERY_MODE;
}

function svrBits(x2apic: boolean): u32 {
  const suppression: u32 = (apicModel.version & VERSION_EOI_SUPPRESSION) !== 0 ? SVR_SUPPRESS_EOI_BROADCAST : 0;
  return ICR_VECTOR | SVR_ENABLE | suppression | (x2apic ? 0 : SVR_FOCUS);
}

/** Bits that a register takes; in x2APIC mode any other that is set is a #GP (12.12.1.3). */
function writableBits(offset: u32, x2apic: boolean): u32 {
  if (hasLvt(offset)) return lvtBits(offset);
  switch (offset) {
    case APIC_TPR: return TPR_BITS;
    case APIC_LDR: return LDR_BITS;
    case APIC_DFR: return DFR_MODEL;
    case APIC_SVR: return svrBits(x2apic);
    case APIC_ICR_LOW: return ICR_BITS;
    case APIC_ICR_HIGH: return LDR_BITS;
    case APIC_INITIAL_COUNT: return ~0;
    case APIC_DIVIDE: return DIVIDE_BITS;
    case APIC_SELF_IPI: return ICR_VECTOR;
    default: return 0;
  }
}

/** ISR, TMR and IRR, of eight words each. */
function isBank(offset: u32): boolean {
  return offset >= APIC_ISR && offset < APIC_IRR + 0x80;
}

function isReadable(offset: u32, x2apic: boolean): boolean {
  if (hasLvt(offset) || isBank(offset)) return true;
  switch (offset) {
    case APIC_ID: case APIC_VERSION: case APIC_TPR: case APIC_PPR: case APIC_LDR: case APIC_SVR: case APIC_ESR: case APIC_ICR_LOW:
    case APIC_INITIAL_COUNT: case APIC_CURRENT_COUNT: case APIC_DIVIDE:
      return true;
    // Not in processors since the Pentium 4, where they read as 0, and EOI can only be written.
    case APIC_APR: case APIC_RRD: case APIC_EOI: case APIC_DFR: case APIC_ICR_HIGH:
      return !x2apic;
    default: return false;
  }
}

function isWritable(offset: u32, x2apic: boolean): boolean {
  if (hasLvt(offset)) return true;
  switch (offset) {
    case APIC_TPR: case APIC_EOI: case APIC_SVR: case APIC_ESR: case APIC_ICR_LOW: case APIC_INITIAL_COUNT: case APIC_DIVIDE:
      return true;
    case APIC_LDR: case APIC_DFR: case APIC_ICR_HIGH: return !x2apic;
    case APIC_SELF_IPI: return x2apic;
    default: return false;
  }
}

/** Brings the APIC up to now, before its guest looks or changes anything. */
function catchUp(apic: VirtualApic, now: u64): void {
  advance(apic, now);
  collectPosted(apic);
}

function readRegister(apic: VirtualApic, offset: u32, now: u64): u32 {
  if (offset === APIC_CURRENT_COUNT) return currentCount(apic, now);
  return offset === APIC_PPR ? processorPriority(apic) : apicRegister(apic, offset);
}

function writeSvr(apic: VirtualApic, value: u32): void {
  setApicRegister(apic, APIC_SVR, value);
  if ((value & SVR_ENABLE) === 0) maskLvts(apic);
}

/** While the APIC is disabled by software, no LVT entry can be unmasked (12.4.7.2). */
function writeLvt(apic: VirtualApic, offset: u32, value: u32): void {
  const masked: u32 = (apicRegister(apic, APIC_SVR) & SVR_ENABLE) === 0 ? LVT_MASKED : 0;
  if (offset === APIC_LVT_TIMER) writeTimerLvt(apic, value | masked);
  else setApicRegister(apic, offset, value | masked);
}

/** Reading ESR gives what had happened up to the last write to it (12.5.3). */
function latchErrors(apic: VirtualApic): void {
  setApicRegister(apic, APIC_ESR, apic.errors);
  apic.errors = 0;
}

function sendSelf(apic: VirtualApic, vector: u32): void {
  if (vector < FIRST_VALID_VECTOR) noteError(apic, ESR_SEND_ILLEGAL_VECTOR);
  raise(apic, vector, false);
}

/** Fixed and lowest-priority interrupts have a vector of their own; the other kinds' vector field says something else. */
function carriesVector(command: u32): boolean {
  return (command & ICR_MODE) <= ICR_MODE_LOWEST;
}

function sendCommand(apic: VirtualApic, command: u32, destination: u32): ApicOutcome {
  const vector: u32 = command & ICR_VECTOR;
  if (carriesVector(command) && (command & ICR_SHORTHAND) === ICR_SHORTHAND_SELF) {
    sendSelf(apic, vector);
    return NOTHING;
  }
  if (carriesVector(command) && vector < FIRST_VALID_VECTOR) noteError(apic, ESR_SEND_ILLEGAL_VECTOR);
  return { kind: Outcome.COMMAND, command: command, destination: destination };
}

function finishInterrupt(apic: VirtualApic): ApicOutcome {
  const vector = endOfInterrupt(apic);
  if (vector === NO_INTERRUPT || (apicRegister(apic, APIC_SVR) & SVR_SUPPRESS_EOI_BROADCAST) !== 0) return NOTHING;
  return { kind: Outcome.END_OF_INTERRUPT, vector: vector };
}

/** A write of bits that exist, to a register that can be written; of the ICR in xAPIC mode. */
function writeRegister(apic: VirtualApic, offset: u32, value: u32, now: u64): ApicOutcome {
  if (hasLvt(offset)) {
    writeLvt(apic, offset, value);
    return NOTHING;
  }
  switch (offset) {
    case APIC_TPR: setTaskPriority(apic, value); break;
    case APIC_EOI: return finishInterrupt(apic);
    case APIC_DFR: setApicRegister(apic, APIC_DFR, value | ~DFR_MODEL); break;
    case APIC_SVR: writeSvr(apic, value); break;
    case APIC_ESR: latchErrors(apic); break;
    case APIC_ICR_LOW:
      setApicRegister(apic, APIC_ICR_LOW, value);
      return sendCommand(apic, value, apicRegister(apic, APIC_ICR_HIGH) >> DESTINATION_SHIFT);
    case APIC_INITIAL_COUNT: writeInitialCount(apic, value, now); break;
    case APIC_DIVIDE: writeDivide(apic, value, now); break;
    case APIC_SELF_IPI: sendSelf(apic, value); break;
    default: setApicRegister(apic, offset, value); break;
  }
  return NOTHING;
}

/** Whether the register page is there: otherwise its address is no APIC's. */
export function hasPage(apic: VirtualApic): boolean {
  return isApicEnabled(apic) && !isX2apicMode(apic);
}

/** Offset of the register that an offset of the page lies in. */
function registerAt(offset: u32): u32 {
  return offset & 0xff0;
}

/**
 * A read of 1 to 8 bytes at an offset of the page. What is not a register's four
 * bytes reads as 0, and a register that does not exist is an error besides.
 */
export function readPage(apic: VirtualApic, offset: u32, size: u32, now: u64): u64 {
  catchUp(apic, now);
  const register = registerAt(offset);
  if (register >= PAGE_END || !isReadable(register, false)) {
    noteError(apic, ESR_ILLEGAL_REGISTER);
    return 0n;
  }
  if ((offset & 15) >= 4) return 0n;
  const value: u64 = u64(readRegister(apic, register, now)) >> u64((offset & 3) * 8);
  return size >= 4 ? value : value & ((1n << u64(size * 8)) - 1n);
}

/** A write at an offset of the page: of four aligned bytes; any other changes nothing (12.4.1). */
export function writePage(apic: VirtualApic, offset: u32, size: u32, value: u32, now: u64): ApicOutcome {
  catchUp(apic, now);
  const register = registerAt(offset);
  if (register >= PAGE_END || !(isReadable(register, false) || isWritable(register, false))) {
    noteError(apic, ESR_ILLEGAL_REGISTER);
    return NOTHING;
  }
  if (!isWritable(register, false) || (offset & 15) !== 0 || size < 4) return NOTHING;
  return writeRegister(apic, register, value & writableBits(register, false), now);
}

/**
 * The processor has written a register of the page itself (SDM Vol. 3C, 30.4.3.2), which
 * is what a guest may write in the form of four bytes: the write takes effect. What
 * software cannot write is as it was again.
 */
export function acceptWrite(apic: VirtualApic, offset: u32, now: u64): ApicOutcome {
  const register = registerAt(offset);
  const value = apicRegister(apic, register);
  if (register === APIC_ID) setApicRegister(apic, APIC_ID, xapicId(apic));
  else if (register === APIC_EOI || !isWritable(register, false)) setApicRegister(apic, register, 0);
  return writePage(apic, register, 4, value, now);
}

/** Whether an MSR is the APIC's, in whatever mode it is. */
export function isApicMsr(index: u32): boolean {
  return index === IA32_APIC_BASE || index === IA32_TSC_DEADLINE || (index >= X2APIC_MSR_BASE && index <= X2APIC_LAST_MSR);
}

function msrRegister(index: u32): u32 {
  return (index - X2APIC_MSR_BASE) << 4;
}

/** RDMSR of one that isApicMsr. */
export function readApicMsr(apic: VirtualApic, index: u32, now: u64): MsrValue {
  catchUp(apic, now);
  if (index === IA32_APIC_BASE) return { ok: true, value: apic.base };
  if (index === IA32_TSC_DEADLINE) return apicModel.hasTscDeadline ? { ok: true, value: readDeadline(apic) } : NO_MSR;
  const offset = msrRegister(index);
  if (!isX2apicMode(apic) || !isReadable(offset, true)) return NO_MSR;
  const low = u64(readRegister(apic, offset, now));
  if (offset !== APIC_ICR_LOW) return { ok: true, value: low };
  return { ok: true, value: low | (u64(apicRegister(apic, APIC_ICR_HIGH)) << X2APIC_DESTINATION_SHIFT) };
}

/** The ICR in x2APIC mode: command and destination in one (12.12.9). */
function writeX2apicIcr(apic: VirtualApic, value: u64): ApicOutcome {
  const command = wrapU32(value);
  // Software may write back a delivery status that it read; the bit is no more there.
  if ((command & ~(ICR_BITS | ICR_BUSY)) !== 0) return FAULT;
  const destination = wrapU32(value >> X2APIC_DESTINATION_SHIFT);
  setApicRegister(apic, APIC_ICR_LOW, command & ICR_BITS);
  setApicRegister(apic, APIC_ICR_HIGH, destination);
  return sendCommand(apic, command & ICR_BITS, destination);
}

/**
 * Mode switches (12.12.5): disabled to xAPIC, xAPIC to x2APIC, and from both to
 * disabled, where all state is lost. The page's address cannot be changed, as the
 * instance's memory has it where every kernel leaves it.
 */
function writeBase(apic: VirtualApic, value: u64): ApicOutcome {
  const modes: u64 = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
  const from = apic.base & modes;
  const to = value & modes;
  if ((value & ~(modes | APIC_BASE_BSP)) !== u64(APIC_DEFAULT_BASE) || to === APIC_BASE_X2APIC) return FAULT;
  if (to === modes && (from === 0n || !apicModel.hasX2apic)) return FAULT;
  if (to === APIC_BASE_ENABLE && from === modes) return FAULT;
  apic.base = u64(APIC_DEFAULT_BASE) | to | (apic.base & APIC_BASE_BSP);
  if (from === to) return NOTHING;
  if (to === modes) {
    setIds(apic);
    setApicRegister(apic, APIC_ICR_HIGH, 0);
  } else initVirtualApic(apic);
  return NOTHING;
}

/** WRMSR of one that isApicMsr. */
export function writeApicMsr(apic: VirtualApic, index: u32, value: u64, now: u64): ApicOutcome {
  catchUp(apic, now);
  if (index === IA32_APIC_BASE) return writeBase(apic, value);
  if (index === IA32_TSC_DEADLINE) {
    if (!apicModel.hasTscDeadline) return FAULT;
    writeDeadline(apic, value, now);
    return NOTHING;
  }
  const offset = msrRegister(index);
  if (!isX2apicMode(apic) || !isWritable(offset, true)) return FAULT;
  if (offset === APIC_ICR_LOW) return writeX2apicIcr(apic, value);
  const allowed: u32 = writableBits(offset, true) | (hasLvt(offset) ? LVT_READ_ONLY : 0);
  if ((value & ~u64(allowed)) !== 0n) return FAULT;
  return writeRegister(apic, offset, wrapU32(value) & writableBits(offset, true), now);
}
