import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type QemuMachine, startQemu } from "./qemu.ts";

const seconds = 1000;
const os2 = "/lib/understudy/os2";
const append = "console=ttyS0,115200 quiet nokaslr mitigations=off tsc=reliable no_timer_check idle=halt cryptomgr.notests";
const launch = `understudy launch --kernel ${os2}/kernel --initrd ${os2}/initrd --append '${append}' --memory 256M`;
const complaints = "dmesg | grep -ciE 'BUG:|\\bOops|WARNING|rcu.*stall|soft lockup|clocksource.*(unstable|skew|read-back)|unchecked MSR|NMI received|spurious|not responding' || true";
const refusals = "understudy events | grep -ci violation || true";
/** Of interprocessor interrupts of all kinds, by CPU, as the kernel counts them. */
const counts = "awk '/RES|CAL|TLB/ { for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) sum[i] += $i } END { printf \"interrupts\"; for (i = 2; i in sum; i++) printf \" %d\", sum[i]; print \"\" }' /proc/interrupts";

interface Instance { instance: number; state: string; cpus: string; shared_cpus?: string; weight?: number; paused?: boolean; ran_ticks?: number }
/** What the programs say (test/programs). */
interface CrossIpis { barriers: number; flushes: number; handed: number; moved: number; wrong: number }
interface Said { cross: CrossIpis; timers: object; aheadPpm: number; errorPpm: number; interrupts: number[] }

/** A kernel interrupts its CPUs from each other, its timers expire, and its clock is compared with the power management timer's, all at once. */
const torture = (cpu: number) => `${counts}; cross-ipis 5 & timers ${cpu} 2000 300 3000 & clock-rate 4000; wait; ${counts}`;

describe("an OS 2 with shares of CPUs and whole ones in QEMU", () => {
  let machine: QemuMachine;
  const ok = async (command: string, timeout = 60 * seconds) => {
    const { status, output } = await machine.sh(command, timeout);
    expect(status, `${command}\n${output}`).toBe(0);
    return output;
  };
  const instances = async () => (JSON.parse(await ok("understudy status --json")) as { instances: Instance[] }).instances;
  const bootSecond = async (options: string) => {
    const launched = await ok(`${launch} ${options}`);
    await enterConsole();
    const online = await ok("nproc");
    await leaveConsole();
    return [launched, online];
  };
  const enterConsole = async () => {
    await machine.send("understudy console 2\n\n");
    await machine.expect(/os2# /, 120 * seconds);
  };
  const leaveConsole = async () => {
    await machine.send("\x1d");
    await machine.sync();
  };
  const inOs2 = async (command: string) => {
    await enterConsole();
    try {
      return await ok(command);
    } finally {
      await leaveConsole();
    }
  };
  const read = (output: string): Said => {
    const told = output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Record<string, unknown>);
    const find = (field: string) => told.find((one) => field in one);
    const [before, after] = [...output.matchAll(/interrupts ([\d ]+)/g)].map(([, list]) => list!.split(" ").map(Number)) as [number[], number[]];
    return { cross: find("barriers"), timers: find("oneShot"), ...find("aheadPpm"), interrupts: after.map((count, i) => count - before[i]!) } as unknown as Said;
  };
  /** Nothing was lost or came twice, and the clock keeps to the machine's. */
  const expectSound = (name: string, { cross, timers, aheadPpm, errorPpm, interrupts }: Said, cpus: number) => {
    console.log(`${name}: ${JSON.stringify({ ...cross, ...timers })}, clock ${aheadPpm} ± ${errorPpm} ppm ahead, interprocessor interrupts by CPU: ${interrupts.join(", ")}`);
    expect(cross).toMatchObject({ cpus, wrong: 0 });
    for (const done of [cross.barriers, cross.flushes, cross.handed, cross.moved]) expect(done).toBeGreaterThan(100);
    expect(interrupts.length).toBe(cpus);
    for (const count of interrupts) expect(count).toBeGreaterThan(100);
    expect(timers).toMatchObject({ lost: 0, doubled: 0, early: 0, miscounted: 0 });
    expect(Math.abs(aheadPpm) + errorPpm).toBeLessThan(100);
  };
  const expectBothSound = async (cpus1: number, cpus2: number) => {
    await inOs2(`(${torture(1)}) > /tmp/said 2>&1 &`);
    const first = read(await ok(torture(0)));
    expectSound("OS 2", read(await inOs2("wait; cat /tmp/said")), cpus2);
    expectSound("OS 1", first, cpus1);
    expect([await ok(complaints), await inOs2(complaints), await ok(refusals)]).toEqual(["0", "0", "0"]);
  };

  beforeAll(async () => {
    machine = await startQemu({ iso: inject("iso"), cpus: 4, memoryMiB: 1024, name: "mixed-share", shift: 4 });
    await machine.expect(/os1# /, 120 * seconds);
    await ok("understudy start");
  }, 600 * seconds);
  afterAll(() => machine?.stop());

  test("is refused what makes no sense, in one line, and nothing has changed", async () => {
    for (const [options, says] of [
      ["--share 4", "--share: CPU 4 is not online"], ["--cpus 1 --share 0-3", "--cpus 1: this kernel has 4 and must keep CPU 0-3"],
      ["--cpus 4 --share", "--cpus 4: this kernel has 4 and must keep CPU 0"],
    ]) expect((await machine.sh(`${launch} ${options} 2>&1`)).output).toBe(`understudy: ${says}`);
    expect(await ok("nproc")).toBe("4");
  });

  test("boots on a whole CPU and shares of two others, which stay online", async () => {
    const [launched, online] = await bootSecond("--cpus 1 --share 0,2");
    expect([launched, online]).toEqual([expect.stringContaining("on CPU 3 and a share of CPU 0,2 with 256 MiB"), "3"]);
    expect(await instances()).toMatchObject([{ cpus: "0-2", shared_cpus: "" }, { cpus: "3", shared_cpus: "0,2", weight: 1 }]);
    expect((await machine.sh("echo 0 > /sys/devices/system/cpu/cpu2/online")).status).not.toBe(0);
  });

  test("has every interprocessor interrupt and timer come, as has OS 1, and once", () => expectBothSound(3, 3));

  test("has its turns by its weight, and is not paused on its shares alone", async () => {
    await ok("understudy weight 2 3");
    expect(await instances()).toMatchObject([{ weight: 1 }, { weight: 3 }]);
    expect((await machine.sh("understudy pause 2 2>&1")).output).toBe("understudy: pause: instance 2 holds CPUs of its own: only shares can be taken away for a while");
  });

  test("stopped, it leaves all CPUs to OS 1, which boots it on shares alone", async () => {
    await ok("understudy stop 2");
    expect(await instances()).toMatchObject([{ state: "running", cpus: "0-3" }]);
    const [launched, online] = await bootSecond("--share 1,3");
    expect([launched, online]).toEqual([expect.stringContaining("on a share of CPU 1,3 with 256 MiB"), "2"]);
    expect(await instances()).toMatchObject([{ cpus: "0-3" }, { cpus: "", shared_cpus: "1,3" }]);
  });

  test("paused on both it gets no turns, and afterwards nothing is amiss", async () => {
    await ok("understudy pause 2");
    const [, before] = await instances();
    await ok("sleep 1");
    expect((await instances())[1]).toMatchObject({ paused: true, ran_ticks: before!.ran_ticks });
    await ok("understudy resume 2");
    await expectBothSound(4, 2);
  });

  test("takes the machine over from its shares when OS 1 powers off, and runs bare", async () => {
    await enterConsole();
    await machine.send("(understudy handover --wait >/run/handover 2>&1; echo ended: $?) & echo waits\n");
    await machine.expect(/waits/);
    await leaveConsole();
    await machine.send("poweroff -f\n");
    await machine.expect(/ended: 0/);
    expect(await machine.sync()).toBe("os2");
    expect(await instances()).toMatchObject([{ instance: 2, cpus: "0-3" }]);
    await ok("understudy vanish");
    expectSound("the survivor", read(await ok(torture(3))), 4);
    expect(await ok("cpuid-bench 0 1 2 3 | grep -c '\"hypervisor\":false'; modprobe kvm_amd; kvm-guest")).toMatch(/^4\n.*"ran":true/);
    expect(await ok(complaints)).toBe("0");
    expect(machine.troubles).toEqual([]);
  });
});
