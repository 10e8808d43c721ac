import { describe, expect, test } from "vitest";
import { AMD, AMD_BASE, AmdUnit, COMMANDS_ON, ENABLE, EVENTS_ON } from "./amd-iommu.ts";
import { GIB, MIB } from "./firmware.ts";
import { ECAM, PciExpress } from "./pci-express.ts";
import { BASE, BUFFER, HYPERCALL, SIZE, boot, load, mapKernel, outb, reaches, store, store64 } from "./scenario.ts";
import { ANNEX, ANNEX_SIZE, OK, REGION, REGION_SIZE, Vmm } from "./vmm.ts";

const PORT = 0x10, NIC = 0x18, DISK = 0x20, IOAPIC = 0xa0, CARD = 0x100;
const DMA = 8;
const RW = 3n << 61n;

/** Memory of the first instance's. */
const OWN = 0x2300_0000n;
/** Where its kernel has the unit's device table (of two buses), rings, page tables, and the tables of interrupts. */
const TABLE = 0x500_0000n, COMMANDS = 0x510_0000n, EVENTS = 0x511_0000n, PAGES = 0x502_0000n, INTERRUPTS = 0x530_0000n;
const IOVA = 0x1000_0000n, DOMAIN = 5n, PLACE = 0x40n;
const RING = 8n << 56n;
const ON = ENABLE | EVENTS_ON | COMMANDS_ON | 0x8n;

interface Made { vmm: Vmm; unit: AmdUnit }

/** A machine whose kernel drives the unit, if at all; captured, and looked at once. With more buses there is another card on the last one. */
function machine(drive: (made: Made) => void = () => {}, lastBus = 3): Made {
  const vmm = new Vmm({ acpi: { more: ["MCFG", "IVRS"], lastBus } });
  const pci = new PciExpress(vmm.machine, lastBus + 1);
  const made = { vmm, unit: new AmdUnit(vmm.machine) };
  pci.add(0, 0x14501022, 0x060000);
  pci.addPort(PORT, 1);
  pci.add(NIC, 0x10d38086, 0x020000);
  pci.add(DISK, 0x00101b36, 0x010802);
  pci.add(CARD, 0x11e81234, 0x00ff00);
  if (lastBus !== 3) {
    pci.addPort(0x28, lastBus);
    pci.add(lastBus << 8, 0x11e81234, 0x00ff00);
  }
  drive(made);
  for (const result of [vmm.prepare(), vmm.capture(0), vmm.capture(1)]) expect(result).toBe(OK);
  mapKernel(vmm);
  status(vmm);
  return made;
}

function entry({ vmm }: Made, bdf: number, ...words: bigint[]): void {
  words.forEach((word, i) => vmm.machine.memory.write(TABLE + BigInt(bdf) * 32n + BigInt(8 * i), 8, word));
}

/** As Linux leaves it: the network card in a domain, the card in an identity one, the disk in none; interrupts are remapped. */
function translates(made: Made): void {
  const { memory } = made.vmm.machine;
  const write = (offset: number, value: bigint): void => memory.write(made.unit.base + BigInt(offset), 8, value);
  for (let bdf = 0; bdf < 512; bdf++) entry(made, bdf, 3n);
  entry(made, NIC, PAGES | RW | (3n << 9n) | 3n, DOMAIN, INTERRUPTS | (2n << 60n) | 1n);
  entry(made, CARD, RW | 3n, 6n, INTERRUPTS | (2n << 60n) | 1n);
  entry(made, IOAPIC, 3n, 0n, INTERRUPTS | (2n << 60n) | 1n);
  for (const [level, shift] of [[0n, 30n], [1n, 21n]] as const) {
    memory.write(PAGES + level * 0x1000n + ((IOVA >> shift) & 511n) * 8n, 8, (PAGES + (level + 1n) * 0x1000n) | RW | ((2n - level) << 9n) | 1n);
  }
  memory.write(PAGES + 0x2000n + ((IOVA >> 12n) & 511n) * 8n, 8, OWN | RW | 1n);
  write(AMD.TABLE, TABLE | 3n);
  write(AMD.COMMANDS, COMMANDS | RING);
  write(AMD.EVENTS, EVENTS | RING);
  write(AMD.CONTROL, ON);
  for (let at = 0n; at < PLACE; at += 16n) memory.write(COMMANDS + at, 8, 8n << 60n);
  write(AMD.COMMAND_TAIL, PLACE);
}

function status(vmm: Vmm): number {
  expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: BigInt(vmm.loaded.layout("Status").size) })).toBe(OK);
  return vmm.view("Status", BUFFER).stillTrapped;
}

function violations(vmm: Vmm, from: bigint): object[] {
  status(vmm);
  return vmm.events(from).filter(({ type }) => type === "DMA_VIOLATION").map(({ instance, a, b }) => ({ instance, address: a, bdf: Number(b & 0xffffn), write: b >> 16n === 1n }));
}

const grantCard = { functionCount: 1, functions: [CARD] };
const writes = (unit: AmdUnit, bdf: number, address: bigint): bigint | null => unit.access(bdf, address, true);
const register = (vmm: Vmm, offset: number): number => Number(load(vmm, 0, AMD_BASE + BigInt(offset)));
const setRegister = (vmm: Vmm, offset: number, value: number): void => store(vmm, 0, AMD_BASE + BigInt(offset), value >>> 0);

function submit(vmm: Vmm, from: bigint, ...commands: [low: bigint, high: bigint][]): void {
  commands.forEach(([low, high], i) => {
    vmm.machine.memory.write(COMMANDS + from + BigInt(16 * i), 8, low);
    vmm.machine.memory.write(COMMANDS + from + BigInt(16 * i) + 8n, 8, high);
  });
  setRegister(vmm, AMD.COMMAND_TAIL, Number(from) + 16 * commands.length);
}

/** What a restored unit is compared by. That an event was logged is the kernel's to be told. */
const snapshot = (unit: AmdUnit): object => Object.fromEntries([...unit.registers].filter(([, value]) => value !== 0n).sort(([a], [b]) => a - b));

function expectSameReach(vmm: Vmm, unit: AmdUnit, instance: number, bdf: number): void {
  const edges = [0n, MIB, REGION, REGION + REGION_SIZE, ANNEX, ANNEX + ANNEX_SIZE, BASE, BASE + MIB, BASE + SIZE, ECAM, ECAM + 4n * MIB, AMD_BASE, AMD_BASE + 0x4000n, GIB, 4n * GIB];
  const addresses = [...edges.flatMap((edge) => [edge - 0x1000n, edge]), ...Array.from({ length: 512 }, (_, i) => BigInt(i) * 16n * MIB)].filter((address) => address >= 0n);
  for (const address of addresses) {
    const page = reaches(vmm, instance, address);
    const seen = [unit.access(bdf, address, false), unit.access(bdf, address, true)];
    expect(seen, `0x${address.toString(16)}`).toEqual([page ? page.host : null, page && page.permissions & 2n ? page.host : null]);
  }
}

describe("devices beneath AMD's IOMMU", () => {
  test("reach what their kernel reaches, which leaves it off, and are kept from the VMM", () => {
    const { vmm, unit } = machine();
    expect(status(vmm) & DMA).toBe(DMA);
    expectSameReach(vmm, unit, 1, NIC);
    status(vmm);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(writes(unit, NIC, REGION + 0x1234n)).toBeNull();
    expect(unit.access(DISK, REGION, false)).toBeNull();
    expect(violations(vmm, from)).toEqual([{ instance: 1, address: REGION + 0x1000n, bdf: NIC, write: true }, { instance: 1, address: REGION, bdf: DISK, write: false }]);
    expect([AMD.CONTROL, AMD.TABLE, AMD.COMMANDS, AMD.STATUS].map((offset) => register(vmm, offset) & ~2)).toEqual([0, 0, 0, 0]);
  });

  test("are confined whatever the number of their bus", () => {
    const { vmm, unit } = machine(undefined, 255);
    expect(status(vmm) & DMA).toBe(DMA);
    expect([OWN, REGION, ANNEX].map((address) => writes(unit, 0xff00, address))).toEqual([OWN, null, null]);
  });

  test("are a second instance's, in its memory alone, with a table of interrupts that is not the first's", () => {
    const { vmm, unit } = machine(translates);
    const before = writes(unit, CARD, OWN);
    expect(before).toBe(OWN);
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(writes(unit, CARD, 0x7000n)).toBe(BASE + 0x7000n);
    expectSameReach(vmm, unit, 2, CARD);
    const interrupts = unit.lookUp(CARD)![2]!;
    expect([interrupts & 1n, interrupts >> 60n]).toEqual([1n, 2n]);
    expect((interrupts & 0xf_ffff_ffff_ffc0n) - REGION).toBeLessThan(REGION_SIZE);
    status(vmm);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(writes(unit, CARD, OWN)).toBeNull();
    expect(violations(vmm, from)).toEqual([{ instance: 2, address: OWN, bdf: CARD, write: true }]);
    expect(register(vmm, AMD.EVENT_TAIL)).toBe(0);
  });

  test("reach nothing when their instance has ended, and are the first's again once that has everything back", () => {
    const { vmm, unit } = machine();
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    for (const address of [BASE + 2n * MIB, OWN]) expect(writes(unit, CARD, address)).toBeNull();
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expectSameReach(vmm, unit, 1, CARD);
  });

  test("reach the whole machine after the hand-over, and the unit is off after the release", () => {
    const { vmm, unit } = machine(translates);
    expect(boot(vmm, grantCard)).toBe(OK);
    outb(vmm, 0, 0x604, 0x2000, 2);
    expect(writes(unit, NIC, IOVA)).toBeNull();
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    for (const bdf of [NIC, CARD]) expect([OWN, BASE + 2n * MIB, 0x7000n, REGION].map((address) => writes(unit, bdf, address))).toEqual([OWN, BASE + 2n * MIB, 0x7000n, null]);
    expect(unit.lookUp(IOAPIC)![2]).toBe(0n);
    expect(vmm.hypercall(1, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect([AMD.CONTROL, AMD.TABLE, AMD.COMMANDS, AMD.EVENTS].map((offset) => unit.get(offset))).toEqual([0n, 0n, 0n, 0n]);
  });

  test("go by their kernel's own tables where it has some, with the interrupts that it remaps", () => {
    const { vmm, unit } = machine(translates);
    expect(unit.get(AMD.TABLE) & ~0xfffn).not.toBe(TABLE);
    expect([writes(unit, NIC, IOVA + 0x10n), writes(unit, NIC, OWN), writes(unit, DISK, OWN), writes(unit, CARD, OWN), writes(unit, CARD, REGION)]).toEqual([OWN + 0x10n, null, null, OWN, null]);
    expect([NIC, CARD, IOAPIC].map((bdf) => unit.lookUp(bdf)![2])).toEqual(Array.from({ length: 3 }, () => INTERRUPTS | (2n << 60n) | 1n));
    expect([register(vmm, AMD.TABLE), register(vmm, AMD.CONTROL), register(vmm, AMD.COMMAND_TAIL), register(vmm, AMD.COMMAND_HEAD)]).toEqual([Number(TABLE | 3n), Number(ON), Number(PLACE), Number(PLACE)]);
  });

  test("have their own kernel told of what its tables keep them from, in its own log", () => {
    const { vmm, unit } = machine(translates);
    status(vmm);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(writes(unit, NIC, OWN)).toBeNull();
    expect(register(vmm, AMD.STATUS) & 2).toBe(2);
    expect(register(vmm, AMD.EVENT_TAIL)).toBe(16);
    expect([vmm.machine.memory.read(EVENTS, 8) & 0xffffn, vmm.machine.memory.read(EVENTS + 8n, 8)]).toEqual([BigInt(NIC), OWN]);
    expect(violations(vmm, from)).toEqual([]);
  });

  test("may keep translations where their kernel lets them, translated or not, and forget those of what is another's", () => {
    const KEEPS = 1n << 32n;
    const places = [OWN, REGION, BASE + 0x5000n];
    const { vmm, unit } = machine((made) => {
      translates(made);
      entry(made, DISK, RW | 3n, 6n | KEEPS);
      entry(made, NIC, PAGES | RW | (3n << 9n) | 3n, DOMAIN | KEEPS);
      made.vmm.machine.memory.write(PAGES + 0x2000n + ((IOVA >> 12n) & 511n) * 8n, 8, (BASE + 0x5000n) | RW | 1n);
      expect(places.map((place) => made.unit.accessByAts(DISK, place, true))).toEqual(places);
    });
    const kept = (): (bigint | null)[] => [...places.map((place) => unit.accessByAts(DISK, place, true)), unit.accessByAts(NIC, IOVA, true)];
    expect(kept()).toEqual([OWN, null, BASE + 0x5000n, BASE + 0x5000n]);
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(kept()).toEqual([OWN, null, null, null]);
    expect(unit.accessByAts(CARD, OWN, true)).toBeNull();
  });

  test("have other entries and pages when their kernel says so by its commands", () => {
    const made = machine(translates);
    const { vmm, unit } = made;
    const { memory } = vmm.machine;
    expect(writes(unit, NIC, IOVA)).toBe(OWN);
    store64(vmm, 0, PAGES + 0x2000n + ((IOVA >> 12n) & 511n) * 8n, (OWN + 0x1000n) | RW | 1n);
    expect(writes(unit, NIC, IOVA)).toBe(OWN);
    submit(vmm, PLACE, [(3n << 60n) | (DOMAIN << 32n), 0x7fff_ffff_ffff_f003n], [(1n << 60n) | (OWN + 0x8000n) | 1n, 77n]);
    expect([writes(unit, NIC, IOVA), memory.read(OWN + 0x8000n, 8)]).toEqual([OWN + 0x1000n, 77n]);
    expect(writes(unit, DISK, IOVA)).toBeNull();
    entry(made, DISK, PAGES | RW | (3n << 9n) | 3n, DOMAIN);
    submit(vmm, PLACE + 32n, [(2n << 60n) | BigInt(DISK), 0n]);
    expect(writes(unit, DISK, IOVA)).toBe(OWN + 0x1000n);
  });

  test("write nothing into memory that is not their kernel's by a command of it, and no command stops the unit", () => {
    const { vmm, unit } = machine(translates);
    const before = vmm.machine.memory.read(REGION + 0x2000n, 8);
    submit(vmm, PLACE, [(1n << 60n) | (REGION + 0x2000n) | 1n, 0x55n], [0n, 0n], [15n << 60n, 0n], [(4n << 60n) | 0x18n, 0n], [(1n << 60n) | (OWN + 0x8000n) | 3n, 78n]);
    expect([vmm.machine.memory.read(REGION + 0x2000n, 8), vmm.machine.memory.read(OWN + 0x8000n, 8), unit.interrupts]).toEqual([before, 78n, 1]);
    expect(unit.get(AMD.STATUS) & 0x10n).toBe(0x10n);
  });

  test("are given back with the unit as their kernel had it, register by register", () => {
    let before = {};
    const { vmm, unit } = machine((made) => {
      translates(made);
      before = snapshot(made.unit);
    });
    expect(snapshot(unit)).not.toEqual(before);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect(snapshot(unit)).toEqual(before);
    expect([writes(unit, NIC, IOVA), writes(unit, CARD, REGION)]).toEqual([OWN, REGION]);
  });

  test("are not confined where the unit can't be told to forget everything", () => {
    const { vmm, unit } = machine(({ unit: one }) => one.registers.set(AMD.FEATURES, 0n));
    expect(status(vmm) & DMA).toBe(0);
    expect(unit.get(AMD.CONTROL)).toBe(0n);
  });
});
