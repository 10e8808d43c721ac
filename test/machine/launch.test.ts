import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type TestMachine, targets } from "./targets.ts";

const seconds = 1000;
const os2 = "/lib/understudy/os2";
const append = "console=ttyS0,115200 quiet nokaslr mitigations=off tsc=reliable no_timer_check idle=halt cryptomgr.notests";
const launch = (options: string) => `understudy launch --append '${append}' ${options}`;
const good = launch(`--kernel ${os2}/kernel --initrd ${os2}/initrd --memory 256M --cpus 1`);

interface Status {
  instances: { number: number; state: string; cpus: string; memory: number }[];
}

describe.each(targets)("launch on two CPUs in $name", (target) => {
  let machine: TestMachine;
  let before: string;
  const ok = async (command: string, timeout = 200 * seconds) => {
    const { status, output } = await machine.sh(command, timeout);
    expect(status, `${command}\n${output}`).toBe(0);
    return output;
  };
  /** CPUs, memory blocks and memory that OS 1 has. */
  const holdings = () => ok("nproc; cat /sys/devices/system/memory/memory*/state | sort | uniq -c; awk '/MemTotal/ { print $2 }' /proc/meminfo");

  beforeAll(async () => {
    machine = await target.start({ iso: inject("iso"), cpus: 2, memoryMiB: 1024, name: `launch-${target.name}`, levels: 4 });
    await machine.expect(/os1# /, 240 * seconds);
    await ok("understudy start");
    before = await holdings();
    await ok(`cd /tmp; head -c 100000 ${os2}/kernel > truncated; head -c 100000 /dev/zero > zeroes; cp ${os2}/kernel old; printf '\\000\\002' | dd of=old bs=1 seek=518 conv=notrunc 2>/dev/null`);
  });
  afterAll(() => machine?.stop());

  test.each([
    ["a kernel that does not exist", `--kernel /nowhere --initrd ${os2}/initrd --memory 256M --cpus 1`, /\/nowhere/],
    ["a kernel that is none", `--kernel /tmp/zeroes --initrd ${os2}/initrd --memory 256M --cpus 1`, /zeroes/],
    ["a kernel of an old boot protocol", `--kernel /tmp/old --initrd ${os2}/initrd --memory 256M --cpus 1`, /old/],
    ["an initrd that does not exist", `--kernel ${os2}/kernel --initrd /nowhere --memory 256M --cpus 1`, /\/nowhere/],
    ["too little memory", `--kernel ${os2}/kernel --initrd ${os2}/initrd --memory 1M --cpus 1`, /memory/],
    ["more memory than there is", `--kernel ${os2}/kernel --initrd ${os2}/initrd --memory 4G --cpus 1`, /memory/],
    ["more CPUs than can be given", `--kernel ${os2}/kernel --initrd ${os2}/initrd --memory 256M --cpus 2`, /CPU/],
  ])("refuses %s and leaves OS 1 as it was", async (_, options, says) => {
    const { status, output } = await machine.sh(launch(options), 200 * seconds);
    expect(status).not.toBe(0);
    const lines = output.trim().split("\n").filter((line) => line.startsWith("understudy"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(says);
    expect(await holdings()).toBe(before);
  });

  test("boots a second system, whose kernel and console answer", async () => {
    await ok(good);
    const { instances } = JSON.parse(await ok("understudy status --json")) as Status;
    expect(instances.filter(({ state }) => state === "running")).toHaveLength(2);
    await machine.send("understudy console 2\n");
    await machine.expect(/os2# /, 240 * seconds);
    await machine.send("echo kernel $(uname -r) on $(nproc) CPU\n");
    await machine.expect(/kernel \S+ on 1 CPU/, 60 * seconds);
    await machine.send("\x1d");
    await machine.sync();
  });

  test("refuses a second launch beside it, and to vanish", async () => {
    for (const command of [good, "understudy vanish"]) {
      const { status, output } = await machine.sh(command);
      expect(status, output).not.toBe(0);
    }
    expect(await ok("nproc")).toBe("1");
  });

  test("stops it and takes CPU and memory back", async () => {
    await ok("understudy stop 2");
    expect(await holdings()).toBe(before);
    const { instances } = JSON.parse(await ok("understudy status --json")) as Status;
    expect(instances.filter(({ state }) => state === "running")).toHaveLength(1);
  });

  test("boots it again, and its own poweroff ends only it", async () => {
    await ok(good);
    await machine.send("understudy console 2\n");
    await machine.expect(/os2# /, 240 * seconds);
    await machine.send("poweroff -f\n");
    await machine.expect(/os1# /, 120 * seconds);
    await machine.sync();
    expect(await ok("understudy events")).toMatch(/instance 2.*stopped: it powered off/);
    await ok("understudy stop 2");
    expect(await holdings()).toBe(before);
  });

  test("vanishes after all that without a complaint in the kernel's log", async () => {
    await ok("understudy vanish");
    expect(await ok("dmesg | grep -ciE 'BUG:|\\bOops|WARNING|rcu.*stall|unchecked MSR' || true")).toBe("0");
    expect(machine.troubles).toEqual([]);
  });
});
