import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildInBackground } from "../demo/build.ts";
import { Screen, grouped } from "../demo/screen.ts";
import { buildDir, projectDir } from "../image/paths.ts";
import { UserError, fail, runText } from "../image/tools.ts";
import { type OneCpu, type Pauses, type Place, measureOneCpu, measurePauses, median, places } from "./machine-runs.ts";
import { type TimeShares, measureTimeShares } from "./time-share.ts";

/** What was measured in one place; ticks are the TSC's, about an instruction each. */
interface Result {
  /** A CPUID in a guest, there and back; `ratio` is ours to KVM's. */
  cpuidExit: { ours: number; kvm: number; native: number; ratio: number };
  /** Interrupts-off ticks on each CPU, medians. */
  capturePauseTicks: number[];
  releasePauseTicks: number[];
  /** Ticks of the same work in OS 1, medians; the ratios are to bare. */
  workload: { bare: number; captured: number; released: number; capturedRatio: number; releasedRatio: number };
  /** Two systems on one CPU; `ratio` is our switch to KVM's, of medians. */
  timeShare: TimeShares & { ratio: number };
  /** Its machine code; its source in the dialect, all lines and those with code. */
  vmm: { textBytes: number; lines: number; codeLines: number };
}

/** Source files of the VMM. */
function vmmSources(): string[] {
  const walk = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
      const path = join(dir, entry.name);
      return entry.isDirectory() ? walk(path) : path.endsWith(".ts") ? [path] : [];
    });
  return walk(join(projectDir, "vmm-src"));
}

/** Each back end's code is of its own length; the source is that of all. */
function measureVmm({ target }: Place): Result["vmm"] {
  const lines = vmmSources().flatMap((file) => readFileSync(file, "utf8").trimEnd().split("\n"));
  const [, numbers] = runText("size", [join(buildDir, "vmm", target.backEnd, "vmm.elf")]).trim().split("\n");
  return {
    textBytes: Number(numbers!.trim().split(/\s+/)[0]),
    lines: lines.length,
    codeLines: lines.filter((line) => !/^\s*(\/\/|\/\*|\*|$)/.test(line)).length,
  };
}

const rounded = (value: number, digits: number) => Number(value.toFixed(digits));

function resultOf(place: Place, { nativeCpuid, oursCpuid, kvmCpuid, workload }: OneCpu, pauses: Pauses, shares: TimeShares): Result {
  const sums = new Set(Object.values(workload).map(({ sum }) => sum));
  if (sums.size !== 1) throw new UserError(`the workload's results differ: ${[...sums].join(", ")}`);
  const [bare, captured, released] = [workload.bare, workload.captured, workload.released].map(({ ticks }) => median(ticks)) as [number, number, number];
  return {
    cpuidExit: { ours: oursCpuid, kvm: kvmCpuid, native: nativeCpuid, ratio: rounded(oursCpuid / kvmCpuid, 3) },
    capturePauseTicks: pauses.capture.map(median),
    releasePauseTicks: pauses.release.map(median),
    workload: { bare, captured, released, capturedRatio: rounded(captured / bare, 4), releasedRatio: rounded(released / bare, 4) },
    timeShare: { ...shares, ratio: rounded(shares.medianSwitchTicks / shares.kvmMedianSwitchTicks, 3) },
    vmm: measureVmm(place),
  };
}

const spread = (values: number[]) => `${grouped(Math.min(...values))} to ${grouped(Math.max(...values))}`;

function timeShareRows(timeShare: Result["timeShare"]): [string, string, string][] {
  return [
    ...Object.entries(timeShare.byWeight).map(([weights, { shareOs1, shareOs2, worstWaitTicks }]): [string, string, string] => [
      `shares of one CPU at weights ${weights}`,
      `${(100 * shareOs1).toFixed(2)} %`,
      `OS 2 has ${(100 * shareOs2).toFixed(2)} %; nobody waited longer than ${grouped(worstWaitTicks)} ticks`,
    ]),
    [
      "switch from one to the other",
      `${grouped(timeShare.medianSwitchTicks)} ticks`,
      `median; the shortest ${grouped(timeShare.switchTicks)}; KVM's guests ${grouped(timeShare.kvmMedianSwitchTicks)}, the shortest ${grouped(timeShare.kvmSwitchTicks)}: ratio ${timeShare.ratio}`,
    ],
    [
      "switch behind which a kernel takes its tick",
      `${grouped(timeShare.medianWithInterruptTicks)} ticks`,
      `median; a tick on the bare machine ${grouped(timeShare.bareTickTicks)}`,
    ],
  ];
}

function print({ title }: Place, result: Result, { workload }: OneCpu, pauses: Pauses): void {
  const { cpuidExit, timeShare, vmm } = result;
  const ratio = { bare: 1, captured: result.workload.capturedRatio, released: result.workload.releasedRatio };
  const rows: [string, string, string][] = [
    ["CPUID beneath us, there and back", `${cpuidExit.ours} ticks`, `KVM's module on the same machine ${cpuidExit.kvm}: ratio ${cpuidExit.ratio}; bare ${cpuidExit.native}`],
    ...result.capturePauseTicks.map((ticks, cpu): [string, string, string] => [`pause on capture, CPU ${cpu}`, `${grouped(ticks)} ticks`, `${spread(pauses.capture[cpu]!)}, ${pauses.capture[cpu]!.length} times`]),
    ...result.releasePauseTicks.map((ticks, cpu): [string, string, string] => [`pause on release, CPU ${cpu}`, `${grouped(ticks)} ticks`, `${spread(pauses.release[cpu]!)}, ${pauses.release[cpu]!.length} times`]),
    ...(["bare", "captured", "released"] as const).map((state): [string, string, string] => [
      `the same work, ${state}`,
      `${grouped(result.workload[state])} ticks`,
      `${ratio[state].toFixed(4)} of bare; ${spread(workload[state].ticks)}, ${workload[state].ticks.length} times`,
    ]),
    ...timeShareRows(timeShare),
    ["the VMM's code", `${grouped(vmm.textBytes)} bytes`, `from ${grouped(vmm.lines)} lines in the dialect, ${grouped(vmm.codeLines)} of them code`],
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  console.log(`\n${title}`);
  for (const [name, value, rest] of rows) console.log(`  ${name.padEnd(widths[0]!)}  ${value.padStart(widths[1]!)}  ${rest}`);
}

/** Where the user wants it measured: everywhere unless TARGET names one place. */
function chosenPlaces(): Place[] {
  const name = process.env.TARGET;
  const chosen = places.filter(({ target }) => !name || target.name === name);
  if (chosen.length === 0) throw new UserError(`TARGET=${name}: measurements are made in ${places.map(({ target }) => target.name).join(" and ")}, whose ticks repeat`);
  return chosen;
}

async function measure(screen: Screen, iso: string, place: Place): Promise<Result> {
  screen.line({ what: place.title });
  const one = await measureOneCpu(screen, iso, place);
  const pauses = await measurePauses(screen, iso, place);
  const shares = await measureTimeShares(screen, iso, place);
  const result = resultOf(place, one, pauses, shares);
  print(place, result, one, pauses);
  console.log();
  return result;
}

async function main(): Promise<void> {
  const screen = new Screen();
  screen.title("Understudy, measured", "A tick is about an instruction: these compare lengths of paths, not what caches and page walks cost.");
  const chosen = chosenPlaces();
  const iso = await screen.step("", "building what isn't built yet", buildInBackground);
  const results: Partial<Record<string, Result>> = {};
  for (const place of chosen) results[place.target.name] = await measure(screen, iso, place);
  const { bochs, ...others } = results;
  mkdirSync(buildDir, { recursive: true });
  // What was measured in Bochs stands at the top, as before there was another place.
  writeFileSync(join(buildDir, "bench.json"), JSON.stringify({ ...bochs, ...others }, null, 2) + "\n");
  console.log(`build/bench.json has the same; ${screen.elapsed()} in all`);
}

main().then(() => process.exit(0), fail);
