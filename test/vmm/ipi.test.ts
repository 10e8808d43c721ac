import { beforeEach, describe, expect, test } from "vitest";
import { backEnds } from "./back-ends.ts";
import { APIC_BASE, APIC_BASE_X2APIC, type Ipi } from "./machine.ts";
import { booted, mapKernel, boot, reaches, sendIpi, store, touch } from "./scenario.ts";
import { OK, RAX, RBX, RCX, RDX, Reason, Vmm } from "./vmm.ts";

const APIC = 0xfee0_0000n;
const ICR_LOW = 0x300n;
const [FIXED, LOWEST, SMI, RESERVED, NMI, INIT, SIPI, EXTINT] = [0, 1, 2, 3, 4, 5, 6, 7];
const SELF = 0x40000;
const ALL = 0x80000;
const OTHERS = 0xc0000;
const LOGICAL = 0x800;
const ASSERT = 0x4000;
const LEVEL = 0x8000;
const mode = (number: number | undefined): number => number! << 8;

describe.each(backEnds)("on %s", (_name, Kind) => {
  /** Processors 0 and 1 are the first instance's, 2 and 3 the second's; APIC ids are 0, 2, 4, 6. */
  const IDS = [0, 2, 4, 6];
  const vmm = booted({ apicIds: IDS }, 0b1100n, Kind);
  let firstEvent = 0n;

  beforeEach(() => {
    firstEvent = vmm.call.nextSequence!();
    vmm.machine.ipis.length = 0;
  });

  /** What went out, each as [to, mode, vector], and what was recorded, as [instance, processor, ICR]. */
  const sent = (machine = vmm.machine): number[][] => machine.ipis.map(({ to, mode: how, vector }: Ipi) => [to, how, vector]);
  const recorded = (): unknown[] => vmm.events(firstEvent).map(({ type, instance, cpu, a }) => [type, instance, cpu, a]);

  describe("an interprocessor interrupt of a guarded instance", () => {
    test.each([
      ["to another processor of its own", 0, 0x40, 2, [[1, FIXED, 0x40]]],
      ["to its own processor, by number", 0, 0x41, 0, [[0, FIXED, 0x41]]],
      ["in the other direction", 1, 0xfb, 0, [[0, FIXED, 0xfb]]],
      ["as NMI", 0, mode(NMI), 2, [[1, NMI, 0]]],
      ["to itself, by shorthand", 0, SELF | 0x42, 0, [[0, FIXED, 0x42]]],
      ["to itself, whatever the destination says", 0, SELF | 0x42, 6, [[0, FIXED, 0x42]]],
      ["of the second instance, to itself", 2, SELF | 0x43, 0, [[2, FIXED, 0x43]]],
      ["to everybody, which is its own", 0, ALL | 0x44, 0, [[0, FIXED, 0x44], [1, FIXED, 0x44]]],
      ["to everybody else, which is its own", 1, OTHERS | 0x45, 0, [[0, FIXED, 0x45]]],
      ["as NMI to everybody else", 0, OTHERS | mode(NMI), 0, [[1, NMI, 0]]],
      ["broadcast by destination", 0, 0x46, 0xff, [[0, FIXED, 0x46], [1, FIXED, 0x46]]],
      ["with the lowest priority, to one of them", 0, mode(LOWEST) | 0x47, 0xff, [[0, LOWEST, 0x47]]],
    ] as [string, number, number, number, number[][]][])("%s is sent", (_what, cpu, command, destination, out) => {
      sendIpi(vmm, cpu, command | ASSERT, destination);
      expect([sent(), recorded()]).toEqual([out, []]);
    });

    test.each([
      ["to the other instance", 0, 0x50, 4], ["to the other instance's waiting processor", 0, 0x50, 6], ["from the second to the first", 2, 0x51, 0],
      ["NMI", 0, mode(NMI), 4], ["INIT", 0, mode(INIT) | LEVEL, 4], ["SIPI", 2, mode(SIPI) | 0x9a, 2], ["lowest priority", 2, mode(LOWEST) | 0x60, 0], ["to nobody", 0, 0x52, 9],
    ])("%s is recorded and not sent", (_what, cpu, command, destination) => {
      sendIpi(vmm, cpu, command | ASSERT, destination);
      expect([sent(), recorded()]).toEqual([[], [["IPI_VIOLATION", cpu < 2 ? 1 : 2, cpu, (BigInt(destination) << 32n) | BigInt(command | ASSERT)]]]);
      expect([vmm.cpu(2).state, vmm.cpu(3).state, vmm.cpu(0).state]).toEqual([1, 2, 1]);
    });

    test.each([
      ["a vector below 16", 0x0f], ["SMI", mode(SMI)], ["the reserved mode", mode(RESERVED) | 0x40], ["ExtINT", mode(EXTINT) | 0x40], ["INIT level de-assert", mode(INIT) | LEVEL],
    ])("with %s is neither sent nor a breach", (_what, command) => {
      sendIpi(vmm, 0, command === (mode(INIT) | LEVEL) ? command : command | ASSERT, 2);
      sendIpi(vmm, 0, command === (mode(INIT) | LEVEL) ? command | ALL : command | ASSERT, 2);
      expect([sent(), recorded()]).toEqual([[], []]);
    });

    test("takes its destination from the same processor's own high word", () => {
      store(vmm, 0, APIC + 0x310n, 2 << 24);
      store(vmm, 1, APIC + 0x310n, 0);
      store(vmm, 0, APIC + ICR_LOW, ASSERT | 0x61);
      store(vmm, 1, APIC + ICR_LOW, ASSERT | 0x62);
      expect(sent()).toEqual([[1, FIXED, 0x61], [0, FIXED, 0x62]]);
      expect(vmm.machine.processors[0]!.apic.read(0x310)).toBe(2 << 24);
    });

    test("names logical destinations by what its own processors wrote, not by what others did", () => {
      store(vmm, 0, APIC + 0xd0n, 1 << 24);
      store(vmm, 1, APIC + 0xd0n, 2 << 24);
      store(vmm, 2, APIC + 0xd0n, 1 << 24);
      sendIpi(vmm, 0, LOGICAL | ASSERT | 0x70, 0b11);
      sendIpi(vmm, 0, LOGICAL | ASSERT | 0x71, 0b10);
      sendIpi(vmm, 2, LOGICAL | ASSERT | 0x72, 0b01);
      sendIpi(vmm, 0, LOGICAL | ASSERT | 0x73, 0b1110);
      expect(sent()).toEqual([[0, FIXED, 0x70], [1, FIXED, 0x70], [1, FIXED, 0x71], [2, FIXED, 0x72], [1, FIXED, 0x73]]);
      expect(recorded()).toEqual([]);
      sendIpi(vmm, 2, LOGICAL | ASSERT | 0x74, 0b10);
      expect(recorded()).toEqual([["IPI_VIOLATION", 2, 2, (2n << 32n) | BigInt(LOGICAL | ASSERT | 0x74)]]);
    });

    test("has the logical id in the real APIC only of the instance that holds the devices", () => {
      store(vmm, 1, APIC + 0xd0n, 4 << 24);
      store(vmm, 2, APIC + 0xd0n, 8 << 24);
      expect([1, 2].map((cpu) => vmm.machine.processors[cpu]!.apic.read(0xd0))).toEqual([4 << 24, 0]);
    });

    test("may be written in any form that kernels use", () => {
      vmm.setRegister(0, RBX, APIC);
      store(vmm, 0, APIC + 0x310n, 2 << 24);
      touch(vmm, 0, APIC + ICR_LOW, [0xc7, 0x03, 0x80, 0x40, 0, 0]); // mov dword [rbx], 0x4080
      vmm.setRegister(0, RCX, BigInt(ASSERT | 0x81));
      touch(vmm, 0, APIC + ICR_LOW, [0x87, 0x0b]); // xchg [rbx], ecx
      expect(sent()).toEqual([[1, FIXED, 0x80], [1, FIXED, 0x81]]);
      expect(vmm.register(0, RCX)).toBe(BigInt(ASSERT | 0x80));
    });
  });

  describe("the other registers of a guarded local APIC", () => {
    test("are the real ones, written and read", () => {
      const { apic } = vmm.machine.processors[0]!;
      store(vmm, 0, APIC + 0x80n, 0x20);
      store(vmm, 0, APIC + 0x320n, 0x200ec);
      store(vmm, 0, APIC + 0x380n, 12345);
      expect([apic.read(0x80), apic.read(0x320), apic.read(0x380)]).toEqual([0x20, 0x200ec, 12345]);
      apic.request(0xfe);
      apic.accept();
      expect(apic.pending()).toContain(0xfe);
      store(vmm, 0, APIC + 0xb0n, 0);
      expect(apic.pending()).not.toContain(0xfe);
    });

    test("are read without an exit, and written with one, in both instances", () => {
      for (const instance of [1, 2]) expect(reaches(vmm, instance, APIC + 0x300n)).toMatchObject({ host: APIC + 0x300n, permissions: 5n });
    });

    test("advance the guest by the instruction, not by what the exit says", () => {
      vmm.setRegister(0, RAX, 0x30n);
      touch(vmm, 0, APIC + 0x80n, [0x66, 0x67, 0x2e, 0x89, 0x84, 0x24, 0, 1, 0, 0]);
      expect(vmm.read(0, "GUEST_RIP") - 0x210_0000n).toBe(10n);
    });
  });

  describe("the start of a processor by its own instance", () => {
    test("INIT is blocked while it waits, SIPI starts it, and the INIT that follows is not a second one", () => {
      const own = booted({ apicIds: IDS }, 0b1100n, Kind);
      sendIpi(own, 2, mode(INIT) | LEVEL | ASSERT, 6);
      expect([own.cpu(3).state, own.machine.processors[3]!.initLatched]).toEqual([2, Kind === Vmm]);
      sendIpi(own, 2, mode(SIPI) | ASSERT | 0x9a, 6);
      expect([own.cpu(3).state, own.read(3, "GUEST_CS_BASE"), own.waitsForSipi(3), own.machine.processors[3]!.initLatched]).toEqual([1, 0x9a000n, false, false]);
      sendIpi(own, 2, mode(SIPI) | ASSERT | 0x9a, 6);
      expect(own.read(3, "GUEST_RIP")).toBe(0n);
      expect(own.events().slice(-1)).toMatchObject([{ type: "CPU_STARTED", instance: 2, cpu: 3, a: 0x9an }]);
    });

    test("again, after the processor has run: INIT makes it wait, SIPI starts it elsewhere", () => {
      const own = booted({ apicIds: IDS }, 0b1100n, Kind);
      sendIpi(own, 2, mode(SIPI) | ASSERT | 0x9a, 6);
      own.write(3, "GUEST_RIP", 0x33n);
      sendIpi(own, 2, mode(INIT) | LEVEL | ASSERT, 6);
      expect([own.cpu(3).state, own.waitsForSipi(3)]).toEqual([2, true]);
      sendIpi(own, 2, mode(SIPI) | ASSERT | 0x12, 6);
      expect([own.cpu(3).state, own.read(3, "GUEST_CS_BASE")]).toEqual([1, 0x12000n]);
    });
  });

  describe("in x2APIC mode", () => {
    const X_IDS = [0, 0x102, 0x104, 0x106];
    const x2apic = (): Vmm => {
      const own = new Kind({ apicIds: X_IDS, acpi: { x2apic: true } });
      for (const processor of own.machine.processors) processor.msrs.set(APIC_BASE, processor.msrs.get(APIC_BASE)! | APIC_BASE_X2APIC);
      expect([own.prepare(), ...[0, 1, 2, 3].map((cpu) => own.capture(cpu))]).toEqual([OK, OK, OK, OK, OK]);
      mapKernel(own);
      expect(boot(own, { cpuMask: 0b1100n })).toBe(OK);
      own.machine.ipis.length = 0;
      return own;
    };
    const shared = x2apic();
    const icr = (own: Vmm, cpu: number, command: number, destination: number): void => {
      own.setRegister(cpu, RCX, 0x830n);
      own.setRegister(cpu, RAX, BigInt(command));
      own.setRegister(cpu, RDX, BigInt(destination));
      own.exit(cpu, Reason.WRMSR, { length: 2 });
    };

    test.each([
      ["to another processor of its own", 0, ASSERT | 0x40, 0x102, [[1, FIXED, 0x40]]],
      ["to everybody, by destination", 0, ASSERT | 0x41, 0xffffffff, [[0, FIXED, 0x41], [1, FIXED, 0x41]]],
      ["to everybody else", 1, OTHERS | ASSERT | 0x42, 0, [[0, FIXED, 0x42]]],
      ["to itself", 2, SELF | ASSERT | 0x43, 0, [[2, FIXED, 0x43]]],
      ["to the other instance", 0, ASSERT | 0x44, 0x104, []],
      ["to a logical destination, of whose bits one is its own processor's", 0, LOGICAL | ASSERT | 0x46, 0x100014, [[1, FIXED, 0x46]]],
      ["to a logical destination in the first cluster", 1, LOGICAL | ASSERT | 0x47, 1, [[0, FIXED, 0x47]]],
      ["to a logical destination of the other instance", 0, LOGICAL | ASSERT | 0x49, 0x100010, []],
      ["to every logical destination", 0, LOGICAL | ASSERT | 0x4a, 0xffffffff, [[0, FIXED, 0x4a], [1, FIXED, 0x4a]]],
      ["to a logical destination in a cluster that has nobody", 0, LOGICAL | ASSERT | 0x48, 0x200004, []],
      ["to the xAPIC's broadcast address, which is nobody here", 0, ASSERT | 0x45, 0xff, []],
    ] as [string, number, number, number, number[][]][])("an interrupt %s goes where it may", (_what, cpu, command, destination, out) => {
      shared.machine.ipis.length = 0;
      const events = shared.call.nextSequence!();
      const rip = shared.read(cpu, "GUEST_RIP");
      icr(shared, cpu, command, destination);
      expect(sent(shared.machine)).toEqual(out);
      expect(shared.read(cpu, "GUEST_RIP") - rip).toBe(2n);
      expect(shared.events(events).map(({ type, a }) => [type, a])).toEqual(out.length > 0 ? [] : [["IPI_VIOLATION", (BigInt(destination) << 32n) | BigInt(command)]]);
    });

    test("only the ICR exits, and only while there is another instance", () => {
      expect([0x808, 0x80b, 0x830, 0x832, 0x838, 0x83f].map((msr) => shared.msrExits(1, msr, true))).toEqual([false, false, true, false, false, false]);
      const alone = Kind.captured();
      // On AMD-V an instance's startup signals are the VMM's at all times (decision 0010).
      expect([alone.msrExits(1, 0x830, true), reaches(alone, 1, APIC)?.permissions]).toEqual(Kind === Vmm ? [false, 7n] : [true, 5n]);
    });

    test("a processor is started", () => {
      const own = x2apic();
      icr(own, 2, mode(INIT) | LEVEL | ASSERT, 0x106);
      icr(own, 2, mode(SIPI) | ASSERT | 0x9a, 0x106);
      expect([own.cpu(3).state, own.read(3, "GUEST_CS_BASE")]).toEqual([1, 0x9a000n]);
    });
  });
});
