import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { GIB, KIB, MIB } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { loadModules, viewOf } from "./vmm.ts";

const loaded = loadModules(new Machine(), ["partition.ts"]);
const { call, memory } = loaded;
const FREE = 0;
const VMM = 255;
const OK = loaded.enums.Result!.OK;
const REFUSED = loaded.enums.Result!.MEMORY;
const LAST_PAGE = 2n ** 64n - 4n * KIB;

interface Piece { base: bigint; size: bigint; owner: number }

function pieces(): Piece[] {
  return Array.from({ length: call.pieceTotal!() }, (_, i) => {
    const { base, size, owner } = viewOf(loaded, "Piece", call.pieceAt!(i));
    return { base, size, owner };
  });
}

function add(...list: Piece[]): void {
  for (const { base, size, owner } of list) expect(call.addMemory!(base, size, owner)).toBe(OK);
}

/** A node: the low RAM, and 1 GiB from 1 MiB on; instance 1 has it all. */
const LOW: Piece = { base: 0n, size: 636n * KIB, owner: 1 };
const MAIN: Piece = { base: MIB, size: GIB, owner: 1 };

beforeEach(() => {
  call.resetPartition!(4);
  add(LOW, MAIN);
});

describe("memory has one owner", () => {
  test("every byte of a piece is its owner's, what is between pieces nobody's", () => {
    expect([0n, LOW.size - 1n, MIB, MIB + GIB - 1n].map((at) => call.ownerOf!(at))).toEqual([1, 1, 1, 1]);
    expect([LOW.size, MIB - 1n, MIB + GIB, 2n ** 64n - 1n].map((at) => call.ownerOf!(at))).toEqual([FREE, FREE, FREE, FREE]);
  });

  test("a range is held if all of it is, also across pieces that touch", () => {
    add({ base: MIB + GIB, size: GIB, owner: 1 }, { base: MIB + 2n * GIB, size: GIB, owner: 2 });
    expect(call.holdsMemory!(1, MIB, 2n * GIB)).toBe(true);
    expect(call.holdsMemory!(1, MIB + GIB - 1n, 2n)).toBe(true);
    expect(call.holdsMemory!(1, MIB + 5n, 2n * GIB - 5n)).toBe(true);
    expect(call.holdsMemory!(1, MIB, 2n * GIB + 1n)).toBe(false);
    expect(call.holdsMemory!(2, MIB + 2n * GIB, GIB)).toBe(true);
    expect(call.holdsMemory!(2, MIB + 2n * GIB - 1n, GIB)).toBe(false);
  });

  test.each([
    ["begins in a gap", MIB - 1n, 2n],
    ["ends in a gap", LOW.size - 1n, 2n],
    ["spans a gap", 0n, 2n * MIB],
    ["lies in a gap", 700n * KIB, 1n],
    ["ends beyond all memory", MIB, GIB + 1n],
    ["wraps around the address space", MIB, 2n ** 64n - MIB],
    ["wraps to its own beginning", LAST_PAGE, 8n * KIB],
    ["ends with the address space", LAST_PAGE, 4n * KIB],
    ["is as large as can be", 0n, 2n ** 64n - 1n],
  ])("a range that %s is nobody's", (_what, base, size) => {
    expect([FREE, 1, 2, VMM].map((owner) => call.holdsMemory!(owner, base, size))).toEqual([false, false, false, false]);
  });
});

describe("memory moves", () => {
  test.each([
    ["the middle of a piece", MIB + 64n * MIB, 64n * MIB, [{ ...MAIN, size: 64n * MIB }, { base: MIB + 64n * MIB, size: 64n * MIB, owner: 2 }, { base: MIB + 128n * MIB, size: GIB - 128n * MIB, owner: 1 }]],
    ["the beginning of a piece", MIB, 64n * MIB, [{ ...MAIN, size: 64n * MIB, owner: 2 }, { base: MIB + 64n * MIB, size: GIB - 64n * MIB, owner: 1 }]],
    ["the end of a piece", GIB, MIB, [{ ...MAIN, size: GIB - MIB }, { base: GIB, size: MIB, owner: 2 }]],
    ["a whole piece", MIB, GIB, [{ ...MAIN, owner: 2 }]],
    ["one byte", GIB, 1n, [{ ...MAIN, size: GIB - MIB }, { base: GIB, size: 1n, owner: 2 }, { base: GIB + 1n, size: MIB - 1n, owner: 1 }]],
  ])("%s", (_what, base, size, after) => {
    expect(call.moveMemory!(base, size, 1, 2)).toBe(OK);
    expect(pieces()).toEqual([LOW, ...after]);
  });

  test("back again, and the pieces are as they were", () => {
    call.moveMemory!(64n * MIB, 64n * MIB, 1, 2);
    call.moveMemory!(256n * MIB, 2n * MIB, 1, VMM);
    call.moveMemory!(256n * MIB, 2n * MIB, VMM, 1);
    call.moveMemory!(64n * MIB, 64n * MIB, 2, 1);
    expect(pieces()).toEqual([LOW, MAIN]);
  });

  test("in parts that become one piece of the new owner", () => {
    call.moveMemory!(64n * MIB, 2n * MIB, 1, 2);
    call.moveMemory!(68n * MIB, 2n * MIB, 1, 2);
    call.moveMemory!(66n * MIB, 2n * MIB, 1, 2);
    expect(pieces()).toContainEqual({ base: 64n * MIB, size: 6n * MIB, owner: 2 });
    expect(pieces()).toHaveLength(4);
  });

  test("as long as there is room for the pieces that it takes, and back always", () => {
    call.resetPartition!(4);
    const apart = Array.from({ length: 127 }, (_, i) => ({ base: BigInt(i) * 4n * MIB, size: 3n * MIB, owner: 1 }));
    add(...apart);
    expect(call.moveMemory!(MIB, MIB, 1, 2)).toBe(REFUSED);
    expect(pieces()).toEqual(apart);
    expect(call.moveMemory!(0n, MIB, 1, 2)).toBe(OK);
    expect(pieces()).toHaveLength(128);
    expect(call.moveMemory!(8n * MIB, MIB, 1, 2)).toBe(REFUSED);
    expect(call.moveMemory!(0n, MIB, 2, 1)).toBe(OK);
    expect(pieces()).toEqual(apart);
  });

  test.each([
    ["nothing", 64n * MIB, 0n, 1],
    ["what another one owns", 128n * MIB, MIB, 1],
    ["what is partly another's", 63n * MIB, 2n * MIB + 64n * MIB, 1],
    ["what is partly nobody's", GIB, 2n * MIB, 1],
    ["the gap below 1 MiB", 640n * KIB, 4n * KIB, 1],
    ["in the name of somebody who has nothing", 64n * MIB, MIB, 3],
    ["a range that wraps", MIB, 2n ** 64n - MIB, 1],
    ["the last page of the address space", LAST_PAGE, 4n * KIB, FREE],
  ])("not %s; nothing changes", (_what, base, size, from) => {
    call.moveMemory!(128n * MIB, 64n * MIB, 1, 2);
    const before = pieces();
    expect(call.moveMemory!(base, size, from, 2)).toBe(REFUSED);
    expect(pieces()).toEqual(before);
  });

  test("not when there is no room for two more pieces; nothing changes", () => {
    while (call.pieceTotal!() + 2 <= 128) call.moveMemory!(BigInt(call.pieceTotal!()) * 4n * MIB, 4n * KIB, 1, 2);
    const before = pieces();
    expect(call.moveMemory!(GIB - MIB, 4n * KIB, 1, 2)).toBe(REFUSED);
    expect(pieces()).toEqual(before);
  });

  test("page by page, moves agree with a list of owners (property)", () => {
    const PAGES = 48;
    const range = fc.record({ first: fc.nat(PAGES + 2), count: fc.nat(12), from: fc.constantFrom(FREE, 1, 2, VMM), to: fc.constantFrom(FREE, 1, 2, VMM) });
    fc.assert(fc.property(fc.array(range, { maxLength: 40 }), (moves) => {
      call.resetPartition!(4);
      add({ base: MIB, size: 20n * 4n * KIB, owner: 1 }, { base: MIB + 20n * 4n * KIB, size: 12n * 4n * KIB, owner: 2 }, { base: MIB + 40n * 4n * KIB, size: 8n * 4n * KIB, owner: 1 });
      const model: (number | null)[] = Array.from({ length: PAGES + 16 }, (_, i) => (i < 20 ? 1 : i < 32 ? 2 : i >= 40 && i < 48 ? 1 : null));
      for (const { first, count, from, to } of moves) {
        const pages = model.slice(first, first + count);
        const possible = count > 0 && pages.every((owner) => owner === from);
        const base = MIB + BigInt(first) * 4n * KIB;
        expect(count === 0 || call.holdsMemory!(from, base, BigInt(count) * 4n * KIB) === possible).toBe(true);
        expect(call.moveMemory!(base, BigInt(count) * 4n * KIB, from, to)).toBe(possible ? OK : REFUSED);
        if (possible) model.fill(to, first, first + count);
      }
      expect(model.map((_, i) => call.ownerOf!(MIB + BigInt(i) * 4n * KIB))).toEqual(model.map((owner) => owner ?? FREE));
      const list = pieces();
      list.slice(1).forEach((piece, i) => {
        const before = list[i]!;
        expect(piece.base >= before.base + before.size).toBe(true);
        expect(before.base + before.size < piece.base || before.owner !== piece.owner).toBe(true);
      });
    }), { numRuns: 60 });
  });
});

describe("everything else has one owner too", () => {
  test("processors that do not exist are never free", () => {
    expect(call.cpusOf!(FREE)).toBe(0b1111n);
    expect(call.cpusOf!(VMM)).toBe(0xffff_fff0n);
    call.setCpuOwner!(3, 2);
    expect([call.cpuOwner!(3), call.cpusOf!(2), call.cpusOf!(FREE)]).toEqual([2, 0b1000n, 0b0111n]);
  });

  test("memory, processors and functions of an instance that ends become free together", () => {
    call.moveMemory!(64n * MIB, 64n * MIB, 1, 2);
    call.setCpuOwner!(0, 1);
    call.setCpuOwner!(1, 2);
    call.addFunction!(0x10, 1);
    call.addFunction!(0x18, 2);
    call.moveEverything!(2, FREE);
    expect(call.memoryOf!(FREE)).toBe(64n * MIB);
    expect(call.memoryOf!(1)).toBe(LOW.size + GIB - 64n * MIB);
    expect([call.cpusOf!(1), call.cpusOf!(2)]).toEqual([1n, 0n]);
    expect([0, 1].map((i) => viewOf(loaded, "PciFunction", call.functionAt!(i)).owner)).toEqual([1, FREE]);
    call.moveEverything!(FREE, 1);
    expect(pieces()).toEqual([LOW, MAIN]);
  });

  test("an instance's memory is listed in order, as RAM", () => {
    call.moveMemory!(64n * MIB, 64n * MIB, 1, 2);
    const out = 0x5000_0000n;
    expect(call.listMemory!(1, out)).toBe(3);
    const listed = [0, 1, 2].map((i) => viewOf(loaded, "MemoryRange", out + BigInt(24 * i))).map(({ base, size, type }) => ({ base, size, type }));
    expect(listed).toEqual([
      { base: 0n, size: LOW.size, type: 1 },
      { base: MIB, size: 63n * MIB, type: 1 },
      { base: 128n * MIB, size: GIB - 127n * MIB, type: 1 },
    ]);
  });

  test("functions are found by bus, device and function, and shown with id and class", () => {
    const fn = call.addFunction!(0x118, 1);
    const config = viewOf(loaded, "PciFunction", fn).config;
    memory.write(config, 4, 0x10d38086n);
    memory.write(config + 8n, 4, 0x02000001n);
    expect([call.findFunction!(0x118), call.findFunction!(0x119)]).toEqual([0, call.functionTotal!()]);
    expect(call.listFunctions!(0x5000_0000n)).toBe(1);
    const { bdf, instance, id, classCode } = viewOf(loaded, "FunctionStatus", 0x5000_0000n);
    expect({ bdf, instance, id, classCode }).toEqual({ bdf: 0x118, instance: 1, id: 0x10d38086, classCode: 0x020000 });
  });

  test("more functions than there is room for do not harm the others", () => {
    for (let bdf = 0; bdf < 100; bdf++) call.addFunction!(bdf, 1);
    expect(call.functionTotal!()).toBe(64);
    expect([call.findFunction!(0), call.findFunction!(62), call.findFunction!(99)]).toEqual([0, 62, 63]);
  });
});
