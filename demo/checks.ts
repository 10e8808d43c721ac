import type { Cycle } from "./cycle.ts";
import { mebibytes } from "./cycle.ts";
import { run, runJson } from "./machine.ts";
import { type Check, grouped } from "./screen.ts";
import { serviceText } from "./service.ts";

const seconds = 1000;

/** What the survivor must show: that it has the whole machine, and nothing is beneath it. */
export async function checkSurvivor(cycle: Cycle): Promise<Check[]> {
  const looks: [string, (cycle: Cycle) => Promise<Check>][] = [
    ["counts its CPUs", checkCpus],
    ["fills OS 1's memory", checkMemory],
    ["asks CPUID", checkHypervisor],
    ["runs a guest in Debian's KVM", checkKvm],
  ];
  const checks: Check[] = [];
  for (const [what, look] of looks) checks.push(await cycle.screen.step("OS 2", what, () => attempt(what, () => look(cycle))));
  return [...checks, ...checkServices(cycle), checkMachine(cycle)];
}

/** What can't be looked at is not as it should be. */
async function attempt(name: string, look: () => Promise<Check>): Promise<Check> {
  try {
    return await look();
  } catch (error) {
    return { name, good: false, said: (error as Error).message };
  }
}

async function checkCpus({ machine, cpus }: Cycle): Promise<Check> {
  const online = await run(machine, "cat /sys/devices/system/cpu/online");
  const count = Number(await run(machine, "nproc"));
  const levels = (await machine.sh("grep -qw la57 /proc/cpuinfo")).status === 0 ? 5 : 4;
  return { name: cpus === 1 ? "the CPU is its own" : cpus === 2 ? "both CPUs are online" : `all ${cpus} CPUs are online`, good: count === cpus, said: `CPUs ${online} online, nproc says ${count}; ${levels} levels of page tables` };
}

/** More than OS 2 ever had of its own: so some of it must lie in what was OS 1's. */
async function checkMemory({ machine, firstMemory }: Cycle): Promise<Check> {
  const size = Math.ceil(firstMemory / (1 << 20)) + 64;
  // A Linux that boots with little memory does without huge pages, and each small one costs a fault.
  await machine.sh("echo always >/sys/kernel/mm/transparent_hugepage/enabled");
  const { status, output } = await machine.sh(`fill-memory ${size}`, 180 * seconds);
  const name = "OS 1's former memory is in use";
  if (status !== 0 && !output.startsWith("{")) return { name, good: false, said: output.trim() };
  const filled = JSON.parse(output) as { bytes: number; joined: number; sum: string; expected: string };
  const right = filled.sum === filled.expected;
  return {
    name,
    good: status === 0 && right && filled.joined > 0,
    said: `wrote ${mebibytes(filled.bytes)}, ${mebibytes(filled.joined)} of it where OS 1 was (${mebibytes(firstMemory)} were OS 2's own); ${right ? "it reads back as written" : "it reads back WRONG"}`,
  };
}

/** Where the machine is itself a guest, its hypervisor is to be seen again, and none but it. */
async function checkHypervisor({ machine, cpus, beneath }: Cycle): Promise<Check> {
  interface Said {
    cpu: number;
    hypervisor: boolean;
    name: string;
    ticksPerCpuid: number;
  }
  const numbers = Array.from({ length: cpus }, (_, cpu) => cpu).join(" ");
  const said = await runJson<Said>(machine, `cpuid-bench ${numbers}`);
  const state = (await runJson<{ state: string }>(machine, "understudy status --json"))[0]!.state;
  return {
    name: beneath ? `CPUID shows ${beneath} only, as before` : "CPUID's hypervisor bit is clear",
    good: said.length === cpus && said.every(({ hypervisor, name }) => hypervisor === (beneath !== "") && name === beneath) && state === "bare",
    said: `${said.map(({ cpu, hypervisor, name, ticksPerCpuid }) => `CPU ${cpu}: ${hypervisor ? `set, "${name}"` : "clear"}, ${ticksPerCpuid} ticks a CPUID`).join("; ")}; understudy says "${state}"`,
  };
}

async function checkKvm({ machine }: Cycle): Promise<Check> {
  const isAmd = (await machine.sh("grep -qw svm /proc/cpuinfo")).status === 0;
  const driver = isAmd ? "kvm_amd" : "kvm_intel";
  const name = `Debian's own ${driver.replace("_", "-")} runs a guest`;
  await run(machine, `modprobe ${driver}`, 240 * seconds);
  const { status, output } = await machine.sh("kvm-guest", 120 * seconds);
  if (status !== 0) return { name, good: false, said: output.trim() };
  const { cpuids, ticksPerCpuid } = JSON.parse(output) as { cpuids: number; ticksPerCpuid: number };
  const [module] = (await run(machine, `grep ^${driver} /proc/modules`)).split(" ");
  return { name, good: true, said: `${module} is loaded; its guest executed ${grouped(cpuids)} CPUIDs at ${ticksPerCpuid} ticks each, and halted` };
}

function checkServices({ service1, service2, tscKhz }: Cycle): Check[] {
  const check = (name: string, service: typeof service1): Check => ({
    name,
    good: service.answers > 0 && service.failures === 0,
    said: serviceText(service, tscKhz),
  });
  return [check("OS 1's service answered while OS 2 booted", service1), check("OS 2's answered while OS 1 stopped", service2)];
}

function checkMachine({ machine }: Cycle): Check {
  const { troubles } = machine;
  return { name: "no VM entry failed", good: troubles.length === 0, said: troubles[0] ?? "the machine's log tells of none" };
}
