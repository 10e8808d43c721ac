import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { GIB, KIB, MIB, type Mtrrs, PC_MTRRS, mtrrMask, mtrrMsrs } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { loadModules } from "./vmm.ts";

const machine = new Machine();
const { call, memory, constants } = loadModules(machine, ["cpu/memory-map.ts", "cpu/vmx/bitmaps.ts"]);
const [UC, WC, WT, WP, WB] = [0, 1, 4, 5, 6];
const READ = 1n;
const RX = 5n;
const RWX = 7n;
const PAGE = 4n * KIB;

function setMtrrs(mtrrs: Mtrrs): void {
  for (const [msr, value] of mtrrMsrs(mtrrs)) machine.now.msrs.set(msr, value);
  call.readMtrrs!();
}

beforeEach(() => setMtrrs(PC_MTRRS));

describe("memory types", () => {
  test("of the first MiB are the fixed ranges', one of 64 KiB, 16 KiB or 4 KiB each", () => {
    const fixed = Array.from({ length: 11 }, (_, i) => BigInt(`0x${Array.from({ length: 8 }, (_, j) => `0${[UC, WC, WT, WP, WB][(i + j) % 5]}`).reverse().join("")}`));
    setMtrrs({ fixed, default: WB });
    const sizes = [...Array<bigint>(8).fill(64n * KIB), ...Array<bigint>(16).fill(16n * KIB), ...Array<bigint>(64).fill(4n * KIB)];
    let at = 0n;
    sizes.forEach((size, i) => {
      const type = [UC, WC, WT, WP, WB][((i >> 3) + (i & 7)) % 5];
      expect([call.memoryType!(at), call.memoryType!(at + size - 1n)]).toEqual([type, type]);
      at += size;
    });
    expect(at).toBe(MIB);
    expect(call.memoryType!(MIB)).toBe(WB);
  });

  test("of the first MiB are the variable ranges' if the fixed ones are off", () => {
    setMtrrs({ fixedEnabled: false, fixed: Array<bigint>(11).fill(0n), variable: [{ base: 0n, mask: mtrrMask(512n * KIB), type: WT }] });
    expect([0n, 512n * KIB - 1n, 512n * KIB].map((at) => call.memoryType!(at))).toEqual([WT, WT, WB]);
    expect(call.uniformType!(0n, 2n * MIB)).toBe(false);
    expect(call.uniformType!(2n * MIB, 2n * MIB)).toBe(true);
  });

  test("are all uncached while the MTRRs are off", () => {
    setMtrrs({ enabled: false, default: WB, variable: [{ base: 0n, mask: mtrrMask(GIB), type: WB }] });
    expect([0n, 0xa0000n, GIB, 5n * GIB].map((at) => call.memoryType!(at))).toEqual([UC, UC, UC, UC]);
    expect(call.uniformType!(0n, GIB)).toBe(true);
  });

  test.each([
    ["uncached wins over all", [UC, WB], UC],
    ["uncached wins in any order", [WB, UC], UC],
    ["uncached wins among three", [WB, WT, UC], UC],
    ["write-through wins over write-back", [WB, WT], WT],
    ["write-through wins in any order", [WT, WB], WT],
    ["equal ones are what they are", [WC, WC], WC],
  ])("where variable ranges overlap: %s", (_rule, types, expected) => {
    setMtrrs({ default: WP, variable: types.map((type) => ({ base: 4n * GIB, mask: mtrrMask(GIB), type: type! })) });
    expect(call.memoryType!(4n * GIB)).toBe(expected);
    expect(call.memoryType!(5n * GIB - 1n)).toBe(expected);
    expect(call.memoryType!(5n * GIB)).toBe(WP);
  });

  test("come only from as many variable ranges as there are, and only from valid ones", () => {
    setMtrrs({ count: 2, variable: [{ base: 0n, mask: mtrrMask(GIB), type: WT }] });
    machine.now.msrs.set(0x202, 2n * GIB | BigInt(UC)).set(0x203, mtrrMask(GIB)); // no valid bit
    machine.now.msrs.set(0x204, 3n * GIB | BigInt(UC)).set(0x205, mtrrMask(GIB) | 0x800n); // beyond the count
    call.readMtrrs!();
    expect([MIB, 2n * GIB, 3n * GIB].map((at) => call.memoryType!(at))).toEqual([WT, WB, WB]);
  });

  test("agree with the manual's rules, and a page called uniform is (property)", () => {
    const range = fc.record({ log: fc.integer({ min: 12, max: 32 }), place: fc.nat(2 ** 20), type: fc.constantFrom(UC!, WT!, WB!) });
    fc.assert(fc.property(fc.array(range, { maxLength: 6 }), fc.array(fc.nat(2 ** 21), { minLength: 8, maxLength: 8 }), (list, probes) => {
      const ranges = list.map(({ log, place, type }) => ({ size: 1n << BigInt(log), base: (BigInt(place) * PAGE) & ~((1n << BigInt(log)) - 1n), type }));
      setMtrrs({ variable: ranges.map(({ size, base, type }) => ({ base, mask: mtrrMask(size), type })), fixedEnabled: false });
      const typeAt = (at: bigint): number => {
        const types = ranges.filter(({ base, size }) => (at & ~(size - 1n)) === base).map(({ type }) => type);
        return types.length === 0 ? WB! : Math.min(...types);
      };
      const edges = ranges.flatMap(({ base, size }) => [base - 1n, base, base + size - 1n, base + size]).filter((at) => at >= 0n);
      for (const at of [...edges, ...probes.map((probe) => BigInt(probe) * PAGE)]) {
        expect(call.memoryType!(at)).toBe(typeAt(at));
        for (const size of [2n * MIB, GIB]) {
          const page = at & ~(size - 1n);
          const within = [page, page + size - 1n, ...edges.filter((edge) => edge >= page && edge < page + size)];
          const boundary = ranges.some((one) => [one.base, one.base + one.size].some((edge) => edge > page && edge < page + size));
          expect(call.uniformType!(page, size)).toBe(!boundary);
          if (!boundary) expect(new Set(within.map(typeAt)).size).toBe(1);
        }
      }
    }), { numRuns: 60 });
  });
});

interface Mapping { host: bigint; permissions: bigint; type: number; size: bigint }

/** What the processor finds for a guest-physical address (SDM Vol. 3C, 29.3.2), independently of how the VMM built it. */
function walk(instance: number, address: bigint): Mapping | null {
  let table = call.mapPointer!(instance) & ~0xfffn;
  let permissions = RWX;
  for (const shift of [39n, 30n, 21n, 12n]) {
    const entry = memory.read(table + ((address >> shift) & 511n) * 8n, 8);
    permissions &= entry & 7n;
    if ((entry & 7n) === 0n) return null;
    if ((entry & 7n) === 2n || (entry & 7n) === 6n) throw new Error("EPT misconfiguration: writable and not readable");
    const large = (entry & 0x80n) !== 0n;
    if (shift === 12n || (large && shift < 39n)) {
      const size = 1n << shift;
      if ((entry & 0xfffffffff000n & (size - 1n)) !== 0n) throw new Error("EPT misconfiguration: a large page that is not aligned");
      return { host: (entry & 0xffff_ffff_f000n) | (address & (size - 1n)), permissions, type: Number((entry >> 3n) & 7n), size };
    }
    if ((entry & 0xf8n) !== 0n) throw new Error("EPT misconfiguration: reserved bits of a table entry");
    table = entry & 0xffff_ffff_f000n;
  }
  return null;
}

describe("the identity map", () => {
  beforeEach(() => {
    call.resetMap!(1);
    call.mapIdentity!(1);
  });

  const sameAddress = (at: bigint): void => {
    const mapping = walk(1, at)!;
    expect({ at, host: mapping.host, permissions: mapping.permissions, type: mapping.type }).toEqual({ at, host: at, permissions: RWX, type: call.memoryType!(at) });
  };

  test("gives every page of the first 2 MiB to itself, with its own type", () => {
    for (let at = 0n; at < 2n * MIB; at += PAGE) {
      sameAddress(at);
      expect(walk(1, at)!.size).toBe(PAGE);
    }
    expect([walk(1, 0x9f000n)!.type, walk(1, 0xa0000n)!.type, walk(1, MIB)!.type]).toEqual([WB, UC, WB]);
  });

  test("gives every 2 MiB of the first 4 GiB to themselves, the device hole uncached", () => {
    for (let at = 2n * MIB; at < 4n * GIB; at += 2n * MIB) sameAddress(at);
    expect([walk(1, 2n * GIB - 1n)!.type, walk(1, 2n * GIB)!.type, walk(1, 4n * GIB - 1n)!.type, walk(1, 4n * GIB)!.type]).toEqual([WB, UC, UC, WB]);
    expect(walk(1, 3n * GIB)!.size).toBe(2n * MIB);
  });

  test("gives every address below 512 GiB to itself, in pages of 1 GiB above the fourth, and none above (property)", () => {
    fc.assert(fc.property(fc.bigInt(0n, 512n * GIB - 1n), (at) => {
      sameAddress(at);
      if (at >= 4n * GIB) expect(walk(1, at)!.size).toBe(GIB);
    }), { numRuns: 200 });
    sameAddress(512n * GIB - 1n);
    expect([walk(1, 512n * GIB), walk(1, 2n ** 47n)]).toEqual([null, null]);
  });

  test("splits where a memory type changes in the middle of a page", () => {
    setMtrrs({ ...PC_MTRRS, variable: [{ base: 6n * GIB + 512n * MIB, mask: mtrrMask(PAGE), type: UC! }] });
    call.resetMap!(1);
    call.mapIdentity!(1);
    const at = 6n * GIB + 512n * MIB;
    expect([walk(1, at), walk(1, at + PAGE), walk(1, at + 2n * MIB)].map((one) => [one!.type, one!.size])).toEqual([[UC, PAGE], [WB, PAGE], [WB, 2n * MIB]]);
    sameAddress(6n * GIB);
  });

  test("without the VMM's region: that is gone, its neighbours are as before", () => {
    const region = 5n * GIB + 6n * MIB;
    call.unmapRange!(1, region, 4n * MIB);
    for (let at = region; at < region + 4n * MIB; at += PAGE) expect(walk(1, at)).toBeNull();
    sameAddress(region - 1n);
    sameAddress(region + 4n * MIB);
    sameAddress(5n * GIB - 1n);
    sameAddress(6n * GIB);
    expect([walk(1, region - 1n)!.size, walk(1, 6n * GIB)!.size]).toEqual([2n * MIB, GIB]);
  });

  test("of one instance is not the other's", () => {
    call.resetMap!(2);
    call.mapIdentical!(2, GIB, 2n * MIB, RWX);
    call.unmapRange!(1, GIB, 2n * MIB);
    expect([walk(1, GIB), walk(2, GIB)?.host, walk(2, GIB + 2n * MIB), walk(1, GIB + 2n * MIB)?.host]).toEqual([null, GIB, null, GIB + 2n * MIB]);
  });

  test("is write-back with a walk of four levels, as the processor is told", () => {
    expect(call.mapPointer!(1) & 0xfffn).toBe(0x1en);
  });
});

describe("a range of the map", () => {
  const free = (): number => call.mapTablesFree!(1);
  beforeEach(() => {
    call.resetMap!(1);
    call.mapIdentical!(1, 0n, 16n * GIB, RWX);
  });

  test("splits a large page into two tables if it is a page, one if it is 2 MiB, none if it is all", () => {
    const before = free();
    call.unmapRange!(1, 8n * GIB, GIB);
    expect(before - free()).toBe(0);
    call.unmapRange!(1, 10n * GIB, 2n * MIB);
    expect(before - free()).toBe(1);
    call.unmapRange!(1, 12n * GIB + 5n * PAGE, PAGE);
    expect(before - free()).toBe(3);
    expect([walk(1, 12n * GIB + 4n * PAGE)?.size, walk(1, 12n * GIB + 5n * PAGE), walk(1, 12n * GIB + 6n * PAGE)?.size]).toEqual([PAGE, null, PAGE]);
  });

  test("keeps permissions and type of the page that it splits", () => {
    call.mapIdentical!(1, 2n * GIB, GIB, RX);
    call.mapIdentical!(1, 2n * GIB + 4n * MIB + PAGE, PAGE, READ);
    const parts = [2n * GIB, 2n * GIB + 4n * MIB, 2n * GIB + 4n * MIB + PAGE, 3n * GIB - 1n].map((at) => walk(1, at)!);
    expect(parts.map(({ permissions, type }) => [permissions, type])).toEqual([[RX, UC], [RX, UC], [READ, UC], [RX, UC]]);
  });

  test("may lie elsewhere in the machine, with the memory type of where it lies", () => {
    call.mapRange!(1, 0n, 2n * GIB + 6n * MIB, MIB, RWX);
    expect(walk(1, 0xa0123n)).toEqual({ host: 2n * GIB + 6n * MIB + 0xa0123n, permissions: RWX, type: UC, size: PAGE });
    expect(walk(1, MIB)!.host).toBe(MIB);
  });

  test("that is given and taken again and again needs no further tables", () => {
    const cycle = (): void => {
      call.unmapRange!(1, 5n * GIB + 6n * MIB, 3n * GIB);
      call.mapIdentical!(1, 5n * GIB + 6n * MIB, 3n * GIB, RWX);
    };
    cycle();
    const before = free();
    for (let i = 0; i < 20; i++) cycle();
    expect(free()).toBe(before);
  });

  test("gives the tables of its pieces back when it becomes one large page again", () => {
    const before = free();
    for (let i = 0; i < 200; i++) {
      for (const at of [12n * GIB + PAGE, 12n * GIB + 700n * MIB, 13n * GIB + PAGE]) call.unmapRange!(1, at, PAGE);
      call.mapIdentical!(1, 12n * GIB, 2n * MIB, RWX);
      expect(before - free()).toBe(4);
      call.mapIdentical!(1, 12n * GIB, 2n * GIB, RWX);
      expect(free()).toBe(before);
    }
    expect([12n * GIB + PAGE, 13n * GIB + PAGE].map((at) => walk(1, at)!.size)).toEqual([GIB, GIB]);
  });

  test("needs at most as many tables as a boot reserves for one (property)", () => {
    const page = fc.nat(Number(12n * GIB / PAGE));
    fc.assert(fc.property(page, page, fc.boolean(), (a, b, map) => {
      call.resetMap!(1);
      call.mapIdentical!(1, 0n, 16n * GIB, RWX);
      const before = free();
      const [first, last] = [Math.min(a, b), Math.max(a, b)].map((one) => BigInt(one) * PAGE) as [bigint, bigint];
      const size = (last - first) % (256n * MIB) + PAGE; // no more than a test has time for
      if (map) call.mapIdentical!(1, first, size, READ);
      else call.unmapRange!(1, first, size);
      expect(before - free()).toBeLessThanOrEqual(Number(constants.MAP_TABLES_PER_RANGE));
    }), { numRuns: 25 });
  });

  test("is write-protected page by page, and is large pages again when all may be written", () => {
    const at = 8n * GIB + 6n * MIB + 3n * PAGE;
    const before = free();
    for (const page of [at, at + PAGE]) call.allowWrites!(1, page, false);
    const seen = (): unknown[] => [at - PAGE, at, at + PAGE].map((page) => [walk(1, page)!.permissions, walk(1, page)!.size]);
    expect([seen(), before - free()]).toEqual([[[RWX, PAGE], [RX, PAGE], [RX, PAGE]], 2]);
    call.allowWrites!(1, at, true);
    call.joinPages!(1);
    expect([seen(), before - free()]).toEqual([[[RWX, PAGE], [RWX, PAGE], [RX, PAGE]], 2]);
    call.allowWrites!(1, at + PAGE, true);
    call.joinPages!(1);
    expect([seen(), before - free()]).toEqual([[[RWX, 2n * MIB], [RWX, 2n * MIB], [RWX, 2n * MIB]], 1]);
    call.unmapRange!(1, at, PAGE);
    for (const allow of [false, true]) call.allowWrites!(1, at, allow);
    expect([walk(1, at), call.permissionsAt!(1, at), call.permissionsAt!(1, at + PAGE)]).toEqual([null, 0n, 3n]);
  });

  test("for which no table is left stops the VMM before anything else is overwritten", () => {
    const fill = (): void => {
      for (let at = 4n * GIB; at < 16n * GIB; at += 32n * MIB) call.unmapRange!(1, at + PAGE, PAGE);
    };
    expect(fill).toThrow(/assertion failed: index < POOL_TABLES/);
    expect(free()).toBe(0);
    call.resetMap!(2);
    expect(walk(2, 0n)).toBeNull();
  });
});

test("any sequence of maps and unmaps agrees with a list of pages (property)", () => {
  const FIRST = GIB - 4n * MIB;
  const PAGES = 2048;
  const place = fc.oneof(fc.nat(PAGES - 1), fc.constantFrom(0, 512, 1024, 1536, 1023, 1025));
  const change = fc.record({ first: place, count: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(512, 513, 1024, 1535)), host: fc.constantFrom(0n, 4n * GIB, 4n * GIB + 5n * PAGE, 2n * GIB), permissions: fc.constantFrom(null, READ, RX, RWX) });
  fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
    call.resetMap!(1);
    call.mapIdentical!(1, 0n, 4n * GIB, RWX);
    const model: ({ host: bigint; permissions: bigint } | null)[] = Array.from({ length: PAGES }, (_, i) => ({ host: FIRST + BigInt(i) * PAGE, permissions: RWX }));
    for (const { first, count, host, permissions } of changes) {
      const end = Math.min(first + count, PAGES);
      const guest = FIRST + BigInt(first) * PAGE;
      const size = BigInt(end - first) * PAGE;
      if (permissions === null) call.unmapRange!(1, guest, size);
      else call.mapRange!(1, guest, guest + host, size, permissions);
      for (let i = first; i < end; i++) model[i] = permissions === null ? null : { host: FIRST + BigInt(i) * PAGE + host, permissions };
    }
    for (let i = -1; i <= PAGES; i++) {
      const at = FIRST + BigInt(i) * PAGE;
      const expected = i < 0 || i === PAGES ? { host: at, permissions: RWX } : model[i]!;
      const found = walk(1, at);
      const same = expected === null ? found === null : found !== null && found.host === expected.host && found.permissions === expected.permissions && found.type === call.memoryType!(expected.host);
      if (!same) expect({ at, ...found }).toEqual({ at, ...expected });
    }
  }), { numRuns: 30 });
});

describe("bitmaps", () => {
  const isSet = (map: bigint, bit: number): boolean => (memory.read(map + BigInt(bit >> 3), 1) & (1n << BigInt(bit & 7))) !== 0n;
  const traps = (instance: number, port: number): boolean => isSet(call.ioBitmap!(instance, port >> 15), port & 0x7fff);
  const trapped = (instance: number): number[] => Array.from({ length: 0x10000 }, (_, port) => port).filter((port) => traps(instance, port));

  test("trap exactly the ports they are told to, in both halves", () => {
    call.trapAllPorts!(1, false);
    call.trapAllPorts!(2, true);
    call.trapPorts!(1, 0x604, 2, true);
    call.trapPorts!(1, 0x7fff, 2, true);
    call.trapPorts!(1, 0xffff, 1, true);
    call.trapPorts!(2, 0x608, 4, false);
    expect(trapped(1)).toEqual([0x604, 0x605, 0x7fff, 0x8000, 0xffff]);
    expect(trapped(2)).toHaveLength(0x10000 - 4);
    expect([0x607, 0x608, 0x60b, 0x60c].map((port) => traps(2, port))).toEqual([true, false, false, true]);
    call.trapPorts!(1, 0x605, 1, false);
    expect(trapped(1)).toEqual([0x604, 0x7fff, 0x8000, 0xffff]);
  });

  test.each([
    ["a low one", 0x1b, 2048 * 8 + 0x1b],
    ["the last low one", 0x1fff, 2048 * 8 + 0x1fff],
    ["a high one", 0xc0000080, 3072 * 8 + 0x80],
    ["the last high one", 0xc0001fff, 3072 * 8 + 0x1fff],
  ])("trap writes of %s MSR, and no reads", (_which, msr, bit) => {
    const bits = (): number[] => Array.from({ length: 4096 * 8 }, (_, i) => i).filter((i) => isSet(call.msrBitmap!(1), i));
    call.trapMsrWrite!(1, msr, true);
    expect(bits()).toEqual([bit]);
    expect(Array.from({ length: 4096 }, (_, i) => memory.read(call.msrBitmap!(2) + BigInt(i), 1)).every((byte) => byte === 0n)).toBe(true);
    call.trapMsrWrite!(1, msr, false);
    expect(bits()).toEqual([]);
  });
});
