import { type Machine, run, runJson } from "../demo/machine.ts";
import type { Screen } from "../demo/screen.ts";
import { commandLine } from "../image/iso.ts";
import { type Place, median } from "./machine-runs.ts";

const seconds = 1000;
const os2 = "/lib/understudy/os2";
/** Gaps from here on are turns of the other system: a kernel's own interrupts take less. */
const leastGapTicks = 20000;
/** On the bare machine nothing is away for longer than a loop but for an interrupt, the tick's. */
const leastTickTicks = 300;
const bareMilliseconds = 300;
/** Time to tell both what to do. */
const leadSeconds = 15;

/** What both systems had of one CPU, in which both never halted. */
export interface TimeShare {
  shareOs1: number;
  shareOs2: number;
  /** The longest that either waited for its turn so far. */
  worstWaitTicks: number;
}

/**
 * What it takes from the last instruction of a program in the one to the first of a program in the other, in ticks: a
 * switch, as KVM's guests measure theirs, who have no kernel; and one after which the other's kernel takes an interrupt
 * first, most often its tick, as it would on a bare machine.
 */
export interface Switches {
  switchTicks: number;
  medianSwitchTicks: number;
  medianWithInterruptTicks: number;
}

/** By weights of OS 1 and OS 2; what a tick costs a program on the bare machine; and what two guests of KVM need to take turns. */
export interface TimeShares extends Switches {
  byWeight: Record<string, TimeShare>;
  bareTickTicks: number;
  kvmSwitchTicks: number;
  kvmMedianSwitchTicks: number;
}

interface Gaps {
  start: number;
  gaps: [there: number, away: number, interrupted: 0 | 1][];
}

/** From the one to the other, and whether that one's kernel took an interrupt before its program went on. */
export interface Switch {
  ticks: number;
  interrupted: boolean;
}

interface Status {
  now: number;
  tsc_khz: number;
  instances: { ran_ticks: number; worst_wait_ticks: number }[];
}

/** When a program was away, in ticks of the TSC: last stamp before, first stamp after. */
function intervals({ start, gaps }: Gaps): { from: number; to: number; interrupted: boolean }[] {
  let time = start;
  return gaps.map(([there, away, interrupted]) => {
    const from = time + there;
    time = from + away;
    return { from, to: time, interrupted: interrupted === 1 };
  });
}

/** From the last stamp of one to the first of the other, for each gap of the one in which the other came back. */
export function switches(one: Gaps, other: Gaps): Switch[] {
  const returns = intervals(other);
  return intervals(one).flatMap(({ from, to }) => {
    const first = returns.find((gap) => gap.to > from);
    return first && first.to < to ? [{ ticks: first.to - from, interrupted: first.interrupted }] : [];
  });
}

function summary(all: Switch[]): Switches {
  const [plain, interrupted] = [false, true].map((one) => all.filter((each) => each.interrupted === one).map(({ ticks }) => ticks));
  if (plain!.length === 0) throw new Error("neither system's gaps hold the other's turns");
  return { switchTicks: Math.min(...plain!), medianSwitchTicks: median(plain!), medianWithInterruptTicks: median(interrupted!) };
}

async function inOs2(machine: Machine, command: string): Promise<string> {
  await machine.send("understudy console 2\n\n");
  await machine.expect(/os2# /, 240 * seconds);
  const said = await run(machine, command, 300 * seconds);
  await machine.send("\x1d");
  await machine.sync();
  return said;
}

/**
 * Both contend for so long, and the accounts are taken over half of it. They begin at one time, or the one would be done
 * before the other is told: while both wait, QEMU's time passes no quicker than ours.
 */
async function contend(machine: Machine, duration: number): Promise<{ shares: TimeShare; switched: Switch[] }> {
  const gaps = (time: number) => `gaps ${time * 1000} ${leastGapTicks}`;
  const { now, tsc_khz } = (await runJson<Status>(machine, "understudy status --json"))[0]!;
  const wait = `ticks ${now + leadSeconds * 1000 * tsc_khz} > /dev/null`;
  await inOs2(machine, `(${wait}; ${gaps(3 * duration)}) > /tmp/gaps &`);
  const told = await runJson<Status | Gaps>(
    machine,
    `${wait}; ${gaps(duration)} > /tmp/gaps & sleep ${duration / 4}; understudy status --json; sleep ${duration / 2}; understudy status --json; wait; cat /tmp/gaps`,
    600 * seconds,
  );
  const [before, after] = told.filter((one): one is Status => "instances" in one);
  const first = told.find((one): one is Gaps => "gaps" in one)!;
  const second = JSON.parse((await inOs2(machine, "wait; cat /tmp/gaps")).trim()) as Gaps;
  const ran = [0, 1].map((i) => after!.instances[i]!.ran_ticks - before!.instances[i]!.ran_ticks) as [number, number];
  const share = (ticks: number) => Number((ticks / (ran[0] + ran[1])).toFixed(4));
  const worstWaitTicks = Math.max(...after!.instances.map(({ worst_wait_ticks }) => worst_wait_ticks));
  return { shares: { shareOs1: share(ran[0]), shareOs2: share(ran[1]), worstWaitTicks }, switched: [...switches(first, second), ...switches(second, first)] };
}

/** Two systems on the one CPU of a machine, and KVM's guests on it before. */
export async function measureTimeShares(screen: Screen, iso: string, { target, contendSeconds }: Place): Promise<TimeShares> {
  const machine = await target.start({ iso, cpus: 1, memoryMiB: 1024, name: `bench-share-${target.name}` });
  const step = <T>(what: string, action: () => Promise<T>) => screen.step("1 CPU, shared", what, action);
  try {
    await step("boots", () => machine.expect(/os1# /, 300 * seconds));
    const [ticks] = await runJson<Gaps>(machine, `gaps ${bareMilliseconds} ${leastTickTicks}`, 100 * seconds);
    const kvm = await step("KVM's module: two guests take turns", async () => {
      await run(machine, `insmod /lib/understudy/understudy.ko; modprobe ${target.kvm}`, 300 * seconds);
      const [told] = await runJson<{ shortestTicks: number; medianTicks: number }>(machine, "kvm-switch 0", 200 * seconds);
      await run(machine, `rmmod ${target.kvm} kvm`, 100 * seconds);
      return told!;
    });
    await step("a second system is launched on the same CPU", async () => {
      await run(machine, `understudy start && understudy launch --kernel ${os2}/kernel --initrd ${os2}/initrd --append '${commandLine}' --memory 256M`, 200 * seconds);
      await inOs2(machine, "true");
    });
    const byWeight: Record<string, TimeShare> = {};
    const switched: Switch[] = [];
    for (const weight of [1, 3]) {
      await run(machine, `understudy weight 1 ${weight}`);
      const told = await step(`both never halt, weights ${weight}:1`, () => contend(machine, contendSeconds));
      byWeight[`${weight}:1`] = told.shares;
      switched.push(...told.switched);
    }
    if (machine.troubles.length > 0) throw new Error(`in the emulator's log: ${machine.troubles[0]}`);
    return { byWeight, ...summary(switched), bareTickTicks: median(ticks!.gaps.map(([, away]) => away)), kvmSwitchTicks: kvm.shortestTicks, kvmMedianSwitchTicks: kvm.medianTicks };
  } finally {
    await machine.stop();
  }
}
