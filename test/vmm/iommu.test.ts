import { describe, expect, test } from "vitest";
import { GIB, MIB } from "./firmware.ts";
import { config } from "./pci-access.ts";
import { ECAM, PciExpress } from "./pci-express.ts";
import { BASE, BUFFER, HYPERCALL, SIZE, boot, load, mapKernel, outb, reaches, store, store64 } from "./scenario.ts";
import { IRE, QIE, SIRTP, SRTP, TE, VTD, VTD_BASE, VtdUnit } from "./vtd.ts";
import { ANNEX, ANNEX_SIZE, OK, REGION, REGION_SIZE, Vmm } from "./vmm.ts";

const PORT = 0x10, NIC = 0x18, DISK = 0x20, CARD = 0x100;
const DMA = 8;

/** Memory of the first instance's. */
const OWN = 0x2300_0000n;
/** Where its kernel has tables and a queue for the unit. */
const INTERRUPTS = 0x503_0000n, ROOT = 0x500_0000n, CONTEXTS = 0x501_0000n, PAGES = 0x502_0000n, QUEUE = 0x510_0000n;
/** An address that its kernel lets the network card use, the domain that it has given it, and how far its queue has come. */
const IOVA = 0x1000_0000n, DOMAIN = 5n, TAIL = 0x30n;

interface Made { vmm: Vmm; unit: VtdUnit; pci: PciExpress }

/** A machine whose kernel drives the unit, if at all; captured, and looked at once. */
function machine(drive: (made: Made) => void = () => {}): Made {
  const vmm = new Vmm({ acpi: { more: ["MCFG", "DMAR"] } });
  const pci = new PciExpress(vmm.machine);
  const made = { vmm, pci, unit: new VtdUnit(vmm.machine) };
  pci.add(0, 0x29c08086, 0x060000);
  pci.addPort(PORT, 1);
  pci.add(NIC, 0x10d38086, 0x020000);
  pci.add(DISK, 0x00101b36, 0x010802);
  pci.add(CARD, 0x11e81234, 0x00ff00);
  drive(made);
  for (const result of [vmm.prepare(), vmm.capture(0), vmm.capture(1)]) expect(result).toBe(OK);
  mapKernel(vmm);
  status(vmm);
  return made;
}

/** As Linux leaves it: the network card in a domain of its own, the disk in none, the card as it is; interrupts are remapped. */
function translates({ vmm: { machine: { memory } }, unit }: Made): void {
  const write = (offset: number, value: bigint): void => memory.write(unit.base + BigInt(offset), 8, value);
  memory.write(ROOT, 8, CONTEXTS | 1n);
  memory.write(ROOT + 16n, 8, (CONTEXTS + 0x1000n) | 1n);
  context(memory, NIC, PAGES | 1n, (DOMAIN << 8n) | 2n);
  context(memory, CARD, 9n, (6n << 8n) | 2n);
  for (const [level, shift] of [[0n, 39n], [1n, 30n], [2n, 21n]] as const) {
    memory.write(PAGES + level * 0x1000n + ((IOVA >> shift) & 511n) * 8n, 8, (PAGES + (level + 1n) * 0x1000n) | 3n);
  }
  memory.write(PAGES + 0x3000n + ((IOVA >> 12n) & 511n) * 8n, 8, OWN | 3n);
  write(VTD.IQA, QUEUE);
  memory.write(unit.base + BigInt(VTD.GCMD), 4, BigInt(QIE));
  for (let at = 0n; at < TAIL; at += 16n) {
    memory.write(QUEUE + at, 8, at + 16n === TAIL ? 0x1_0000_0025n : 0x11n);
    memory.write(QUEUE + at + 8n, 8, OWN + 0x8000n);
  }
  write(VTD.IQT, TAIL);
  write(VTD.RTADDR, ROOT);
  write(VTD.IRTA, INTERRUPTS | 7n);
  const on = QIE | IRE;
  for (const bits of [SRTP | SIRTP | QIE, on, (TE | on) >>> 0]) memory.write(unit.base + BigInt(VTD.GCMD), 4, BigInt(bits >>> 0));
}

function context(memory: Made["vmm"]["machine"]["memory"], bdf: number, low: bigint, high: bigint): void {
  const place = CONTEXTS + BigInt(bdf >> 8) * 0x1000n + BigInt(bdf & 0xff) * 16n;
  memory.write(place, 8, low);
  memory.write(place + 8n, 8, high);
}

function status(vmm: Vmm): number {
  expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: BigInt(vmm.loaded.layout("Status").size) })).toBe(OK);
  return vmm.view("Status", BUFFER).stillTrapped;
}

/** What a device has been kept from since. */
function violations(vmm: Vmm, from: bigint): object[] {
  status(vmm);
  return vmm.events(from).filter(({ type }) => type === "DMA_VIOLATION").map(({ instance, a, b }) => ({ instance, address: a, bdf: Number(b & 0xffffn), write: b >> 16n === 1n }));
}

const grantCard = { functionCount: 1, functions: [CARD] };
const writes = (unit: VtdUnit, bdf: number, address: bigint): bigint | null => unit.access(bdf, address, true);

/** The kernel's own look at a register, and a write; 32 bits. */
const register = (vmm: Vmm, offset: number): number => Number(load(vmm, 0, VTD_BASE + BigInt(offset)));
const setRegister = (vmm: Vmm, offset: number, value: number): void => store(vmm, 0, VTD_BASE + BigInt(offset), value >>> 0);

/** The kernel puts descriptors into its queue. */
function submit(vmm: Vmm, from: bigint, ...descriptors: [low: bigint, high: bigint][]): void {
  descriptors.forEach(([low, high], i) => {
    vmm.machine.memory.write(QUEUE + from + BigInt(16 * i), 8, low);
    vmm.machine.memory.write(QUEUE + from + BigInt(16 * i) + 8n, 8, high);
  });
  setRegister(vmm, VTD.IQT, Number(from) + 16 * descriptors.length);
}

/** What a restored unit is compared by: all registers that software sets, and what it has latched. */
function snapshot(unit: VtdUnit): object {
  return { root: unit.root, ...Object.fromEntries([...unit.registers].filter(([offset, value]) => value !== 0 && offset !== VTD.GCMD).sort(([a], [b]) => a - b)) };
}

/** Everything that an instance's processors reach in 64 KiB steps below 8 GiB, and a page around the edges, its devices do too, and nothing else. */
function expectSameReach(vmm: Vmm, unit: VtdUnit, instance: number, bdf: number): void {
  const edges = [0n, MIB, REGION, REGION + REGION_SIZE, ANNEX, ANNEX + ANNEX_SIZE, BASE, BASE + MIB, BASE + SIZE, ECAM, ECAM + 4n * MIB, VTD_BASE, VTD_BASE + 0x1000n, GIB, 4n * GIB];
  const addresses = [...edges.flatMap((edge) => [edge - 0x1000n, edge]), ...Array.from({ length: 512 }, (_, i) => BigInt(i) * 16n * MIB)].filter((address) => address >= 0n);
  for (const address of addresses) {
    const page = reaches(vmm, instance, address);
    const seen = [unit.access(bdf, address, false), unit.access(bdf, address, true)];
    expect(seen, `0x${address.toString(16)}`).toEqual([page ? page.host : null, page && page.permissions & 2n ? page.host : null]);
  }
}

describe("devices of a captured kernel that leaves the IOMMU off", () => {
  const { vmm, unit } = machine();

  test("reach what their kernel reaches", () => {
    expect(unit.get(VTD.GSTS) & TE).not.toBe(0);
    expect(status(vmm) & DMA).toBe(DMA);
    expectSameReach(vmm, unit, 1, NIC);
  });

  test("are kept from the VMM, which says so once", () => {
    status(vmm);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(writes(unit, NIC, REGION + 0x1234n)).toBeNull();
    expect(violations(vmm, from)).toEqual([{ instance: 1, address: REGION + 0x1000n, bdf: NIC, write: true }]);
    expect(unit.access(DISK, REGION, false)).toBeNull();
    expect(violations(vmm, from + 1n)).toEqual([{ instance: 1, address: REGION, bdf: DISK, write: false }]);
    expect(violations(vmm, from + 2n)).toEqual([]);
  });

  test("are off to that kernel", () => {
    expect([register(vmm, VTD.GSTS), register(vmm, VTD.RTADDR), register(vmm, VTD.IQA), register(vmm, 8)]).toEqual([0, 0, 0, unit.get(8)]);
  });
});

describe("a second instance's devices", () => {
  test("reach its memory, its own first MiB, and nothing of the first's", () => {
    const { vmm, unit } = machine();
    for (const address of [BASE, BASE + 0x123_4000n]) expect(writes(unit, NIC, address)).toBe(address);
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(writes(unit, CARD, 0x7000n)).toBe(BASE + 0x7000n);
    expectSameReach(vmm, unit, 2, CARD);
    // The unit had seen these for the first instance's.
    for (const address of [BASE, BASE + 0x123_4000n]) expect(writes(unit, NIC, address)).toBeNull();
    expectSameReach(vmm, unit, 1, NIC);
  });

  test("are told apart in what they are kept from", () => {
    const { vmm, unit } = machine();
    expect(boot(vmm, grantCard)).toBe(OK);
    const from = vmm.call.nextSequence!() as unknown as bigint;
    expect(writes(unit, CARD, OWN)).toBeNull();
    expect(violations(vmm, from)).toEqual([{ instance: 2, address: OWN, bdf: CARD, write: true }]);
  });

  test("are on a bus where nobody else may speak", () => {
    const { vmm, unit } = machine();
    expect(writes(unit, CARD + 1, OWN)).toBe(OWN);
    expect(boot(vmm, grantCard)).toBe(OK);
    for (const address of [OWN, BASE + 2n * MIB]) expect(writes(unit, CARD + 1, address)).toBeNull();
  });

  test("reach nothing when it has ended, and are the first's again once that has everything back", () => {
    const { vmm, unit } = machine();
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(writes(unit, CARD, BASE + 2n * MIB)).toBe(BASE + 2n * MIB);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    for (const address of [BASE + 2n * MIB, OWN]) expect(writes(unit, CARD, address)).toBeNull();
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expectSameReach(vmm, unit, 1, CARD);
  });

  test("reach the whole machine after the hand-over, never less than before, and their kernel finds the unit off", () => {
    const { vmm, unit } = machine(translates);
    expect(boot(vmm, grantCard)).toBe(OK);
    outb(vmm, 0, 0x604, 0x2000, 2);
    expect(writes(unit, NIC, IOVA)).toBeNull();
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    for (const bdf of [NIC, CARD]) expect([OWN, BASE + 2n * MIB, 0x7000n, REGION].map((address) => writes(unit, bdf, address))).toEqual([OWN, BASE + 2n * MIB, 0x7000n, null]);
    expect(unit.get(VTD.GSTS) & IRE).toBe(0);
    expect(vmm.hypercall(1, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect(unit.get(VTD.GSTS) & ~(SRTP | SIRTP)).toBe(0);
    expect([VTD.RTADDR, VTD.IQA, VTD.IQT, 0xb8].map((offset) => unit.get64(offset))).toEqual([0n, 0n, 0n, 0n]);
  });
});

describe("a kernel that drives the IOMMU", () => {
  test("goes on to translate for its devices by its own tables, and the unit is behind the VMM's", () => {
    const { vmm, unit } = machine(translates);
    expect(unit.root).not.toBe(ROOT);
    expect([writes(unit, NIC, IOVA + 0x10n), writes(unit, NIC, OWN), writes(unit, DISK, OWN), writes(unit, CARD, OWN), writes(unit, CARD, REGION)]).toEqual([OWN + 0x10n, null, null, OWN, null]);
    expect([register(vmm, VTD.GSTS) >>> 0, register(vmm, VTD.RTADDR), register(vmm, VTD.IQT), register(vmm, VTD.IQH)]).toEqual([(TE | SRTP | SIRTP | QIE | IRE) >>> 0, Number(ROOT), Number(TAIL), Number(TAIL)]);
  });

  test("is not told of faults that are not its own", () => {
    const { vmm, unit } = machine(translates);
    expect(writes(unit, CARD, REGION)).toBeNull();
    expect(register(vmm, VTD.FSTS)).toBe(0);
    expect(writes(unit, NIC, OWN)).toBeNull();
    expect([register(vmm, VTD.FSTS), register(vmm, VTD.FRCD + 8)]).toEqual([2, NIC]);
    setRegister(vmm, VTD.FRCD + 12, TE);
    expect(register(vmm, VTD.FSTS)).toBe(0);
  });

  test("changes its tables, and tells the unit by its queue", () => {
    const { vmm, unit } = machine(translates);
    const { memory } = vmm.machine;
    expect(writes(unit, NIC, IOVA)).toBe(OWN);
    store64(vmm, 0, PAGES + 0x3000n + ((IOVA >> 12n) & 511n) * 8n, (OWN + 0x1000n) | 3n);
    expect(writes(unit, NIC, IOVA)).toBe(OWN);
    submit(vmm, TAIL, [(DOMAIN << 16n) | 0x22n, 0n], [0x2_0000_0025n, OWN + 0x8000n]);
    expect(writes(unit, NIC, IOVA)).toBe(OWN + 0x1000n);
    expect(memory.read(OWN + 0x8000n, 4)).toBe(2n);
    context(memory, DISK, PAGES | 1n, (DOMAIN << 8n) | 2n);
    submit(vmm, TAIL + 32n, [0x11n, 0n]);
    expect(writes(unit, DISK, IOVA)).toBe(OWN + 0x1000n);
    expect(register(vmm, VTD.IQH)).toBe(Number(TAIL) + 48);
  });

  test("makes a device an entry where there was none, which it need not tell the unit: the VMM sees it before the device may master the bus", () => {
    const { vmm, unit } = machine(translates);
    context(vmm.machine.memory, DISK, PAGES | 1n, (DOMAIN << 8n) | 2n);
    expect(writes(unit, DISK, IOVA)).toBeNull();
    config(vmm, 0, DISK, 4, 2);
    expect(writes(unit, DISK, IOVA)).toBe(OWN);
  });

  test.each([
    ["the VMM's region", REGION + 0x2000n],
    ["the VMM's annex", ANNEX + 0x2000n],
    ["the other instance's", BASE + 2n * MIB],
  ])("has no word written into %s by its queue", (_whose, address) => {
    const { vmm } = machine(translates);
    expect(boot(vmm, grantCard)).toBe(OK);
    const before = vmm.machine.memory.read(address, 8);
    submit(vmm, TAIL, [0x5555_0000_0025n, address], [0x7_0000_0025n, OWN + 0x8000n]);
    expect(vmm.machine.memory.read(address, 8)).toBe(before);
    expect(vmm.machine.memory.read(OWN + 0x8000n, 4)).toBe(7n);
  });

  test("can put nonsense into its queue, and its root table where it holds nothing, and reaches nothing by that", () => {
    const { vmm, unit } = machine(translates);
    submit(vmm, TAIL, [0xfn, ~0n & (2n ** 64n - 1n)], [0x2n, 0n], [0x3n, 0n], [0x8_0000_0025n, OWN + 0x8000n]);
    expect(vmm.machine.memory.read(OWN + 0x8000n, 4)).toBe(8n);
    setRegister(vmm, VTD.RTADDR, Number(REGION));
    setRegister(vmm, VTD.GCMD, TE | SRTP | QIE | IRE);
    for (const bdf of [NIC, DISK, CARD]) expect([IOVA, OWN, REGION].map((address) => writes(unit, bdf, address))).toEqual([null, null, null]);
  });

  /** The network card may keep translations itself, and has some from before the capture; the kernel maps what will be another's. */
  function keeps(made: Made): void {
    translates(made);
    const { vmm: { machine: { memory } }, unit } = made;
    const entry = (address: bigint): bigint => PAGES + 0x3000n + ((address >> 12n) & 511n) * 8n;
    context(memory, NIC, PAGES | 5n, (DOMAIN << 8n) | 2n);
    memory.write(entry(IOVA + 0x1000n), 8, (REGION + 0x5000n) | 3n);
    memory.write(entry(IOVA + 0x2000n), 8, (BASE + 0x5000n) | 3n);
    for (const at of [0n, 0x1000n, 0x2000n]) expect(unit.accessByAts(NIC, IOVA + at, true)).not.toBeNull();
  }
  const keptBy = (unit: VtdUnit): (bigint | null)[] => [0n, 0x1000n, 0x2000n].map((at) => unit.accessByAts(NIC, IOVA + at, true));

  test("lets devices keep translations, and they forget those of what is not its any more", () => {
    const { vmm, unit } = machine(keeps);
    expect(keptBy(unit)).toEqual([OWN, null, BASE + 0x5000n]);
    expect(boot(vmm, grantCard)).toBe(OK);
    expect(keptBy(unit)).toEqual([OWN, null, null]);
  });

  test("has a device that does not answer when it is to forget its translations, and the next one is told", () => {
    const { vmm, unit } = machine(keeps);
    context(vmm.machine.memory, DISK, PAGES | 5n, (DOMAIN << 8n) | 2n);
    submit(vmm, TAIL, [0x11n, 0n]);
    expect(unit.accessByAts(DISK, IOVA + 0x2000n, true)).toBe(BASE + 0x5000n);
    unit.silent = 1;
    expect(boot(vmm, grantCard)).toBe(OK);
    expect([unit.silent, unit.accessByAts(DISK, IOVA + 0x2000n, true), register(vmm, VTD.FSTS)]).toEqual([0, null, 0]);
  });

  test("gives a device away, which then asks for translations no more", () => {
    const { vmm, unit, pci } = machine((made) => {
      translates(made);
      const config = made.pci.functions.get(CARD)!;
      config.setUint32(0x100, 0x1401_0001, true);
      config.setUint32(0x140, 0x0001_000f, true);
      config.setUint16(0x146, 0x8003, true);
    });
    expect(boot(vmm, grantCard)).toBe(OK);
    expect([pci.functions.get(CARD)!.getUint16(0x146, true), unit.accessByAts(CARD, BASE + 2n * MIB, true)]).toEqual([3, null]);
  });

  test("may have a context table for every bus", () => {
    const { vmm, unit } = machine((made) => {
      translates(made);
      for (let bus = 2n; bus < 256n; bus++) made.vmm.machine.memory.write(ROOT + bus * 16n, 8, (CONTEXTS + 0x1000n) | 1n);
    });
    expect(status(vmm) & DMA).toBe(DMA);
    expect([OWN, REGION, ANNEX].map((address) => writes(unit, 0xff00, address))).toEqual([OWN, null, null]);
  });

  test("may turn the unit off and on, which changes what stands behind it", () => {
    const { vmm, unit } = machine(translates);
    setRegister(vmm, VTD.GCMD, QIE | IRE);
    expect([writes(unit, NIC, OWN), writes(unit, NIC, REGION), register(vmm, VTD.GSTS) & TE]).toEqual([OWN, null, 0]);
    setRegister(vmm, VTD.GCMD, TE | QIE | IRE);
    expect([writes(unit, NIC, OWN), writes(unit, NIC, IOVA)]).toEqual([null, OWN]);
  });

  test("has its unit back with a release, register by register, its queue included", () => {
    let before = {};
    const { vmm, unit } = machine((made) => {
      translates(made);
      before = snapshot(made.unit);
    });
    const queue = vmm.machine.memory.readBytes(QUEUE, 4096);
    const marked = vmm.machine.memory.read(OWN + 0x8000n, 8);
    expect(snapshot(unit)).not.toEqual(before);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect(snapshot(unit)).toEqual(before);
    expect(vmm.machine.memory.readBytes(QUEUE, 4096)).toEqual(queue);
    expect(vmm.machine.memory.read(OWN + 0x8000n, 8)).toBe(marked);
    expect([writes(unit, NIC, IOVA), writes(unit, NIC, OWN), writes(unit, CARD, REGION)]).toEqual([OWN, null, REGION]);
    expect(register(vmm, VTD.RTADDR)).toBe(Number(ROOT));
  });
});

test("a release that is begun lets devices go, and they are confined again when another instance boots instead", () => {
  const { vmm, unit } = machine(translates);
  expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
  expect([status(vmm) & DMA, writes(unit, CARD, REGION)]).toEqual([0, REGION]);
  expect(boot(vmm, grantCard)).toBe(OK);
  expect([status(vmm) & DMA, writes(unit, CARD, REGION), writes(unit, CARD, BASE + 2n * MIB), writes(unit, NIC, IOVA)]).toEqual([DMA, null, BASE + 2n * MIB, OWN]);
});

describe("an IOMMU that the VMM can't drive", () => {
  test.each<[string, (made: Made) => void]>([
    ["in scalable mode", (made) => { translates(made); made.unit.registers.set(VTD.RTADDR, Number(ROOT) | 0x400); }],
    ["without large pages", ({ unit }) => unit.registers.set(0xc, 0)],
    ["without a queue", ({ unit }) => unit.registers.set(0x10, 0xf00f48)],
  ])("%s is left as it is, and status says that devices are not confined", (_why, drive) => {
    let before = {};
    const { vmm, unit } = machine((made) => {
      drive(made);
      before = snapshot(made.unit);
    });
    expect(status(vmm) & DMA).toBe(0);
    expect(snapshot(unit)).toEqual(before);
    expect(boot(vmm, grantCard)).toBe(OK);
  });
});

test.each([["goes back to the kernel with its I/O", 4, true], ["goes back with its memory", 2, true], ["confines devices still without its processors", 1, false]])("an IOMMU %s", (_what, part, back) => {
  const { vmm, unit } = machine(translates);
  expect(status(vmm) & DMA).toBe(DMA);
  expect(vmm.hypercall(0, HYPERCALL.DEVIRTUALIZE, { rsi: BigInt(part), rdx: 3n })).toBe(OK);
  // And stays there, though the VMM looks at its devices once more.
  expect([status(vmm) & DMA, writes(unit, CARD, REGION), writes(unit, NIC, IOVA)]).toEqual(back ? [0, REGION, OWN] : [DMA, null, OWN]);
  expect(reaches(vmm, 1, unit.base)?.permissions ?? 0n).toBe(back ? 7n : 0n);
});
