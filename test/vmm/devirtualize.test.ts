/** The parts of an instance that the VMM lets go of one by one, on both kinds of processors. */
import { describe, expect, test } from "vitest";
import { config } from "./pci-access.ts";
import { ECAM, PciExpress } from "./pci-express.ts";
import { BUFFER, HYPERCALL, boot, mapKernel, outb } from "./scenario.ts";
import { SvmVmm } from "./svm.ts";
import { ANNEX, OK, REGION, STATUS_SIZE, Reason, Vmm, compileVmm } from "./vmm.ts";

const PROCESSOR = 1, MEMORY = 2, IO = 4;
const BARE = 0, RUNNING = 1, WAITING = 2;
const APIC = 0xfee0_0000n;
const NIC = 0x18, LATE = 0x20;
const orders = [[1, 2, 4], [1, 4, 2], [2, 1, 4], [2, 4, 1], [4, 1, 2], [4, 2, 1]];
compileVmm(["entry/main.ts"]);
compileVmm(["entry/main.ts"], "tsconfig.svm.json");

interface Kind { name: string; make: new (options: object) => Vmm; svm: boolean }
const kinds: Kind[] = [{ name: "VT-x", make: Vmm, svm: false }, { name: "AMD-V", make: SvmVmm, svm: true }];

/** A captured kernel, on a machine with PCI Express or without. */
function machine({ make }: Kind, { apicIds = [0, 1], express = true } = {}): { vmm: Vmm; pci: PciExpress | undefined } {
  const vmm = new make({ apicIds, acpi: express ? { more: ["MCFG"] } : {} });
  const pci = express ? new PciExpress(vmm.machine) : undefined;
  pci?.add(NIC, 0x10d38086, 0x020000);
  for (const result of [vmm.prepare(), ...apicIds.map((_, cpu) => vmm.capture(cpu))]) expect(result).toBe(OK);
  mapKernel(vmm);
  status(vmm);
  return { vmm, pci };
}

function status(vmm: Vmm, cpu = 0): Record<string, any> {
  expect(vmm.hypercall(cpu, HYPERCALL.STATUS, { rdi: BUFFER, rsi: STATUS_SIZE })).toBe(OK);
  return vmm.view("Status", BUFFER);
}

const devirtualize = (vmm: Vmm, parts: number, online = 0b11n, cpu = 0): number => vmm.hypercall(cpu, HYPERCALL.DEVIRTUALIZE, { rsi: BigInt(parts), rdx: online });

/** Whether an access to a page would exit, by the tables that the processor walks. */
function exitsAt(vmm: Vmm, svm: boolean, address: bigint): boolean {
  let table: bigint = vmm.call.mapPointer!(1) & ~0xfffn;
  for (const shift of [39n, 30n, 21n, 12n]) {
    const entry = vmm.machine.memory.read(table + ((address >> shift) & 511n) * 8n, 8);
    const everything = svm ? (entry & 7n) === 7n && entry >> 63n === 0n : (entry & 7n) === 7n;
    if (!everything) return true;
    if (shift === 12n || (entry & 0x80n) !== 0n) return false;
    table = entry & 0xf_ffff_ffff_f000n;
  }
  return true;
}

interface Traps { ports: boolean; config: boolean; apic: boolean; region: boolean; annex: boolean; tables: boolean; msrs: boolean; cpuid: boolean }

/** What makes a processor's guest exit, as the processor reads its controls. */
function traps(vmm: Vmm, svm: boolean, cpu: number): Traps {
  const { memory } = vmm.machine;
  const bit = (map: bigint, index: number): boolean => ((memory.read(map + BigInt(index >> 3), 1) >> BigInt(index & 7)) & 1n) === 1n;
  const tables = svm ? vmm.read(cpu, "NESTED_CONTROL") === 1n : (vmm.read(cpu, "SECONDARY_CONTROLS") & 2n) !== 0n;
  const at = (address: bigint): boolean => tables && exitsAt(vmm, svm, address);
  const common = { config: at(ECAM), apic: at(APIC), region: at(REGION), annex: at(ANNEX), tables };
  if (svm) {
    const intercepts = vmm.read(cpu, "INTERCEPT1");
    return {
      ...common, ports: (intercepts & 0x800_0000n) !== 0n && bit(vmm.read(cpu, "IOPM"), 0x604),
      // Reads of EFER; its writes exit as long as SVM has to stay on.
      msrs: bit(vmm.read(cpu, "MSRPM"), (0x800 + 0x80 / 4) * 8), cpuid: (intercepts & 0x4_0000n) !== 0n,
    };
  }
  const ports = (vmm.read(cpu, "PROCESSOR_BASED_CONTROLS") & 0x200_0000n) !== 0n && bit(vmm.read(cpu, "IO_BITMAP_A"), 0x604);
  // Writes of IA32_APIC_BASE; CPUID exits whatever is written.
  return { ...common, ports, msrs: bit(vmm.read(cpu, "MSR_BITMAP") + 2048n, 0x1b), cpuid: true };
}

function expectTraps(vmm: Vmm, kind: Kind, direct: number, express: boolean, cpus = [0, 1]): void {
  const [processor, memory, io] = [PROCESSOR, MEMORY, IO].map((part) => (direct & part) !== 0);
  const tables = !(memory && (io || !express));
  for (const cpu of cpus) {
    const { apic, ...rest } = traps(vmm, kind.svm, cpu);
    expect(rest).toEqual({ ports: !io, config: express && !io && tables, region: !memory, annex: !memory, tables, msrs: !processor, cpuid: !kind.svm || !processor });
    expect(apic).toBe(kind.svm && direct === 0);
  }
}

describe.each(kinds)("devirtualization in parts on $name", (kind) => {
  test.each(orders)("in the order %i, %i, %i lets go of one part after the other, and with the last of the processors", (...order) => {
    for (const express of [true, false]) {
      const { vmm } = machine(kind, { express });
      expectTraps(vmm, kind, 0, express);
      let direct = 0;
      for (const part of order.slice(0, 2)) {
        expect(devirtualize(vmm, part)).toBe(OK);
        direct |= part;
        expectTraps(vmm, kind, direct, express);
        expect(status(vmm, 1).stillTrapped).toBe(7 & ~direct);
      }
      expect(devirtualize(vmm, order[2]!)).toBe(vmm.result.DIRECT);
      expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0b11n })).toBe(OK);
      for (const cpu of [0, 1]) expect([vmm.hypercall(cpu, HYPERCALL.RELEASE), vmm.gone.get(cpu)?.how]).toEqual([-1, "released"]);
      expect(vmm.events().flatMap(({ type, a }) => type === "DEVIRTUALIZED" ? [Number(a)] : [])).toEqual(order.slice(0, 2));
    }
  });

  test("takes two parts at once, on every processor", () => {
    const { vmm } = machine(kind, { apicIds: [0, 1, 2] });
    expect(devirtualize(vmm, MEMORY | IO, 0b111n, 1)).toBe(OK);
    expectTraps(vmm, kind, MEMORY | IO, true, [0, 1, 2]);
    expect(status(vmm, 2).stillTrapped).toBe(PROCESSOR);
  });

  test("says which exits stay", () => {
    const { vmm } = machine(kind);
    const at = status(vmm).unconditional as bigint;
    const reasons = Array.from({ length: 128 }, (_, reason) => reason).filter((reason) => (vmm.machine.memory.read(at + BigInt(reason >> 3), 1) >> BigInt(reason & 7)) & 1n);
    expect(reasons).toEqual(kind.svm ? [0, 2, 18, 32, 70, 72] : [2, 3, 4, 10, 13, 18, 27, 28, 31, 32, 55]);
  });

  test.each<[string, string, (vmm: Vmm, pci: PciExpress) => number]>([
    ["no part", "UNKNOWN", (vmm) => devirtualize(vmm, 0)],
    ["a part that there is not", "UNKNOWN", (vmm) => devirtualize(vmm, 8 | IO)],
    ["all of them", "DIRECT", (vmm) => devirtualize(vmm, 7)],
    ["a mask without the processor that asks", "CPU", (vmm) => devirtualize(vmm, IO, 0b01n, 1)],
    ["anything while another instance runs", "BUSY", (vmm) => (expect(boot(vmm)).toBe(OK), devirtualize(vmm, PROCESSOR, 0b01n))],
    ["anything of the machine that has ended and not been taken", "BUSY", (vmm) => {
      expect(boot(vmm)).toBe(OK);
      outb(vmm, 0, 0x604, 0x3401, 2);
      return devirtualize(vmm, MEMORY, 0b10n, 1);
    }],
    ["I/O that has a device in it that the instance does not hold", "FUNCTION", (vmm, pci) => {
      pci.add(LATE, 0x00101b36, 0x010802);
      status(vmm);
      return devirtualize(vmm, IO);
    }],
  ])("refuses %s, and changes nothing", (_what, code, call) => {
    const { vmm, pci } = machine(kind);
    const result = call(vmm, pci!);
    expect(result).toBe(vmm.result[code]);
    expect(vmm.instance(1).direct | vmm.instance(2).direct).toBe(0);
    expect([0, 1].map((cpu) => vmm.vcpu(cpu).direct)).toEqual([0, 0]);
    expect(vmm.events().filter(({ type }) => type === "DEVIRTUALIZED" || type === "RELEASED")).toEqual([]);
  });

  test("leaves memory and processors to be let go of beside a device that is shielded", () => {
    const { vmm, pci } = machine(kind);
    pci!.add(LATE, 0x00101b36, 0x010802);
    status(vmm);
    expect(devirtualize(vmm, MEMORY)).toBe(OK);
    expect([config(vmm, 0, LATE, 0, 4), exitsAt(vmm, kind.svm, ECAM)]).toEqual([0xffff_ffff, true]);
  });

  test("ends launches, late captures, and what the VMM does to slots", () => {
    const { vmm } = machine(kind, { apicIds: [0, 1, 2] });
    expect(devirtualize(vmm, IO, 0b011n)).toBe(OK);
    expect(boot(vmm)).toBe(vmm.result.DIRECT);
    expect(vmm.hypercall(0, HYPERCALL.EJECT, { rdx: BigInt(NIC) })).toBe(vmm.result.DIRECT);
    vmm.gone.delete(2);
    expect(vmm.capture(2)).toBe(vmm.result.DIRECT);
  });

  test("looks for no device any more once I/O is let go of", () => {
    const { vmm, pci } = machine(kind);
    expect(devirtualize(vmm, IO)).toBe(OK);
    pci!.add(LATE, 0x00101b36, 0x010802);
    expect(status(vmm).functionCount).toBe(1);
  });

  test("sends a processor home that is offline, and does not wait for it with the next part", () => {
    const { vmm } = machine(kind, { apicIds: [0, 1, 2] });
    expect(devirtualize(vmm, MEMORY, 0b011n)).toBe(OK);
    expect([vmm.cpu(2).state, vmm.gone.get(2)?.how, vmm.machine.processors[2]!.reset, vmm.call.cpuOwner!(2)]).toEqual([BARE, "halted", "waits", 0]);
    expect(devirtualize(vmm, IO, 0b011n)).toBe(OK);
    expectTraps(vmm, kind, MEMORY | IO, true, [0, 1]);
  });

  test("lets a processor leave that goes offline, while the others stay", () => {
    const { vmm } = machine(kind);
    expect(vmm.hypercall(1, HYPERCALL.RELEASE)).toBe(vmm.result.UNKNOWN);
    expect(devirtualize(vmm, IO)).toBe(OK);
    expect([vmm.hypercall(1, HYPERCALL.RELEASE), vmm.gone.get(1)?.how, vmm.cpu(1).state]).toEqual([-1, "released", BARE]);
    expect(devirtualize(vmm, PROCESSOR, 0b01n)).toBe(OK);
    expect([status(vmm).stillTrapped, vmm.cpu(0).state]).toEqual([MEMORY, RUNNING]);
  });
});

describe("a processor of VT-x without EPT", () => {
  const nested = (vmm: Vmm): boolean => (vmm.read(1, "SECONDARY_CONTROLS") & 0x82n) === 0x82n;
  const direct = (): Vmm => {
    const { vmm } = machine(kinds[0]!);
    expect(devirtualize(vmm, MEMORY | IO)).toBe(OK);
    expect([nested(vmm), vmm.read(1, "CR0_MASK"), vmm.read(1, "CR0_SHADOW")]).toEqual([false, 0x8000_0021n, vmm.read(1, "GUEST_CR0")]);
    return vmm;
  };

  test("has it again for real mode, should its kernel start it anew", () => {
    const vmm = direct();
    vmm.exit(1, Reason.INIT);
    expect(vmm.cpu(1).state).toBe(WAITING);
    vmm.exit(1, Reason.SIPI, { qualification: 0x9an });
    expect([vmm.cpu(1).state, nested(vmm), vmm.read(1, "GUEST_CR0") & 0x8000_0001n]).toEqual([RUNNING, true, 0n]);
  });

  test("has it again when its kernel turns paging off", () => {
    const vmm = direct();
    vmm.write(1, "GUEST_CS_ACCESS_RIGHTS", 0xc09bn);
    vmm.write(1, "GUEST_RIP", 0x9_1000n);
    vmm.write(1, "GUEST_CR4", vmm.read(1, "GUEST_CR4") & ~0x2_0000n);
    vmm.setRegister(1, 1, 0x31n);
    vmm.exit(1, Reason.CR_ACCESS, { qualification: 0x100n });
    expect([nested(vmm), vmm.read(1, "CR0_MASK"), vmm.read(1, "GUEST_CR0") & 0x8000_0001n]).toEqual([true, 0x20n, 1n]);
  });
});

test("AMD-V without nested paging has the guest's PAT in the processor, before and after its release", () => {
  const { vmm } = machine(kinds[1]!);
  vmm.write(0, "GUEST_PAT", 0x407050600070106n);
  expect(devirtualize(vmm, MEMORY | IO)).toBe(OK);
  const pat = (): bigint | undefined => vmm.machine.processors[0]!.msrs.get(0x277);
  expect(pat()).toBe(0x407050600070106n);
  vmm.machine.processors[0]!.msrs.set(0x277, 0x7040600070406n);
  expect(vmm.hypercall(0, HYPERCALL.RELEASE)).toBe(-1);
  expect(pat()).toBe(0x7040600070406n);
});
