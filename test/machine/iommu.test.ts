import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { buildDir } from "../../image/paths.ts";
import { type Instance, launchHostile, seconds, useSystem } from "../hostile/system.ts";
import { type QemuMachine, startQemu, withoutCounting } from "./qemu.ts";
import { type Target, qemu } from "./targets.ts";

const hex = (value: bigint | number) => `0x${value.toString(16)}`;
const disk = join(buildDir, "machines/iommu.img");
const label = randomBytes(12).toString("hex");

/** A function's number in configuration addresses and events. */
const numberOf = (bdf: string) => {
  const [bus, device, fn] = bdf.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  return (bus! << 8) | (device! << 3) | fn!;
};

/** QEMU's edu device (docs/specs/edu.rst): registers of its DMA engine, and its buffer as that engine addresses it. */
const [source, destination, count, command] = [0x80n, 0x88n, 0x90n, 0x98n];
const buffer = 0x40000n;
const [fromMemory, toMemory] = [1, 3];

/** A kind of unit: the registers that the OS must find again as it left them, and those that move as it goes on. */
interface Unit {
  name: string;
  device: string;
  registers: bigint[];
  moving: bigint[];
  /** What QEMU says on its own when a device is kept from something. */
  refusals: RegExp;
  /**
   * Whether the emulated unit tells devices apart by their bus, and of what it refuses. QEMU's amd-iommu takes all for
   * those of bus 0, so that no device below a port, as a second system can be given, is itself to it; and it logs
   * nothing where the last level of a table has no entry. What this leaves out, test/vmm/iommu.test.ts shows.
   */
  faithful: boolean;
  /** What QEMU executes instructions with, if not as elsewhere. */
  accel?: string[];
}
const units: Unit[] = [
  {
    name: "intel-iommu",
    // Interrupts are remapped in x2APIC mode, and devices may keep translations, as where there is such hardware.
    device: "intel-iommu,eim=on,device-iotlb=on",
    accel: withoutCounting,
    // Global status, root table, fault status and control, invalidation queue, interrupt remapping table; the queue's head and tail.
    registers: [0x1cn, 0x20n, 0x34n, 0x38n, 0x3cn, 0x40n, 0x44n, 0x90n, 0xb8n].map((offset) => 0xfed9_0000n + offset),
    moving: [0x80n, 0x88n].map((offset) => 0xfed9_0000n + offset),
    refusals: /vtd_iova_to_slpte|vtd_iommu_translate|vtd_irte_get|compression of faults/,
    faithful: true,
  },
  {
    name: "amd-iommu",
    device: "amd-iommu",
    // Device table, commands, events, control, each in two halves; the places in the rings.
    registers: [0x00n, 0x04n, 0x08n, 0x0cn, 0x10n, 0x14n, 0x18n, 0x1cn].map((offset) => 0xfed8_0000n + offset),
    moving: [0x2000n, 0x2008n, 0x2010n, 0x2018n].map((offset) => 0xfed8_0000n + offset),
    refusals: /^$/,
    faithful: false,
  },
];

describe.each(units)("devices beneath $name", ({ name, device, registers, moving, refusals, faithful, accel }) => {
  /** A device that the second system is given, one that the first keeps, both told where to write; and a disk whose driver goes on all the while. */
  const given = "01:00.0";
  const kept = faithful ? "02:00.0" : "00:05.0";
  const edu = "edu,dma_mask=0xffffffffff";
  const port = (slot: number) => ["-device", `pcie-root-port,id=rp${slot},bus=pcie.0,chassis=${slot},slot=${slot},addr=${7 + slot}`];
  const args = [
    "-device", device, ...[1, 2, 3, 4].flatMap(port), "-drive", `file=${disk},format=raw,if=none,id=disk,snapshot=on`,
    ...(faithful ? ["-device", `${edu},bus=rp1`, "-device", `${edu},bus=rp2`, "-device", "nvme,bus=rp3,drive=disk,serial=DISK", "-device", "virtio-rng-pci,bus=rp4,iommu_platform=on,ats=on"]
      : ["-device", `${edu},addr=5`, "-device", "nvme,addr=6,drive=disk,serial=DISK"]),
  ];
  const target: Target = { ...qemu, start: (options) => startQemu({ ...options, args, ...(accel && { accel }) }) };
  beforeAll(() => {
    mkdirSync(join(buildDir, "machines"), { recursive: true });
    writeFileSync(disk, Buffer.concat([Buffer.from(label), Buffer.alloc((1 << 20) - label.length)]));
  });
  const system = useSystem({ name: `iommu-${name}`, cpus: 2 }, target);

  /** What the operating system had the unit's registers at before there was a VMM. */
  let before: unknown[];
  let region: bigint;
  let annex: bigint;
  const bars: Record<string, bigint> = {};
  const memory: Record<Instance, bigint> = { 1: 0n, 2: 0n };

  const look = async (which: bigint[]) => (await system.attack(1, ...which.map((at) => `read 4 ${hex(at)}`))).map(({ value }) => value);
  const readsDisk = async () => expect(await system.run("dd if=/dev/nvme0n1 iflag=direct bs=4096 count=1 2>/dev/null | head -c 24")).toBe(label);
  /** A word of the machine's memory, whoever's it is. */
  const lookAt = (address: bigint) => (system.machine as QemuMachine).monitor.say(`xp /1gx ${hex(address)}`);
  /** The first system leaves a device untranslated, or gives it page tables. */
  const setDomain = (bdf: string, type: "identity" | "DMA") => system.run(`cd /sys/bus/pci/devices/0000:${bdf}; while [ ! -e iommu_group/type ]; do sleep 1; done; echo ${type} >iommu_group/type; cd /`);
  const pass = (bdf: string) => setDomain(bdf, "identity");
  /** The first system's kernel maps a page for a device, whosesoever it is; or takes it away. */
  const mapFor = async (bdf: string, at: bigint, to: bigint) => expect(await system.try(1, `map ${numberOf(bdf)} ${hex(at)} ${hex(to)}`)).toMatchObject({ failed: 0n });
  const unmapFor = async (bdf: string, at: bigint) => expect(await system.try(1, `unmap ${numberOf(bdf)} ${hex(at)}`)).toMatchObject({ size: 0x1000n });

  /** Has a device copy 8 bytes between memory and its buffer. */
  async function copy(instance: Instance, bdf: string, how: number, address: bigint): Promise<void> {
    const bar = bars[bdf]!;
    const [from, to] = how === fromMemory ? [address, buffer] : [buffer, address];
    await system.attack(
      instance,
      `configure ${hex(0x8000_0004 + numberOf(bdf) * 0x100)} 0x6`,
      `write 8 ${hex(bar + source)} ${hex(from)}`,
      `write 8 ${hex(bar + destination)} ${hex(to)}`,
      `write 8 ${hex(bar + count)} 8`,
      `write 8 ${hex(bar + command)} ${how}`,
    );
    // A tenth of a second, by the machine's own clock.
    await system.run("sleep 0.3");
    expect(await system.try(instance, `read 8 ${hex(bar + command)}`)).toMatchObject({ value: BigInt(how - 1) });
  }

  /** The device copies the first word of the instance's own page into the second; it finds the page at another address where its kernel says so. */
  async function reachesOwn(instance: Instance, bdf: string, iova?: bigint): Promise<void> {
    const { at } = await system.try(instance, "page");
    const page = at as bigint;
    const seen = iova ?? page;
    const value = BigInt(`0x${randomBytes(7).toString("hex")}`);
    await system.attack(instance, `write 8 ${hex(page)} ${hex(value)}`, `write 8 ${hex(page + 8n)} 0`);
    await copy(instance, bdf, fromMemory, seen);
    await copy(instance, bdf, toMemory, seen + 8n);
    expect(await system.try(instance, `read 8 ${hex(page + 8n)}`)).toMatchObject({ value });
  }

  /** The device is told to write where its instance has nothing; the VMM notes whose it was, which, and where. Its kernel may have mapped that for it. */
  async function isKeptFrom(instance: Instance, bdf: string, address: bigint, iova = address): Promise<void> {
    const from = await system.nextEvent();
    const word = await lookAt(address);
    await copy(instance, bdf, toMemory, iova);
    expect(await lookAt(address)).toBe(word);
    if (!faithful) return;
    const events = (await system.events(from)).filter(({ event }) => event === "dma-violation");
    expect(events.map(({ instance, a, b }) => ({ instance, a, b }))).toEqual([{ instance, a: address & ~0xfffn, b: BigInt(numberOf(bdf) | 0x10000) }]);
  }

  /** The patterns in each instance's memory, and what anybody complains of. */
  async function expectUnharmed(instances: Instance[]): Promise<void> {
    for (const instance of instances) expect(await system.try(instance, `verify ${instance}`)).toMatchObject({ changed: 0n });
    await readsDisk();
    expect((await system.complaints()).filter((line) => !refusals.test(line))).toEqual([]);
  }

  test("are the first system's, with its own domains and without", async () => {
    await system.run("modprobe nvme; while [ ! -b /dev/nvme0n1 ]; do sleep 1; done");
    for (const bdf of faithful ? [given, kept] : [kept]) {
      bars[bdf] = BigInt((await system.run(`head -n 1 /sys/bus/pci/devices/0000:${bdf}/resource`)).split(" ")[0]!);
      await pass(bdf);
    }
    await readsDisk();
    // One has a cache of translations, by the first of its extended capabilities; the kernel has turned it on.
    if (faithful) expect(await system.run("od -An -tx2 -j 0x106 -N 2 /sys/bus/pci/devices/0000:04:00.0/config")).toMatch(/8[0-9a-f]{3}/);
    before = await look(registers);
    memory[1] = (await system.try(1, "fill 1")).at as bigint;
    expect(await system.run("understudy check 2>&1")).toContain("devices reach only the memory of the instance that holds them");
    await system.run("understudy start");
    const status = await system.status();
    region = BigInt(status.region_base);
    annex = BigInt(status.annex_base);
    expect(status).toMatchObject({ still_trapped: { dma: true } });
    await reachesOwn(1, kept);
    for (const address of [region, annex]) await isKeptFrom(1, kept, address);
    await expectUnharmed([1]);
    expect(await look(registers)).toEqual(before);
  }, 300 * seconds);

  test("reach only the memory of the instance that holds them", async () => {
    await system.run(`${launchHostile} ${faithful ? `--device ${given}` : ""} && ask 2`, 120 * seconds);
    memory[2] = (await system.try(2, "fill 2")).at as bigint;
    await reachesOwn(1, kept);
    await isKeptFrom(1, kept, memory[2]);
    if (faithful) {
      await reachesOwn(2, given);
      await isKeptFrom(2, given, memory[1]);
      for (const address of [region, annex]) await isKeptFrom(2, given, address + 0x2000n);
    }
    await expectUnharmed([1, 2]);
  }, 300 * seconds);

  test.runIf(faithful)("interrupt only processors of the instance that holds them", async () => {
    /** A kernel says what message its device has for its interrupts, and has it send one. */
    const interrupt = async (instance: Instance, bdf: string, message: number, vector: number) => {
      const write = (register: number, value: number) => `configure ${hex(0x8000_0000 + numberOf(bdf) * 0x100 + register)} ${hex(value)}`;
      await system.attack(instance, write(0x44, message), write(0x48, 0), write(0x4c, vector), write(0x40, 0x0081_0005));
      await system.attack(instance, `write 4 ${hex(bars[bdf]! + 0x60n)} 1`, `write 4 ${hex(bars[bdf]! + 0x64n)} 1`, write(0x40, 0x0080_0005));
    };
    const counted = async () => (await system.try(2, "counts")).text;
    const table = (await look(registers)).at(-1) as bigint;
    expect(table & 0x800n).toBe(0x800n);
    await counted();
    await interrupt(2, given, 0xfee0_1000, 0x51);
    expect(await counted()).toBe("v51=0x1");
    // To the first system's processor.
    const from = await system.nextEvent();
    await interrupt(2, given, 0xfee0_0000, 0x52);
    const refused = (await system.events(from)).filter(({ event }) => event === "interrupt-violation");
    expect(refused.map(({ instance, b }) => ({ instance, b }))).toContainEqual({ instance: 2, b: BigInt(numberOf(given)) });
    // By the entry of the second system's, which the event names. (QEMU knows no requester of a message that is written as if to memory.)
    await interrupt(2, given, 0xfee0_1000, 0x53);
    const entry = Number(refused[0]!.a & 0xffffn);
    await interrupt(1, kept, 0xfee0_0010 + ((entry & 0x7fff) * 32) + (entry >> 15) * 4, 0);
    expect(await counted()).toBe("v53=0x1");
    await expectUnharmed([1, 2]);
  }, 300 * seconds);

  test("reach no more by page tables of their own kernel, whatever those map, while its disk goes by them", async () => {
    const [own, ours, shadows, other] = [0x1000_0000n, 0x1000_1000n, 0x1000_2000n, 0x1020_0000n];
    await setDomain(kept, "DMA");
    const { at } = await system.try(1, "page");
    for (const [iova, page] of [[own, at as bigint], [ours, region + 0x5000n], [shadows, annex], [other, memory[2]]] as const) await mapFor(kept, iova, page);
    await reachesOwn(1, kept, own);
    await isKeptFrom(1, kept, region + 0x5000n, ours);
    await isKeptFrom(1, kept, annex, shadows);
    await isKeptFrom(1, kept, memory[2], other);
    await expectUnharmed([1, 2]);
    const exits = async () => (await system.status()).instances[0]!.exits;
    const before = await exits();
    const sum = await system.run("dd if=/dev/nvme0n1 iflag=direct bs=4096 2>/dev/null | sha256sum");
    expect(sum).toContain(createHash("sha256").update(readFileSync(disk)).digest("hex"));
    // Each of the 256 reads is mapped and unmapped, and the VMM follows both.
    expect(await exits() - before).toBeGreaterThan(512);
    for (const iova of [own, ours, shadows, other]) await unmapFor(kept, iova);
    await pass(kept);
    await isKeptFrom(1, kept, memory[2]);
    await expectUnharmed([1, 2]);
  }, 300 * seconds);

  test("are all the first system's again, and so is the unit, as it left it", async () => {
    await system.run("understudy stop 2");
    if (faithful) await pass(given);
    await reachesOwn(1, faithful ? given : kept);
    await isKeptFrom(1, kept, region + 0x3000n);
    const beneath = await look(moving);
    await system.run("understudy vanish");
    expect(await look(registers)).toEqual(before);
    expect(await look(moving)).toEqual(beneath);
    await reachesOwn(1, kept);
    await expectUnharmed([1]);
  }, 300 * seconds);
});
