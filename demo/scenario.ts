import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../image/tools.ts";
import type { Monitor } from "../test/machine/monitor.ts";
import type { QemuMachine } from "../test/machine/qemu.ts";
import { type Cycle, type Taken, runInOs2 } from "./cycle.ts";
import { type Machine, run, runJson, sleep } from "./machine.ts";
import { out } from "./out.ts";
import { type Check, type Screen, grouped } from "./screen.ts";
import { type Service, intervalMs, reportService, serviceText } from "./service.ts";
import type { VmmEvent } from "./timeline.ts";

/** What happens beside the cycle, and what must be so in the end. */
export interface Scenario {
  title: string;
  /** The only target that can show it. */
  target?: string;
  /** OS 2 has a device before the hand-over, which takes CPUs of its own alone. */
  device?: boolean;
  /** OS 2's kernel, unless the user chose one. */
  kernel2?: string;
  /** More of QEMU's arguments. */
  args?: string[];
  /** How OS 1 ends: by powering off unless told. */
  end?: string;
  /** More options of `understudy handover`. */
  handover?: string;
  /** OS 1 is captured. */
  captured?(machine: Machine, screen: Screen): Promise<void>;
  /** OS 2 runs beside OS 1. */
  beside?(machine: Machine, screen: Screen): Promise<void>;
  /** OS 2 has the machine, and the VMM is there still. */
  taken?(taken: Taken): Promise<void>;
  /** The survivor is on the bare machine. */
  survivor?(cycle: Cycle): Promise<Check[]>;
}

const seconds = 1000;
const port = "rp1";
const card = "0000:01:00.0";
const sector = 4096;
/** HOTPLUG=native: ports have their slot's registers themselves, as on most servers; acpi: the firmware's tables have them. */
function isNative(usual: "native" | "acpi"): boolean {
  const chosen = process.env.HOTPLUG || usual;
  if (chosen !== "native" && chosen !== "acpi") throw new UserError(`HOTPLUG=${chosen}: give native or acpi`);
  return chosen === "native";
}

function hotPlug(usual: "native" | "acpi"): string[] {
  return isNative(usual) ? ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"] : [];
}

interface FunctionStatus {
  function: string;
  instance: number;
  shielded: boolean;
  hidden: boolean;
}

/** A disk in a card: its image, and what it holds. */
function makeDisk(): { file: string; sum: string } {
  const file = join(out, "disk.img");
  mkdirSync(out, { recursive: true });
  const content = randomBytes(8 << 20);
  writeFileSync(file, content);
  return { file, sum: createHash("sha256").update(content).digest("hex") };
}

function qemu(machine: Machine): QemuMachine {
  if (!("monitor" in machine)) throw new UserError("devices are plugged in by QEMU's monitor: give TARGET=qemu");
  return machine as QemuMachine;
}

/** What OS 1 knows of its devices, and what its log says of them. (An emulator that is short of time is also worth a line to Linux.) */
async function lookAround(machine: Machine): Promise<string> {
  return run(machine, "ls /sys/bus/pci/devices; cat /sys/bus/pci/slots/*/power; dmesg | grep -i -E 'pci|acpi|nvme|hotplug'");
}

/**
 * Hardware addition: an NVMe disk is plugged in beneath OS 1, which takes no notice; OS 2 is booted with it, uses it,
 * and has it still when it owns the machine.
 */
function addition(): Scenario {
  const disk = makeDisk();
  const written = randomBytes(sector).toString("base64").slice(0, 512);
  const head = `head -c ${written.length} /dev/nvme0n1`;
  return {
    title: "a disk is added while OS 1 serves, and OS 1 takes no notice",
    target: "qemu",
    device: true,
    // A reset ends it just as well.
    end: "reboot -f",
    args: [...hotPlug("acpi"), "-device", `pcie-root-port,id=${port},bus=pcie.0,chassis=1,slot=1,addr=8`, "-drive", `file=${disk.file},format=raw,if=none,id=disk`],
    async captured(machine, screen) {
      const before = await lookAround(machine);
      const shielded = await screen.step("", "plugging an NVMe disk in", async () => {
        await qemu(machine).monitor.execute("device_add", { driver: "nvme", id: "card", bus: port, drive: "disk", serial: "UNDERSTUDY" });
        await run(machine, "sleep 2");
        const [status] = await runJson<{ functions: FunctionStatus[] }>(machine, "understudy status --json");
        return status!.functions.find((one) => one.shielded)?.function;
      });
      if (shielded !== card.slice(5)) throw new UserError(`the VMM has not found the disk that was plugged in: it shields ${shielded ?? "nothing"}`);
      const after = await lookAround(machine);
      if (after !== before) throw new UserError(`OS 1 took notice of the disk:\n${after.slice(-2000)}`);
      screen.line({ who: "OS 1", what: "is shielded from a new disk", detail: `${shielded} is there; OS 1 has the same devices as before, and not one line more in its log` });
    },
    async beside(machine, screen) {
      const sum = await screen.step("OS 2", "reads the new disk", () => runInOs2(machine, "modprobe nvme; while [ ! -b /dev/nvme0n1 ]; do sleep 1; done; sha256sum </dev/nvme0n1", 60 * seconds));
      if (!sum.includes(disk.sum)) throw new UserError(`OS 2 does not read what is on the disk: ${sum.trim()}`);
      screen.line({ who: "OS 2", what: "uses the new disk", detail: `its 8 MiB read with the right sum ${disk.sum.slice(0, 12)}…` });
      await runInOs2(machine, `echo ${written} | dd of=/dev/nvme0n1 conv=fsync 2>/dev/null; ${head} >/run/head`, 30 * seconds);
    },
    async survivor({ machine }) {
      const content = await run(machine, `echo 3 >/proc/sys/vm/drop_caches; ${head}`);
      const functions = await run(machine, "ls /sys/bus/pci/devices");
      const plugged = await qemu(machine).monitor.say("info block disk");
      return [
        {
          name: "the disk that was added is the survivor's",
          good: content.includes(written) && functions.includes(card) && plugged.includes(disk.file),
          said: content.includes(written) ? `${card} holds what OS 2 wrote before it took the machine` : `it reads ${content.slice(0, 40)}`,
        },
      ];
    },
  };
}

/** The longest time without an answer that is no gap, in intervals between the client's questions. */
const patience = 5;

/** The service may be late by some questions, and none may fail. */
function isWithoutGap(service: Service, tscKhz: number): boolean {
  return service.answers > 0 && service.failures === 0 && service.longestGap <= patience * intervalMs * tscKhz;
}

/** QEMU says that a device is unplugged. */
async function deleted(monitor: Monitor, id: string): Promise<void> {
  const isIt = ({ event, data }: Monitor["events"][number]): boolean => event === "DEVICE_DELETED" && (data as { device?: string }).device === id;
  for (let i = 0; i < 50; i++) {
    if (monitor.events.some(isIt)) return;
    await sleep(100);
  }
  throw new UserError(`QEMU reports no end of ${id}`);
}

/** Where QEMU itself still has the card, or a device that its disk is in; "" for nowhere. */
async function whereInQemu(machine: Machine): Promise<string> {
  const { monitor } = qemu(machine);
  const functions = await monitor.say("info pci");
  // The image stays known to QEMU as a drive's that is in no device.
  const drives = (await monitor.execute("query-block")) as { device: string; qdev?: string }[];
  const tree = await monitor.say("info qtree");
  return [/NVMe|Class 0264|1b36:0010/i.test(functions) && "info pci", drives.some(({ device, qdev }) => device === "disk" && qdev) && "query-block", /dev: nvme/.test(tree) && "info qtree"].filter(Boolean).join(", ");
}

/**
 * Hardware service: OS 1 has a disk that is to be replaced. OS 2 runs without it, takes everything else, and the card
 * is unplugged beneath it while it serves; only then is the VMM let out.
 */
function service(): Scenario {
  const disk = makeDisk();
  const name = card.slice(5);
  let unplugged: Service | undefined;
  let log = "";
  return {
    title: "a disk is taken out while OS 2 serves in OS 1's place",
    target: "qemu",
    handover: `--hide ${name}`,
    args: [...hotPlug("native"), "-device", `pcie-root-port,id=${port},bus=pcie.0,chassis=1,slot=1,addr=8`, "-drive", `file=${disk.file},format=raw,if=none,id=disk`, "-device", `nvme,id=card,bus=${port},drive=disk,serial=UNDERSTUDY`],
    async captured(machine, screen) {
      const sum = await screen.step("OS 1", "uses the disk that is to be taken out", () => run(machine, "modprobe nvme; while [ ! -b /dev/nvme0n1 ]; do sleep 1; done; sha256sum </dev/nvme0n1", 60 * seconds));
      if (!sum.includes(disk.sum)) throw new UserError(`OS 1 does not read what is on the disk: ${sum.trim()}`);
      screen.line({ who: "OS 1", what: "uses the disk that is to be taken out", detail: `its 8 MiB on ${name} read with the right sum ${disk.sum.slice(0, 12)}…` });
    },
    async beside(machine) {
      const functions = await runInOs2(machine, "ls /sys/bus/pci/devices", 30 * seconds);
      if (functions.includes(card)) throw new UserError(`OS 2 has the disk that is to be taken out: ${functions}`);
    },
    async taken({ machine, screen, timeline, tscKhz }) {
      const { monitor } = qemu(machine);
      const before = await run(machine, "dmesg | wc -l; ticks");
      const [lines, from] = before.split("\n").map(Number) as [number, number];
      const [hidden] = await runJson<{ functions: FunctionStatus[] }>(machine, "understudy status --json");
      if (!hidden!.functions.some((one) => one.function === name && one.hidden)) throw new UserError(`the VMM does not keep ${name} from OS 2`);
      if (!(await whereInQemu(machine))) throw new UserError("QEMU shows no disk that could be taken out");
      await screen.step("", "unplugging the disk", async () => {
        // The button at the slot. With ACPI the kernel would eject at that; without, the command does all of it.
        if (isNative("native")) await monitor.execute("device_del", { id: "card" });
        const [told] = await runJson<{ state: string }>(machine, `understudy eject ${name} --json`);
        if (told!.state !== "gone") throw new UserError(`the slot is off, and ${name} is there still`);
        await deleted(monitor, "card");
      });
      await run(machine, "sleep 2");
      const now = Number(await run(machine, "ticks"));
      timeline.add(await runJson<VmmEvent>(machine, "understudy events --json"));
      unplugged = await reportService(machine, from, now);
      log = await run(machine, `dmesg | tail -n +${lines + 1}`);
      const where = await whereInQemu(machine);
      if (where) throw new UserError(`QEMU still has the disk (${where})`);
      screen.line({ who: "VMM", what: "has switched the slot off beneath OS 2", detail: `QEMU reports DEVICE_DELETED; ${name} is gone`, ticks: timeline.find("removed", 0).tick });
      screen.line({ who: "OS 2", what: "served meanwhile", detail: serviceText(unplugged, tscKhz) });
    },
    async survivor({ machine, tscKhz }) {
      const functions = await run(machine, "echo 1 >/sys/bus/pci/rescan; ls /sys/bus/pci/devices");
      const words = (await run(machine, "dmesg | grep -i -E 'nvme|0000:01:00' || true")).trim();
      const noise = log.split("\n").filter((line) => /pci|nvme|acpi|hotplug/i.test(line));
      const where = await whereInQemu(machine);
      const good = !functions.includes(card) && words === "" && noise.length === 0 && where === "";
      return [
        { name: "the disk that was taken out is gone", good, said: good ? `no ${card} after a rescan, nothing in the kernel's log, nothing in QEMU's info pci, qtree and query-block` : [functions.includes(card) && `${card} is there`, words, ...noise, where].filter(Boolean).join("; ") },
        { name: "OS 2's service had no gap meanwhile", good: unplugged !== undefined && isWithoutGap(unplugged, tscKhz), said: `${unplugged ? serviceText(unplugged, tscKhz) : "nobody asked"}; a gap is ${grouped(patience * intervalMs)} ms` },
      ];
    },
  };
}

const scenarios: Record<string, () => Scenario> = {
  cycle: () => ({ title: "one running Debian hands its machine to another" }),
  upgrade: () => ({ title: "an OS upgrade: a newer kernel takes the machine over", kernel2: "linux-image-amd64/trixie" }),
  add: addition,
  service,
};

/**
 * The scenario that the user chose.
 * @param shares the CPUs of OS 1's that OS 2 has a share of
 */
export function chosenScenario(target: string, shares: number[]): Scenario {
  const name = process.env.SCENARIO || "cycle";
  const make = scenarios[name];
  if (!make) throw new UserError(`SCENARIO=${name}: give ${Object.keys(scenarios).join(", ").replace(/, (\w+)$/, " or $1")}`);
  const scenario = make();
  if (scenario.target && scenario.target !== target) throw new UserError(`SCENARIO=${name}: only TARGET=${scenario.target} can show it, ${target} cannot`);
  if (process.env.HOTPLUG && !scenario.target) throw new UserError(`HOTPLUG=${process.env.HOTPLUG}: it is for SCENARIO=add and service`);
  if (scenario.device && shares.length > 0) throw new UserError(`SCENARIO=${name}: OS 2 has a device of its own, and with it no shares of CPUs: give CPUS=2 or more, and no SHARE`);
  return scenario;
}
