import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { instantiate } from "../../compiler/emit-js/load.ts";
import { reportAll } from "../../compiler/report.ts";
import { type Call, GCC_SANITIZED, harness, runCSync, runNode } from "../compiler/worlds.ts";
import { ApicHardware } from "./apic-hardware.ts";
import { ModelApic } from "./virtual-apic-model.ts";

const NONE = 0xffff_ffff;
const START = 5_000;

/** A virtual APIC and its time behind functions of plain integers, as both back ends' harnesses call them. */
const DRIVER = `
import { acknowledge, apicModel, deliverable, post, raise, resetVirtualApic, taskPriorityThreshold, virtualApic } from './virtual-apic.ts';
import { Outcome, acceptWrite, readApicMsr, readPage, writeApicMsr, writePage } from './virtual-apic-registers.ts';
import { advance, nextDeadline, setTimerRate } from './virtual-apic-timer.ts';
import { IA32_TSC_DEADLINE } from '../machine/msr.ts';

const NONE: u32 = 0xffffffff;
let now: u64 = 0n;

export function begin(start: u64, rate: u64): void {
  now = start;
  apicModel.version = 0x01060015;
  apicModel.hasTscDeadline = true;
  apicModel.hasX2apic = true;
  setTimerRate(rate);
  resetVirtualApic(virtualApic(0), 1, 0, true);
}
export function pass(ticks: u32): void {
  now += u64(ticks);
  advance(virtualApic(0), now);
}
export function arrive(vector: u32, level: boolean): boolean { return raise(virtualApic(0), vector, level); }
export function mail(vector: u32): u32 {
  post(virtualApic(0), vector);
  return deliverable(virtualApic(0));
}
export function take(): u32 {
  const vector = deliverable(virtualApic(0));
  if (vector !== NONE) acknowledge(virtualApic(0), vector);
  return vector;
}
/** The vector that IOAPICs hear of. */
export function write(offset: u32, value: u32): u32 {
  const outcome = writePage(virtualApic(0), offset, 4, value, now);
  if (outcome.kind === Outcome.END_OF_INTERRUPT) return outcome.vector;
  return NONE;
}
/** The same where the processor has written the page. */
export function accept(offset: u32): u32 {
  const outcome = acceptWrite(virtualApic(0), offset, now);
  return outcome.kind === Outcome.END_OF_INTERRUPT ? outcome.vector : NONE;
}
export function place(): u64 { return u64(addressOf(virtualApic(0))); }
export function arm(deadline: u64): void { ignore(writeApicMsr(virtualApic(0), IA32_TSC_DEADLINE, deadline, now)); }
export function read(offset: u32): u64 { return readPage(virtualApic(0), offset, 4, now); }
export function deadline(): u64 {
  const value = readApicMsr(virtualApic(0), IA32_TSC_DEADLINE, now);
  return value.ok ? value.value : 1n;
}
export function due(): u64 { return nextDeadline(virtualApic(0)); }
export function threshold(): u32 { return taskPriorityThreshold(virtualApic(0)); }
export function ready(): u32 { return deliverable(virtualApic(0)); }
/** Everything that can be seen, in one number (FNV-1a). */
export function look(): u64 {
  let sum: u64 = 0xcbf29ce484222325n;
  for (let offset: u32 = 0x80; offset <= 0x390; offset += 16) sum = (sum ^ readPage(virtualApic(0), offset, 4, now)) * 0x100000001b3n;
  return ((sum ^ deadline()) * 0x100000001b3n ^ due()) * 0x100000001b3n ^ u64(threshold());
}
`;

const [TPR, PPR, EOI, SVR, ISR, TMR, IRR, ESR, ICR, TIMER, ERROR, INITIAL, CURRENT, DIVIDE] =
  [0x80, 0xa0, 0xb0, 0xf0, 0x100, 0x180, 0x200, 0x280, 0x300, 0x320, 0x370, 0x380, 0x390, 0x3e0];
const SELF = 0x40000;

const path = fileURLToPath(new URL("../../vmm-src/devices/driver.ts", import.meta.url));
const { program, errors } = compile({ entries: [path], overlay: new Map([[path, DRIVER]]), project: fileURLToPath(new URL("../../vmm-src/tsconfig.json", import.meta.url)) }, "exports");
if (errors.length > 0) throw new Error(reportAll(errors));

interface Step { call: Call; model: (apic: ModelApic) => number | null | void }
/** Few vectors, so that they meet; illegal ones among them. */
const vector = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(0x10, 0x1f, 0x31, 0x3e, 0x80, 0x8f, 0xec, 0xff) }, { weight: 1, arbitrary: fc.nat(255) });
const masks = fc.constantFrom(0, 0, 0, 0x10000);
const modes = fc.constantFrom(0, 0x20000, 0x40000);
const counts = fc.oneof(fc.nat(40), fc.nat(3000));
const write = (offset: number, value: number, model: Step["model"]): Step => ({ call: ["write", offset, value], model });

/** Deadlines are relative to the time when they are written, which only the run knows. */
const steps = fc.array(fc.oneof(
  { weight: 6, arbitrary: counts.map((ticks): Step => ({ call: ["pass", ticks], model: (apic) => apic.pass(ticks) })) },
  { weight: 4, arbitrary: fc.tuple(vector, fc.boolean()).map(([v, level]): Step => ({ call: ["arrive", v, level], model: (apic) => apic.raise(v, level) })) },
  { weight: 1, arbitrary: vector.map((v): Step => ({ call: ["mail", v], model: (apic) => apic.raise(v, false) })) },
  { weight: 6, arbitrary: fc.constant<Step>({ call: ["take"], model: (apic) => apic.take() }) },
  { weight: 4, arbitrary: fc.constant(write(EOI, 0, (apic) => apic.eoi())) },
  { weight: 2, arbitrary: fc.oneof(fc.constant(0), fc.nat(255)).map((value) => write(TPR, value, (apic) => { apic.tpr = value; })) },
  { weight: 2, arbitrary: vector.map((v) => write(ICR, SELF | v, (apic) => apic.self(v))) },
  { weight: 1, arbitrary: fc.constantFrom(0x1ff, 0x11ff, 0x1ff, 0xff).map((value) => write(SVR, value, (apic) => apic.writeSvr(value))) },
  { weight: 3, arbitrary: fc.tuple(modes, masks, vector).map(([mode, mask, v]) => write(TIMER, mode | mask | v, (apic) => apic.writeTimerLvt(mode | mask | v))) },
  { weight: 1, arbitrary: fc.tuple(masks, vector).map(([mask, v]) => write(ERROR, mask | v, (apic) => apic.writeErrorLvt(mask | v))) },
  { weight: 3, arbitrary: counts.map((count) => write(INITIAL, count, (apic) => apic.writeInitial(count))) },
  { weight: 2, arbitrary: fc.nat(15).map((value) => write(DIVIDE, value, (apic) => apic.writeDivide(value))) },
  { weight: 3, arbitrary: fc.integer({ min: -50, max: 3000 }).map((ahead): Step => ({ call: ["arm", BigInt(ahead)], model: (apic) => apic.writeDeadline(ahead === 0 ? 0 : apic.now + ahead) })) },
  { weight: 1, arbitrary: fc.constant(write(ESR, 0, (apic) => apic.writeEsr())) },
), { minLength: 1, maxLength: 60 });
/** TSC ticks to 65,536 counts: equal speed, a slow bus, an odd one, a bus faster than the TSC. */
const rates = fc.constantFrom(65_536, 65_536 * 30, 159_907, 20_001);

/** The calls of a run, with deadlines in TSC ticks. */
function callsOf(run: Step[]): Call[] {
  let now = START;
  return run.map(({ call: [name, ...args] }): Call => {
    if (name === "pass") now += args[0] as number;
    return name === "arm" ? [name, args[0] === 0n ? 0n : BigInt(now) + (args[0] as bigint)] : [name, ...args];
  });
}

const bits = (set: Set<number>): number[] => Array.from({ length: 8 }, (_, word) => [...set].reduce((sum, one) => (one >> 5 === word ? sum | (1 << (one & 31)) : sum) >>> 0, 0));

describe("a virtual local APIC", () => {
  const { call, memory } = instantiate(program, { externals: {} });
  const read = (offset: number): number => Number(call.read!(offset));
  const bank = (offset: number): number[] => Array.from({ length: 8 }, (_, word) => read(offset + 16 * word));
  const seen = (): unknown => ({
    irr: bank(IRR), isr: bank(ISR), tmr: bank(TMR), ppr: read(PPR), tpr: read(TPR), svr: read(SVR), timer: read(TIMER), error: read(ERROR), esr: read(ESR),
    initial: read(INITIAL), current: read(CURRENT), deadline: Number(call.deadline!()), ready: call.ready!(), threshold: call.threshold!(),
  });
  const expected = (model: ModelApic): unknown => ({
    irr: bits(model.irr), isr: bits(model.isr), tmr: bits(model.tmr), ppr: model.ppr, tpr: model.tpr, svr: model.svr, timer: model.timerLvt, error: model.errorLvt, esr: model.latchedErrors,
    initial: model.initial, current: model.count, deadline: model.deadline, ready: model.deliverable ?? NONE, threshold: model.threshold,
  });

  test("does what a plain model of the SDM does, whatever its guest and its time do", () => {
    fc.assert(fc.property(rates, steps, (rate, run) => {
      const model = new ModelApic(START, rate);
      call.begin!(BigInt(START), BigInt(rate));
      call.write!(SVR, 0x1ff);
      model.writeSvr(0x1ff);
      callsOf(run).forEach(([name, ...args], i) => {
        const result = call[name]!(...args);
        const wanted = run[i]!.model(model);
        if (run[i]!.call[1] === EOI && name === "write") expect(result).toBe(wanted ?? NONE);
        expect(seen()).toEqual(expected(model));
      });
    }), { numRuns: 400 });
  });

  test("does the same where the processor serves its page", () => {
    const hardware = new ApicHardware(memory, call.place!() as bigint, true, () => call.threshold!() as number);
    const store = (offset: number, value: number): unknown => {
      const done = hardware.write(offset, value, 4);
      return done === "APIC access" ? call.write!(offset, value) : done === "APIC write" ? call.accept!(offset) : NONE;
    };
    fc.assert(fc.property(rates, steps, (rate, run) => {
      const model = new ModelApic(START, rate);
      call.begin!(BigInt(START), BigInt(rate));
      store(SVR, 0x1ff);
      model.writeSvr(0x1ff);
      callsOf(run).forEach(([name, ...args], i) => {
        const result = name === "write" ? store(args[0] as number, args[1] as number) : call[name]!(...args);
        const wanted = run[i]!.model(model);
        if (name === "write" && args[0] === EOI) expect(result).toBe(wanted ?? NONE);
        expect(seen()).toEqual(expected(model));
      });
    }), { numRuns: 400 });
  });

  test("says when its timer next makes a difference: not a tick before, and then it does", () => {
    fc.assert(fc.property(rates, steps, (rate, run) => {
      call.begin!(BigInt(START), BigInt(rate));
      call.write!(SVR, 0x1ff);
      let now = BigInt(START);
      for (const [name, ...args] of callsOf(run)) {
        call[name]!(...args);
        if (name === "pass") now += BigInt(args[0] as number);
      }
      const due = call.due!() as bigint;
      const timer = read(TIMER) & 0xff;
      fc.pre(due !== 0xffff_ffff_ffff_ffffn && timer >= 16);
      const before = bank(IRR);
      if (due > now + 1n) {
        call.pass!(Number(due - now - 1n));
        expect(bank(IRR)).toEqual(before);
        call.pass!(1);
      } else if (due > now) call.pass!(Number(due - now));
      expect((read(IRR + (timer >> 5) * 16) >>> (timer & 31)) & 1).toBe(1);
    }), { numRuns: 400 });
  });

  test("is the same compiled to C", () => {
    const runs = fc.sample(fc.tuple(rates, steps), { numRuns: 25, seed: 20_221_122 });
    const calls = runs.flatMap(([rate, run]): Call[] => [["begin", BigInt(START), BigInt(rate)], ["write", SVR, 0x1ff], ...callsOf(run).flatMap((one): Call[] => [one, ["look"]])]);
    const inNode = runNode(program, calls);
    expect(inNode.some((one) => one.startsWith("trap"))).toBe(false);
    expect(runCSync(`${emitC(program)}\n${harness(program, calls)}`, GCC_SANITIZED)).toEqual(inNode);
  });
});
