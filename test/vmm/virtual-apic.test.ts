import { beforeEach, describe, expect, test } from "vitest";
import { APIC_HELPS } from "./apic-hardware.ts";
import {
  APIC_ID, APR, BASE_MSR, CMCI, COMMAND, CURRENT, DEADLINE_MSR, DFR, DISABLED, DIVIDE, DONE, END_OF_INTERRUPT, EOI, ERROR, ESR, FAULT, FULL_VERSION, ICR,
  ICR_HIGH, ID, INITIAL, IRR, ISR, LDR, LINT0, LINT1, LVTS, MASKED, NO_INTERRUPT, PERFORMANCE, PPR, RRD, SELF_IPI, SVR, THERMAL, TIMER, TMR, TPR, VERSION,
  VirtualApic, X2APIC, X2APIC_MSRS, XAPIC,
} from "./virtual-apic.ts";

describe.each(APIC_HELPS.filter((help) => help !== "CR8"))("a virtual APIC of which the processor does %s", (help) => {
  const apic = new VirtualApic(undefined, undefined, help);
  const SUPPRESS = 0x1000;
  const [SEND_ILLEGAL, RECEIVE_ILLEGAL, ILLEGAL_REGISTER] = [0x20, 0x40, 0x80];
  const BSP = 0x100n;

  beforeEach(() => apic.reset());

  describe("after RESET (SDM Vol. 3A, 12.4.7.1)", () => {
    test("everything is masked, nothing requested, and the APIC disabled by software", () => {
      apic.reset({ enabled: false });
      expect([ID, VERSION, TPR, PPR, LDR, DFR, SVR, ESR, ICR, ICR_HIGH, INITIAL, CURRENT, DIVIDE].map((one) => apic.read(one)))
        .toEqual([APIC_ID << 24, FULL_VERSION, 0, 0, 0, 0xffffffff, 0xff, 0, 0, 0, 0, 0, 0]);
      expect(LVTS.map((lvt) => apic.read(lvt))).toEqual(LVTS.map(() => MASKED));
      expect([ISR, TMR, IRR].map((bank) => apic.vectors(bank))).toEqual([[], [], []]);
      expect([apic.readMsr(BASE_MSR), apic.raise(0x30), apic.deliverable()]).toEqual([XAPIC | BSP, false, NO_INTERRUPT]);
    });

    test("INIT does the same, and leaves id and mode (12.4.7.3)", () => {
      apic.setMode(X2APIC);
      apic.wrmsr(TPR, 0x40n);
      apic.raise(0x55);
      apic.call.initVirtualApic!(apic.address);
      expect([apic.readMsr(BASE_MSR), apic.rdmsr(ID), apic.rdmsr(LDR), apic.rdmsr(TPR), apic.rdmsr(SVR), apic.vectors(IRR)]).toEqual([X2APIC | BSP, 3n, 8n, 0n, 0xffn, []]);
    });
  });

  describe("priorities (SDM Vol. 3A, 12.8.3)", () => {
    // TPR and ISR make PPR: the higher class of the two, with the low half of TPR where that is TPR's.
    test.each([
      [0x00, [], 0x00], [0x35, [], 0x35], [0x00, [0x41], 0x40], [0x35, [0x41], 0x40], [0x41, [0x35], 0x41], [0x48, [0x41], 0x48], [0x40, [0x4f], 0x40],
      [0xff, [0xef], 0xff], [0x10, [0x21, 0x93], 0x90], [0x9f, [0x21, 0x93], 0x9f], [0x0f, [0x1f], 0x10],
    ])("TPR %i with %j in service", (tpr, service, ppr) => {
      for (const vector of service) {
        apic.raise(vector);
        expect(apic.take()).toBe(vector);
      }
      apic.write(TPR, tpr);
      expect(apic.read(PPR)).toBe(ppr);
    });

    // [TPR, in service, requested, deliverable, TPR threshold]
    test.each([
      ["nothing is requested", 0, [], [], NO_INTERRUPT, 0],
      ["nothing is in its way", 0, [], [0x31], 0x31, 0],
      ["the highest of several", 0, [], [0x31, 0xef, 0x80], 0xef, 0],
      ["TPR of a lower class, however high its low half", 0x2f, [], [0x30], 0x30, 0],
      ["TPR of its class", 0x30, [], [0x3f], NO_INTERRUPT, 3],
      ["TPR of a higher class", 0x80, [], [0x3f, 0x41], NO_INTERRUPT, 4],
      ["the highest TPR", 0xf0, [], [0xff], NO_INTERRUPT, 15],
      ["one of its class in service", 0, [0x81], [0x8f], NO_INTERRUPT, 0],
      ["one of a lower class in service", 0, [0x81], [0x90], 0x90, 0],
      ["TPR, above what is in service", 0x90, [0x41], [0x8f], NO_INTERRUPT, 8],
      ["what is in service, and no TPR makes a difference", 0x90, [0x81], [0x8f], NO_INTERRUPT, 0],
      ["class 1, the lowest that there is", 0, [], [0x10], 0x10, 0],
    ])("deliverable: %s", (_what, tpr, service, requests, vector, threshold) => {
      for (const one of service) {
        apic.raise(one);
        apic.take();
      }
      apic.write(TPR, tpr);
      for (const one of requests) expect(apic.raise(one)).toBe(true);
      expect([apic.deliverable(), apic.threshold()]).toEqual([vector, threshold]);
    });

    test("nested handlers return in the order of their classes", () => {
      const taken: number[] = [];
      for (const vector of [0x31, 0x52, 0xd3]) {
        apic.raise(vector);
        taken.push(apic.take());
      }
      for (const vector of [0x33, 0x5f, 0xd4]) apic.raise(vector);
      expect([taken, apic.deliverable(), apic.vectors(ISR)]).toEqual([[0x31, 0x52, 0xd3], NO_INTERRUPT, [0x31, 0x52, 0xd3]]);
      const rest: number[] = [];
      for (let i = 0; i < 6; i++) {
        apic.write(EOI, 0);
        rest.push(apic.take());
      }
      expect([rest, apic.vectors(ISR), apic.vectors(IRR)]).toEqual([[0xd4, NO_INTERRUPT, 0x5f, NO_INTERRUPT, 0x33, NO_INTERRUPT], [], []]);
    });

    test("a vector is requested once and in service once, so that two are the most that wait (12.8.4)", () => {
      for (let i = 0; i < 3; i++) apic.raise(0x40);
      expect(apic.take()).toBe(0x40);
      for (let i = 0; i < 3; i++) apic.raise(0x40);
      expect([apic.vectors(ISR), apic.vectors(IRR), apic.take()]).toEqual([[0x40], [0x40], NO_INTERRUPT]);
      apic.write(EOI, 0);
      expect(apic.take()).toBe(0x40);
      apic.write(EOI, 0);
      expect(apic.take()).toBe(NO_INTERRUPT);
    });

    test("CR8 is the high half of TPR (12.8.6)", () => {
      apic.raise(0x55);
      apic.call.setTaskPriority!(apic.address, 5 << 4);
      expect([apic.read(TPR), apic.deliverable(), apic.threshold()]).toEqual([0x50, NO_INTERRUPT, 5]);
    });
  });

  describe("end of interrupt (SDM Vol. 3A, 12.8.5)", () => {
    test("is told to IOAPICs for level-triggered interrupts", () => {
      apic.raise(0x61, true);
      apic.raise(0x51, false);
      expect([apic.vectors(TMR), apic.take(), apic.write(EOI, 0), apic.take(), apic.write(EOI, 0)])
        .toEqual([[0x61], 0x61, { kind: END_OF_INTERRUPT, vector: 0x61 }, 0x51, { kind: DONE }]);
    });

    test("goes by how the vector was last raised", () => {
      apic.raise(0x61, true);
      apic.take();
      apic.write(EOI, 0);
      apic.raise(0x61, false);
      expect([apic.vectors(TMR), apic.take(), apic.write(EOI, 0)]).toEqual([[], 0x61, { kind: DONE }]);
    });

    test("is not told where software suppresses that (12.8.5, 12.9), if the APIC can", () => {
      apic.write(SVR, 0x1ff | SUPPRESS);
      apic.raise(0x61, true);
      apic.take();
      expect([apic.read(SVR), apic.write(EOI, 0), apic.vectors(ISR)]).toEqual([0x1ff | SUPPRESS, { kind: DONE }, []]);
      apic.reset({ version: 0x00060015 });
      apic.write(SVR, 0x1ff | SUPPRESS);
      expect(apic.read(SVR)).toBe(0x1ff);
    });

    test("with nothing in service is nothing", () => expect([apic.write(EOI, 0), apic.read(PPR)]).toEqual([{ kind: DONE }, 0]));
  });

  describe("disabled by software (SDM Vol. 3A, 12.4.7.2)", () => {
    test("masks every LVT entry, and keeps it so", () => {
      for (const lvt of LVTS) apic.write(lvt, 0x40);
      apic.write(SVR, 0xff);
      expect(LVTS.map((lvt) => apic.read(lvt) & MASKED)).toEqual(LVTS.map(() => MASKED));
      apic.write(TIMER, 0x41);
      expect(apic.read(TIMER)).toBe(MASKED | 0x41);
      apic.write(SVR, 0x1ff);
      expect(apic.read(TIMER)).toBe(MASKED | 0x41);
      apic.write(TIMER, 0x41);
      expect(apic.read(TIMER)).toBe(0x41);
    });

    test("takes no new interrupts, and holds those that it has", () => {
      apic.raise(0x31);
      apic.raise(0x41);
      apic.take();
      apic.write(SVR, 0xff);
      expect([apic.raise(0x51), apic.vectors(IRR), apic.vectors(ISR)]).toEqual([false, [0x31], [0x41]]);
    });

    test("still sends", () => {
      apic.write(SVR, 0xff);
      expect(apic.write(ICR, 0x4500).kind).toBe(COMMAND);
    });
  });

  describe("interrupt commands (SDM Vol. 3A, 12.6)", () => {
    test.each([
      ["fixed", 0x40fd, 5], ["lowest priority", 0x4931, 0xff], ["NMI", 0x4400, 1], ["INIT", 0xc500, 1], ["SIPI, whose vector is a page", 0x4608, 1], ["to all but self", 0xc40f3, 0], ["to all", 0x840f3, 0],
    ])("%s goes out with the destination of the high word", (_what, command, destination) => {
      expect(apic.write(ICR_HIGH, destination << 24)).toEqual({ kind: DONE });
      expect(apic.write(ICR, command)).toEqual({ kind: COMMAND, command, destination });
      expect([apic.read(ICR), apic.read(ICR_HIGH), apic.errors()]).toEqual([command, (destination << 24) >>> 0, 0]);
    });

    test("to itself is a request", () => expect([apic.write(ICR, 0x440f2), apic.take()]).toEqual([{ kind: DONE }, 0xf2]));

    test("reserved bits and delivery status are not there", () => {
      apic.write(ICR, 0xfff33000 | 0x440f2);
      expect(apic.read(ICR)).toBe(0x440f2);
    });

    test("in x2APIC mode has 32 bits of destination in one MSR (12.12.9)", () => {
      apic.setMode(X2APIC);
      expect(apic.wrmsr(ICR, 0x0001_0004_0000_40fdn)).toEqual({ kind: COMMAND, command: 0x40fd, destination: 0x10004 });
      expect(apic.rdmsr(ICR)).toBe(0x0001_0004_0000_40fdn);
      for (const reserved of [0x2000n, 0x10000n, 0x20000n, 0x100000n, 0x80000000n]) expect(apic.wrmsr(ICR, 0x40fdn | reserved)).toEqual({ kind: FAULT });
      expect(apic.wrmsr(ICR, 0x50fdn).kind).toBe(COMMAND);
    });

    test("SELF IPI is there in x2APIC mode (12.12.11)", () => {
      expect([apic.write(SELF_IPI, 0x55), apic.errors()]).toEqual([{ kind: DONE }, ILLEGAL_REGISTER]);
      apic.setMode(X2APIC);
      expect([apic.wrmsr(SELF_IPI, 0x55n), apic.take(), apic.wrmsr(SELF_IPI, 0x155n), apic.rdmsr(SELF_IPI)]).toEqual([{ kind: DONE }, 0x55, { kind: FAULT }, null]);
    });

    test("from another processor are collected by the one that carries it", () => {
      for (const vector of [0x31, 0xf0, 0x31]) apic.call.post!(apic.address, vector);
      expect([apic.vectors(IRR), apic.deliverable(), apic.vectors(IRR)]).toEqual([[], 0xf0, [0x31, 0xf0]]);
      expect([apic.take(), apic.deliverable()]).toEqual([0xf0, NO_INTERRUPT]);
      apic.call.post!(apic.address, 0xf5);
      expect([apic.read(IRR + 0x70), apic.deliverable()]).toEqual([1 << 0x15, NO_INTERRUPT]);
    });
  });

  describe("errors (SDM Vol. 3A, 12.5.3)", () => {
    test.each([
      ["a command with an illegal vector", () => apic.write(ICR, 0x400f), SEND_ILLEGAL],
      ["lowest priority with one", () => apic.write(ICR, 0x4103), SEND_ILLEGAL],
      ["one to itself", () => apic.write(ICR, 0x44003), SEND_ILLEGAL | RECEIVE_ILLEGAL],
      ["one that arrives", () => apic.raise(15), RECEIVE_ILLEGAL],
      ["a read of a register that does not exist", () => apic.read(0x50), ILLEGAL_REGISTER],
      ["a write of one", () => apic.write(0x3c0, 1), ILLEGAL_REGISTER],
      ["a read beyond the registers", () => apic.read(0x500), ILLEGAL_REGISTER],
      ["NMI with any vector is none", () => apic.write(ICR, 0x4402), 0],
      ["a write of what is read-only is none", () => apic.write(VERSION, 1), 0],
    ])("%s", (_what, act, errors) => {
      act();
      expect([apic.read(ESR), apic.errors(), apic.errors()]).toEqual([0, errors, 0]);
    });

    test("interrupt once until software looks", () => {
      apic.write(ERROR, 0xfe);
      apic.raise(3);
      expect(apic.take()).toBe(0xfe);
      apic.raise(4);
      apic.write(EOI, 0);
      expect(apic.take()).toBe(NO_INTERRUPT);
      apic.read(0x50);
      expect(apic.take()).toBe(0xfe);
      apic.write(EOI, 0);
      expect(apic.errors()).toBe(RECEIVE_ILLEGAL | ILLEGAL_REGISTER);
      apic.raise(5);
      expect(apic.take()).toBe(0xfe);
    });

    test("of the error interrupt's own vector are noted, and no more", () => {
      apic.write(ERROR, 3);
      apic.read(0x50);
      expect([apic.errors(), apic.vectors(IRR)]).toEqual([ILLEGAL_REGISTER | RECEIVE_ILLEGAL, []]);
    });
  });

  describe("the register page (SDM Vol. 3A, 12.4.1)", () => {
    // [offset, what is written, what is read back]
    test.each([
      ["ID", ID, 0xffffffff, APIC_ID << 24], ["version", VERSION, 0xffffffff, FULL_VERSION], ["TPR", TPR, 0xffffffff, 0xff], ["APR", APR, 0xffffffff, 0], ["RRD", RRD, 0xffffffff, 0],
      ["EOI", EOI, 0xffffffff, 0], ["LDR", LDR, 0xffffffff, 0xff000000], ["DFR, flat", DFR, 0xf0000000, 0xffffffff], ["DFR, cluster", DFR, 0, 0x0fffffff], ["SVR", SVR, 0xffffffff, 0x13ff],
      ["ICR high", ICR_HIGH, 0xffffffff, 0xff000000], ["timer", TIMER, 0xffffffff, 0x700ff], ["CMCI", CMCI, 0xffffffff, 0x107ff], ["thermal", THERMAL, 0xffffffff, 0x107ff],
      ["performance", PERFORMANCE, 0xffffffff, 0x107ff], ["LINT0", LINT0, 0xffffffff, 0x1a7ff], ["LINT1", LINT1, 0xffffffff, 0x1a7ff], ["error", ERROR, 0xffffffff, 0x100ff],
      ["divide", DIVIDE, 0xffffffff, 0xb], ["initial count", INITIAL, 0xffffffff, 0xffffffff], ["ISR", ISR, 0xffffffff, 0], ["IRR", IRR + 0x70, 0xffffffff, 0],
    ])("%s keeps the bits that exist", (_what, offset, value, back) => {
      expect([apic.write(offset, value), apic.read(offset), apic.errors()]).toEqual([{ kind: DONE }, back >>> 0, 0]);
    });

    // A processor that reads its page does not look at the version; those that do have all of them.
    test("has the LVT entries that the version says (12.4.8)", () => {
      for (const [last, missing] of [[3, [CMCI, THERMAL, PERFORMANCE]], [4, [CMCI, THERMAL]], [5, [CMCI]], [6, []]] as [number, number[]][]) {
        apic.reset({ version: 0x15 | (last << 16) });
        expect(LVTS.filter((lvt) => {
          apic.read(lvt);
          return apic.errors() !== 0;
        })).toEqual(help === "nothing" ? missing : missing.filter((lvt) => lvt === CMCI));
      }
    });

    test("is accessed by four aligned bytes; parts are read, and nothing else is written", () => {
      apic.write(LDR, 0xa5000000);
      apic.write(LDR, 0x11000000, 1);
      apic.write(LDR + 4, 0x22000000);
      apic.write(LDR + 2, 0x33000000);
      expect([apic.read(LDR), apic.read(LDR + 3, 1), apic.read(LDR + 2, 2), apic.read(LDR, 8), apic.read(LDR + 4), apic.read(LDR + 8)]).toEqual([0xa5000000, 0xa5, 0xa500, 0xa5000000, 0, 0]);
    });

    test("has no TSC-deadline mode where the processor has none", () => {
      apic.reset({ deadline: false });
      apic.write(TIMER, 0x600ec);
      expect([apic.read(TIMER), apic.readMsr(DEADLINE_MSR), apic.writeMsr(DEADLINE_MSR, 5n).kind]).toEqual([0x200ec, null, FAULT]);
    });
  });

  describe("x2APIC mode (SDM Vol. 3A, 12.12)", () => {
    beforeEach(() => apic.setMode(X2APIC));
    const all = Array.from({ length: 0x40 }, (_, i) => i << 4);
    const banks = all.filter((offset) => offset >= ISR && offset < IRR + 0x80);

    test("has the MSRs of table 12-6, to be read or written", () => {
      const readable = [ID, VERSION, TPR, PPR, LDR, SVR, ...banks, ESR, CMCI, ICR, TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR, INITIAL, CURRENT, DIVIDE];
      const writable = [TPR, EOI, SVR, ESR, CMCI, ICR, TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR, INITIAL, DIVIDE, SELF_IPI];
      expect(all.filter((offset) => apic.rdmsr(offset) !== null)).toEqual(readable);
      expect(all.filter((offset) => apic.wrmsr(offset, 0n).kind !== FAULT)).toEqual(writable);
    });

    // [offset, bits that may be set]
    test.each([
      ["TPR", TPR, 0xffn], ["EOI", EOI, 0n], ["SVR", SVR, 0x11ffn], ["ESR", ESR, 0n], ["CMCI", CMCI, 0x157ffn], ["timer", TIMER, 0x750ffn], ["thermal", THERMAL, 0x157ffn], ["performance", PERFORMANCE, 0x157ffn],
      ["LINT0", LINT0, 0x1f7ffn], ["LINT1", LINT1, 0x1f7ffn], ["error", ERROR, 0x150ffn], ["initial count", INITIAL, 0xffffffffn], ["divide", DIVIDE, 0xbn], ["SELF IPI", SELF_IPI, 0xffn],
    ])("%s: a reserved bit is a #GP", (_what, offset, bits) => {
      const refused = Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit)).filter((bit) => apic.wrmsr(offset, bit).kind === FAULT);
      expect(refused.reduce((sum, bit) => sum | bit, 0n)).toBe(~bits & 0xffff_ffff_ffff_ffffn);
    });

    test("has ids that follow from each other (12.12.10)", () => {
      apic.reset({ id: 0x123 });
      apic.setMode(X2APIC);
      expect([apic.rdmsr(ID), apic.rdmsr(LDR)]).toEqual([0x123n, 0x0012_0008n]);
    });

    test("has no page, as xAPIC mode has no MSRs", () => {
      expect(apic.call.hasPage!(apic.address)).toBe(false);
      apic.setMode(DISABLED, XAPIC);
      expect([apic.call.hasPage!(apic.address), apic.rdmsr(TPR), apic.wrmsr(TPR, 0n).kind]).toEqual([true, null, FAULT]);
    });
  });

  describe("IA32_APIC_BASE (SDM Vol. 3A, 12.12.5)", () => {
    const paths: Record<string, bigint[]> = { disabled: [DISABLED], xAPIC: [], x2APIC: [X2APIC] };
    test.each([
      ["disabled", "disabled", DISABLED, true], ["disabled", "xAPIC", XAPIC, true], ["disabled", "x2APIC", X2APIC, false],
      ["xAPIC", "disabled", DISABLED, true], ["xAPIC", "xAPIC", XAPIC, true], ["xAPIC", "x2APIC", X2APIC, true],
      ["x2APIC", "disabled", DISABLED, true], ["x2APIC", "xAPIC", XAPIC, false], ["x2APIC", "x2APIC", X2APIC, true],
      ["xAPIC", "x2APIC without enable", 0xfee0_0400n, false], ["xAPIC", "another page", 0xfed0_0800n, false], ["xAPIC", "reserved bits", XAPIC | 0x200n, false], ["xAPIC", "one above the page", XAPIC | 1n << 50n, false],
    ])("from %s to %s", (from, _to, value, allowed) => {
      apic.setMode(...paths[from]!);
      const before = apic.readMsr(BASE_MSR);
      expect(apic.writeMsr(BASE_MSR, value).kind === FAULT).toBe(!allowed);
      expect(apic.readMsr(BASE_MSR)).toBe(allowed ? value | BSP : before);
    });

    test("x2APIC keeps the state, but what is named otherwise there", () => {
      apic.write(TPR, 0x20);
      apic.write(LDR, 0x01000000);
      apic.write(ICR_HIGH, 0x05000000);
      apic.write(INITIAL, 1000);
      apic.raise(0x99);
      apic.setMode(X2APIC);
      expect([apic.rdmsr(TPR), apic.rdmsr(ID), apic.rdmsr(LDR), apic.rdmsr(ICR), apic.rdmsr(CURRENT), apic.deliverable()]).toEqual([0x20n, 3n, 8n, 0n, 1000n, 0x99]);
    });

    test("disabling forgets all", () => {
      apic.raise(0x99);
      apic.write(INITIAL, 1000);
      apic.setMode(DISABLED);
      expect([apic.raise(0x44), apic.deliverable(), apic.nextDeadline()]).toEqual([false, NO_INTERRUPT, 0xffff_ffff_ffff_ffffn]);
      apic.setMode(XAPIC);
      expect([apic.read(SVR), apic.read(INITIAL), apic.read(LDR)]).toEqual([0xff, 0, 0]);
    });

    test("refuses x2APIC where the processor has none", () => {
      apic.reset({ x2apic: false });
      expect(apic.writeMsr(BASE_MSR, X2APIC).kind).toBe(FAULT);
    });

    test("and IA32_TSC_DEADLINE and 800H to 83FH are the MSRs of an APIC", () => {
      const own = [0x1a, BASE_MSR, 0x1c, 0x6df, DEADLINE_MSR, 0x6e1, 0x7ff, X2APIC_MSRS, 0x83f, 0x840].filter((index) => apic.call.isApicMsr!(index));
      expect(own).toEqual([BASE_MSR, DEADLINE_MSR, X2APIC_MSRS, 0x83f]);
    });
  });
});
