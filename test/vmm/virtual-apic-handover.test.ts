import { beforeEach, describe, expect, test } from "vitest";
import { APIC_BASE, Machine } from "./machine.ts";
import {
  BASE_MSR, DEADLINE_MSR, DFR, DISABLED, DIVIDE, EOI, ERROR, ICR_HIGH, INITIAL, LDR, LINT0, MASKED, PERIODIC, PERFORMANCE, SVR, TIMER, TPR, TSC_DEADLINE, VirtualApic, X2APIC,
  XAPIC,
} from "./virtual-apic.ts";

const machine = new Machine([3]);
const apic = new VirtualApic(machine, ["devices/virtual-apic-registers.ts", "devices/virtual-apic-handover.ts"]);
const processor = machine.processors[0]!;
const real = processor.apic;

/** What its last holder left in the real APIC. */
beforeEach(() => {
  apic.reset();
  processor.msrs.set(APIC_BASE, XAPIC | 0x100n);
  processor.msrs.set(DEADLINE_MSR, 0n);
  for (let register = TIMER; register <= ERROR; register += 16) real.write(register, 0x99);
  real.write(SVR, 0x1f3);
  real.write(LDR, 0x04000000);
  real.request(0x66);
  real.accept();
  real.request(0x77);
});

const handOver = (): void => {
  apic.call.openRealApic!(apic.address);
  apic.call.handOverApic!(apic.address, apic.now);
};

describe("a virtual APIC becomes the real one", () => {
  test("with its registers, and nothing of the last holder's", () => {
    apic.write(LDR, 0x01000000);
    apic.write(DFR, 0x0fffffff);
    apic.write(TPR, 0x30);
    apic.write(LINT0, 0x8700);
    apic.write(PERFORMANCE, 0x400);
    apic.write(ICR_HIGH, 0x05000000);
    apic.write(SVR, 0x1ef);
    handOver();
    expect([LDR, DFR, TPR, LINT0, PERFORMANCE, ERROR, ICR_HIGH, SVR].map((one) => real.read(one)))
      .toEqual([0x01000000, 0x0fffffff, 0x30, 0x8700, 0x400, MASKED, 0x05000000, 0x1ef]);
    expect(real.pending()).toEqual([]);
  });

  test("with every request that is pending, those of other processors too", () => {
    for (const vector of [0x31, 0xfd, 0x80]) apic.raise(vector);
    apic.call.post!(apic.address, 0x92);
    handOver();
    expect(real.pending()).toEqual([0x31, 0x80, 0x92, 0xfd]);
  });

  test("not while the guest is in a handler", () => {
    apic.raise(0x31);
    apic.take();
    expect(apic.call.canHandOver!(apic.address)).toBe(false);
    expect(handOver).toThrow();
    apic.write(EOI, 0);
    expect(apic.call.canHandOver!(apic.address)).toBe(true);
  });

  test("a timer that expired meanwhile is a request", () => {
    apic.write(TIMER, 0xec);
    apic.write(DIVIDE, 0xb);
    apic.write(INITIAL, 500);
    apic.now += 500n;
    handOver();
    expect([real.pending(), real.read(INITIAL), real.read(TIMER)]).toEqual([[0xec], 0, 0xec]);
  });

  test("a one-shot timer goes on from its count", () => {
    apic.write(TIMER, 0xec);
    apic.write(DIVIDE, 0x3);
    apic.write(INITIAL, 500);
    apic.now += 160n;
    handOver();
    expect([real.pending(), real.read(DIVIDE), real.read(INITIAL), real.read(TIMER)]).toEqual([[], 3, 490, 0xec]);
  });

  test("a periodic one keeps its period", () => {
    apic.write(TIMER, PERIODIC | 0xec);
    apic.write(DIVIDE, 0xb);
    apic.write(INITIAL, 500);
    apic.now += 1600n;
    handOver();
    expect([real.pending(), real.read(INITIAL), real.read(TIMER)]).toEqual([[0xec], 500, PERIODIC | 0xec]);
  });

  test("a deadline stays what it is", () => {
    apic.write(TIMER, TSC_DEADLINE | 0xec);
    apic.writeMsr(DEADLINE_MSR, apic.now + 12_345n);
    handOver();
    expect([processor.msrs.get(DEADLINE_MSR), real.read(TIMER), real.pending()]).toEqual([apic.now + 12_345n, TSC_DEADLINE | 0xec, []]);
  });

  test("a disarmed timer stays disarmed", () => {
    apic.write(TIMER, TSC_DEADLINE | 0xec);
    handOver();
    expect([processor.msrs.get(DEADLINE_MSR), real.read(INITIAL)]).toEqual([0n, 0]);
  });

  test("one that is disabled by software takes over what it holds", () => {
    apic.raise(0x41);
    apic.write(SVR, 0xff);
    handOver();
    expect([real.pending(), real.read(SVR)]).toEqual([[0x41], 0xff]);
  });

  test("in x2APIC mode, into one in xAPIC mode", () => {
    apic.setMode(X2APIC);
    apic.wrmsr(TPR, 0x20n);
    apic.raise(0x41);
    handOver();
    expect([processor.msrs.get(APIC_BASE), real.read(TPR), real.pending(), real.read(SVR)]).toEqual([X2APIC | 0x100n, 0x20, [0x41], 0x1ff]);
  });

  test("in xAPIC mode, into one in x2APIC mode, by the disabled state", () => {
    processor.msrs.set(APIC_BASE, X2APIC | 0x100n);
    apic.raise(0x41);
    handOver();
    expect([processor.msrs.get(APIC_BASE), real.pending(), real.read(SVR)]).toEqual([XAPIC | 0x100n, [0x41], 0x1ff]);
  });

  test("one that its guest has disabled altogether leaves the real one disabled by software", () => {
    apic.writeMsr(BASE_MSR, DISABLED);
    handOver();
    expect([real.read(SVR), real.read(TIMER), real.pending()]).toEqual([0xff, MASKED, []]);
  });
});
