import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chosenKernels } from "../image/kernel.ts";
import { UserError, fail } from "../image/tools.ts";
import { startBochs } from "../test/machine/bochs.ts";
import { startQemu, withoutCounting } from "../test/machine/qemu.ts";
import { buildInBackground } from "./build.ts";
import { checkSurvivor } from "./checks.ts";
import { counted, powerOff, runCycle } from "./cycle.ts";
import { missingForKvm, startKvm } from "./kvm.ts";
import { type Machine, type MachineOptions, readLog } from "./machine.ts";
import { out, runName } from "./out.ts";
import { chosenScenario } from "./scenario.ts";
import { Screen, printChecks } from "./screen.ts";
import { Timeline } from "./timeline.ts";

const memoryMiB = 1536;

interface Target {
  name: string;
  start(options: MachineOptions): Promise<Machine>;
  /** What this host lacks for it. */
  missing?(): string | undefined;
  /** How its numbers are to be read. */
  remark?: string;
}

const targets: Record<string, Target> = {
  bochs: {
    name: "Bochs",
    start: startBochs,
    remark: "Bochs runs a REP instruction to its end before it is the next CPU's turn: while one OS moves megabytes at once, the other one's service waits.",
  },
  qemu: { name: "QEMU", start: startQemu, remark: "QEMU's CPUs take turns, and a tick is an instruction of any of them: a pause of one CPU contains what the others did meanwhile." },
  kvm: { name: "QEMU/KVM", start: startKvm, missing: missingForKvm },
};

function chosenCpus(): number {
  const cpus = Number(process.env.CPUS || 2);
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 8) throw new UserError(`CPUS=${process.env.CPUS}: give a number from 1 to 8`);
  return cpus;
}

/** SHARE=0,2: CPUs of OS 1's that OS 2 has turns on, beside whole ones as far as there are any; on a machine with one that is what it has anyway. */
function chosenShares(cpus: number): number[] {
  const text = process.env.SHARE;
  if (!text) return cpus === 1 ? [0] : [];
  const shares = text.split(",").map(Number);
  const isList = /^\d+(,\d+)*$/.test(text) && new Set(shares).size === shares.length;
  if (!isList || shares.some((cpu) => cpu >= cpus)) throw new UserError(`SHARE=${text}: give CPUs from 0 to ${cpus - 1}, each once, as in 0,2`);
  if (cpus > 1 && (process.env.TARGET || "bochs") === "bochs") throw new UserError(`SHARE=${text}: Bochs cannot show it with more than one CPU, give TARGET=qemu (docs/claims.md says why)`);
  return shares;
}

/** FIRMWARE=uefi: for machines that QEMU runs; the other emulators' have a BIOS. */
function chosenFirmware(): boolean {
  const firmware = process.env.FIRMWARE || "bios";
  if (firmware !== "bios" && firmware !== "uefi") throw new UserError(`FIRMWARE=${firmware}: give bios or uefi`);
  if (firmware === "uefi" && process.env.TARGET !== "qemu") throw new UserError("FIRMWARE=uefi: only TARGET=qemu has it");
  return firmware === "uefi";
}

/**
 * IOMMU=intel or amd: a unit of theirs, which OS 1 drives; for the machine that QEMU emulates. Intel's makes OS 1 use
 * x2APIC mode, as on most machines that have one; QEMU's x2APIC can't have the clock that instructions drive.
 */
function chosenIommu(): Pick<MachineOptions, "args" | "accel"> {
  const iommu = process.env.IOMMU || "none";
  if (iommu === "none") return {};
  if (iommu !== "intel" && iommu !== "amd") throw new UserError(`IOMMU=${iommu}: give none, intel or amd`);
  if (process.env.TARGET !== "qemu") throw new UserError(`IOMMU=${iommu}: only TARGET=qemu has one`);
  return iommu === "intel" ? { args: ["-device", "intel-iommu,eim=on"], accel: withoutCounting } : { args: ["-device", "amd-iommu"] };
}

/** The first port is OS 1's until it ends, then OS 2's; what OS 2 said before went to the second. */
function writeLogs(machine: Machine, ended: string): void {
  const com1 = readLog(machine.com1Log);
  const shutdown = com1.lastIndexOf(ended);
  const powerDown = com1.indexOf("reboot: ", shutdown);
  const end = shutdown < 0 ? com1.length : com1.indexOf("\n", Math.max(shutdown, powerDown)) + 1;
  writeFileSync(join(out, "os1.log"), com1.slice(0, end));
  writeFileSync(join(out, "os2.log"), readLog(machine.com2Log) + com1.slice(end));
}

async function main(): Promise<boolean> {
  const target = targets[process.env.TARGET || "bochs"];
  if (!target) throw new UserError(`TARGET=${process.env.TARGET}: give ${Object.keys(targets).join(" or ")}`);
  const missing = target.missing?.();
  if (missing) throw new UserError(`TARGET=kvm: ${missing}`);
  const cpus = chosenCpus();
  const shares = chosenShares(cpus);
  const uefi = chosenFirmware();
  const iommu = chosenIommu();
  const scenario = chosenScenario(process.env.TARGET || "bochs", shares);
  if (scenario.kernel2 && !process.env.KERNEL && !process.env.KERNEL2) process.env.KERNEL2 = scenario.kernel2;
  const { kernel1, kernel2 } = chosenKernels();
  const screen = new Screen();
  mkdirSync(out, { recursive: true });
  screen.title(
    `Understudy: ${scenario.title}`,
    `${target.name}, ${counted(cpus)}, ${memoryMiB} MiB; OS 1 is Debian's ${kernel1}, OS 2 its ${kernel2}, unmodified.`,
    `A tick is one of the processor's time-stamp counter since the machine's start${iommu.accel ? "" : "; in an emulator, about an instruction"}.`,
  );
  screen.heading();
  const iso = await screen.step("", "building what isn't built yet", buildInBackground);
  const machine = await screen.step("", `starting ${target.name}`, () => target.start({ iso, cpus, memoryMiB, name: runName, ...(uefi && { uefi }), ...iommu, args: [...(iommu.args ?? []), ...(scenario.args ?? [])] }));
  screen.line({ what: `${target.name} has started` });
  const timeline = new Timeline();
  try {
    const cycle = await runCycle(machine, screen, timeline, { cpus, shares }, scenario);
    const checks = [...(await checkSurvivor(cycle)), ...((await scenario.survivor?.(cycle)) ?? [])];
    printChecks("In the survivor", checks);
    if (target.remark && !iommu.accel) console.log(`\n  ${target.remark}`);
    return checks.every(({ good }) => good);
  } finally {
    timeline.write(join(out, "timeline.json"));
    await machine.stop();
    writeLogs(machine, scenario.end ?? powerOff);
    console.log(`\nbuild/${runName} has timeline.json (${timeline.entries.length} events), os1.log, os2.log; ${screen.elapsed()} in all`);
  }
}

main().then((good) => process.exit(good ? 0 : 1), fail);
