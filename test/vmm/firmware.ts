/** What a firmware leaves behind on the simulated machine: memory map, ACPI tables, MSRs; and a kernel file. */
import type { Machine } from "./machine.ts";

export const KIB = 1024n;
export const MIB = 0x10_0000n;
export const GIB = 0x4000_0000n;

export const RAM = 1;
export const RESERVED = 2;
export const ACPI_DATA = 3;
export const NVS = 4;

export interface Range { base: bigint; size: bigint; type: number }

/** A PC with just under 2 GiB below its device hole and 2 GiB above 4 GiB. */
export const MEMORY_MAP: Range[] = [
  { base: 0n, size: 0x9f000n, type: RAM },
  { base: 0x9f000n, size: 0x1000n, type: RESERVED },
  { base: 0xf0000n, size: 0x10000n, type: RESERVED },
  { base: MIB, size: 0x7ff0_0000n - MIB, type: RAM },
  { base: 0x7ff0_0000n, size: 0xe0000n, type: ACPI_DATA },
  { base: 0x7ffe_0000n, size: 0x20000n, type: NVS },
  { base: 0xfeff_c000n, size: 0x4000n, type: RESERVED },
  { base: 4n * GIB, size: 2n * GIB, type: RAM },
];

/** Where the tables lie: in the memory map's ACPI range. */
const TABLES = 0x7ff0_0000n;

export function bytes(...parts: (string | number | bigint | [value: number | bigint, size: number])[]): Uint8Array {
  const out: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") out.push(...Buffer.from(part, "latin1"));
    else {
      const [value, size] = Array.isArray(part) ? part : [part, 1];
      for (let i = 0; i < size; i++) out.push(Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
    }
  }
  return Uint8Array.from(out);
}

export function checksum(data: Uint8Array): number {
  return data.reduce((sum, byte) => (sum + byte) & 0xff, 0);
}

function table(signature: string, revision: number, ...body: Parameters<typeof bytes>): Uint8Array {
  const content = bytes(...body);
  const data = bytes(signature, [36 + content.length, 4], revision, 0, "UNDRST", "SIMULATD", [1, 4], "SIMU", [1, 4], ...[...content]);
  data[9] = -checksum(data) & 0xff;
  return data;
}

export interface Processors { apicIds: number[]; x2apic?: boolean }

/** MADT (ACPI 6.5, 5.2.12): processors, an IOAPIC, an interrupt override, LINT1 as NMI. */
export function madt({ apicIds, x2apic = false }: Processors): Uint8Array {
  const cpus = apicIds.map((id, uid) => (x2apic ? bytes(9, 16, 0, 0, [id, 4], [1, 4], [uid, 4]) : bytes(0, 8, uid, id, [1, 4])));
  return table("APIC", 4, [0xfee00000, 4], [1, 4],
    1, 12, 0, 0, [0xfec00000, 4], [0, 4],
    ...cpus.flatMap((cpu) => [...cpu]),
    2, 10, 0, 0, [2, 4], [0, 2],
    4, 6, 0xff, [0, 2], 1);
}

export const PM1_EVENT = 0x600;
export const PM1_CONTROL = 0x604;
export const PM_TIMER = 0x608;
export const GPE0 = 0x620;
const FADT_FLAGS = 0x400 | 0x25;

/** FADT (5.2.9). `length` cuts it off, as older revisions do. */
export function fadt({ dsdt = 0n, facs = 0n, extended = false, length = extended ? 148 : 129 }: { dsdt?: bigint; facs?: bigint; extended?: boolean; length?: number }): Uint8Array {
  const low = (address: bigint): [bigint, number] => [extended ? 0n : address, 4];
  const data = table("FACP", extended ? 3 : 1, low(facs), low(dsdt), 0, 0, [9, 2], [0xb2, 4], 0, 0, 0, 0,
    [PM1_EVENT, 4], [0, 4], [PM1_CONTROL, 4], [0, 4], [0, 4], [PM_TIMER, 4], [GPE0, 4], [0, 4],
    4, 2, 0, 4, 16, 0, 0, 0, [0, 2], [0, 2], [0, 2], [0, 2], 0, 0, 0, 0, 0x32, [3, 2], 0,
    [FADT_FLAGS, 4], 1, 8, 0, 1, [0xcf9, 8], 6, [0, 2], 0, [facs, 8], [dsdt, 8]).slice(0, length);
  data.set(bytes([length, 4]), 4);
  data[9] = 0;
  data[9] = -checksum(data) & 0xff;
  return data;
}

export interface AcpiOptions extends Processors {
  /** 0: RSDP and RSDT only; 2: with an XSDT. */
  revision?: 0 | 2;
  extended?: boolean;
  /** Signatures of tables besides FADT and MADT. */
  more?: string[];
  /** Where the RSDP is. */
  rsdp?: bigint;
  /** The last with configuration space in memory. */
  lastBus?: number;
}

function makeTable(signature: string, lastBus: number): Uint8Array {
  if (signature === "HPET") return table("HPET", 1, [0x8086a201, 4], 0, 0, 0, 0, [0xfed00000, 8], 0, [0, 2], 0);
  // Another segment's buses first, then those of segment 0.
  if (signature === "MCFG") return table("MCFG", 1, [0, 8], [0xc000_0000, 8], [1, 2], 0, 255, [0, 4], [0xb000_0000, 8], [0, 2], 0, lastBus, [0, 4]);
  // Intel's: another structure first (RMRR), then a unit of segment 0.
  if (signature === "DMAR") return table("DMAR", 1, 47, 1, [0, 10], [1, 2], [24, 2], [0, 20], [0, 2], [16, 2], 1, 0, [0, 2], [0xfed9_0000, 8]);
  // AMD's: the same unit by two revisions of its block; in the second a range of devices, one with a name, and the IOAPIC.
  if (signature === "IVRS") {
    const unit = (type: number, length: number): [value: number | bigint, size: number][] => [[type, 1], [0, 1], [length, 2], [2, 2], [0x40, 2], [0xfed8_0000, 8], [0, 2], [0, 2], [0, 4]];
    return table("IVRS", 2, [0, 4], [0, 8], ...unit(0x10, 32), 3, [8, 2], 0, 4, [0xffff, 2], 0,
      ...unit(0x11, 79), [0, 16], 2, [0x18, 2], 0, 0xf0, [0x20, 2], 0, ..."UNDR0001", [0, 8], 0, 1, "x".charCodeAt(0), 0x48, [0, 2], 0, 0, [0xa0, 2], 1);
  }
  return table(signature, 1, "content of ", signature);
}

/** Writes tables to memory; returns the RSDP's address. */
export function writeAcpi(machine: Machine, { revision = 2, extended = false, more = ["HPET"], rsdp = 0xf0010n, lastBus = 3, ...processors }: AcpiOptions): bigint {
  let next = TABLES;
  const place = (data: Uint8Array): bigint => {
    const at = next;
    machine.memory.writeBytes(at, data);
    next = (at + BigInt(data.length) + 63n) & ~63n;
    return at;
  };
  const dsdt = place(table("DSDT", 2, "AML byte code"));
  const facs = place(bytes("FACS", [64, 4], ...Array.from({ length: 56 }, () => 0)));
  const addresses = [place(fadt({ dsdt, facs, extended })), place(madt(processors))];
  for (const signature of more) {
    addresses.push(place(makeTable(signature, lastBus)));
  }
  const rsdt = place(table("RSDT", 1, ...addresses.map((at): [bigint, number] => [at, 4])));
  const xsdt = place(table("XSDT", 1, ...addresses.map((at): [bigint, number] => [at, 8])));
  const root = bytes("RSD PTR ", 0, "UNDRST", revision, [revision === 0 ? rsdt : 0n, 4], [36, 4], [revision === 0 ? 0n : xsdt, 8], 0, 0, 0, 0);
  root[8] = -checksum(root.subarray(0, 20)) & 0xff;
  root[32] = -checksum(root) & 0xff;
  machine.memory.writeBytes(rsdp, root);
  return rsdp;
}

/** Writes struct us_boot_info (linux/abi.h). */
export function writeBootInfo(machine: Machine, at: bigint, info: { regionBase: bigint; regionSize: bigint; annexBase: bigint; annexSize: bigint; rsdp: bigint; apicIds: number[]; map?: Range[]; tscKhz?: number }): void {
  const { map = MEMORY_MAP } = info;
  machine.memory.writeBytes(at, bytes([info.regionBase, 8], [info.regionSize, 8], [info.annexBase, 8], [info.annexSize, 8], [info.rsdp, 8], [info.tscKhz ?? 2_000_000, 4], [info.apicIds.length, 4],
    ...Array.from({ length: 32 }, (_, i): [number, number] => [info.apicIds[i] ?? 0xffffffff, 4]),
    [map.length, 4], [0, 4], ...map.flatMap(({ base, size, type }): [bigint | number, number][] => [[base, 8], [size, 8], [type, 4], [0, 4]])));
}

/** VMX capabilities of a Skylake, and what else its kernel has set. */
const PROCESSOR_MSRS: [number, bigint][] = [
  [0x3a, 5n], [0x174, 0x10n], [0x175, 0xfffffe00_00003000n], [0x176, 0xffffffff_81801530n], [0x1d9, 0n],
  [0x480, 0xda0400_00000004n], [0x486, 0x80000021n], [0x487, 0xffffffffn], [0x488, 0x2000n], [0x485, 0x7004c1e7n], [0x489, 0x7737ffn], [0x48b, 0x5fbcff_00000000n], [0x48c, 0xf01_06734141n],
  [0x48d, 0x7f_00000016n], [0x48e, 0xfff9fffe_04006172n], [0x48f, 0x1ffffff_00036dfbn], [0x490, 0x3ffff_000011fbn],
  [0xc0000080, 0xd01n], [0xc0000100, 0x7f12_3456_7000n], [0xc0000101, 0xffff8880_3fc00000n],
];

export interface Mtrrs { enabled?: boolean; fixedEnabled?: boolean; default?: number; fixed?: bigint[]; variable?: { base: bigint; mask: bigint; type: number }[]; count?: number }

const UC = 0;
const WB = 6;
const FIXED_MTRRS = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
export const ADDRESS_BITS = 39n;

/** The mask of a variable range of `size` bytes, a power of two. */
export function mtrrMask(size: bigint): bigint {
  return ((1n << ADDRESS_BITS) - 1n) & ~(size - 1n);
}

/** As firmware sets them: write-back, but for the BIOS area and the device hole. */
export const PC_MTRRS: Mtrrs = {
  default: WB,
  fixed: [...Array.from({ length: 2 }, () => 0x0606060606060606n), ...Array.from({ length: 9 }, () => 0n)],
  variable: [{ base: 0x8000_0000n, mask: mtrrMask(0x8000_0000n), type: UC }],
};

export function mtrrMsrs({ enabled = true, fixedEnabled = true, default: type = WB, fixed = [], variable = [], count = 8 }: Mtrrs): [number, bigint][] {
  return [
    [0xfe, BigInt(count) | 0x500n],
    [0x2ff, BigInt(type) | (fixedEnabled ? 0x400n : 0n) | (enabled ? 0x800n : 0n)],
    ...FIXED_MTRRS.map((msr, i): [number, bigint] => [msr, fixed[i] ?? 0n]),
    ...Array.from({ length: count }, (_, i): [number, bigint][] => [
      [0x200 + 2 * i, variable[i] ? variable[i].base | BigInt(variable[i].type) : 0n],
      [0x201 + 2 * i, variable[i] ? variable[i].mask | 0x800n : 0n],
    ]).flat(),
  ];
}

/** Gives every processor the MSRs, CPUID and GDT of a running 64-bit kernel. */
export function setUpProcessors(machine: Machine): void {
  machine.cpuid.set("1", [0x506e3, 0, 0x7ffafbff, 0xbfebfbff - 2 ** 32]).set("7:0", [1, 0x29c6fbf, 0x10014, 0]).set("13:0", [0x2e7, 0x440, 0xa88, 0]);
  for (const processor of machine.processors) {
    for (const [msr, value] of [...PROCESSOR_MSRS, ...mtrrMsrs(PC_MTRRS)]) processor.msrs.set(msr, value);
    const gdt = 0x200_0000n + BigInt(processor.index) * 0x1000n;
    const descriptors = [0n, 0xcf9b000000ffffn, 0xaf9b000000ffffn, 0xcf93000000ffffn, 0xcffb000000ffffn, 0xcff3000000ffffn, 0xaffb000000ffffn, 0n, ...taskDescriptor(0xfffffe00_00001000n)];
    machine.memory.writeBytes(gdt, bytes(...descriptors.map((one): [bigint, number] => [one, 8])));
    processor.gdtr = { base: gdt, limit: 0x7f };
  }
}

/** A busy 64-bit TSS's descriptor, or another system segment's, in two words. */
export function taskDescriptor(base: bigint, limit = 0x4087n, type = 0x8bn): [bigint, bigint] {
  return [(limit & 0xffffn) | ((base & 0xffffffn) << 16n) | (type << 40n) | (((limit >> 16n) & 15n) << 48n) | (((base >> 24n) & 0xffn) << 56n), base >> 32n];
}

export interface KernelOptions { magic?: string; version?: number; xloadflags?: number; initSize?: bigint; sectors?: number }

/** Writes the start of a bzImage so that its protected-mode part is at `load`; returns the file's address. */
export function writeKernel(machine: Machine, load: bigint, { magic = "HdrS", version = 0x20f, xloadflags = 0x3f, initSize = 0x200_0000n, sectors = 31 }: KernelOptions = {}): bigint {
  const at = load - BigInt(sectors + 1) * 512n;
  const { memory } = machine;
  memory.write(at + 0x1f1n, 1, BigInt(sectors));
  memory.write(at + 0x200n, 2, 0x6aebn);
  memory.writeBytes(at + 0x202n, bytes(magic, [version, 2]));
  memory.write(at + 0x211n, 1, 0n);
  memory.write(at + 0x236n, 2, BigInt(xloadflags));
  memory.write(at + 0x260n, 4, initSize);
  return at;
}
