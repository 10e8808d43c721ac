import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { commandLine } from "../../image/iso.ts";
import { buildDir } from "../../image/paths.ts";
import { type QemuMachine, startQemu } from "./qemu.ts";

const seconds = 1000;
const minutes = 60 * seconds;
const disk = join(buildDir, "machines/devices.img");
const label = randomBytes(12).toString("hex");
const os2 = "/lib/understudy/os2";
const launch = (options: string) =>
  `understudy launch ${options} --kernel ${os2}/kernel --initrd ${os2}/initrd --append '${commandLine} rdinit=/lib/understudy/init' --memory 256M --cpus 1`;

interface FunctionStatus {
  function: string;
  instance: number;
  shielded: boolean;
}

describe("PCI functions of two systems, on ports with native hot-plug", () => {
  let machine: QemuMachine;

  const run = async (command: string, timeoutMs = 60 * seconds): Promise<string> => {
    const { status, output } = await machine.sh(command, timeoutMs);
    expect(status, `${command}: ${output}`).toBe(0);
    return output;
  };
  const refused = async (options: string): Promise<string> => {
    const { status, output } = await machine.sh(launch(options), 60 * seconds);
    expect(status).not.toBe(0);
    return output.trim();
  };
  const owners = async (): Promise<Record<string, number | "shielded">> => {
    const { functions } = JSON.parse(await run("understudy status --json")) as { functions: FunctionStatus[] };
    return Object.fromEntries(functions.map(({ function: name, instance, shielded }) => [name, shielded ? "shielded" : instance]));
  };
  const devices = (): Promise<string> => run("ls /sys/bus/pci/devices");

  beforeAll(async () => {
    mkdirSync(join(buildDir, "machines"), { recursive: true });
    writeFileSync(disk, Buffer.concat([Buffer.from(label), Buffer.alloc((1 << 20) - label.length)]));
    const drives = ["first", "second"].flatMap((id) => ["-drive", `file=${disk},format=raw,if=none,id=${id},snapshot=on`]);
    const ports = [1, 2].flatMap((slot) => ["-device", `pcie-root-port,id=rp${slot},bus=pcie.0,chassis=${slot},slot=${slot},addr=${7 + slot}`]);
    machine = await startQemu({
      iso: inject("iso"), cpus: 2, memoryMiB: 1536, name: "devices",
      args: ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", ...ports, ...drives, "-device", "nvme,bus=rp1,drive=first,serial=FIRST"],
    });
    await machine.expect(/os1# /, 4 * minutes);
    await run("modprobe nvme; while [ ! -b /dev/nvme0n1 ]; do sleep 1; done; insmod /lib/understudy/understudy.ko; understudy start");
  });
  afterAll(() => machine?.stop());

  test("shield what is plugged in from the first, with no word in its log", async () => {
    const log = "dmesg | grep -i -E 'pci|nvme'";
    const before = [await devices(), await run(log)];
    await machine.monitor.execute("device_add", { driver: "nvme", id: "late", bus: "rp2", drive: "second", serial: "SECOND" });
    await run("sleep 2");
    expect(await owners()).toMatchObject({ "01:00.0": 1, "02:00.0": "shielded" });
    expect([await devices(), await run(log)]).toEqual(before);
  });

  test.each([
    ["is none", "--device 7:7", "'7:7' is no PCI function"],
    ["the first has not", "--device 05:00.0", "device 05:00.0 can't be removed from this kernel"],
    ["is on bus 0, where nothing confines it", "--device 00:1f.2", "a PCI function can't be given"],
  ])("are not given where one %s, and the first has all it had", async (_what, options, words) => {
    const before = await devices();
    expect(await refused(options)).toContain(words);
    expect(await devices()).toBe(before);
    expect((await owners())["01:00.0"]).toBe(1);
    expect(await run("cat /sys/devices/system/cpu/online")).toContain("0-1");
  });

  test("are the second's that were given, the hidden one is nobody's, and neither the first's", async () => {
    await run(launch("--device 01:00.0 --hide 02:00.0"), 60 * seconds);
    await run("mkfifo /run/os2.in; understudy console 2 <>/run/os2.in >/run/os2.out 2>&1 & while ! grep -q 'os2# ' /run/os2.out; do sleep 1; done", 4 * minutes);
    await run("echo 'ls /sys/bus/pci/devices; modprobe nvme; while [ ! -b /dev/nvme0n1 ]; do sleep 1; done; head -c 24 /dev/nvme0n1; echo; ls /dev; echo all $((1 + 1))' >/run/os2.in; while ! grep -q '^all 2' /run/os2.out; do sleep 1; done", 60 * seconds);
    const said = await run("cat /run/os2.out");
    expect(said).toContain(label);
    expect(said).toContain("0000:01:00.0");
    expect(said).not.toContain("0000:02:00.0");
    expect(said).not.toContain("nvme1");
    expect(await owners()).toMatchObject({ "01:00.0": 2, "02:00.0": "shielded" });
    expect(await devices()).not.toMatch(/0000:0[12]:00/);
  });

  test("come back with a stop, and what was plugged in with the release", async () => {
    await run("killall understudy; understudy stop 2");
    await run("while [ ! -b /dev/nvme0n1 ]; do sleep 1; done");
    expect(await run("head -c 24 /dev/nvme0n1")).toContain(label);
    expect(await owners()).toMatchObject({ "01:00.0": 1, "02:00.0": "shielded" });
    // Taken out again beneath the first, without a word to it, and another one put in.
    const log = await run("dmesg | grep -i -E 'pci|nvme'");
    expect(JSON.parse(await run("understudy eject 02:00.0 --json"))).toEqual({ function: "02:00.0", state: "gone" });
    expect(await machine.monitor.say("info qtree")).not.toContain("SECOND");
    expect(Object.keys(await owners())).not.toContain("02:00.0");
    await machine.monitor.execute("device_add", { driver: "nvme", id: "later", bus: "rp2", drive: "second", serial: "THIRD" });
    await run("sleep 2");
    expect([(await owners())["02:00.0"], await run("dmesg | grep -i -E 'pci|nvme'")]).toEqual(["shielded", log]);
    await run("understudy vanish; echo 1 >/sys/bus/pci/rescan; while [ ! -b /dev/nvme1n1 ]; do sleep 1; done");
    expect(await run("head -c 24 /dev/nvme1n1")).toContain(label);
    expect(machine.troubles).toEqual([]);
  });
});
