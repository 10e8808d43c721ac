import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../image/tools.ts";
import type { QemuMachine } from "../test/machine/qemu.ts";
import { type Cycle, runInOs2 } from "./cycle.ts";
import { type Machine, run, runJson } from "./machine.ts";
import { out } from "./out.ts";
import type { Check, Screen } from "./screen.ts";

/** What happens beside the cycle, and what must be so in the end. */
export interface Scenario {
  title: string;
  /** The only target that can show it. */
  target?: string;
  /** OS 2's kernel, unless the user chose one. */
  kernel2?: string;
  /** More of QEMU's arguments. */
  args?: string[];
  /** How OS 1 ends: by powering off unless told. */
  end?: string;
  /** OS 1 is captured. */
  captured?(machine: Machine, screen: Screen): Promise<void>;
  /** OS 2 runs beside OS 1. */
  beside?(machine: Machine, screen: Screen): Promise<void>;
  /** The survivor is on the bare machine. */
  survivor?(cycle: Cycle): Promise<Check[]>;
}

const seconds = 1000;
const port = "rp1";
const card = "0000:01:00.0";
const sector = 4096;

interface FunctionStatus {
  function: string;
  instance: number;
  shielded: boolean;
}

/** A disk that comes in a card: its image, and what it holds. */
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
    // A reset ends it just as well.
    end: "reboot -f",
    args: ["-device", `pcie-root-port,id=${port},bus=pcie.0,chassis=1,slot=1,addr=8`, "-drive", `file=${disk.file},format=raw,if=none,id=disk`],
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

const scenarios: Record<string, () => Scenario> = {
  cycle: () => ({ title: "one running Debian hands its machine to another" }),
  upgrade: () => ({ title: "an OS upgrade: a newer kernel takes the machine over", kernel2: "linux-image-amd64/trixie" }),
  add: addition,
};

/** The scenario that the user chose. */
export function chosenScenario(target: string): Scenario {
  const name = process.env.SCENARIO || "cycle";
  const make = scenarios[name];
  if (!make) throw new UserError(`SCENARIO=${name}: give ${Object.keys(scenarios).join(", ").replace(/, (\w+)$/, " or $1")}`);
  const scenario = make();
  if (scenario.target && scenario.target !== target) throw new UserError(`SCENARIO=${name}: only TARGET=${scenario.target} can show it, ${target} cannot`);
  return scenario;
}
