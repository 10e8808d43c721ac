import { type Machine, run, runJson } from "../demo/machine.ts";
import type { Screen } from "../demo/screen.ts";
import { type Target, bochs, qemu } from "../test/machine/targets.ts";

const seconds = 1000;
/** Of the fixed workload, before, beneath and after the VMM. */
const workloadRuns = 9;
/** Starts and vanishes, of which each pause is the median. */
const pauseRuns = 9;
const kvmCpuids = 20000;

export function median(values: number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)]!;
}

interface Workload {
  ticks: number[];
  sum: string;
}

/** Where it is measured. */
export interface Place {
  title: string;
  target: Target;
  /** CPUs of the machine whose pauses are measured. */
  pausedCpus: number;
  /** How long two systems contend for a CPU: for as many of their turns as the emulator has time for. */
  contendSeconds: number;
}

export const places: Place[] = [
  { title: "Bochs, VT-x", target: bochs, pausedCpus: 2, contendSeconds: 4 },
  // Its CPUs take turns: with two, a pause contains what the other one did meanwhile.
  { title: "QEMU, AMD-V", target: qemu, pausedCpus: 1, contendSeconds: 1 },
];

/** What the run with one CPU found: ticks are instructions only where no other CPU shares them. */
export interface OneCpu {
  nativeCpuid: number;
  oursCpuid: number;
  kvmCpuid: number;
  workload: Record<"bare" | "captured" | "released", Workload>;
}

/** Interrupts-off ticks: a list for each CPU. */
export interface Pauses {
  capture: number[][];
  release: number[][];
}

/** Boots OS 1, and ends the machine after what is to be measured. */
async function withMachine<T>(screen: Screen, iso: string, { target }: Place, cpus: number, measure: (machine: Machine) => Promise<T>): Promise<T> {
  const name = `bench-${target.name}-${cpus}`;
  const what = cpus === 1 ? "1 CPU" : `${cpus} CPUs`;
  const machine = await target.start({ iso, cpus, memoryMiB: 1024, name });
  try {
    await screen.step(what, "boots", () => machine.expect(/os1# /, 300 * seconds));
    await run(machine, "insmod /lib/understudy/understudy.ko");
    const result = await measure(machine);
    if (machine.troubles.length > 0) throw new Error(`in the emulator's log: ${machine.troubles[0]}`);
    return result;
  } finally {
    await machine.stop();
  }
}

async function measureWorkload(machine: Machine): Promise<Workload> {
  return (await runJson<Workload>(machine, `workload ${workloadRuns}`, 400 * seconds))[0]!;
}

async function measureCpuid(machine: Machine, program: string): Promise<number> {
  return (await runJson<{ ticksPerCpuid: number }>(machine, program, 200 * seconds))[0]!.ticksPerCpuid;
}

export function measureOneCpu(screen: Screen, iso: string, place: Place): Promise<OneCpu> {
  const { kvm } = place.target;
  return withMachine(screen, iso, place, 1, async (machine) => {
    const step = <T>(what: string, action: () => Promise<T>) => screen.step("1 CPU", what, action);
    const bare = await step("bare: works", () => measureWorkload(machine));
    const nativeCpuid = await measureCpuid(machine, "cpuid-bench");
    const kvmCpuid = await step("KVM's module: CPUID in its guest", async () => {
      await run(machine, `modprobe ${kvm}`, 300 * seconds);
      const ticks = await measureCpuid(machine, `kvm-guest ${kvmCpuids}`);
      await run(machine, `rmmod ${kvm} kvm`, 100 * seconds);
      return ticks;
    });
    const [captured, oursCpuid] = await step("captured: works, and CPUID", async () => {
      await run(machine, "understudy start", 100 * seconds);
      return [await measureWorkload(machine), await measureCpuid(machine, "cpuid-bench")] as const;
    });
    const released = await step("released: works", async () => {
      await run(machine, "understudy vanish");
      return measureWorkload(machine);
    });
    return { nativeCpuid, oursCpuid, kvmCpuid, workload: { bare, captured, released } };
  });
}

export function measurePauses(screen: Screen, iso: string, place: Place): Promise<Pauses> {
  const cpus = place.pausedCpus;
  return withMachine(screen, iso, place, cpus, (machine) =>
    screen.step(cpus === 1 ? "1 CPU" : `${cpus} CPUs`, "starts and vanishes", async () => {
      interface Told {
        cpus: { cpu: number; capture_ticks: number; release_ticks: number }[];
      }
      const pauses: Pauses = { capture: Array.from({ length: cpus }, () => []), release: Array.from({ length: cpus }, () => []) };
      const told = await runJson<Told>(machine, `for i in $(seq ${pauseRuns}); do understudy start --json && understudy vanish --json || break; done`, 300 * seconds);
      for (const { cpu, capture_ticks, release_ticks } of told.flatMap((one) => one.cpus)) {
        if (capture_ticks) pauses.capture[cpu]!.push(capture_ticks);
        if (release_ticks) pauses.release[cpu]!.push(release_ticks);
      }
      for (const ticks of [...pauses.capture, ...pauses.release]) if (ticks.length !== pauseRuns) throw new Error(`${ticks.length} of ${pauseRuns} pauses were told`);
      return pauses;
    }),
  );
}
