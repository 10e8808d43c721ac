import { beforeEach, describe, expect, test } from "vitest";
import { type AcpiOptions, GIB, GPE0, PM1_CONTROL, PM1_EVENT, PM_TIMER, bytes, checksum, fadt, writeAcpi, writeBootInfo } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { PLACE, REGION, loadModules, viewOf } from "./vmm.ts";

const machine = new Machine();
const { memory } = machine;
const loaded = loadModules(machine, ["boot/acpi.ts"]);
const { call } = loaded;
const { OK, ACPI } = loaded.enums.Result as Record<string, number>;
const WINDOW = 0x4010_0000n;
const WINDOW_SIZE = 0x80000n;
const TOP = 6n * GIB - 5n;
const APIC_IDS = [0, 2, 4, 6];

/** The firmware's tables, and what the VMM's copy for the processors in `cpuMask` is found at. */
function copy(cpuMask: bigint, options: Partial<AcpiOptions> = {}, size = WINDOW_SIZE, window = WINDOW): bigint {
  setUp(options);
  return call.copyAcpi!(window, size, cpuMask, TOP);
}

function setUp(options: Partial<AcpiOptions> = {}, told = true): bigint {
  const rsdp = writeAcpi(machine, { apicIds: APIC_IDS, ...options });
  writeBootInfo(machine, REGION + 256n, { ...PLACE, rsdp: told ? rsdp : 0n, apicIds: APIC_IDS });
  return rsdp;
}

interface Table { at: bigint; data: Uint8Array }
const number = (data: Uint8Array, offset: number, size: number): bigint => data.subarray(offset, offset + size).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
const text = (data: Uint8Array, offset: number, size: number): string => Buffer.from(data.subarray(offset, offset + size)).toString("latin1");

function tableAt(at: bigint): Table {
  return { at, data: memory.readBytes(at, Number(memory.read(at + 4n, 4))) };
}

/** All tables that a kernel would find (ACPI 6.5, 5.2.5), with every checksum as it has to be; what is pointed at has its place in the list. */
function tablesFrom(rsdp: bigint): Record<string, Table> {
  const root = memory.readBytes(rsdp, 36);
  expect([text(root, 0, 8), root[15], number(root, 20, 4), checksum(root.subarray(0, 20)), checksum(root)]).toEqual(["RSD PTR ", 2, 36n, 0, 0]);
  const xsdt = tableAt(number(root, 24, 8));
  const tables: Record<string, Table> = { "RSD PTR ": { at: rsdp, data: root }, XSDT: xsdt };
  for (let offset = 36; offset < xsdt.data.length; offset += 8) {
    const table = tableAt(number(xsdt.data, offset, 8));
    tables[text(table.data, 0, 4)] = table;
  }
  tables.DSDT = tableAt(number(tables.FACP!.data, 40, 4));
  const facs = number(tables.FACP!.data, 36, 4);
  if (facs !== 0n) tables.FACS = { at: facs, data: memory.readBytes(facs, 64) };
  for (const [name, { data }] of Object.entries(tables)) {
    if (name !== "FACS") expect([name, text(data, 0, name.length), checksum(data)]).toEqual([name, name, 0]);
  }
  return tables;
}

interface MadtEntry { type: number; apicId: bigint }
function madtEntries({ data }: Table): MadtEntry[] {
  const entries: MadtEntry[] = [];
  for (let offset = 44; offset < data.length; offset += data[offset + 1]!) {
    entries.push({ type: data[offset]!, apicId: data[offset] === 9 ? number(data, offset + 4, 4) : BigInt(data[offset + 3]!) });
  }
  return entries;
}

beforeEach(() => memory.writeBytes(0xe0000n, new Uint8Array(0x20000)));

describe("the machine's tables", () => {
  test.each(["an RSDT", "an XSDT"])("are read through %s", (root) => {
    setUp({ revision: root === "an RSDT" ? 0 : 2 });
    expect(call.readPlatform!()).toBe(OK);
    const { pm1aEvent, pm1aControl, pmTimer, gpe0, pm1EventLength, gpe0Length, reset, resetValue, hpet } = viewOf(loaded, "Platform", loaded.addressOf("platform"));
    expect({ pm1aEvent, pm1aControl, pmTimer, gpe0, pm1EventLength, gpe0Length, reset, resetValue, hpet }).toEqual({
      pm1aEvent: PM1_EVENT, pm1aControl: PM1_CONTROL, pmTimer: PM_TIMER, gpe0: GPE0, pm1EventLength: 4, gpe0Length: 16, reset: 0xcf9, resetValue: 6, hpet: 0xfed00000n,
    });
    expect(call.ioapicBase!()).toBe(0xfec00000n);
  });

  test.each(["e0000", "f1230", "fffe0"])("are found in the BIOS area at %s, past a signature with a wrong sum", (place) => {
    const rsdp = BigInt(`0x${place}`);
    memory.writeBytes(0xe0010n, bytes("RSD PTR ", 1, "DECOY!", 2));
    setUp({ rsdp }, false);
    expect(call.findRsdp!()).toBe(rsdp);
    expect(call.readPlatform!()).toBe(OK);
  });

  test("are missed if there are none, and if they have no PM1 control block", () => {
    writeBootInfo(machine, REGION + 256n, { ...PLACE, rsdp: 0n, apicIds: [0] });
    expect([call.readPlatform!(), call.copyAcpi!(WINDOW, WINDOW_SIZE, 1n, TOP)]).toEqual([ACPI, 0n]);
    setUp();
    const tables = tablesOfFirmware();
    memory.write(tables.FACP! + 64n, 4, 0n);
    expect(call.readPlatform!()).toBe(ACPI);
  });

  test("with a root of impossible length are none", () => {
    const rsdp = setUp();
    memory.write(memory.read(rsdp + 24n, 8) + 4n, 4, 35n);
    expect([call.readPlatform!(), call.copyAcpi!(WINDOW, WINDOW_SIZE, 1n, TOP)]).toEqual([ACPI, 0n]);
  });
});

/** Addresses of the firmware's own tables. */
function tablesOfFirmware(): Record<string, bigint> {
  const xsdt = tableAt(memory.read(0xf0010n + 24n, 8));
  const out: Record<string, bigint> = {};
  for (let offset = 36; offset < xsdt.data.length; offset += 8) {
    const at = number(xsdt.data, offset, 8);
    out[text(memory.readBytes(at, 4), 0, 4)] = at;
  }
  return out;
}

describe("an instance's copy", () => {
  test.each([
    ["from an XSDT", { revision: 2 }], ["from an RSDT", { revision: 0 }], ["from a FADT with 64-bit addresses only", { extended: true }], ["with x2APIC processors", { x2apic: true }],
  ] as [string, Partial<AcpiOptions>][])("%s is whole, in the window, and has right checksums", (_how, options) => {
    const tables = tablesFrom(copy(0b1010n, { ...options, more: ["HPET", "MCFG", "WAET"] }));
    expect(Object.keys(tables).sort()).toEqual(["APIC", "DSDT", "FACP", "FACS", "HPET", "MCFG", "RSD PTR ", "SRAT", "WAET", "XSDT"]);
    expect(text(tables.WAET!.data, 36, 15)).toBe("content of WAET");
    expect(text(tables.DSDT!.data, 36, 13)).toBe("AML byte code");
    const places = Object.values(tables).sort((a, b) => Number(a.at - b.at));
    places.forEach(({ at, data }, i) => {
      expect(at >= WINDOW && at + BigInt(data.length) <= (places[i + 1]?.at ?? WINDOW + WINDOW_SIZE)).toBe(true);
    });
  });

  test.each([
    [[0], [0n, 2n, 4n, 6n]], [[3], [6n, 0n, 2n, 4n]], [[1, 3], [2n, 6n, 0n, 4n]], [[1, 2, 3], [2n, 4n, 6n, 0n]], [[0, 1, 2, 3], [0n, 2n, 4n, 6n]],
  ])("for processors %j lists them first, the others after them, and all else behind", (cpus, order) => {
    const cpuMask = cpus.reduce((mask, cpu) => mask | (1n << BigInt(cpu)), 0n);
    for (const x2apic of [false, true]) {
      const entries = madtEntries(tablesFrom(copy(cpuMask, { x2apic })).APIC!);
      expect(entries.slice(0, 4)).toEqual(order.map((apicId) => ({ type: x2apic ? 9 : 0, apicId })));
      expect(entries.slice(4).map(({ type }) => type)).toEqual([1, 2, 4]);
    }
  });

  test("has physical APIC destinations, and its flags are otherwise the machine's", () => {
    setUp();
    const original = number(tableAt(tablesOfFirmware().FACP!).data, 112, 4);
    expect(number(tablesFrom(copy(1n)).FACP!.data, 112, 4)).toBe(original | 0x80000n);
  });

  test("points to its own DSDT by both addresses, if there are both", () => {
    const { FACP, DSDT, FACS } = tablesFrom(copy(1n, { extended: true }));
    expect([number(FACP!.data, 140, 8), number(FACP!.data, 40, 4), number(FACP!.data, 132, 8), number(FACP!.data, 36, 4)]).toEqual([DSDT!.at, DSDT!.at, 0n, FACS!.at]);
  });

  test("of a FADT too old for flags is not written beyond its end", () => {
    setUp();
    const { FACP } = tablesOfFirmware();
    const dsdt = memory.read(FACP! + 40n, 4);
    memory.writeBytes(FACP!, fadt({ dsdt, length: 108 }));
    const tables = tablesFrom(call.copyAcpi!(WINDOW, WINDOW_SIZE, 1n, TOP));
    expect(tables.FACP!.data).toHaveLength(108);
    expect(tables.FACS).toBeUndefined();
  });

  test("is refused without a DSDT", () => {
    setUp();
    memory.write(tablesOfFirmware().FACP! + 40n, 4, 0n);
    expect(call.copyAcpi!(WINDOW, WINDOW_SIZE, 1n, TOP)).toBe(0n);
  });

  test("has an SRAT with every processor and all memory in node 0", () => {
    const { data } = tablesFrom(copy(0b0100n)).SRAT!;
    const entries: Uint8Array[] = [];
    for (let offset = 48; offset < data.length; offset += data[offset + 1]!) entries.push(data.subarray(offset, offset + data[offset + 1]!));
    const cpus = entries.filter((entry) => entry[0] === 0);
    const ranges = entries.filter((entry) => entry[0] === 1);
    expect(cpus.map((entry) => [entry.length, entry[2], entry[3], number(entry, 4, 4)])).toEqual(APIC_IDS.map((id) => [16, 0, id, 1n]));
    expect(ranges.map((entry) => [entry.length, number(entry, 2, 4), number(entry, 8, 8), number(entry, 16, 8), number(entry, 28, 4)])).toEqual([[40, 0n, 0n, 6n * GIB, 1n]]);
    expect(entries).toHaveLength(5);
  });

  test("keeps an SRAT that the machine has", () => {
    expect(text(tablesFrom(copy(1n, { more: ["SRAT"] })).SRAT!.data, 36, 15)).toBe("content of SRAT");
  });

  test("does not mention the IOMMU", () => {
    expect(Object.keys(tablesFrom(copy(1n, { more: ["DMAR", "IVRS", "HPET"] })))).toEqual(expect.not.arrayContaining(["DMAR", "IVRS"]));
  });

  test("leaves the machine's own tables as they are", () => {
    setUp();
    const before = memory.readBytes(0x7ff0_0000n, 4096);
    call.copyAcpi!(WINDOW, WINDOW_SIZE, 0b1010n, TOP);
    expect(memory.readBytes(0x7ff0_0000n, 4096)).toEqual(before);
  });

  test("in a window that is too small is refused, and nothing beyond the window is written", () => {
    const end = copy(1n) + 36n;
    const needed = ((end - WINDOW) / 64n + 3n) * 64n;
    const sentinel = new Uint8Array(256).fill(0xee);
    let smallest = 0n;
    for (let size = needed; size >= 0n; size -= 64n) {
      memory.writeBytes(WINDOW + size, sentinel);
      const found = call.copyAcpi!(WINDOW, size, 1n, TOP);
      expect([size, memory.readBytes(WINDOW + size, 256)]).toEqual([size, sentinel]);
      if (found !== 0n) {
        expect(smallest === 0n || smallest === size + 64n).toBe(true);
        smallest = size;
        tablesFrom(found);
      }
    }
    expect(smallest).toBeGreaterThanOrEqual(end - WINDOW);
    expect(smallest).toBeLessThan(needed);
  });

  test("holds no more tables than it has room to remember", () => {
    const signatures = Array.from({ length: 62 }, (_, i) => `SS${String(i).padStart(2, "0")}`);
    expect(copy(1n, { more: signatures })).toBe(0n); // with FADT, MADT and SRAT one more than 64
    expect(Object.keys(tablesFrom(copy(1n, { more: signatures.slice(1) })))).toHaveLength(64 + 4);
  });
});
