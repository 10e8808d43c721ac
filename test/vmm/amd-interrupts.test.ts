import { describe, expect, test } from "vitest";
import { AMD, AMD_BASE, AmdUnit, COMMANDS_ON, ENABLE, EVENTS_ON, type Interrupt } from "./amd-iommu.ts";
import { APIC_BASE, APIC_BASE_X2APIC } from "./machine.ts";
import { CARD, MESSAGES, addCard, msi, msix, setMsi, setMsix } from "./message-card.ts";
import { config, configWrite } from "./pci-access.ts";
import { PciExpress } from "./pci-express.ts";
import { BUFFER, HYPERCALL, boot, load, mapKernel, outb, store } from "./scenario.ts";
import { OK, Vmm } from "./vmm.ts";

const NIC = 0x18, IOAPIC = 0xa0;
const IDS = [0, 1, 2, 0x11];
const TABLE = 0x500_0000n, COMMANDS = 0x510_0000n, EVENTS = 0x511_0000n, INTERRUPTS = 0x530_0000n;
const RING = 8n << 56n;
const WIDE = 0x2_0000n, WIDE_DESTINATIONS = 1n << 50n;

interface Made { vmm: Vmm; unit: AmdUnit; pci: PciExpress }
interface How { drives: boolean; form: bigint; x2apic?: boolean }

/** A machine whose kernel drives the unit, or leaves it off, and a second instance with the card. */
function started({ drives, form, x2apic }: How): Made {
  const vmm = new Vmm({ apicIds: IDS, acpi: { more: ["MCFG", "IVRS"] } });
  const pci = new PciExpress(vmm.machine);
  const unit = new AmdUnit(vmm.machine);
  const { memory } = vmm.machine;
  const write = (offset: number, value: bigint): void => memory.write(unit.base + BigInt(offset), 8, value);
  pci.add(0, 0x14501022, 0x060000);
  addCard(pci);
  pci.add(NIC, 0x10d38086, 0x020000);
  for (const bdf of [NIC, CARD, IOAPIC]) {
    memory.write(TABLE + BigInt(bdf) * 32n, 8, (3n << 61n) | 3n);
    memory.write(TABLE + BigInt(bdf) * 32n + 16n, 8, INTERRUPTS | (2n << 60n) | (9n << 1n) | 1n);
  }
  if (drives) {
    write(AMD.TABLE, TABLE | 3n);
    write(AMD.COMMANDS, COMMANDS | RING);
    write(AMD.EVENTS, EVENTS | RING);
    write(AMD.CONTROL, ENABLE | EVENTS_ON | COMMANDS_ON | form);
  }
  if (x2apic) for (const { msrs } of vmm.machine.processors) msrs.set(APIC_BASE, msrs.get(APIC_BASE)! | APIC_BASE_X2APIC);
  for (const result of [vmm.prepare(), ...IDS.map((_, cpu) => vmm.capture(cpu))]) expect(result).toBe(OK);
  mapKernel(vmm);
  look(vmm);
  expect(boot(vmm, { cpuMask: 0b1010n, functionCount: 1, functions: [CARD] })).toBe(OK);
  configWrite(vmm, 1, CARD, 4, 2, 6);
  return { vmm, unit, pci };
}

function look(vmm: Vmm): void {
  expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: BigInt(vmm.loaded.layout("Status").size) })).toBe(OK);
}

function sendMsi({ unit, pci }: Made, number = 0): Interrupt | null {
  const { address, data } = msi(pci, number);
  return unit.interrupt(CARD, address, data);
}

function sendMsix({ unit, vmm }: Made, number: number): Interrupt | null {
  const { address, data } = msix(vmm.machine, number);
  return unit.interrupt(CARD, address, data);
}

describe.each<[string, How]>([
  ["that leaves the unit off", { drives: false, form: 0n }],
  ["that remaps by entries of 4 bytes", { drives: true, form: 0n }],
  ["that remaps by entries of 16 bytes", { drives: true, form: WIDE }],
  ["that remaps in x2APIC mode", { drives: true, form: WIDE | WIDE_DESTINATIONS, x2apic: true }],
])("messages of a second instance's function, beside a kernel %s", (_whose, how) => {
  test("go where their kernel sends them, which reads what it has written", () => {
    const made = started(how);
    const { vmm } = made;
    setMsi(vmm, 0x11, 0x60, 0x21);
    expect([0, 1, 2, 3].map((number) => sendMsi(made, number))).toEqual([0x60, 0x61, 0x62, 0x63].map((vector) => ({ vector, destination: 0x11 })));
    expect([config(vmm, 1, CARD, 0x44, 4), config(vmm, 1, CARD, 0x4c, 2)]).toEqual([0xfee1_1000, 0x60]);
    setMsix(vmm, 3, 1, 0x71);
    expect([sendMsix(made, 3), load(vmm, 1, MESSAGES + 0x30n), load(vmm, 1, MESSAGES + 0x38n)]).toEqual([{ vector: 0x71, destination: 1 }, 0xfee0_1000n, 0x71n]);
    setMsix(vmm, 3, 0x11, 0x72);
    expect(sendMsix(made, 3)).toEqual({ vector: 0x72, destination: 0x11 });
  });

  test("reach no other processor, whatever it is that the function sends", () => {
    const made = started(how);
    const { vmm, unit } = made;
    setMsix(vmm, 0, 1, 0x71);
    setMsix(vmm, 1, 2, 0x72);
    expect([sendMsix(made, 0), sendMsix(made, 1)]).toEqual([{ vector: 0x71, destination: 1 }, null]);
    for (let data = 0; data < 0x800; data += 1) expect([null, 1]).toContain(unit.interrupt(CARD, 0xfee0_0000n, data)?.destination ?? null);
  });

  test("that are refused become events of their instance's", () => {
    const { vmm, unit } = started(how);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(unit.interrupt(CARD, 0xfee0_0000n, 0x41)).toBeNull();
    look(vmm);
    expect(vmm.events(from).filter(({ type }) => type === "INTERRUPT_VIOLATION")).toMatchObject([{ instance: 2, a: 0x41n, b: BigInt(CARD) }]);
    expect(load(vmm, 0, AMD_BASE + BigInt(AMD.EVENT_TAIL))).toBe(0n);
  });

  test("keep to their table though the first kernel changes the form of tables", () => {
    const made = started(how);
    setMsix(made.vmm, 0, 1, 0x71);
    store(made.vmm, 0, AMD_BASE + BigInt(AMD.CONTROL), Number((ENABLE | EVENTS_ON | COMMANDS_ON | how.form) ^ WIDE));
    expect(sendMsix(made, 0)).toEqual({ vector: 0x71, destination: 1 });
  });

  test("go nowhere after a stop, and are the kernel's own after a hand-over", () => {
    const stopped = started(how);
    setMsix(stopped.vmm, 0, 1, 0x71);
    const { address, data } = msix(stopped.vmm.machine, 0);
    expect(stopped.vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(stopped.unit.interrupt(CARD, address, data)?.destination).not.toBe(1);
    const made = started(how);
    setMsix(made.vmm, 0, 0x11, 0x71);
    setMsi(made.vmm, 1, 0x61);
    outb(made.vmm, 0, 0x604, 0x2000, 2);
    made.vmm.machine.ipis.length = 0;
    expect(made.vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([sendMsix(made, 0), sendMsi(made)]).toEqual([{ vector: 0x71, destination: 0x11 }, { vector: 0x61, destination: 1 }]);
    expect(made.vmm.machine.ipis.filter(({ mode, vector }) => mode === 0 && vector > 0x60).map((ipi) => [ipi.to, ipi.vector])).toEqual([[1, 0x61]]);
  });
});

test("a message that may have been lost while its entry changed is raised once", () => {
  const { vmm } = started({ drives: true, form: WIDE });
  setMsix(vmm, 0, 1, 0x71);
  vmm.machine.ipis.length = 0;
  store(vmm, 1, MESSAGES + 8n, 0x72);
  expect(vmm.machine.ipis).toMatchObject([{ to: 1, mode: 0, vector: 0x72 }]);
  vmm.machine.ipis.length = 0;
  store(vmm, 1, MESSAGES, 0xfee1_1000);
  expect(vmm.machine.ipis).toEqual([]);
});
