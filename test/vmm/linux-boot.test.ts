import { beforeEach, describe, expect, test } from "vitest";
import { ACPI_DATA, GIB, type KernelOptions, MEMORY_MAP, MIB, NVS, RAM, RESERVED, type Range, bytes, writeAcpi, writeBootInfo, writeKernel } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { ANNEX, ANNEX_SIZE, PLACE, REGION, REGION_SIZE, loadModules, viewOf } from "./vmm.ts";

const machine = new Machine();
const { memory } = machine;
const loaded = loadModules(machine, ["boot/linux.ts"]);
const { call } = loaded;
const result = loaded.enums.Result as Record<string, number>;
const VMM = 255;
const BASE = GIB + 256n * MIB;
const SIZE = 256n * MIB;
const LOAD = BASE + 64n * MIB;
const REQUEST = 0x6800_0000n;
const START = 0x6800_1000n;
const APIC_IDS = [0, 1];

/** The partition as a boot leaves it: this range is the second instance's. */
function partition(map: Range[] = MEMORY_MAP, base = BASE, size = SIZE): void {
  writeBootInfo(machine, REGION + 256n, { ...PLACE, rsdp: 0xf0010n, apicIds: APIC_IDS, map });
  call.resetPartition!(2);
  for (const range of map) if (range.type === RAM) call.addMemory!(range.base, range.size, 1);
  for (const [from, count, owner] of [[REGION, REGION_SIZE, VMM], [ANNEX, ANNEX_SIZE, VMM], [base, size, 2]] as const) expect(call.moveMemory!(from, count, 1, owner)).toBe(result.OK);
}

interface Request { memoryBase?: bigint; memorySize?: bigint; kernelAddress?: bigint; kernelSize?: bigint; initrdAddress?: bigint; initrdSize?: bigint; commandLine?: string }

/** A request that is right in everything that `changes` does not say. */
function request(kernelOptions: KernelOptions = {}, changes: Request = {}): void {
  const kernelAddress = writeKernel(machine, LOAD, kernelOptions);
  memory.writeBytes(REQUEST, new Uint8Array(2184));
  const view = viewOf(loaded, "BootRequest", REQUEST);
  const { commandLine, ...fields } = { memoryBase: BASE, memorySize: SIZE, kernelAddress, kernelSize: 8n * MIB, initrdAddress: BASE + 200n * MIB, initrdSize: 20n * MIB, commandLine: "console=ttyS0", ...changes };
  Object.assign(view, { ...fields, cpuMask: 0b10n });
  memory.writeBytes(view.commandLine, Buffer.from(commandLine, "latin1"));
}

beforeEach(() => {
  writeAcpi(machine, { apicIds: APIC_IDS });
  partition();
});

describe("a kernel is refused", () => {
  test.each([
    ["without the boot protocol's magic", { magic: "HdrT" }, {}, "KERNEL"],
    ["of a protocol before 2.12", { version: 0x20b }, {}, "KERNEL"],
    ["without a 64-bit entry", { xloadflags: 0x3e }, {}, "KERNEL"],
    ["that is not staged for 2 MiB alignment", { sectors: 31 }, { kernelAddress: LOAD - 31n * 512n }, "KERNEL"],
    ["shorter than a page", {}, { kernelSize: 4095n }, "KERNEL"],
    ["that ends with its setup part", {}, { kernelSize: 32n * 512n }, "KERNEL"],
    ["that unpacks beyond the range", { initSize: SIZE - 64n * MIB + 1n }, {}, "TOO_SMALL"],
    ["that lies below the range", {}, { kernelAddress: BASE - MIB }, "TOO_SMALL"],
    ["that lies on the boot data", {}, { kernelAddress: BASE + MIB }, "TOO_SMALL"],
    ["that ends beyond the range", {}, { kernelSize: SIZE }, "TOO_SMALL"],
    ["of a size that wraps", {}, { kernelSize: 2n ** 64n - 1n }, "TOO_SMALL"],
    ["with an initrd beyond the range", {}, { initrdAddress: BASE + SIZE - MIB, initrdSize: 2n * MIB }, "TOO_SMALL"],
    ["with an initrd on the boot data", {}, { initrdAddress: BASE + MIB }, "TOO_SMALL"],
    ["with an initrd of a size that wraps", {}, { initrdSize: 2n ** 64n - BASE }, "TOO_SMALL"],
    ["with an initrd where it unpacks", {}, { initrdAddress: LOAD + 31n * MIB, initrdSize: 4n * MIB }, "TOO_SMALL"],
    ["with an initrd around it", {}, { initrdAddress: BASE + 32n * MIB, initrdSize: 128n * MIB }, "TOO_SMALL"],
    ["with an initrd that ends on its first byte", {}, { initrdAddress: LOAD - 32n * 512n - 4096n, initrdSize: 4097n }, "TOO_SMALL"],
    ["with a command line that does not end", {}, { commandLine: "x".repeat(2048) }, "COMMAND_LINE"],
  ] as [string, KernelOptions, Request, string][])("%s", (_what, kernel, changes, code) => {
    request(kernel, changes);
    expect(call.checkKernel!(REQUEST)).toBe(result[code]);
  });

  test.each([
    ["as Debian's is staged", {}, {}],
    ["of protocol 2.12", { version: 0x20c }, {}],
    ["that unpacks up to the end of the range", { initSize: SIZE - 64n * MIB }, { initrdAddress: BASE + 4n * MIB, initrdSize: 8n * MIB }],
    ["without an initrd", {}, { initrdAddress: BASE + 2n * MIB, initrdSize: 0n }],
    ["with an initrd just behind it", {}, { initrdAddress: LOAD + 32n * MIB }],
    ["with an initrd just before it", {}, { initrdAddress: LOAD - 32n * 512n - 4096n, initrdSize: 4096n }],
    ["with the longest command line", {}, { commandLine: "x".repeat(2047) }],
  ] as [string, KernelOptions, Request][])("but not one %s", (_what, kernel, changes) => {
    request(kernel, changes);
    expect(call.checkKernel!(REQUEST)).toBe(result.OK);
  });
});

interface Entry { base: bigint; size: bigint; type: number }
function e820At(table: bigint, count: number): Entry[] {
  return Array.from({ length: count }, (_, i) => table + BigInt(20 * i)).map((at) => ({ base: memory.read(at, 8), size: memory.read(at + 8n, 8), type: Number(memory.read(at + 16n, 4)) }));
}

describe("the second instance's memory map", () => {
  const TABLE = 0x6810_0000n;
  const build = (base = BASE, size = SIZE): Entry[] => e820At(TABLE, call.buildE820!(TABLE, base, size));
  const typeAt = (map: Entry[], at: bigint): number[] => map.filter(({ base, size }) => at >= base && at < base + size).map(({ type }) => type);

  test("has its own RAM, the other's reserved, and the firmware's ranges", () => {
    expect(build()).toEqual([
      { base: 0n, size: 0x9f000n, type: RAM },
      { base: 0x9f000n, size: MIB - 0x9f000n, type: RESERVED },
      { base: MIB + 0x1000n, size: REGION - MIB - 0x1000n, type: RESERVED },
      { base: REGION, size: REGION_SIZE, type: RESERVED },
      { base: REGION + REGION_SIZE, size: ANNEX - REGION - REGION_SIZE, type: RESERVED },
      { base: ANNEX, size: ANNEX_SIZE, type: RESERVED },
      { base: ANNEX + ANNEX_SIZE, size: BASE - ANNEX - ANNEX_SIZE, type: RESERVED },
      { base: BASE + MIB, size: 0x80000n, type: ACPI_DATA },
      { base: BASE + MIB + 0x80000n, size: SIZE - MIB - 0x80000n, type: RAM },
      { base: BASE + SIZE, size: 0x7ff0_0000n - BASE - SIZE, type: RESERVED },
      { base: 4n * GIB, size: 2n * GIB, type: RESERVED },
      { base: 0x7ff0_0000n, size: 0xe0000n, type: ACPI_DATA },
      { base: 0x7ffe_0000n, size: 0x20000n, type: NVS },
      { base: 0xfeff_c000n, size: 0x4000n, type: RESERVED },
    ]);
  });

  test.each([
    ["in the middle", BASE, SIZE],
    ["at the beginning of a piece", 4n * GIB, GIB],
    ["at the end of a piece", 5n * GIB, GIB],
    ["beside the VMM's region", REGION + REGION_SIZE, 64n * MIB],
    ["all of a piece", 4n * GIB, 2n * GIB],
  ])("for a range %s has no overlaps, and nothing of the other's as its own", (_where, base, size) => {
    partition(MEMORY_MAP, base, size);
    const map = build(base, size);
    const sorted = [...map].sort((a, b) => Number(a.base - b.base));
    sorted.slice(1).forEach((entry, i) => expect(entry.base >= sorted[i]!.base + sorted[i]!.size).toBe(true));
    for (const entry of map.filter(({ type, base: start }) => type === RESERVED && start >= MIB)) {
      for (const at of [entry.base, entry.base + entry.size - 1n]) expect(call.ownerOf!(at)).not.toBe(2);
    }
    for (const entry of map.filter(({ type, base: start }) => type === RAM && start !== 0n)) {
      for (const at of [entry.base, entry.base + entry.size - 1n]) expect(call.ownerOf!(at)).toBe(2);
    }
    expect([typeAt(map, base), typeAt(map, base + MIB), typeAt(map, base + size - 1n)]).toEqual([[], [ACPI_DATA], [RAM]]);
    expect([REGION, REGION + REGION_SIZE - 1n, ANNEX, ANNEX + ANNEX_SIZE - 1n].map((at) => typeAt(map, at))).toEqual(Array(4).fill([RESERVED]));
  });

  test("does not fit when there are too many pieces, and nothing is written behind its 128 entries", () => {
    call.resetPartition!(2);
    for (let i = 0n; i < 127n; i++) call.addMemory!(4n * GIB + i * 4n * MIB, 2n * MIB, 1);
    memory.writeBytes(TABLE + 128n * 20n, new Uint8Array(64).fill(0xee));
    expect(call.buildE820!(TABLE, BASE, SIZE)).toBe(0);
    expect(memory.readBytes(TABLE + 128n * 20n, 64)).toEqual(new Uint8Array(64).fill(0xee));
  });
});

/** What the kernel's first page tables translate (SDM Vol. 3A, 5.5). */
function translate(cr3: bigint, linear: bigint): bigint | null {
  let table = cr3;
  for (const shift of [39n, 30n, 21n]) {
    const entry = memory.read(table + ((linear >> shift) & 511n) * 8n, 8);
    if ((entry & 3n) !== 3n) return null;
    if ((entry & 0x80n) !== 0n) return (entry & 0xfffffffff000n) | (linear & ((1n << shift) - 1n));
    table = entry & 0xfffffffff000n;
  }
  throw new Error("a fourth level");
}

describe("a prepared kernel", () => {
  const prepare = (changes: Request = {}): { params: bigint; start: Record<string, bigint> } => {
    request({}, changes);
    memory.writeBytes(BASE, new Uint8Array(4096).fill(0xdd));
    expect(call.prepareKernel!(REQUEST, START)).toBe(result.OK);
    const { entry, params, cr3, gdt } = viewOf(loaded, "KernelStart", START);
    return { params, start: { entry, params, cr3, gdt } };
  };
  const read = (at: bigint, size: 1 | 2 | 4 | 8): bigint => memory.read(at, size);

  test("is entered at its 64-bit entry, with everything else inside its range", () => {
    const { start } = prepare();
    expect(start.entry).toBe(LOAD + 0x200n);
    for (const at of [start.params!, start.cr3!, start.gdt!]) expect(at >= BASE + MIB && at < BASE + 2n * MIB && (at & 0xfffn) === 0n).toBe(true);
  });

  test("finds its setup header, and nothing of ours around it", () => {
    const { params } = prepare();
    expect([read(params + 0x202n, 4), read(params + 0x206n, 2), read(params + 0x260n, 4)]).toEqual([0x53726448n, 0x20fn, 0x200_0000n]);
    expect([read(params + 0x210n, 1), read(params + 0x211n, 1)]).toEqual([0xffn, 1n]);
    const known = [[0x70, 8], [0xc0, 4], [0xc8, 4], [0x1e8, 1], [0x1f1, 0x7b], [0x2d0, 128 * 20]] as const;
    const rest = memory.readBytes(params, 4096);
    for (const [offset, size] of known) rest.fill(0, offset, offset + size);
    expect(rest.every((byte) => byte === 0)).toBe(true);
  });

  test("finds initrd, command line, tables and memory map", () => {
    const { params } = prepare({ commandLine: "console=ttyS0 maxcpus=1" });
    expect([read(params + 0x218n, 4), read(params + 0x21cn, 4), read(params + 0xc0n, 4)]).toEqual([BASE + 200n * MIB, 20n * MIB, 0n]);
    const commandLine = read(params + 0x228n, 4) | (read(params + 0xc8n, 4) << 32n);
    expect(Buffer.from(memory.readBytes(commandLine, 24)).toString("latin1")).toBe("console=ttyS0 maxcpus=1\0");
    const rsdp = read(params + 0x70n, 8);
    expect(memory.readBytes(rsdp, 8)).toEqual(Uint8Array.from(bytes("RSD PTR ")));
    expect(rsdp >= BASE + MIB && rsdp < BASE + MIB + 0x80000n).toBe(true);
    const map = e820At(params + 0x2d0n, Number(read(params + 0x1e8n, 1)));
    expect(map).toContainEqual({ base: BASE + MIB + 0x80000n, size: SIZE - MIB - 0x80000n, type: RAM });
    expect(map).toHaveLength(14);
  });

  test("finds an SRAT that ends where the machine's RAM does, not where its devices do", () => {
    partition([...MEMORY_MAP, { base: 1012n * GIB, size: 12n * GIB, type: RESERVED }]);
    const { params } = prepare();
    const xsdt = read(read(params + 0x70n, 8) + 24n, 8);
    const tables = Array.from({ length: (Number(read(xsdt + 4n, 4)) - 36) / 8 }, (_, i) => read(xsdt + 36n + BigInt(8 * i), 8));
    const srat = tables.find((at) => read(at, 4) === 0x54415253n)!;
    expect(read(srat + read(srat + 4n, 4) - 24n, 8)).toBe(6n * GIB);
  });

  test("has its boot data in what its map calls RAM, beneath all that it unpacks", () => {
    const { params, start } = prepare();
    const map = e820At(params + 0x2d0n, Number(read(params + 0x1e8n, 1)));
    for (const at of [params, params + 4095n, start.cr3!, start.cr3! + 0x6000n - 1n, start.gdt!, read(params + 0x228n, 4) + 2047n]) {
      expect(map.filter(({ base, size }) => at >= base && at < base + size).map(({ type }) => type)).toEqual([RAM]);
      expect(at).toBeLessThan(BASE + 2n * MIB);
    }
  });

  test("runs on an identity map of 4 GiB, flat code and data segments", () => {
    const { start } = prepare();
    for (let at = 0x123n; at < 4n * GIB; at += 2n * MIB) expect(translate(start.cr3!, at)).toBe(at);
    expect(translate(start.cr3!, 4n * GIB)).toBeNull();
    expect([read(start.gdt!, 8), read(start.gdt! + 0x10n, 8), read(start.gdt! + 0x18n, 8)]).toEqual([0n, 0xaf9a000000ffffn, 0xcf92000000ffffn]);
  });

  test("has a first MiB of its own: empty, but for the firmware's data area and ROM", () => {
    memory.writeBytes(0x400n, bytes("BIOS data"));
    memory.writeBytes(0x8000n, bytes("trampoline of the first kernel"));
    memory.writeBytes(0xe0000n, bytes("_SM3_"));
    prepare();
    const low = (offset: bigint, size: number): Uint8Array => memory.readBytes(BASE + offset, size);
    expect(low(0x400n, 9)).toEqual(bytes("BIOS data"));
    expect(low(0xe0000n, 5)).toEqual(bytes("_SM3_"));
    expect(low(0xf0010n, 8)).toEqual(bytes("RSD PTR "));
    expect(low(0x1000n, 0xbf000).every((byte) => byte === 0)).toBe(true);
  });

  test("is refused without ACPI tables", () => {
    request();
    memory.writeBytes(0xf0000n, new Uint8Array(0x10000));
    writeBootInfo(machine, REGION + 256n, { ...PLACE, rsdp: 0n, apicIds: APIC_IDS });
    expect(call.prepareKernel!(REQUEST, START)).toBe(result.ACPI);
  });
});
