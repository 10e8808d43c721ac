import { describe, expect, test } from "vitest";
import { backEnds } from "./back-ends.ts";
import { GIB, KIB, MEMORY_MAP, RAM, bytes } from "./firmware.ts";
import { APIC_BASE, APIC_BASE_X2APIC } from "./machine.ts";
import { HYPERCALL, boot, booted, mapKernel, outb, reachable, sendIpi, store } from "./scenario.ts";
import { KERNEL_RIP, OK, RAX, RCX, RDX, Reason, Vmm, compileVmm } from "./vmm.ts";

compileVmm(["entry/main.ts"]);

const GP = 0x80000b0dn;
const IDS = [0, 1, 2, 3];
const IOAPIC = 0xfec0_0000n;

describe.each(backEnds)("on %s", (_name, Kind) => {
  describe("an instance cannot bring a processor of the VMM down", () => {
    const move = (vmm: Vmm, register: number, value: bigint): void => {
      vmm.setRegister(0, RAX, value);
      vmm.exit(0, Reason.CR_ACCESS, { qualification: BigInt(register) });
    };

    // Neither control registers nor XSETBV exit on AMD-V.
    test.runIf(Kind === Vmm).each([
      ["paging without protection", 0, 0x8000_0010n], ["write-through without caches off", 0, 0xa005_0013n], ["bits that do not exist", 0, 0x1_8005_0013n], ["paging off in 64-bit mode", 0, 0x13n],
      ["PAE off in long mode", 4, 0x17_26d0n], ["reserved bits", 4, 0x8000_0000_0017_26f0n], ["a feature that it has not", 4, 0x317_26f0n], ["five levels in long mode", 4, 0x17_36f0n],
    ])("by a control register with %s: it faults, as on the bare machine", (_what, register, value) => {
      const vmm = Kind.captured();
      const before = [vmm.read(0, "GUEST_CR0"), vmm.read(0, "GUEST_CR4")];
      move(vmm, register, value);
      expect([vmm.injected[0], vmm.read(0, "GUEST_RIP"), vmm.read(0, "GUEST_CR0"), vmm.read(0, "GUEST_CR4")]).toEqual([GP, KERNEL_RIP, ...before]);
    });

    test.runIf(Kind === Vmm)("by PCIDs switched on with one in CR3", () => {
      const vmm = Kind.captured();
      vmm.write(0, "GUEST_CR4", 0x15_26f0n);
      vmm.write(0, "GUEST_CR3", 0x100_0005n);
      move(vmm, 4, 0x17_26f0n);
      expect(vmm.injected[0]).toBe(GP);
    });

    test.runIf(Kind === Vmm).each([["AVX-512 in part", 0x27n], ["AVX-512 without AVX", 0xe3n], ["half of the bound registers", 0x0fn], ["half of the tile state", 0x20007n]])("by XSETBV with %s", (_what, value) => {
      const vmm = Kind.captured();
      vmm.machine.cpuid.set("13:0", [0x602ff, 0x440, 0xa88, 0]);
      vmm.setRegister(0, RCX, 0n);
      vmm.setRegister(0, RAX, value);
      vmm.setRegister(0, RDX, 0n);
      vmm.exit(0, Reason.XSETBV);
      expect([vmm.injected[0], vmm.machine.processors[0]!.xcr0]).toEqual([GP, 7n]);
    });

    test("by a fault in real mode, which has no error code", () => {
      const vmm = Kind.captured();
      mapKernel(vmm);
      if (Kind === Vmm) {
        vmm.exit(1, Reason.INIT);
        vmm.exit(1, Reason.SIPI, { qualification: 0x9an });
      } else for (const command of [0xc500, 0x469a]) vmm.sendStartup(0, command, 1);
      vmm.exit(1, Reason.RDMSR);
      expect(vmm.injected[1]).toBe(0x8000030dn);
    });

    test("by touching device memory everywhere", () => {
      const vmm = booted({ apicIds: IDS }, 0b1100n, Kind);
      for (let i = 1n; i < 128n; i++) store(vmm, 0, i * 512n * GIB, 1);
      expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
      expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    });
  });

  describe("an NMI that arrives in the VMM", () => {
    test.runIf(Kind === Vmm)("is not for a processor that waits for its SIPI", () => {
      const vmm = Kind.captured();
      vmm.exit(1, Reason.INIT);
      vmm.cpu(1).nmiCount = 1;
      vmm.exit(1, Reason.SIPI, { qualification: 0n });
      expect([vmm.injected[1], vmm.cpu(1).nmiCount]).toEqual([null, 0]);
    });
  });

  describe("a release belongs to an instance that is alone", () => {
    test("and one that was begun is off once another instance runs", () => {
      const vmm = Kind.captured();
      mapKernel(vmm);
      expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
      expect(boot(vmm)).toBe(OK);
      for (const cpu of [1, 0]) expect(vmm.hypercall(cpu, HYPERCALL.RELEASE)).toBe(vmm.result.UNKNOWN);
      expect(vmm.gone.size).toBe(0);
    });
  });

  describe("what another processor changes meanwhile", () => {
    test("is read once: the count of a console write", () => {
      const vmm = booted({}, 0b10n, Kind);
      const shared = 0x2300_0000n;
      let reads = 0;
      vmm.machine.memory.mapDevice({ start: shared, size: 8n, read: () => (reads++ === 0 ? 4n : 0xffff_ffffn), write: () => {} });
      vmm.machine.memory.writeBytes(shared + 8n, bytes("abcdefgh"));
      expect(vmm.hypercall(0, HYPERCALL.CONSOLE_WRITE, { rdi: shared, rsi: 16n, rdx: 2n })).toBe(OK);
      expect(Array.from({ length: 5 }, () => String.fromCharCode(vmm.call.uartRead!(0))).join("")).toBe("abcd\0");
    });
  });

  describe("interrupts of a guarded instance", () => {
    const ASSERT = 0x4000;
    const LOGICAL = 0x800;

    test("reach the logical ids that its processors had before they were guarded", () => {
      const vmm = Kind.captured({ apicIds: IDS });
      mapKernel(vmm);
      vmm.machine.processors.forEach(({ apic }, i) => apic.write(0xd0, (1 << (24 + i)) >>> 0));
      expect(boot(vmm, { cpuMask: 0b1000n })).toBe(OK);
      vmm.machine.ipis.length = 0;
      sendIpi(vmm, 0, ASSERT | LOGICAL | 0xfb, 0b0110);
      expect(vmm.machine.ipis.map(({ to, vector }) => [to, vector])).toEqual([[1, 0xfb], [2, 0xfb]]);
    });

    const x2apic = (): Vmm => {
      const vmm = new Kind({ apicIds: [0, 1, 0x12, 0x13], acpi: { x2apic: true } });
      for (const { msrs } of vmm.machine.processors) msrs.set(APIC_BASE, msrs.get(APIC_BASE)! | APIC_BASE_X2APIC);
      expect([vmm.prepare(), ...IDS.map((cpu) => vmm.capture(cpu))]).toEqual([OK, OK, OK, OK, OK]);
      mapKernel(vmm);
      expect(boot(vmm, { cpuMask: 0b1000n })).toBe(OK);
      vmm.machine.ipis.length = 0;
      return vmm;
    };

    test("in x2APIC mode exit in both instances", () => {
      const vmm = x2apic();
      for (const instance of [1, 2]) expect(vmm.msrExits(instance, 0x830, true)).toBe(true);
    });
  });

  describe("the node stays up while another instance runs", () => {
    test.each([
      ["PM1 control", 0x604, 2, 0x3401], ["the upper byte of PM1 control", 0x605, 1, 0x34], ["32 bits before PM1 control", 0x602, 4, 0x3401_0000], ["a word that begins with its upper byte", 0x605, 2, 0x0034],
      ["CF9", 0xcf9, 1, 6], ["CF9 as the second byte of a word", 0xcf8, 2, 0x0600], ["CF9 as the last byte", 0xcf6, 4, 0x0600_0000], ["the keyboard controller", 0x64, 1, 0xfe], ["another of its reset pulses", 0x64, 1, 0xf0], ["the fast reset", 0x92, 1, 1],
    ])("whatever sleep or reset the one with the devices asks for: %s", (_what, port, size, value) => {
      const vmm = booted({}, 0b10n, Kind);
      vmm.machine.portWrites.length = 0;
      outb(vmm, 0, port, value, size);
      expect([vmm.machine.portWrites, vmm.instance(1).state, vmm.instance(2).state]).toEqual([[], 2, 1]);
    });

    test.each([["CF8, a configuration address", 0xcf8, 4, 0x8000_0600], ["PM1 control without SLP_EN", 0x604, 2, 0x1c01], ["a keyboard command", 0x64, 1, 0xae]])("and what only looks like one goes through: %s", (_what, port, size, value) => {
      const vmm = booted({}, 0b10n, Kind);
      vmm.machine.portWrites.length = 0;
      outb(vmm, 0, port, value, size);
      expect([vmm.machine.portWrites, vmm.instance(1).state]).toEqual([[{ port, size, value }], 1]);
    });
  });

  describe("memory above 512 GiB", () => {
    const map = [...MEMORY_MAP, { base: 512n * GIB, size: 4n * GIB, type: RAM }];

    test("is mapped when touched, if it is its own, or a device", () => {
      const vmm = Kind.captured({ map });
      for (const at of [512n * GIB + 4n * KIB, 2048n * GIB + 5n]) {
        vmm.exit(0, Reason.EPT_VIOLATION, { physical: at });
        expect([reachable(vmm, 1, at), vmm.read(0, "GUEST_RIP")]).toEqual([["same 7"], KERNEL_RIP]);
      }
    });
  });

  describe("the IOAPIC beside another instance", () => {
    const entry = (vmm: Vmm, pin: number, low: number, high: number): void => {
      for (const [register, value] of [[0x11 + 2 * pin, high], [0x10 + 2 * pin, low]] as const) {
        store(vmm, 0, IOAPIC, register);
        store(vmm, 0, IOAPIC + 0x10n, value >>> 0);
      }
    };

    test.each([
      ["its own processor", 0x34, 0 << 24, true], ["the other's", 0x34, 1 << 24, false], ["INIT to the other's", 0x500, 1 << 24, false], ["NMI to the other's", 0x400, 1 << 24, false], ["everybody", 0x34, 0xff << 24, false], ["SMI", 0x200, 0, false],
    ])("sends an interrupt to %s only if that is its holder's", (_what, low, high, live) => {
      const vmm = booted({}, 0b10n, Kind);
      entry(vmm, 4, low, high);
      const real = vmm.chipset.ioapic.entry(4);
      expect((real & 0x10000n) === 0n).toBe(live);
      if (live) expect(real).toBe((BigInt(high >>> 0) << 32n) | BigInt(low));
      expect(vmm.events().filter(({ type }) => type === "IPI_VIOLATION")).toHaveLength(live ? 0 : 1);
    });

    test("has nothing left that reaches a processor that moved", () => {
      const vmm = Kind.captured();
      mapKernel(vmm);
      vmm.chipset.ioapic.registers.set(0x18, 0x34).set(0x19, 1 << 24).set(0x1a, 0x35).set(0x1b, 0);
      expect(boot(vmm)).toBe(OK);
      expect([vmm.chipset.ioapic.entry(4) & 0x10000n, vmm.chipset.ioapic.entry(5)]).toEqual([0x10000n, 0x35n]);
    });
  });
});
