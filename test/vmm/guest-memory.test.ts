import { beforeEach, describe, expect, test } from "vitest";
import { MIB, bytes } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { loadModules, viewOf } from "./vmm.ts";

const machine = new Machine();
const { memory } = machine;
const loaded = loadModules(machine, ["instance/guest-memory.ts"]);
const { call } = loaded;
/** Of the second instance. */
const vcpu: bigint = call.vcpuOf!(2, 0);
viewOf(loaded, "Vcpu", vcpu).instance = 2;
/** The second instance's range; its first MiB is the start of it. */
const BASE = 0x5000_0000n;
const SIZE = 64n * MIB;
const TABLES = BASE + 16n * MIB;
const OUT = 0x7000_0000n;
const PRESENT = 1n;
const LARGE = 0x80n;
const CR0_PG = 0x8000_0000n;
const CR4_LA57 = 0x1000n;

function setControl(cr0: bigint, cr3: bigint, cr4: bigint): void {
  machine.now.vmcs = { fields: new Map([[0x6800, cr0], [0x6802, cr3], [0x6804, cr4]]), launched: true, on: machine.now };
}

let nextTable = TABLES;
/** Maps a linear address: an entry of `size` bytes with these flags, with the tables on the way to it. */
function map(linear: bigint, physical: bigint, size: bigint, flags = PRESENT, levels = 4): void {
  let table = TABLES;
  for (let level = levels; ; level--) {
    const shift = 12n + 9n * BigInt(level - 1);
    const slot = table + ((linear >> shift) & 511n) * 8n;
    if (1n << shift === size) {
      memory.write(slot, 8, physical | flags | (level > 1 ? LARGE : 0n) | 1n << 63n);
      return;
    }
    if ((memory.read(slot, 8) & PRESENT) === 0n) memory.write(slot, 8, (nextTable += 4096n) | PRESENT | 0x66n);
    table = memory.read(slot, 8) & 0xffff_ffff_f000n;
  }
}

/** The bytes that the VMM gets at a linear address. */
function fetched(linear: bigint): string {
  memory.writeBytes(OUT, new Uint8Array(16));
  const count: number = call.fetchInstruction!(vcpu, linear, OUT);
  return Buffer.from(memory.readBytes(OUT, count)).toString("latin1");
}

beforeEach(() => {
  call.resetPartition!(2);
  for (const [base, size, owner] of [[0n, 0x9f000n, 1], [MIB, BASE - MIB, 1], [BASE, SIZE, 2], [BASE + SIZE, 64n * MIB, 1]] as const) call.addMemory!(base, size, owner);
  call.setLowBase!(1, 0n);
  call.setLowBase!(2, BASE);
  memory.writeBytes(TABLES, new Uint8Array(16 * 4096));
  nextTable = TABLES;
  setControl(CR0_PG | 1n, TABLES | 0x18n, 0x20n);
});

describe("a guest-physical address", () => {
  test.each([
    ["of its range is the same for the host", BASE + 2n * MIB, 4096n, BASE + 2n * MIB],
    ["below 1 MiB is at the start of its range", 0x3000n, 16n, BASE + 0x3000n],
    ["up to 1 MiB exactly too", MIB - 16n, 16n, BASE + MIB - 16n],
    ["that runs over 1 MiB is none", MIB - 16n, 17n, null],
    ["of another is none", 0x4000_0000n, 1n, null],
    ["that runs out of its range is none", BASE + SIZE - 1n, 2n, null],
    ["that wraps is none", BASE, 2n ** 64n - 1n, null],
  ])("%s", (_what, address, size, host) => expect(call.guestToHost!(2, address, size)).toEqual(host === null ? { mapped: false } : { mapped: true, at: host }));

  test("below 1 MiB is itself for an instance without a shadow", () => {
    expect([call.guestToHost!(1, 0x3000n, 16n), call.guestToHost!(1, 0xa0000n, 16n)]).toEqual([{ mapped: true, at: 0x3000n }, { mapped: false }]);
  });
});

describe("an instruction is fetched", () => {
  const KERNEL = 0xffff_ffff_8100_0000n;
  const CODE = BASE + 8n * MIB;
  const TEXT = "0123456789abcdefghij";

  test.each([
    ["a page of 4 KiB", 4096n, 0xff0n], ["a page of 2 MiB", 2n * MIB, 0x12_3450n],
  ])("from %s, wherever it is in it", (_what, size, offset) => {
    map(KERNEL, CODE, size);
    memory.writeBytes(CODE + offset, bytes(TEXT));
    expect(fetched(KERNEL + offset)).toBe(TEXT.slice(0, 15));
  });

  test("from a page of 1 GiB", () => {
    map(0xffff_8880_0000_0000n, 0x4000_0000n, 0x4000_0000n);
    memory.writeBytes(CODE + 0x345n, bytes(TEXT));
    expect(fetched(0xffff_8880_0000_0000n + CODE - 0x4000_0000n + 0x345n)).toBe(TEXT.slice(0, 15));
  });

  test("from two pages that lie apart, and from the first alone if the second is not there", () => {
    map(KERNEL, CODE, 4096n);
    memory.writeBytes(CODE + 4093n, bytes("abc"));
    expect(fetched(KERNEL + 4093n)).toBe("abc");
    map(KERNEL + 4096n, CODE + 5n * 4096n, 4096n);
    memory.writeBytes(CODE + 5n * 4096n, bytes(TEXT));
    expect(fetched(KERNEL + 4093n)).toBe(`abc${TEXT.slice(0, 12)}`);
  });

  test("by tables of five levels", () => {
    setControl(CR0_PG | 1n, TABLES, 0x20n | CR4_LA57);
    map(0x1f_2345_6000_0000n, CODE, 4096n, PRESENT, 5);
    memory.writeBytes(CODE, bytes(TEXT));
    expect(fetched(0x1f_2345_6000_0000n)).toBe(TEXT.slice(0, 15));
  });

  test("from physical memory while paging is off, the private first MiB included", () => {
    setControl(0x11n, 0n, 0n);
    memory.writeBytes(BASE + 0x9a000n, bytes(TEXT));
    expect(fetched(0x9a000n)).toBe(TEXT.slice(0, 15));
  });

  test("from a page table in the private first MiB", () => {
    setControl(CR0_PG | 1n, 0x8000n, 0x20n);
    memory.writeBytes(BASE + 0x8000n, new Uint8Array(4096));
    memory.write(BASE + 0x8000n + 511n * 8n, 8, TABLES | PRESENT);
    memory.write(TABLES + 510n * 8n, 8, (TABLES + 4096n) | PRESENT);
    memory.write(TABLES + 4096n + 8n * 8n, 8, CODE | PRESENT | LARGE);
    memory.writeBytes(CODE, bytes(TEXT));
    expect(fetched(KERNEL)).toBe(TEXT.slice(0, 15));
  });

  test.each([
    ["it is not mapped", () => {}],
    ["its page is not present", () => map(KERNEL, CODE, 4096n, 0n)],
    ["its page is another's", () => map(KERNEL, 0x4000_0000n, 4096n)],
    ["its page table is another's", () => memory.write(TABLES + 511n * 8n, 8, 0x4000_0000n | PRESENT)],
    ["the root is another's", () => setControl(CR0_PG | 1n, 0x4000_0000n, 0x20n)],
    ["its page is where nothing is", () => map(KERNEL, 0xfee0_0000n, 4096n)],
  ])("not at all if %s", (_what, set) => {
    memory.write(0x4000_0000n + 510n * 8n, 8, CODE | PRESENT);
    memory.writeBytes(0x4000_0000n, bytes(TEXT));
    set();
    expect(fetched(KERNEL)).toBe("");
  });
});
