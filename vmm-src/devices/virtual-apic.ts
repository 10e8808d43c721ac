/**
 * The local APIC of a virtual CPU that does not hold its processor's real one
 * (SDM Vol. 3A, chapter 12): what is requested, what is in service, and what may
 * interrupt now. Its registers are in virtual-apic-registers.ts, its timer in
 * virtual-apic-timer.ts, and how it becomes the real one in virtual-apic-handover.ts.
 * Only the processor that carries the virtual CPU touches it; others `post`, also
 * what goes to the virtual CPU past the APIC: NMI, INIT and SIPI.
 *
 * It depends on nothing but memory and the time that callers pass. What it cannot
 * do alone (to interrupt another processor, to tell the IOAPIC) it gives back.
 *
 *   post ─ collect ─┐
 *   raise, advance ─┴▶ IRR ─ deliverable? ─ acknowledge ─▶ ISR ─ EOI ─▶ gone
 */
import "../../compiler/core/dialect.mjs";
import {
  APIC_DEFAULT_BASE, APIC_DFR, APIC_ID, APIC_IRR, APIC_ISR, APIC_LDR, APIC_LVT_CMCI, APIC_LVT_ERROR, APIC_LVT_LINT0, APIC_LVT_PERFORMANCE, APIC_LVT_THERMAL,
  APIC_LVT_TIMER, APIC_SVR, APIC_TMR, APIC_TPR, APIC_VERSION, DFR_RESET, ESR_RECEIVE_ILLEGAL_VECTOR,
  FIRST_VALID_VECTOR, LVT_MASKED, LVT_VECTOR, SVR_ENABLE, SVR_RESET, VERSION_MAX_LVT_SHIFT,
} from '../machine/apic.ts';
import { APIC_BASE_BSP, APIC_BASE_ENABLE, APIC_BASE_X2APIC } from '../machine/msr.ts';

/** What `deliverable` and `inService` say when there is nothing. */
export const NO_INTERRUPT: u32 = 0xffffffff;
/** `deadline` of a timer that does not run, as IA32_TSC_DEADLINE has it. */
export const DISARMED: u64 = 0n;
/** What `nextDeadline` says when nothing is due, ever. */
export const NEVER: u64 = 0xffffffffffffffffn;
/** A priority class is the high half of a vector (12.8.3). */
const CLASS: u32 = 0xf0;
const CLASS_SHIFT: u32 = 4;
const XAPIC_ID_SHIFT: u32 = 24;
const BANK_WORDS: u32 = 8;
const SIPI_PRESENT: u32 = 0x100;

/**
 * The first KiB is in the layout of the register page, and the whole is a page, so
 * that it can be hardware's virtual-APIC page (SDM Vol. 3C, 30.1.1) as it is. Where it
 * is one, the processor writes registers before the VMM hears of it, and changes TPR on
 * its own: nothing is derived from them beforehand. What the timer goes by is kept
 * besides, since its past depends on it.
 */
export class VirtualApic extends Aligned<4096> {
  /** The register at offset r is element r / 4. */
  registers: FixedArray<u32, 256>;
  /** IA32_APIC_BASE. */
  base: u64;
  /** TSC at which the timer expires, or DISARMED. */
  deadline: u64;
  /** TSC at which the count was `countFrom`, while the timer counts down. */
  countStart: u64;
  countFrom: u32;
  /** APIC id, in both modes. */
  id: u32;
  /** Errors since the last write to ESR. */
  errors: u32;
  /** The instance, from 1, whose virtual CPU it belongs to; 0 while nobody's. */
  instance: u32;
  /** By vector, 1: raised by another processor, and not collected yet. */
  posted: FixedArray<u32, 256>;
  /** 1: some of `posted` are. */
  anyPosted: u32;
  /** 1: an NMI, an INIT; a SIPI's vector with SIPI_PRESENT. What came before the INIT is not there any more. */
  postedNmi: u32;
  postedInit: u32;
  postedSipi: u32;
  /** The timer's LVT entry, initial count and divide configuration as they were last accepted. */
  timerLvt: u32;
  timerInitial: u32;
  timerDivide: u32;
  reserved: FixedArray<u32, 495>;
}
assertLayout<VirtualApic>(4096, { registers: 0, base: 1024, posted: 1064 });

/** What the processors' real APICs are: a virtual one is the same, since it becomes one. */
export class ApicModel extends Struct {
  /** Version register (12.4.8). */
  version: u32;
  /** CPUID.01H:ECX bits 24 and 21. */
  hasTscDeadline: boolean;
  hasX2apic: boolean;
  reserved: u16;
}
export const apicModel: ApicModel = zeroed();

/** One for each processor: of the virtual CPUs that it carries at most one does without the real APIC. */
const virtualApics: FixedArray<VirtualApic, 32> = zeroed(4096);

/** The virtual APIC that goes with a processor. */
export function virtualApic(cpu: u32): VirtualApic {
  return virtualApics[cpu];
}

/** The register at an offset of the page, as it is stored. */
export function apicRegister(apic: VirtualApic, offset: u32): u32 {
  return apic.registers[(offset >> 2) & 255];
}

export function setApicRegister(apic: VirtualApic, offset: u32, value: u32): void {
  apic.registers[(offset >> 2) & 255] = value;
}

export function isX2apicMode(apic: VirtualApic): boolean {
  return (apic.base & APIC_BASE_X2APIC) !== 0n;
}

/** Whether IA32_APIC_BASE lets there be an APIC at all (12.4.3). */
export function isApicEnabled(apic: VirtualApic): boolean {
  return (apic.base & APIC_BASE_ENABLE) !== 0n;
}

function isSoftwareEnabled(apic: VirtualApic): boolean {
  return (apicRegister(apic, APIC_SVR) & SVR_ENABLE) !== 0;
}

/** Whether this kind of APIC has the LVT entry at an offset (12.4.8). */
export function hasLvt(offset: u32): boolean {
  const last: u32 = (apicModel.version >> VERSION_MAX_LVT_SHIFT) & 0xff;
  if (offset === APIC_LVT_CMCI) return last >= 6;
  if (offset === APIC_LVT_THERMAL) return last >= 5;
  if (offset === APIC_LVT_PERFORMANCE) return last >= 4;
  return offset === APIC_LVT_TIMER || (offset >= APIC_LVT_LINT0 && offset <= APIC_LVT_ERROR);
}

/** Sets the mask of every LVT entry, as disabling by software does (12.4.7.2). */
export function maskLvts(apic: VirtualApic): void {
  apic.timerLvt |= LVT_MASKED;
  for (let lvt: u32 = APIC_LVT_TIMER; lvt <= APIC_LVT_ERROR; lvt += 16) setApicRegister(apic, lvt, apicRegister(apic, lvt) | LVT_MASKED);
  setApicRegister(apic, APIC_LVT_CMCI, apicRegister(apic, APIC_LVT_CMCI) | LVT_MASKED);
}

/** Logical id in x2APIC mode: cluster in the high half, one of 16 bits in the low one (12.12.10.2). */
function clusterId(id: u32): u32 {
  return ((id >> 4) << 16) | (1 << (id & 15));
}

/** The id register in xAPIC mode. */
export function xapicId(apic: VirtualApic): u32 {
  return apic.id << XAPIC_ID_SHIFT;
}

/** Id and logical id as they are in the APIC's mode; in x2APIC mode neither can be written. */
export function setIds(apic: VirtualApic): void {
  const x2apic = isX2apicMode(apic);
  setApicRegister(apic, APIC_ID, x2apic ? apic.id : xapicId(apic));
  setApicRegister(apic, APIC_LDR, x2apic ? clusterId(apic.id) : 0);
}

/** The state after an INIT (12.4.7.3): all of it but id and mode. */
export function initVirtualApic(apic: VirtualApic): void {
  for (let i: u32 = 0; i < 256; i++) apic.registers[i] = 0;
  setIds(apic);
  setApicRegister(apic, APIC_VERSION, apicModel.version);
  setApicRegister(apic, APIC_DFR, DFR_RESET);
  setApicRegister(apic, APIC_SVR, SVR_RESET);
  apic.timerLvt = 0;
  apic.timerInitial = 0;
  apic.timerDivide = 0;
  maskLvts(apic);
  apic.deadline = DISARMED;
  apic.errors = 0;
  collectPosted(apic);
}

function dropSignals(apic: VirtualApic): void {
  atomicStore(apic.postedNmi, 0);
  atomicStore(apic.postedInit, 0);
  atomicStore(apic.postedSipi, 0);
}

/** The state after RESET (12.4.7.1), in xAPIC mode, for the virtual CPU of an instance. */
export function resetVirtualApic(apic: VirtualApic, instance: u32, id: u32, isBootstrap: boolean): void {
  apic.instance = instance;
  apic.id = id;
  apic.base = APIC_DEFAULT_BASE | APIC_BASE_ENABLE | (isBootstrap ? APIC_BASE_BSP : 0n);
  dropSignals(apic);
  initVirtualApic(apic);
}

/** It begins in x2APIC mode, as all processors of its instance do. */
export function beginInX2apicMode(apic: VirtualApic): void {
  apic.base |= APIC_BASE_X2APIC;
  setIds(apic);
}

function bankWord(bank: u32, vector: u32): u32 {
  return bank + ((vector >> 5) & 7) * 16;
}

function hasBit(apic: VirtualApic, bank: u32, vector: u32): boolean {
  return ((apicRegister(apic, bankWord(bank, vector)) >> (vector & 31)) & 1) !== 0;
}

function setBit(apic: VirtualApic, bank: u32, vector: u32, on: boolean): void {
  const word = bankWord(bank, vector);
  const bit: u32 = 1 << (vector & 31);
  const before = apicRegister(apic, word);
  setApicRegister(apic, word, on ? before | bit : before & ~bit);
}

function highestBit(word: u32): u32 {
  let bit: u32 = 31;
  while ((word >> bit) === 0) bit--;
  return bit;
}

function highest(apic: VirtualApic, bank: u32): u32 {
  for (let i: u32 = BANK_WORDS; i > 0; i--) {
    const word = apicRegister(apic, bank + (i - 1) * 16);
    if (word !== 0) return (i - 1) * 32 + highestBit(word);
  }
  return NO_INTERRUPT;
}

/** The highest vector in service, or NO_INTERRUPT. */
export function inService(apic: VirtualApic): u32 {
  return highest(apic, APIC_ISR);
}

/** Whether a vector is requested and not yet in service. */
export function isRequested(apic: VirtualApic, vector: u32): boolean {
  return hasBit(apic, APIC_IRR, vector);
}

function requested(apic: VirtualApic): u32 {
  return highest(apic, APIC_IRR);
}

/** What is in service and the task priority make the processor priority (12.8.3.1). */
export function processorPriority(apic: VirtualApic): u32 {
  const task = apicRegister(apic, APIC_TPR);
  const service = inService(apic);
  const serviceClass: u32 = service === NO_INTERRUPT ? 0 : service & CLASS;
  return (task & CLASS) >= serviceClass ? task : serviceClass;
}

/** The task priority, whose high half is CR8 (12.8.6). */
export function setTaskPriority(apic: VirtualApic, priority: u32): void {
  setApicRegister(apic, APIC_TPR, priority & 0xff);
}

function request(apic: VirtualApic, vector: u32, level: boolean): void {
  setBit(apic, APIC_IRR, vector, true);
  setBit(apic, APIC_TMR, vector, level);
}

/**
 * Notes errors (12.5.3), and raises the error interrupt for those that are new
 * since software last looked.
 */
export function noteError(apic: VirtualApic, error: u32): void {
  if ((apic.errors & error) === error) return;
  apic.errors |= error;
  const lvt = apicRegister(apic, APIC_LVT_ERROR);
  if ((lvt & LVT_MASKED) !== 0) return;
  if ((lvt & LVT_VECTOR) >= FIRST_VALID_VECTOR) request(apic, lvt & LVT_VECTOR, false);
  else apic.errors |= ESR_RECEIVE_ILLEGAL_VECTOR;
}

/**
 * A fixed interrupt arrives (12.8.4), level-triggered or edge-triggered. A vector
 * that is requested already stays requested once. False if the APIC takes none.
 */
export function raise(apic: VirtualApic, vector: u32, level: boolean): boolean {
  if (!isApicEnabled(apic) || !isSoftwareEnabled(apic)) return false;
  if (vector < FIRST_VALID_VECTOR) {
    noteError(apic, ESR_RECEIVE_ILLEGAL_VECTOR);
    return false;
  }
  request(apic, vector & 0xff, level);
  return true;
}

/** Raises an edge-triggered interrupt from any processor; the caller makes the one that carries the virtual CPU look. */
export function post(apic: VirtualApic, vector: u32): void {
  atomicStore(apic.posted[vector & 255], 1);
  atomicStore(apic.anyPosted, 1);
}

export function postNmi(apic: VirtualApic): void {
  atomicStore(apic.postedNmi, 1);
}

export function postInit(apic: VirtualApic): void {
  atomicStore(apic.postedSipi, 0);
  atomicStore(apic.postedInit, 1);
}

export function postSipi(apic: VirtualApic, vector: u32): void {
  atomicStore(apic.postedSipi, SIPI_PRESENT | (vector & 0xff));
}

/** Takes an NMI that was posted. */
export function takeNmi(apic: VirtualApic): boolean {
  return atomicExchange(apic.postedNmi, 0) !== 0;
}

/** Takes an INIT that was posted. */
export function takeInit(apic: VirtualApic): boolean {
  return atomicExchange(apic.postedInit, 0) !== 0;
}

/** Takes a SIPI that was posted: its vector, or NO_INTERRUPT. */
export function takeSipi(apic: VirtualApic): u32 {
  const sipi = atomicExchange(apic.postedSipi, 0);
  return sipi === 0 ? NO_INTERRUPT : sipi & 0xff;
}

/** Takes in what other processors have posted. */
export function collectPosted(apic: VirtualApic): void {
  if (atomicLoad(apic.anyPosted) === 0) return;
  // First the flag: what is posted during the look is looked for again.
  atomicStore(apic.anyPosted, 0);
  for (let vector: u32 = 0; vector < 256; vector++) {
    if (atomicLoad(apic.posted[vector]) !== 0 && atomicExchange(apic.posted[vector], 0) !== 0) raise(apic, vector, false);
  }
}

/** The vector that may interrupt the processor now, or NO_INTERRUPT (12.8.3.1). */
export function deliverable(apic: VirtualApic): u32 {
  collectPosted(apic);
  const vector = requested(apic);
  if (vector === NO_INTERRUPT || (vector & CLASS) <= (processorPriority(apic) & CLASS)) return NO_INTERRUPT;
  return vector;
}

/** The processor takes a vector that was deliverable: from requested to in service. */
export function acknowledge(apic: VirtualApic, vector: u32): void {
  setBit(apic, APIC_IRR, vector, false);
  setBit(apic, APIC_ISR, vector, true);
}

/**
 * The guest is done with the highest vector in service (12.8.5): the vector if it
 * was level-triggered, so that IOAPICs are to hear of it, else NO_INTERRUPT.
 */
export function endOfInterrupt(apic: VirtualApic): u32 {
  const vector = inService(apic);
  if (vector === NO_INTERRUPT) return NO_INTERRUPT;
  setBit(apic, APIC_ISR, vector, false);
  return hasBit(apic, APIC_TMR, vector) ? vector : NO_INTERRUPT;
}

/**
 * The class below which the task priority has to fall for something to become
 * deliverable: VT-x's TPR threshold (SDM Vol. 3C, 30.1.2). 0 if no task priority
 * makes a difference: nothing is requested, or what is in service blocks it.
 */
export function taskPriorityThreshold(apic: VirtualApic): u32 {
  const vector = requested(apic);
  if (vector === NO_INTERRUPT || deliverable(apic) !== NO_INTERRUPT) return 0;
  const service = inService(apic);
  if (service !== NO_INTERRUPT && (vector & CLASS) <= (service & CLASS)) return 0;
  return vector >> CLASS_SHIFT;
}
