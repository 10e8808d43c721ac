import { beforeEach, describe, expect, test } from "vitest";
import { APIC_HELPS } from "./apic-hardware.ts";
import {
  BASE_MSR, CURRENT, DEADLINE_MSR, DISABLED, DIVIDE, DONE, EOI, INITIAL, IRR, ISR, MASKED, NEVER, NO_INTERRUPT, PERIODIC, SVR, TIMER, TPR, TSC_DEADLINE,
  VirtualApic, X2APIC,
} from "./virtual-apic.ts";

describe.each(APIC_HELPS.filter((help) => help !== "CR8"))("a virtual APIC of which the processor does %s", (help) => {
  const apic = new VirtualApic(undefined, undefined, help);
  const VECTOR = 0xec;
  const BY_1 = 0xb;
  const START = 1_000_000n;
  const at = (ticks: bigint): void => { apic.now = START + ticks; };
  /** Time passes; what the guest then takes, and completes. */
  const fires = (ticks: bigint): boolean => {
    at(ticks);
    const vector = apic.take();
    if (vector !== NO_INTERRUPT) apic.write(EOI, 0);
    return vector === VECTOR;
  };
  const arm = (mode: number, count: number, divide = BY_1): void => {
    apic.write(TIMER, mode | VECTOR);
    apic.write(DIVIDE, divide);
    apic.write(INITIAL, count);
  };
  const armDeadline = (deadline: bigint): void => {
    apic.write(TIMER, TSC_DEADLINE | VECTOR);
    apic.writeMsr(DEADLINE_MSR, deadline);
  };

  beforeEach(() => apic.reset());

  describe("one-shot (SDM Vol. 3A, 12.5.4)", () => {
    test("counts down to one interrupt", () => {
      arm(0, 1000);
      expect([apic.nextDeadline(), apic.read(CURRENT)]).toEqual([START + 1000n, 1000]);
      expect([fires(1n), apic.read(CURRENT), fires(999n), apic.read(CURRENT), fires(1000n), apic.read(CURRENT)]).toEqual([false, 999, false, 1, true, 0]);
      expect([apic.nextDeadline(), fires(5000n), apic.read(INITIAL)]).toEqual([NEVER, false, 1000]);
    });

    test.each([[0x0, 2], [0x1, 4], [0x2, 8], [0x3, 16], [0x8, 32], [0x9, 64], [0xa, 128], [0xb, 1]])("divides by figure 12-10: %i by %i", (divide, by) => {
      arm(0, 10, divide);
      expect(apic.nextDeadline()).toBe(START + BigInt(10 * by));
      at(BigInt(3 * by));
      expect([apic.read(CURRENT), fires(BigInt(10 * by) - 1n), apic.read(CURRENT), fires(BigInt(10 * by))]).toEqual([7, false, 1, true]);
    });

    // TSC ticks to 65,536 counts: 24 MHz beneath 3 GHz, 100 MHz beneath 2.1 GHz, 1 GHz beneath 2.44 GHz, a TSC slower than the bus.
    test.each([[125n * 65536n], [21n * 65536n], [159_907n], [20_000n]])("is as fast as the real one: %i ticks to 65,536 counts", (rate) => {
      apic.reset({ rate });
      arm(0, 5000);
      const ticks = (5000n * rate + 65535n) / 65536n;
      expect([apic.read(CURRENT), apic.nextDeadline(), fires(ticks - 1n), apic.read(CURRENT) > 0, fires(ticks)]).toEqual([5000, START + ticks, false, true, true]);
    });

    test("takes the longest interval at the slowest rate", () => {
      apic.reset({ rate: 0x1ff_ffffn });
      arm(0, 0xffff_ffff, 0xa);
      const ticks = (0xffff_ffffn * 128n * 0x1ff_ffffn + 65535n) / 65536n;
      expect([apic.nextDeadline(), apic.read(CURRENT), fires(ticks - 1n), fires(ticks)]).toEqual([START + ticks, 0xffff_ffff, false, true]);
      expect(() => apic.call.setTimerRate!(0x200_0000n)).toThrow();
      expect(() => apic.call.setTimerRate!(0n)).toThrow();
    });

    test("is restarted by a new count, and stopped by 0", () => {
      arm(0, 1000);
      at(900n);
      apic.write(INITIAL, 500);
      expect([fires(1000n), fires(1399n), fires(1400n)]).toEqual([false, false, true]);
      apic.write(INITIAL, 100);
      apic.write(INITIAL, 0);
      expect([apic.read(CURRENT), apic.nextDeadline(), fires(9000n)]).toEqual([0, NEVER, false]);
    });

    test("goes on from its count when it is divided otherwise", () => {
      arm(0, 1000);
      at(400n);
      apic.write(DIVIDE, 0x1);
      expect([apic.read(CURRENT), apic.nextDeadline()]).toEqual([600, START + 400n + 2400n]);
      expect([fires(1000n), fires(2799n), fires(2800n)]).toEqual([false, false, true]);
      apic.write(DIVIDE, BY_1);
      expect(apic.nextDeadline()).toBe(NEVER);
    });

    test("raises the vector that its entry has when it expires", () => {
      arm(0, 1000);
      apic.write(TIMER, 0x77);
      at(1000n);
      expect([apic.take()]).toEqual([0x77]);
    });
  });

  describe("a masked timer", () => {
    test("counts, and expires without an interrupt", () => {
      arm(MASKED, 1000);
      expect([apic.nextDeadline(), apic.read(CURRENT)]).toEqual([NEVER, 1000]);
      at(300n);
      expect(apic.read(CURRENT)).toBe(700);
      at(1500n);
      apic.write(TIMER, VECTOR);
      expect([apic.take(), apic.nextDeadline()]).toEqual([NO_INTERRUPT, NEVER]);
    });

    test("that is unmasked in time interrupts in time", () => {
      arm(0, 1000);
      apic.write(TIMER, MASKED | VECTOR);
      at(999n);
      apic.write(TIMER, VECTOR);
      expect([apic.nextDeadline(), fires(1000n)]).toEqual([START + 1000n, true]);
    });

    test("by disabling the APIC too", () => {
      arm(0, 1000);
      apic.write(SVR, 0xff);
      expect([apic.nextDeadline(), fires(2000n)]).toEqual([NEVER, false]);
    });
  });

  describe("periodic (SDM Vol. 3A, 12.5.4)", () => {
    test("interrupts every period, and its count starts anew", () => {
      arm(PERIODIC, 1000);
      expect([fires(999n), fires(1000n), apic.read(CURRENT), fires(1500n), apic.read(CURRENT), fires(2000n), fires(3000n)]).toEqual([false, true, 1000, false, 500, true, true]);
    });

    test("ticks that were missed are one, and the next is in phase", () => {
      arm(PERIODIC, 1000);
      expect([fires(7300n), apic.nextDeadline(), apic.read(CURRENT), fires(7999n), fires(8000n), fires(8001n)]).toEqual([true, START + 8000n, 700, false, true, false]);
    });

    test("a tick while its last one is still requested is the same one; while that is in service, it is the next", () => {
      arm(PERIODIC, 1000);
      at(1000n);
      apic.advance();
      expect([apic.vectors(IRR), apic.nextDeadline()]).toEqual([[VECTOR], NEVER]);
      at(2100n);
      expect([apic.take(), apic.vectors(IRR), apic.nextDeadline()]).toEqual([VECTOR, [], START + 3000n]);
      at(3000n);
      expect([apic.take(), apic.vectors(ISR), apic.vectors(IRR)]).toEqual([NO_INTERRUPT, [VECTOR], [VECTOR]]);
      apic.write(EOI, 0);
      expect(apic.take()).toBe(VECTOR);
    });

    test("keeps its phase over a million periods of an odd length", () => {
      apic.reset({ rate: 159_907n });
      arm(PERIODIC, 12_345);
      const period = (12_345n * 159_907n + 65535n) / 65536n;
      for (let i = 1n; i <= 1_000_000n; i += 99_991n) {
        expect([fires(i * period - 1n), fires(i * period)]).toEqual([false, true]);
        expect(apic.nextDeadline()).toBe(START + (i + 1n) * period);
        fires((i + 99_990n) * period);
      }
    });

    test("takes a new period at once, and 0 stops it", () => {
      arm(PERIODIC, 1000);
      at(2500n);
      apic.take();
      apic.write(EOI, 0);
      apic.write(INITIAL, 300);
      expect([fires(2799n), fires(2800n), fires(3100n)]).toEqual([false, true, true]);
      apic.write(INITIAL, 0);
      expect([fires(9000n), apic.nextDeadline()]).toEqual([false, NEVER]);
    });

    test("divided otherwise, finishes its period at the new rate, and has new ones after it", () => {
      arm(PERIODIC, 1000);
      at(600n);
      apic.write(DIVIDE, 0x0);
      expect([fires(1399n), fires(1400n), fires(3399n), fires(3400n)]).toEqual([false, true, false, true]);
    });
  });

  describe("TSC-deadline (SDM Vol. 3A, 12.5.4.1)", () => {
    test("interrupts once when the TSC gets there, and disarms itself", () => {
      armDeadline(START + 1000n);
      expect([apic.readMsr(DEADLINE_MSR), apic.nextDeadline(), fires(999n), fires(1000n), apic.readMsr(DEADLINE_MSR), fires(9000n)]).toEqual([START + 1000n, START + 1000n, false, true, 0n, false]);
    });

    test.each([["in the past", START - 5n], ["now", START], ["at the beginning of time", 1n]])("a deadline %s expires at once", (_what, deadline) => {
      armDeadline(deadline);
      expect([apic.readMsr(DEADLINE_MSR), apic.vectors(IRR), fires(0n), fires(5000n)]).toEqual([0n, [VECTOR], true, false]);
    });

    test("0 disarms", () => {
      armDeadline(START + 1000n);
      at(999n);
      apic.writeMsr(DEADLINE_MSR, 0n);
      expect([apic.nextDeadline(), fires(2000n), apic.readMsr(DEADLINE_MSR)]).toEqual([NEVER, false, 0n]);
    });

    test("another value postpones, or brings forward", () => {
      armDeadline(START + 1000n);
      apic.writeMsr(DEADLINE_MSR, START + 3000n);
      expect([fires(1000n), fires(3000n)]).toEqual([false, true]);
      apic.writeMsr(DEADLINE_MSR, START + 9000n);
      apic.writeMsr(DEADLINE_MSR, START + 4000n);
      expect([fires(4000n), fires(9000n)]).toEqual([true, false]);
    });

    test("a write after the deadline does not take back the interrupt", () => {
      armDeadline(START + 1000n);
      at(1001n);
      apic.writeMsr(DEADLINE_MSR, START + 5000n);
      expect([apic.take(), apic.readMsr(DEADLINE_MSR)]).toEqual([VECTOR, START + 5000n]);
    });

    test("the farthest deadline is one", () => {
      armDeadline(0xffff_ffff_ffff_ffffn);
      expect([apic.readMsr(DEADLINE_MSR), fires(1n << 62n)]).toEqual([0xffff_ffff_ffff_ffffn, false]);
    });

    test("has no count: writes of the initial count are ignored, the current one is 0", () => {
      armDeadline(START + 1000n);
      apic.write(INITIAL, 10);
      expect([apic.read(INITIAL), apic.read(CURRENT), apic.readMsr(DEADLINE_MSR), fires(10n)]).toEqual([0, 0, START + 1000n, false]);
    });

    test("is ignored in the other modes, and reads as 0", () => {
      for (const mode of [0, PERIODIC]) {
        apic.write(TIMER, mode | VECTOR);
        expect([apic.writeMsr(DEADLINE_MSR, 5n), apic.readMsr(DEADLINE_MSR), apic.take()]).toEqual([{ kind: DONE }, 0n, NO_INTERRUPT]);
        arm(mode, 1000);
        expect([apic.writeMsr(DEADLINE_MSR, 5n), apic.readMsr(DEADLINE_MSR), apic.read(CURRENT)]).toEqual([{ kind: DONE }, 0n, 1000]);
      }
    });

    test("passes without an interrupt while masked, and is disarmed", () => {
      armDeadline(START + 1000n);
      apic.write(TIMER, TSC_DEADLINE | MASKED | VECTOR);
      expect(apic.nextDeadline()).toBe(NEVER);
      at(1500n);
      expect([apic.readMsr(DEADLINE_MSR)]).toEqual([0n]);
      apic.write(TIMER, TSC_DEADLINE | VECTOR);
      expect([apic.take(), apic.nextDeadline()]).toEqual([NO_INTERRUPT, NEVER]);
    });

    test("waits for the priority as any interrupt does, and its next deadline can be armed meanwhile", () => {
      armDeadline(START + 1000n);
      apic.write(TPR, 0xf0);
      at(1000n);
      expect([apic.take(), apic.vectors(IRR)]).toEqual([NO_INTERRUPT, [VECTOR]]);
      apic.writeMsr(DEADLINE_MSR, START + 2000n);
      expect(apic.nextDeadline()).toBe(NEVER);
      apic.write(TPR, 0);
      expect([apic.take(), apic.nextDeadline()]).toEqual([VECTOR, START + 2000n]);
    });

    test("goes on into x2APIC mode, and not through the disabled state", () => {
      armDeadline(START + 1000n);
      apic.writeMsr(BASE_MSR, X2APIC);
      expect(apic.nextDeadline()).toBe(START + 1000n);
      apic.writeMsr(BASE_MSR, DISABLED);
      expect(apic.nextDeadline()).toBe(NEVER);
    });
  });

  describe("a write that changes the mode disarms the timer", () => {
    const modes: [string, number][] = [["one-shot", 0], ["periodic", PERIODIC], ["TSC-deadline", TSC_DEADLINE]];
    test.each(modes.flatMap(([from, a]) => modes.map(([to, b]) => [from, to, a, b] as [string, string, number, number])))("%s to %s", (_from, _to, a, b) => {
      if (a === TSC_DEADLINE) armDeadline(START + 1000n);
      else arm(a, 1000);
      at(10n);
      apic.write(TIMER, b | MASKED | VECTOR);
      apic.write(TIMER, b | VECTOR);
      expect([apic.nextDeadline() === NEVER, fires(1000n)]).toEqual([a !== b, a === b]);
    });
  });
});
