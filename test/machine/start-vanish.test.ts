import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type TestMachine, targets } from "./targets.ts";

const seconds = 1000;
const complaints = "grep -ciE 'BUG:|\\bOops|WARNING|lockdep|rcu.*stall|soft lockup|unchecked MSR' || true";

/** The parts that `vanish` can let go of, in three of their orders; test/vmm/devirtualize.test.ts has all of them. */
const orders = [["io", "memory", "cpu"], ["memory", "cpu", "io"], ["cpu", "io", "memory"]] as const;

interface Status {
  still_trapped: { processor: boolean; memory: boolean; io: boolean; dma: boolean };
  unconditional_exits?: string[];
  instances: { exits_by_reason: Record<string, number> }[];
  cpus: { state: string }[];
}

const machines = targets.flatMap((target) => [1, 2].map((cpus) => ({ target, cpus, name: target.name })));

describe.each(machines)("start and vanish in $name, CPUs: $cpus", ({ target, cpus: count }) => {
  const all = Array.from({ length: count }, (_, cpu) => cpu);
  let machine: TestMachine;
  const ok = async (command: string, timeout = 200 * seconds) => {
    const { status, output } = await machine.sh(command, timeout);
    expect(status, `${command}\n${output}`).toBe(0);
    return output;
  };
  const status = async () => JSON.parse(await ok("understudy status --json")) as Status;
  const complaintsInLog = () => ok(`dmesg | ${complaints}`);

  beforeAll(async () => {
    machine = await target.start({ iso: inject("iso"), cpus: count, memoryMiB: 1024, name: `start-vanish-${target.name}-${count}` });
    await machine.expect(/os1# /, 240 * seconds);
    await ok("grep ^flags /proc/cpuinfo > /tmp/flags");
  });
  afterAll(() => machine?.stop());

  // A CPU that is alone has QEMU's ticks for itself; and in Bochs pays a tick for each instruction, beside another one less.
  const releaseTicks = count === 1 ? 450 : 400;
  test.runIf(target.countsInstructions || count === 1)(`capture every CPU within 1,000 ticks and release it within ${releaseTicks}`, async () => {
    // What the other CPU did meanwhile counts too in Bochs: the shortest of three is the nearest to a CPU's own.
    const captures: number[][] = [];
    const releases: number[][] = [];
    for (let round = 0; round < 3; round++) {
      const started = JSON.parse(await ok("understudy start --json")) as { cpus: { capture_ticks: number }[] };
      captures.push(started.cpus.map(({ capture_ticks }) => capture_ticks));
      const vanished = JSON.parse(await ok("understudy vanish --json")) as { cpus: { release_ticks: number }[] };
      releases.push(vanished.cpus.map(({ release_ticks }) => release_ticks));
    }
    for (const [rounds, most] of [[captures, 1000], [releases, releaseTicks]] as const) {
      for (const ticks of rounds) expect(ticks).toHaveLength(count);
      for (let cpu = 0; cpu < count; cpu++) expect(Math.min(...rounds.map((ticks) => ticks[cpu]!))).toBeLessThanOrEqual(most);
    }
  });

  // With two CPUs, under-load.test.ts does it a hundred times.
  const times = count === 1 ? 100 : 25;
  test(`leave the kernel healthy ${times} times in a row, with load on every CPU`, async () => {
    // Each CPU computes the same sum over and over; a register lost on the way shows as another sum.
    const available = async () => Number(await ok("awk '/MemAvailable/ { print $2 }' /proc/meminfo"));
    const before = await available();
    await ok(`md5sum /bin/busybox > /tmp/sum; rm -f /tmp/stop
for cpu in ${all.join(" ")}; do
  (while [ ! -e /tmp/stop ]; do taskset $((1 << cpu)) md5sum -c -s /tmp/sum || echo wrong >> /tmp/wrong; echo >> /tmp/rounds$cpu; done) >/dev/null 2>&1 &
done`);
    const output = await ok(
      `n=0; while [ $n -lt ${times} ]; do understudy start >/dev/null && understudy vanish >/dev/null || break; n=$((n+1)); done
touch /tmp/stop; wait; echo cycles $n wrong $(cat /tmp/wrong 2>/dev/null | wc -l)`,
      400 * seconds,
    );
    expect(output).toContain(`cycles ${times} wrong 0`);
    // Less than a piece of the VMM's for each time.
    expect(before - await available()).toBeLessThan(times * 1024);
    for (const cpu of all) expect(Number(await ok(`wc -l < /tmp/rounds${cpu}`))).toBeGreaterThan(2);
    expect(await complaintsInLog()).toBe("0");
  });

  test.runIf(count > 1)("keep a CPU that goes offline and online beneath the VMM", async () => {
    await ok("understudy start");
    for (let i = 0; i < 5; i++) {
      await ok("echo 0 > /sys/devices/system/cpu/cpu1/online && echo 1 > /sys/devices/system/cpu/cpu1/online");
      const { cpus } = JSON.parse(await ok("understudy status --json")) as { cpus: { state: string }[] };
      expect(cpus.map(({ state }) => state)).toEqual(["running", "running"]);
    }
    await ok("understudy vanish");
  });

  test.runIf(count > 1)("release a captured CPU that is offline, and it comes online again, bare", async () => {
    await ok("understudy start && echo 0 > /sys/devices/system/cpu/cpu1/online");
    await ok("understudy vanish");
    await ok("echo 1 > /sys/devices/system/cpu/cpu1/online");
    expect(await ok("nproc; understudy status")).toMatch(/^2\nbare/);
  });

  test.runIf(count > 1)("capture a CPU late that was offline at the start", async () => {
    await ok("echo 0 > /sys/devices/system/cpu/cpu1/online; understudy start; echo 1 > /sys/devices/system/cpu/cpu1/online");
    const { cpus } = JSON.parse(await ok("understudy status --json")) as { cpus: { state: string }[] };
    expect(cpus.map(({ state }) => state)).toEqual(["running", "running"]);
    await ok("understudy vanish");
  });

  test("refuse to start twice, to vanish twice, and to unload the module while captured", async () => {
    await ok("understudy start");
    expect((await machine.sh("understudy start")).status).not.toBe(0);
    expect((await machine.sh("rmmod understudy")).status).not.toBe(0);
    await ok("understudy vanish");
    expect((await machine.sh("understudy vanish")).status).not.toBe(0);
    await ok("rmmod understudy");
  });

  test("refuse a corrupted image and leave the kernel bare", async () => {
    await ok(`cp ${target.image} /tmp/bad.img; printf X | dd of=/tmp/bad.img bs=1 seek=9000 conv=notrunc 2>/dev/null`);
    const { status, output } = await machine.sh("understudy start --image /tmp/bad.img");
    expect(status).not.toBe(0);
    expect(output.trim().split("\n").at(-1)).toMatch(/damaged|checksum/);
    expect(await ok("understudy status")).toMatch(/^bare/);
  });

  // By its size in the header: bytes of a number, and what is said.
  test.each([
    ["larger than any can be", "\\0\\0\\200\\0", "the image is too large"],
    ["none, which the VMM does not do with", "\\0\\0\\0\\0", "the VMM refused a memory range"],
  ])("refuse an annex that is %s, and take no memory for it", async (_what, size, words) => {
    await ok(`cp ${target.image} /tmp/bad.img; printf '${size}' | dd of=/tmp/bad.img bs=1 seek=48 conv=notrunc 2>/dev/null`);
    /** Of the largest pieces that the page allocator has, how many are free. */
    const free = () => ok("awk '{ n += $NF } END { print n }' /proc/buddyinfo");
    const before = await free();
    for (let i = 0; i < 3; i++) {
      const { status, output } = await machine.sh("understudy start --image /tmp/bad.img 2>&1; s=$?; dmesg | tail -n 2; (exit $s)");
      expect([status === 0, output]).toEqual([false, expect.stringContaining(words)]);
    }
    expect(Number(before) - Number(await free())).toBeLessThan(3);
    expect(await ok("understudy status")).toMatch(/^bare/);
  });

  test.runIf(count > 1).each(orders)("let go of %s, then of %s, and with %s of the kernel, from which nothing of that exits any more", async (...order) => {
    const { region_base: region, annex_base: annex } = JSON.parse(await ok("understudy start --json")) as { region_base: string; annex_base: string };
    const read = async (address: string) => (await ok(`taskset 1 read-physical ${address}`)).trim();
    /** Whether all of the VMM's memory can be read: its region begins with "UNDRSTDY", its annex, without an IOMMU, with nothing. */
    const isOpen = async () => {
      const words = [await read(region), await read(annex)];
      const open = words[0] === "5944545352444e55";
      expect(words[1]).toBe((open ? "0" : "f").repeat(16));
      return open;
    };
    /** What exits while configuration space, a port and CPUID are read on both CPUs. */
    const exits = async (): Promise<string[]> => {
      const before = await look();
      await ok(`cat /sys/bus/pci/devices/*/config >/dev/null; cpuid-bench 0 1 >/dev/null
for cpu in 0 1; do taskset $((1 << cpu)) dd if=/dev/port bs=1 skip=100 count=1 2>/dev/null >/dev/null; done`);
      const after = await look();
      return Object.keys(after).filter((reason) => after[reason] !== before[reason]);
    };
    const look = async () => ((await status()).instances[0]!.exits_by_reason);
    const trapped = target.name === "qemu" ? ["CPUID", "EPT violation", "I/O"] : ["CPUID", "I/O"];
    expect(await exits()).toEqual(expect.arrayContaining(trapped));
    expect(await isOpen()).toBe(false);
    const gone = new Set<string>();
    for (const part of order.slice(0, 2)) {
      gone.add(part);
      const left = { processor: !gone.has("cpu"), memory: !gone.has("memory"), io: !gone.has("io"), dma: false };
      expect((JSON.parse(await ok(`understudy vanish --${part} --json`)) as Status).still_trapped).toEqual(left);
      const said = await status();
      expect(said.still_trapped).toEqual(left);
      const may = (reason: string) => (["I/O", "EPT violation"].includes(reason) ? left.io : left.processor || said.unconditional_exits!.includes(reason));
      expect((await exits()).filter((reason) => !may(reason))).toEqual([]);
      expect(await isOpen()).toBe(!left.memory);
      // A CPU that goes offline comes back, and is bare.
      await ok("echo 0 > /sys/devices/system/cpu/cpu1/online && echo 1 > /sys/devices/system/cpu/cpu1/online");
      expect((await status()).cpus.map(({ state }) => state)).toEqual(["running", "bare"]);
    }
    const refused = await machine.sh(`understudy vanish --${order[0]}`);
    expect([refused.status, refused.output.trim()]).toEqual([1, expect.stringMatching(/nothing changed: .* trapped no more already/)]);
    await ok(`understudy vanish --${order[2]}`);
    expect(await ok("nproc; understudy status")).toMatch(/^2\nbare/);
  });

  test("leave virtualization to KVM, whose guest runs", async () => {
    expect(await ok(`modprobe ${target.kvm} && kvm-guest`)).toMatch(/\{.*\}/);
  });

  test("end with the CPU flags of the beginning, as many levels of page tables, and nothing in the logs", async () => {
    expect((await machine.sh("grep -qw la57 /tmp/flags")).status).toBe(target.levels === 5 ? 0 : 1);
    await ok("grep ^flags /proc/cpuinfo | cmp - /tmp/flags");
    expect(await complaintsInLog()).toBe("0");
    expect(machine.troubles).toEqual([]);
  });

  // In Bochs a second boot takes most of a minute; nothing in this is a processor's own.
  test.runIf(target.name === "qemu")("let the VMM out before kexec, so that the next kernel has a bare machine", async () => {
    await ok("understudy start");
    await machine.send(`kexec-into /lib/understudy/os2/kernel /lib/understudy/os2/initrd "$(cat /proc/cmdline) rdinit=/lib/understudy/init"\n`);
    await machine.expect(/os2# /, 120 * seconds);
    expect(await machine.sync()).toBe("os2");
    expect(await ok("understudy status")).toMatch(/^bare/);
    expect(await ok("cpuid-bench")).toContain('"hypervisor":false');
  });
});
