import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AMD, AMD_BASE, AmdUnit, COMMANDS_ON, ENABLE, EVENTS_ON } from "./amd-iommu.ts";
import { GIB, MIB } from "./firmware.ts";
import { PciExpress } from "./pci-express.ts";
import { BASE, BUFFER, HYPERCALL, SIZE, boot, mapKernel, reachable, reaches, store, store64, touch } from "./scenario.ts";
import { ANNEX, ANNEX_SIZE, OK, RAX, RBX, RCX, REGION, REGION_SIZE, Vmm } from "./vmm.ts";
import { QIE, SRTP, TE, VTD, VTD_BASE, VtdUnit } from "./vtd.ts";

const NIC = 0x18, DISK = 0x20;
/** Memory of the first instance's, and where its kernel has what it tells the unit: page tables from the root on. */
const OWN = 0x2300_0000n, TABLES = 0x502_0000n, ENTRIES = 0x500_0000n, QUEUE = 0x510_0000n, EVENTS = 0x511_0000n;
/** Of tables that are many. */
const MORE = 0x800_0000n;
const IOVA = 0x1000_0000n, DOMAIN = 5n, LEVELS = 4;
const table = (number: number): bigint => TABLES + BigInt(number) * 0x1000n;
const indexOf = (address: bigint, level: number): bigint => (address >> BigInt(12 + 9 * (level - 1))) & 511n;

/** What an entry says; `level` is that of the table it points at, or the one that a page's entry stands in. */
type Said = { kind: "table"; to: bigint; level: number; may: number } | { kind: "page"; to: bigint; level: number; may: number } | { kind: "none" };
const READ = 1, WRITE = 2;

interface Kind {
  name: string;
  table: string;
  unit(vmm: Vmm): VtdUnit | AmdUnit;
  entry(said: Said): bigint;
  /** Tells the unit of the tables, before the capture; nothing is in its queue. */
  drive(vmm: Vmm, unit: VtdUnit | AmdUnit): void;
  /** Gives a requester tables of `levels`, and tells the unit. */
  attach(vmm: Vmm, bdf: number, root: bigint, domain?: bigint): void;
  /** The kernel has the unit forget all that it has looked up of its domain. */
  forget(vmm: Vmm): void;
  /** Where the unit starts for a requester. */
  root(vmm: Vmm, unit: VtdUnit | AmdUnit, bdf: number): bigint;
}

const RW = 3n << 61n;
let place = 0n;
const vtd: Kind = {
  name: "VT-d",
  table: "DMAR",
  unit: (vmm) => new VtdUnit(vmm.machine),
  entry: (said) => (said.kind === "none" ? 0n : said.to | BigInt(said.may) | (said.kind === "page" && said.level > 1 ? 0x80n : 0n)),
  drive({ machine: { memory } }, unit) {
    memory.write(ENTRIES, 8, (ENTRIES + 0x1000n) | 1n);
    memory.write(unit.base + BigInt(VTD.IQA), 8, QUEUE);
    memory.write(unit.base + BigInt(VTD.RTADDR), 8, ENTRIES);
    for (const bits of [QIE, SRTP | QIE, (TE | QIE) >>> 0]) memory.write(unit.base + BigInt(VTD.GCMD), 4, BigInt(bits >>> 0));
  },
  attach(vmm, bdf, root, domain = DOMAIN) {
    vmm.machine.memory.write(ENTRIES + 0x1000n + BigInt(bdf) * 16n + 8n, 8, (domain << 8n) | BigInt(LEVELS - 2));
    vmm.machine.memory.write(ENTRIES + 0x1000n + BigInt(bdf) * 16n, 8, root && (root | 1n));
    submitVtd(vmm, 0x11n);
  },
  forget: (vmm) => submitVtd(vmm, (DOMAIN << 16n) | 0x22n),
  root(vmm, unit, bdf) {
    const { memory } = vmm.machine;
    const bus = memory.read((unit as VtdUnit).root, 8) & ~0xfffn;
    return memory.read(bus + BigInt(bdf) * 16n, 8) & ~0xfffn;
  },
};

function submitVtd(vmm: Vmm, low: bigint): void {
  if (!(vmm.machine.memory.read(VTD_BASE + BigInt(VTD.GSTS), 4) & BigInt(SRTP))) return;
  vmm.machine.memory.write(QUEUE + place, 8, low);
  vmm.machine.memory.write(QUEUE + place + 8n, 8, 0n);
  place = (place + 16n) % 0x1000n;
  store(vmm, 0, VTD_BASE + BigInt(VTD.IQT), Number(place));
}

const amd: Kind = {
  name: "AMD-Vi",
  table: "IVRS",
  unit: (vmm) => new AmdUnit(vmm.machine),
  entry: (said) => (said.kind === "none" ? 0n : said.to | 1n | (BigInt(said.may) << 61n) | (said.kind === "table" ? BigInt(said.level) << 9n : 0n)),
  drive({ machine: { memory } }, unit) {
    for (let bdf = 0n; bdf < 256n; bdf++) memory.write(ENTRIES + bdf * 32n, 8, 3n);
    const set = (offset: number, value: bigint): void => memory.write(unit.base + BigInt(offset), 8, value);
    set(AMD.TABLE, ENTRIES | 1n);
    set(AMD.COMMANDS, QUEUE | (8n << 56n));
    set(AMD.EVENTS, EVENTS | (8n << 56n));
    set(AMD.CONTROL, ENABLE | EVENTS_ON | COMMANDS_ON);
  },
  attach(vmm, bdf, root, domain = DOMAIN) {
    vmm.machine.memory.write(ENTRIES + BigInt(bdf) * 32n + 8n, 8, domain);
    vmm.machine.memory.write(ENTRIES + BigInt(bdf) * 32n, 8, root ? root | RW | (BigInt(LEVELS) << 9n) | 3n : 3n);
    submitAmd(vmm, (2n << 60n) | BigInt(bdf), 0n);
  },
  forget: (vmm) => submitAmd(vmm, (3n << 60n) | (DOMAIN << 32n), 0x7fff_ffff_ffff_f003n),
  root: (_vmm, unit, bdf) => (unit as AmdUnit).lookUp(bdf)![0]! & 0xf_ffff_ffff_f000n,
};

function submitAmd(vmm: Vmm, low: bigint, high: bigint): void {
  vmm.machine.memory.write(QUEUE + place, 8, low);
  vmm.machine.memory.write(QUEUE + place + 8n, 8, high);
  place = (place + 16n) % 0x1000n;
  store(vmm, 0, AMD_BASE + BigInt(AMD.COMMAND_TAIL), Number(place));
}

function status(vmm: Vmm): number {
  expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: BigInt(vmm.loaded.layout("Status").size) })).toBe(OK);
  return vmm.view("Status", BUFFER).stillTrapped;
}

describe.each([vtd, amd])("I/O page tables of a captured kernel, beneath $name", (kind) => {
  const { entry } = kind;
  const toTable = (to: bigint, level: number): bigint => entry({ kind: "table", to, level, may: READ | WRITE });
  const toPage = (to: bigint, level = 1, may = READ | WRITE): bigint => entry({ kind: "page", to, level, may });
  /** Where the kernel's entry of a level is for an address, in its first four tables. */
  const slot = (address: bigint, level: number): bigint => table(LEVELS - level) + indexOf(address, level) * 8n;

  /** A machine whose kernel has one domain, with one page of its own in it; `prepare` writes more before the capture. */
  function machine(prepare: (vmm: Vmm) => void = () => {}): { vmm: Vmm; unit: VtdUnit | AmdUnit } {
    place = 0n;
    const vmm = new Vmm({ acpi: { more: ["MCFG", kind.table] } });
    const pci = new PciExpress(vmm.machine);
    pci.add(0, 0x29c08086, 0x060000);
    pci.add(NIC, 0x10d38086, 0x020000);
    pci.add(DISK, 0x00101b36, 0x010802);
    const unit = kind.unit(vmm);
    const { memory } = vmm.machine;
    for (let level = LEVELS; level > 1; level--) memory.write(slot(IOVA, level), 8, toTable(table(LEVELS - level + 1), level - 1));
    memory.write(slot(IOVA, 1), 8, toPage(OWN));
    prepare(vmm);
    kind.drive(vmm, unit);
    const low = kind === vtd ? ENTRIES + 0x1000n + BigInt(NIC) * 16n : ENTRIES + BigInt(NIC) * 32n;
    memory.write(low + 8n, 8, kind === vtd ? (DOMAIN << 8n) | BigInt(LEVELS - 2) : DOMAIN);
    memory.write(low, 8, kind === vtd ? TABLES | 1n : TABLES | RW | (BigInt(LEVELS) << 9n) | 3n);
    for (const result of [vmm.prepare(), vmm.capture(0), vmm.capture(1)]) expect(result).toBe(OK);
    mapKernel(vmm);
    status(vmm);
    return { vmm, unit };
  }

  const mayWrite = (vmm: Vmm, page: bigint): boolean => ((reaches(vmm, 1, page)?.permissions ?? 0n) & 2n) !== 0n;
  const writes = (unit: VtdUnit | AmdUnit, address: bigint, bdf = NIC): bigint | null => unit.access(bdf, address, true);
  const eventsSince = (vmm: Vmm, from: bigint): object[] => {
    status(vmm);
    return vmm.events(from).filter(({ type }) => type === "DMA_VIOLATION").map(({ instance, a, b }) => ({ instance, address: a, bdf: Number(b & 0xffffn), write: b >> 16n === 1n }));
  };
  const next = (vmm: Vmm): bigint => vmm.call.nextSequence!() as unknown as bigint;

  test("are shadowed: the unit has its own, and the kernel's can't be written without an exit", () => {
    const { vmm, unit } = machine();
    expect(kind.root(vmm, unit, NIC)).not.toBe(TABLES);
    expect([0, 1, 2, 3, 4].map((i) => mayWrite(vmm, table(i)))).toEqual([false, false, false, false, true]);
    expect([writes(unit, IOVA + 8n), unit.access(NIC, IOVA, false), writes(unit, IOVA + 0x1000n), writes(unit, OWN)]).toEqual([OWN + 8n, OWN, null, null]);
  });

  test.each([["region", REGION + 0x5000n], ["annex", ANNEX + 0x5000n]])("map nothing of the VMM's %s, and an event names the device and the page", (_where, page) => {
    const { vmm, unit } = machine();
    store64(vmm, 0, slot(IOVA, 1) + 8n, toPage(page));
    store64(vmm, 0, slot(IOVA, 1) + 16n, toPage(OWN + 0x2000n));
    const from = next(vmm);
    expect([writes(unit, IOVA + 0x1010n), writes(unit, IOVA + 0x2000n)]).toEqual([null, OWN + 0x2000n]);
    expect(eventsSince(vmm, from)).toEqual([{ instance: 1, address: page, bdf: NIC, write: true }]);
    expect(vmm.machine.memory.read(slot(IOVA, 1) + 8n, 8)).toBe(toPage(page));
  });

  test("map what they mapped before they were captured as far as the instance reaches it, large pages too", () => {
    const giant = 0x40_0000_0000n;
    const { vmm, unit } = machine(({ machine: { memory } }) => {
      memory.write(slot(giant, 4), 8, toTable(table(1), 3));
      memory.write(table(1) + indexOf(giant, 3) * 8n, 8, toPage(REGION & ~(GIB - 1n), 3));
      memory.write(slot(IOVA, 2) + 8n, 8, toPage(REGION & ~(2n * MIB - 1n), 2));
    });
    const at = (physical: bigint): bigint => giant + (physical & (GIB - 1n));
    for (const [base, size] of [[REGION, REGION_SIZE], [ANNEX, ANNEX_SIZE]] as const) {
      const probes = [base - 0x1000n, base, base + size - 1n, base + size];
      expect(probes.map((one) => writes(unit, at(one)))).toEqual([base - 0x1000n, null, null, base + size]);
    }
    expect(writes(unit, IOVA + 2n * MIB)).toBeNull();
    expect(mayWrite(vmm, table(1))).toBe(false);
  });

  test("map nothing of another instance's while that is there, and again when its memory is back", () => {
    const { vmm, unit } = machine();
    store64(vmm, 0, slot(IOVA, 1) + 8n, toPage(BASE + 2n * MIB));
    store64(vmm, 0, slot(IOVA, 2) + 8n, toPage(BASE + SIZE - 2n * MIB, 2));
    store64(vmm, 0, slot(IOVA, 3) + 8n, toPage(BASE & ~(GIB - 1n), 3));
    const far = (IOVA & ~(GIB - 1n)) + GIB + (BASE & (GIB - 1n));
    const all = (): (bigint | null)[] => [IOVA, IOVA + 0x1000n, IOVA + 2n * MIB, far - 0x1000n, far, far + SIZE - 1n, far + SIZE].map((one) => writes(unit, one));
    const before = all();
    expect(before).toEqual([OWN, BASE + 2n * MIB, BASE + SIZE - 2n * MIB, BASE - 0x1000n, BASE, BASE + SIZE - 1n, BASE + SIZE]);
    expect(boot(vmm)).toBe(OK);
    expect(all()).toEqual([OWN, null, null, BASE - 0x1000n, null, null, BASE + SIZE]);
    status(vmm);
    const from = next(vmm);
    expect(writes(unit, IOVA + 0x1000n)).toBeNull();
    expect(eventsSince(vmm, from)).toEqual([{ instance: 1, address: BASE + 2n * MIB, bdf: NIC, write: true }]);
    store64(vmm, 0, slot(IOVA, 1) + 24n, toPage(BASE + 4n * MIB));
    expect(writes(unit, IOVA + 0x3000n)).toBeNull();
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(all()).toEqual([OWN, null, null, BASE - 0x1000n, null, null, BASE + SIZE]);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect([...all(), writes(unit, IOVA + 0x3000n)]).toEqual([...before, BASE + 4n * MIB]);
  });

  test("in memory that goes to another instance are none of the kernel's any more", () => {
    const inside = BASE + 8n * MIB;
    const { vmm, unit } = machine();
    store64(vmm, 0, inside, toPage(OWN));
    store64(vmm, 0, slot(IOVA, 2) + 8n, toTable(inside, 1));
    expect([writes(unit, IOVA + 2n * MIB), mayWrite(vmm, inside)]).toEqual([OWN, false]);
    expect(boot(vmm)).toBe(OK);
    expect([writes(unit, IOVA + 2n * MIB), reachable(vmm, 1, inside)[0], reachable(vmm, 2, inside)[0]]).toEqual([null, null, "same 7"]);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect(mayWrite(vmm, inside)).toBe(false);
  });

  test("are taken over when they are linked, by all processors, and let go when they are not", () => {
    const { vmm, unit } = machine();
    const [leaf, middle] = [table(8), table(9)];
    vmm.machine.memory.write(leaf + 8n, 8, toPage(OWN + 0x7000n));
    vmm.machine.memory.write(middle, 8, toTable(leaf, 1));
    const flushes = vmm.mapFlushes(1, 1);
    store64(vmm, 0, slot(IOVA, 3) + 8n, toTable(middle, 2));
    expect(vmm.mapFlushes(1, 1)).toBeGreaterThan(flushes);
    expect([mayWrite(vmm, leaf), mayWrite(vmm, middle)]).toEqual([false, false]);
    const at = (IOVA & ~(GIB - 1n)) + GIB;
    expect([writes(unit, at), writes(unit, at + 0x1000n)]).toEqual([null, OWN + 0x7000n]);
    store64(vmm, 1, leaf, toPage(OWN + 0x8000n));
    expect(writes(unit, at)).toBe(OWN + 0x8000n);
    store64(vmm, 0, slot(IOVA, 3) + 8n, 0n);
    kind.forget(vmm);
    expect([writes(unit, at), mayWrite(vmm, leaf), mayWrite(vmm, middle)]).toEqual([null, true, true]);
    // A processor that had looked the page up before goes on.
    touch(vmm, 1, leaf, [0x48, 0x89, 0x03]);
    expect(vmm.injected[1] ?? null).toBeNull();
    expect(vmm.read(1, "GUEST_RIP")).toBe(0x210_0000n);
  });

  test("are followed through every instruction that kernels write them with", () => {
    const { vmm, unit } = machine();
    const { memory } = vmm.machine;
    const at = slot(IOVA, 1) + 8n;
    const seen = (): bigint | null => {
      kind.forget(vmm);
      return writes(unit, IOVA + 0x1000n);
    };
    const flags = (): bigint => vmm.read(0, "GUEST_RFLAGS") & 0x8d5n;
    // lock cmpxchg [rcx], rdx
    const exchange = [0xf0, 0x48, 0x0f, 0xb1, 0x11];
    vmm.setRegister(0, RCX, at);
    vmm.setRegister(0, RAX, 0n);
    vmm.setRegister(0, 2, toPage(OWN + 0x1000n));
    touch(vmm, 0, at, exchange);
    expect([memory.read(at, 8), flags(), vmm.read(0, "GUEST_RIP")]).toEqual([toPage(OWN + 0x1000n), 0x44n, 0x210_0000n + BigInt(exchange.length)]);
    expect(seen()).toBe(OWN + 0x1000n);
    // It is not zero any more.
    vmm.setRegister(0, RAX, 0n);
    vmm.setRegister(0, 2, toPage(OWN + 0x3000n));
    touch(vmm, 0, at, exchange);
    expect([vmm.register(0, RAX), flags() & 0x41n, seen()]).toEqual([toPage(OWN + 0x1000n), 1n, OWN + 0x1000n]);
    // xchg [rbx], rax
    vmm.setRegister(0, RBX, at);
    vmm.setRegister(0, RAX, toPage(OWN + 0x4000n));
    touch(vmm, 0, at, [0x48, 0x87, 0x03]);
    expect([vmm.register(0, RAX), seen()]).toEqual([toPage(OWN + 0x1000n), OWN + 0x4000n]);
    // mov dword [rbx], eax: the low half
    vmm.setRegister(0, RAX, toPage(OWN + 0x5000n) & 0xffff_ffffn);
    touch(vmm, 0, at, [0x89, 0x03]);
    expect([seen(), memory.read(at, 8)]).toEqual([OWN + 0x5000n, toPage(OWN + 0x5000n)]);
    // mov byte [rbx + 1], 0x60
    touch(vmm, 0, at + 1n, [0xc6, 0x43, 0x01, 0x60]);
    expect([seen(), memory.read(at, 8)]).toEqual([OWN + 0x6000n, toPage(OWN + 0x6000n)]);
    // mov qword [rbx], 0
    touch(vmm, 0, at, [0x48, 0xc7, 0x03, 0, 0, 0, 0]);
    expect([seen(), memory.read(at, 8)]).toEqual([null, 0n]);
    expect(mayWrite(vmm, table(3))).toBe(false);
  });

  test("are none to devices once they are written in another way, until the kernel tells the unit of something", () => {
    const { vmm, unit } = machine();
    // movups [rbx], xmm0: the processor does it again when it may.
    touch(vmm, 0, slot(IOVA, 1), [0x0f, 0x11, 0x03]);
    expect([mayWrite(vmm, table(3)), vmm.read(0, "GUEST_RIP"), mayWrite(vmm, table(2))]).toEqual([true, 0x210_0000n, false]);
    vmm.machine.memory.write(slot(IOVA, 1), 8, toPage(REGION));
    vmm.machine.memory.write(slot(IOVA, 1) + 8n, 8, toPage(OWN + 0x1000n));
    expect([writes(unit, IOVA), writes(unit, IOVA + 0x1000n)]).toEqual([null, null]);
    kind.forget(vmm);
    expect([writes(unit, IOVA), writes(unit, IOVA + 0x1000n), mayWrite(vmm, table(3))]).toEqual([null, OWN + 0x1000n, false]);
  });

  test("map no more when a device writes them itself", () => {
    const { vmm, unit } = machine();
    store64(vmm, 0, slot(IOVA, 1) + 8n, toPage(table(3)));
    const reached = writes(unit, IOVA + 0x1000n)!;
    expect(reached).toBe(table(3));
    vmm.machine.memory.write(reached + indexOf(IOVA + 0x2000n, 1) * 8n, 8, toPage(REGION));
    expect([writes(unit, IOVA + 0x2000n), writes(unit, IOVA)]).toEqual([null, OWN]);
  });

  test.runIf(kind === amd)("map pages whose size is in their address, piece by piece", () => {
    const { vmm, unit } = machine();
    const sized = (to: bigint): bigint => to | 0x7000n | RW | (7n << 9n) | 1n;
    for (let i = 0n; i < 16n; i++) {
      store64(vmm, 0, slot(IOVA, 1) + 8n * (32n + i), sized(OWN + 0x20000n));
      store64(vmm, 0, slot(IOVA, 1) + 8n * (48n + i), sized(REGION));
    }
    for (let i = 0n; i < 16n; i++) expect([32n, 48n].map((first) => writes(unit, IOVA + (first + i) * 0x1000n))).toEqual([OWN + 0x20000n + i * 0x1000n, null]);
  });

  test("that are entries of themselves end somewhere", () => {
    const { vmm, unit } = machine();
    for (const level of [4, 3, 2]) store64(vmm, 0, TABLES + 511n * 8n, toTable(TABLES, level - 1));
    store64(vmm, 0, TABLES + 510n * 8n, toPage(REGION));
    expect([writes(unit, 0xffff_ffff_f000n), writes(unit, 0xffff_fffe_e000n), writes(unit, IOVA)]).toEqual([kind === vtd ? TABLES : null, null, OWN]);
    store64(vmm, 0, TABLES + 511n * 8n, 0n);
    expect([writes(unit, IOVA), mayWrite(vmm, TABLES)]).toEqual([OWN, false]);
  });

  test("are read as they will be, where the entry that is written makes its own table one of a lower level", () => {
    const { vmm, unit } = machine();
    const [own, other] = [table(1), table(6)];
    // One level of the table's goes with the entry before, and one comes with the new one.
    store64(vmm, 0, other, toTable(own, 1));
    store64(vmm, 0, own + 8n, toTable(other, 2));
    store64(vmm, 0, own + 5n * 8n, toPage(OWN));
    store64(vmm, 0, own + 8n, toTable(own, 2));
    const through = (index: bigint): bigint => (1n << 30n) | (1n << 21n) | (index << 12n);
    expect([writes(unit, through(5n)), writes(unit, through(1n))]).toEqual(kind === vtd ? [OWN, own] : [null, null]);
  });

  test("of a domain whose number is the VMM's are none", () => {
    const { vmm, unit } = machine();
    kind.attach(vmm, DISK, TABLES);
    expect(writes(unit, IOVA, DISK)).toBe(OWN);
    kind.attach(vmm, DISK, TABLES, kind === vtd ? 0xfffen : 0xfffdn);
    expect(writes(unit, IOVA, DISK)).toBeNull();
    kind.attach(vmm, DISK, REGION);
    expect(writes(unit, IOVA, DISK)).toBeNull();
  });

  /** How many tables can have a shadow. */
  const room = (vmm: Vmm): number => vmm.constant("ANNEX_PAGES") - vmm.call.reservedTables!();
  const at = (i: number): bigint => IOVA + BigInt(i + 1) * 2n * MIB;
  /** Whether the entry for an address is the first in a table of a GiB that there was none for. */
  const startsTable = (address: bigint): boolean => indexOf(address, 2) === 0n;

  /** The kernel makes so many more tables, each with a page, and those that they need above them. */
  function grow(vmm: Vmm, count: number, write = (place: bigint, entry: bigint): void => store64(vmm, 0, place, entry)): void {
    for (let i = 0; i < count; i++) {
      const directory = at(i) < GIB ? table(2) : MORE + indexOf(at(i), 3) * 0x1000n;
      const leaf = MORE + BigInt(16 + i) * 0x1000n;
      if (startsTable(at(i))) write(table(1) + indexOf(at(i), 3) * 8n, toTable(directory, 2));
      vmm.machine.memory.write(leaf, 8, toPage(OWN + BigInt(i) * 0x1000n));
      write(directory + indexOf(at(i), 2) * 8n, toTable(leaf, 1));
    }
  }

  /** How many of them there is room for, beside the tables of a machine. */
  function fitting(many: number): number {
    for (let i = 0, used = LEVELS; ; i++, used++) {
      if (startsTable(at(i))) used++;
      if (used === many) return i;
    }
  }

  test("may lie anywhere, each in other 2 MiB of memory", () => {
    const { vmm, unit } = machine();
    const leaf = (i: number): bigint => MORE + BigInt(i) * 2n * MIB;
    for (let i = 0; i < 200; i++) {
      vmm.machine.memory.write(leaf(i), 8, toPage(OWN + BigInt(i) * 0x1000n));
      store64(vmm, 0, slot(at(i), 2), toTable(leaf(i), 1));
    }
    for (const i of [0, 100, 199]) expect([writes(unit, at(i)), mayWrite(vmm, leaf(i))]).toEqual([OWN + BigInt(i) * 0x1000n, false]);
    expect(status(vmm) & 8).toBe(8);
  });

  test("that are too many are kept from devices beside another instance, and the kernel's others are not", () => {
    const { vmm, unit } = machine();
    expect(boot(vmm)).toBe(OK);
    const from = next(vmm);
    const many = room(vmm);
    expect(many).toBeGreaterThan(480);
    grow(vmm, many);
    const last = fitting(many) - 1;
    expect([writes(unit, IOVA), writes(unit, at(0)), writes(unit, at(last)), writes(unit, at(last + 1))]).toEqual([OWN, OWN, OWN + BigInt(last) * 0x1000n, null]);
    expect(vmm.events(from).filter(({ type }) => type === "IO_TABLES").map(({ instance, a }) => [instance, a])).toEqual([[1, BigInt(many)]]);
    // With what the kernel unmaps there is room.
    for (let i = 0; i < 40; i++) store64(vmm, 0, slot(IOVA, 2) + 8n * BigInt(i + 1), 0n);
    kind.forget(vmm);
    expect([writes(unit, at(0)), writes(unit, at(many - 1))]).toEqual([null, OWN + BigInt(many - 1) * 0x1000n]);
  });

  test("that are too many are all the unit's where no other instance is, and status says so", () => {
    const { vmm, unit } = machine();
    const from = next(vmm);
    const many = room(vmm);
    grow(vmm, many);
    expect([IOVA, at(0), at(many - 1)].map((one) => writes(unit, one))).toEqual([OWN, OWN, OWN + BigInt(many - 1) * 0x1000n]);
    expect([kind.root(vmm, unit, NIC), mayWrite(vmm, TABLES), mayWrite(vmm, MORE + 0x14000n), status(vmm) & 8]).toEqual([TABLES, true, true, 0]);
    expect(vmm.events(from).filter(({ type }) => type === "IO_TABLES").map(({ instance, b }) => [instance, b])).toEqual([[1, 0n], [1, 1n]]);
  });

  test("that are too many from the start are the unit's, as status says and an event; all else is confined", () => {
    const { vmm, unit } = machine((vmm) => grow(vmm, 512, (place, entry) => vmm.machine.memory.write(place, 8, entry)));
    expect(room(vmm) / 2).toBeLessThanOrEqual(512);
    expect(status(vmm) & 8).toBe(0);
    expect([kind.root(vmm, unit, NIC), mayWrite(vmm, TABLES), mayWrite(vmm, MORE + 0x14000n), writes(unit, IOVA)]).toEqual([TABLES, true, true, OWN]);
    expect(vmm.events(0n).filter(({ type }) => type === "IO_TABLES").map(({ instance, b }) => [instance, b])).toEqual([[1, 1n]]);
    kind.attach(vmm, DISK, 0n);
    expect([writes(unit, OWN, DISK), writes(unit, REGION, DISK)]).toEqual([null, null]);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect([kind.root(vmm, unit, NIC), writes(unit, IOVA)]).toEqual([TABLES, OWN]);
  });

  test("are the kernel's alone again after a release", () => {
    const { vmm, unit } = machine();
    store64(vmm, 0, slot(IOVA, 1) + 8n, toPage(REGION));
    const tables = vmm.machine.memory.readBytes(TABLES, 5 * 4096);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 3n })).toBe(OK);
    expect([0, 1, 2, 3].map((i) => mayWrite(vmm, table(i)))).toEqual([true, true, true, true]);
    expect(vmm.machine.memory.readBytes(TABLES, 5 * 4096)).toEqual(tables);
    expect([kind.root(vmm, unit, NIC), writes(unit, IOVA), writes(unit, IOVA + 0x1000n)]).toEqual([TABLES, OWN, REGION]);
  });

  test("let devices reach what they map of the instance's memory, and nothing else, whatever the kernel writes (property)", () => {
    const { vmm, unit } = machine();
    const { memory } = vmm.machine;
    expect(boot(vmm)).toBe(OK);
    /** The walk through the kernel's own tables (by levels that descend one by one). */
    const walk = (address: bigint): bigint | null => {
      let at = TABLES;
      for (let level = LEVELS; level > 0; level--) {
        const value = memory.read(at + indexOf(address, level) * 8n, 8);
        const said = said64(kind, value, level);
        if (said.kind === "none" || !(said.may & WRITE)) return null;
        const within = (1n << BigInt(12 + 9 * (level - 1))) - 1n;
        if (said.kind === "page") return (said.to & ~within) | (address & within);
        if (!isOwn(vmm, said.to)) return null;
        for (; level - 1 > said.level; level--) if (indexOf(address, level - 1)) return null;
        at = said.to;
      }
      return null;
    };
    const target = fc.constantFrom(OWN, REGION, REGION + 0x3000n, ANNEX, ANNEX + 0x3000n, BASE, BASE + SIZE - 0x1000n, 0n, 0x7000n, table(2), table(5), VTD_BASE & ~(2n * MIB - 1n), REGION & ~(GIB - 1n), BASE & ~(GIB - 1n), 0x1_0000_0000n);
    const change = fc.record({ table: fc.nat(9), index: fc.constantFrom(0, 1, 128, 511), page: fc.boolean(), level: fc.integer({ min: 1, max: 3 }), child: fc.nat(11), target, may: fc.integer({ min: 0, max: 3 }), cpu: fc.nat(1) });
    const probe = fc.record({ indices: fc.tuple(...Array.from({ length: 4 }, () => fc.constantFrom(0n, 1n, 128n, 511n))), offset: fc.constantFrom(0n, 0xff8n) });
    fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), fc.array(probe, { minLength: 8, maxLength: 16 }), (changes, probes) => {
      for (const one of changes) {
        const to = one.page ? one.target : one.child < 10 ? table(one.child) : one.child === 10 ? REGION : BASE;
        store64(vmm, 0, table(one.table) + BigInt(one.index) * 8n, entry({ kind: one.page ? "page" : "table", to, level: one.level, may: one.may }));
      }
      kind.forget(vmm);
      for (const { indices: [a, b, c, d], offset } of probes) {
        const address = (a! << 39n) | (b! << 30n) | (c! << 21n) | (d! << 12n) | offset;
        const meant = walk(address);
        const page = meant === null ? null : reaches(vmm, 1, meant);
        // Tables that no processor may write its devices may.
        const right = page && (page.permissions & 2n || isOwn(vmm, meant!)) ? meant : null;
        expect(writes(unit, address), `0x${address.toString(16)}`).toBe(right);
      }
    }), { numRuns: 150 });
  });
});

/** Reads an entry of the kernel's as the unit would. */
function said64(kind: Kind, value: bigint, level: number): Said {
  const to = value & 0xf_ffff_ffff_f000n;
  if (kind === vtd) {
    if (!(value & 3n)) return { kind: "none" };
    const isPage = level === 1 || (value & 0x80n) !== 0n;
    return level === 4 && isPage ? { kind: "none" } : { kind: isPage ? "page" : "table", to, level: level - 1, may: Number(value & 3n) };
  }
  if (!(value & 1n)) return { kind: "none" };
  const deeper = Number((value >> 9n) & 7n);
  if (deeper >= level) return { kind: "none" };
  return { kind: deeper === 0 ? "page" : "table", to, level: deeper, may: Number((value >> 61n) & 3n) };
}

function isOwn(vmm: Vmm, page: bigint): boolean {
  return vmm.call.holdsMemory!(1, page & ~0xfffn, 0x1000n) as unknown as boolean;
}
