import { commandLine } from "../image/iso.ts";
import { UserError } from "../image/tools.ts";
import { type Machine, expectInLog, readLog, run, runJson } from "./machine.ts";
import { type Screen, grouped } from "./screen.ts";
import { type Service, reportService, serviceText, startService } from "./service.ts";
import type { Timeline, VmmEvent } from "./timeline.ts";

const seconds = 1000;
/** What OS 1 gives: enough for Debian's kernel with its initramfs. */
const os2Memory = "256M";
/** What is written here is typed at OS 2's console. */
const os2Input = "/run/os2.in";

/** How the VMM says that a PCI function was granted. */
const grantOfFunction = "was granted device ";

/** What the cycle found out on its way, for those who look at the survivor. */
export interface Cycle {
  machine: Machine;
  screen: Screen;
  timeline: Timeline;
  cpus: number;
  tscKhz: number;
  /** The hypervisor that CPUID showed before anything began; "" on a bare machine. */
  beneath: string;
  /** OS 2's memory before it had OS 1's. */
  firstMemory: number;
  service1: Service;
  service2: Service;
}

interface Capture {
  tsc_khz: number;
  cpus: { cpu: number; capture_ticks: number }[];
}

interface Handover {
  complete: boolean;
  memory_before: number;
  memory: number;
  cpus_before: number;
  cpus: number;
  functions_before: number;
  functions: number;
  /** What could not be had, such as pieces of memory that are smaller than one of Linux's memory blocks. */
  complaints: string[];
}

/** "2 CPUs". */
export const counted = (cpus: number) => `${cpus} CPU${cpus === 1 ? "" : "s"}`;

export const mebibytes = (bytes: number) => `${grouped(bytes / (1 << 20))} MiB`;

/** How OS 1 ends, unless a scenario says otherwise. */
export const powerOff = "poweroff -f";

/** What a scenario adds: while OS 1 is captured, and while OS 2 runs beside it; and how OS 1 ends. */
export interface Additions {
  end?: string;
  captured?(machine: Machine, screen: Screen): Promise<void>;
  beside?(machine: Machine, screen: Screen): Promise<void>;
  /** More options of `understudy handover`. */
  handover?: string;
  /** OS 2 has the machine, and the VMM is there still. */
  taken?(taken: Taken): Promise<void>;
}

/** What there is to look at while the survivor is not released yet. */
export type Taken = Pick<Cycle, "machine" | "screen" | "timeline" | "tscKhz">;

/** The machine's CPUs, and those of OS 1's that OS 2 has a share of. */
export interface Processors {
  cpus: number;
  shares: number[];
}

/** From OS 1 on a bare machine to OS 2 on a bare machine. The machine is in its BIOS or boots already. */
export async function runCycle(machine: Machine, screen: Screen, timeline: Timeline, processors: Processors, additions: Additions = {}): Promise<Cycle> {
  const { cpus } = processors;
  const beneath = await boot(machine, screen);
  const tscKhz = await capture(machine, screen, timeline);
  await additions.captured?.(machine, screen);
  await launch(machine, screen, timeline, processors);
  const service1 = await serveWhileOs2Boots(machine, screen, timeline, tscKhz);
  await additions.beside?.(machine, screen);
  const handover = await stop(machine, screen, timeline, additions);
  // Without all of them, the VMM's way out would be another.
  if (handover.cpus !== cpus) throw new UserError(`OS 2 has taken the machine, but only ${handover.cpus} of ${cpus} CPUs are online; its kernel log ends with\n${await run(machine, "dmesg | tail -n 20")}`);
  const service2 = await serveWhileOs1Stops(machine, screen, timeline, tscKhz);
  await additions.taken?.({ machine, screen, timeline, tscKhz });
  await vanish(machine, screen, timeline);
  return { machine, screen, timeline, cpus, tscKhz, beneath, firstMemory: handover.memory_before, service1, service2 };
}

async function addEvents(machine: Machine, timeline: Timeline): Promise<void> {
  timeline.add(await runJson<VmmEvent>(machine, "understudy events --json"));
}

async function boot(machine: Machine, screen: Screen): Promise<string> {
  const release = await screen.step("OS 1", "boots", async () => {
    await machine.expect(/os1# /, 300 * seconds);
    return (await run(machine, "uname -r")).trim();
  });
  const ticks = Number(await run(machine, "ticks"));
  const [cpuid] = await runJson<{ name: string }>(machine, "cpuid-bench");
  screen.line({ who: "OS 1", what: `has booted, ${cpuid!.name ? `beneath it ${cpuid!.name}` : "on a bare machine"}`, detail: `Linux ${release}, CPUs ${await run(machine, "cat /sys/devices/system/cpu/online")}`, ticks });
  await screen.step("OS 1", "starts its service", () => run(machine, startService("OS 1"), 60 * seconds));
  screen.line({ who: "OS 1", what: "serves", detail: "a web server, and a client that asks it all the time" });
  return cpuid!.name;
}

async function capture(machine: Machine, screen: Screen, timeline: Timeline): Promise<number> {
  const capture = await screen.step("OS 1", "understudy start", async () => {
    await run(machine, "modprobe -q understudy || insmod /lib/understudy/understudy.ko");
    const [told] = await runJson<Capture>(machine, "understudy start --json", 120 * seconds);
    await addEvents(machine, timeline);
    return told!;
  });
  const first = timeline.find("captured", 1);
  screen.line({ who: "OS 1", what: "is captured, as it ran", detail: `the VMM is beneath its ${counted(capture.cpus.length)}`, ticks: first.tick });
  for (const { cpu, capture_ticks } of capture.cpus) {
    timeline.captured(cpu, capture_ticks);
    screen.more(`CPU ${cpu} paused for ${grouped(capture_ticks)} ticks`);
  }
  return capture.tsc_khz;
}

/** OS 2's console goes to the second serial port, where we can read it, until OS 2 has the first for itself. */
async function launch(machine: Machine, screen: Screen, timeline: Timeline, { cpus, shares }: Processors): Promise<void> {
  // OS 1 keeps CPU 0, and what it shares.
  const whole = Math.min(Math.floor(cpus / 2), cpus - new Set([0, ...shares]).size);
  const given = [whole > 0 && `--cpus ${whole}`, shares.length > 0 && `--share ${shares.join()}`].filter(Boolean).join(" ");
  const os2 = "/lib/understudy/os2";
  await screen.step("OS 1", "understudy launch", async () => {
    const append = `${commandLine} rdinit=/lib/understudy/init`;
    await runJson(machine, `understudy launch --kernel ${os2}/kernel --initrd ${os2}/initrd --append '${append}' --memory ${os2Memory} ${given} --json`, 120 * seconds);
    await run(machine, `mkfifo ${os2Input}; stty -F /dev/ttyS1 115200 raw; understudy console 2 <>${os2Input} >/dev/ttyS1 2>/run/console.err &`);
    await addEvents(machine, timeline);
  });
  const { tick, text } = timeline.find("launched", 2);
  const gets = timeline.all("granted", 2).map((event) => event.text.replace("was granted ", ""));
  screen.line({ who: "OS 2", what: text, detail: `on ${gets.join(", ")}`, ticks: tick });
}

/** Types a command at OS 2's console, by way of OS 1. */
async function typeAtOs2(machine: Machine, command: string): Promise<void> {
  await run(machine, `echo '${command.replaceAll("'", `'\\''`)}' >${os2Input}`);
}

/** Runs a command at OS 2's console; returns what it said. */
export async function runInOs2(machine: Machine, command: string, timeoutMs: number): Promise<string> {
  const from = readLog(machine.com2Log).length;
  await typeAtOs2(machine, `${command}; echo done $((1 + 1))`);
  await expectInLog(machine.com2Log, /^done 2$/m, timeoutMs, from);
  return readLog(machine.com2Log).slice(from);
}

async function serveWhileOs2Boots(machine: Machine, screen: Screen, timeline: Timeline, tscKhz: number): Promise<Service> {
  await screen.step("OS 2", "boots beside OS 1", () => expectInLog(machine.com2Log, /os2# /, 300 * seconds));
  await addEvents(machine, timeline);
  const launched = timeline.find("launched", 2).tick;
  const { tick } = timeline.find("userspace", 2);
  const [first] = /first line of user space: .*/.exec(readLog(machine.com2Log)) ?? [""];
  screen.line({ who: "OS 2", what: "is in user space", detail: `${grouped(tick - launched)} ticks after its launch`, ticks: tick });
  screen.more(`it said "${first}"`);

  const service = await reportService(machine, launched, tick);
  screen.line({ who: "OS 1", what: "served meanwhile", detail: serviceText(service, tscKhz) });
  await screen.step("OS 2", "starts its service", () => runInOs2(machine, startService("OS 2"), 60 * seconds));
  screen.line({ who: "OS 2", what: "serves", detail: "a web server and its client, too" });
  return service;
}

/** OS 2 waits for OS 1 to end, and takes all that it held. */
async function stop(machine: Machine, screen: Screen, timeline: Timeline, { end = powerOff, handover: options }: Additions): Promise<Handover> {
  const result = "/run/handover";
  const command = ["understudy handover --wait", options].filter(Boolean).join(" ");
  await screen.step("OS 2", command, async () => {
    const from = readLog(machine.com2Log).length;
    await typeAtOs2(machine, `(${command} --json >${result}.json 2>${result}.err; echo "hand-over ended: $?" >/dev/ttyS0) & echo waiting $((1 + 1))`);
    await expectInLog(machine.com2Log, /^waiting 2$/m, 60 * seconds, from);
  });
  const handover = await screen.step("OS 1", "shuts down", async () => {
    await machine.send(`${end}\n`);
    // Nothing is typed before: it would be nobody's.
    await machine.expect(/hand-over ended: \d+/, 240 * seconds);
    const name = await machine.sync();
    if (name !== "os2") throw new Error(`'${name}' has the console`);
    const complaints = await run(machine, `cat ${result}.err`);
    const [taken] = await runJson<Handover>(machine, `cat ${result}.json; [ -s ${result}.json ] || { cat ${result}.err; false; }`);
    await addEvents(machine, timeline);
    return { ...taken!, complaints: complaints.split("\n").filter(Boolean) };
  });
  const stopped = timeline.find("stopped", 1);
  screen.line({ who: "OS 1", what: stopped.text, ticks: stopped.tick });
  const grants = timeline.all("granted", 2).filter(({ tick }) => tick > stopped.tick);
  const functions = grants.filter(({ text }) => text.startsWith(grantOfFunction));
  for (const { tick, text } of grants.filter((grant) => !functions.includes(grant))) screen.line({ who: "OS 2", what: text, ticks: tick });
  if (functions[0]) {
    const names = functions.map(({ text }) => text.replace(grantOfFunction, "")).join(", ");
    screen.line({ who: "OS 2", what: `was granted ${functions.length} PCI functions`, detail: names, ticks: functions[0].tick });
  }
  screen.more(`memory ${mebibytes(handover.memory_before)} -> ${mebibytes(handover.memory)}, CPUs ${handover.cpus_before} -> ${handover.cpus}, PCI functions ${handover.functions_before} -> ${handover.functions}`);
  for (const complaint of handover.complaints) screen.more(complaint);
  return handover;
}

async function serveWhileOs1Stops(machine: Machine, screen: Screen, timeline: Timeline, tscKhz: number): Promise<Service> {
  const now = Number(await run(machine, "ticks"));
  const service = await reportService(machine, timeline.find("userspace", 2).tick, now);
  const { tick } = timeline.find("stopped", 1);
  const handover = await reportService(machine, tick - tscKhz * 100, now);
  screen.line({ who: "OS 2", what: "served meanwhile", detail: serviceText(handover, tscKhz) });
  return { ...handover, failures: service.failures };
}

async function vanish(machine: Machine, screen: Screen, timeline: Timeline): Promise<void> {
  interface Release {
    cpus: { cpu: number; release_ticks: number }[];
  }
  const { release, after } = await screen.step("OS 2", "understudy vanish", async () => {
    const [told] = await runJson<Release>(machine, "understudy vanish --json; ticks >/run/vanished", 60 * seconds);
    return { release: told!, after: Number(await run(machine, "cat /run/vanished")) };
  });
  screen.line({ who: "OS 2", what: "is released", detail: "the VMM is gone, the machine bare", ticks: after });
  for (const { cpu, release_ticks } of release.cpus) {
    timeline.released(2, cpu, after, release_ticks);
    screen.more(`CPU ${cpu} paused for ${grouped(release_ticks)} ticks`);
  }
}
