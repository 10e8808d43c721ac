import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, inject } from "vitest";
import type { ShellResult } from "../machine/console.ts";
import { type Target, type TestMachine, bochs } from "../machine/targets.ts";

export const seconds = 1000;

/** What an attack came to: its words, and its numbers by name. */
export interface Answer {
  text: string;
  [name: string]: bigint | string;
}

export interface VmmEvent {
  sequence: number;
  event: string;
  instance: number;
  cpu: number;
  a: bigint;
  b: bigint;
  text: string;
}

export interface Status {
  state: string;
  region_base: string;
  region_size: number;
  annex_base: string;
  annex_size: number;
  instances: { instance: number; own: boolean; state: string; cpus: string; memory: number; ranges: { base: string; size: number }[]; exits: number }[];
  cpus: { cpu: number; apic_id: number; instance: number; state: string }[];
  functions: { function: string; instance: number; vendor: number; device: number; class: number }[];
}

/** The instance that attacks. */
export type Instance = 1 | 2;

/** How OS 1 boots the hostile kernel beside itself. */
export const launchHostile = "understudy launch --kernel /lib/hostile/kernel --initrd /etc/hostname --append x --memory 128M --cpus 1";

/** What a healthy kernel does not write into its log. */
const trouble = [
  "BUG", "WARNING", "Oops", "Call Trace", "rcu_", "rcu:", "lockdep", "lockup", "hung task", "general protection", "unable to handle",
  "No irq handler", "unknown reason", "Dazed", "bad page", "Modules linked in", "unstable", "disabled by bios", "spurious",
].join("|");

const tail = (file: string, lines: number) => readFileSync(file, "latin1").trimEnd().split("\n").slice(-lines).join("\n");

function parseAnswer(text: string): Answer {
  const answer: Answer = { text };
  for (const [, name, value] of text.matchAll(/(\S+)=(0x[0-9a-f]+)/g)) answer[name!] = BigInt(value!);
  return answer;
}

/** A machine with OS 1 on it, as tests want to talk to it. */
export class System {
  machine!: TestMachine;

  sh(command: string, timeoutMs?: number): Promise<ShellResult> {
    return this.machine.sh(command, timeoutMs);
  }

  /** Runs a command that must end well; returns what it said. */
  async run(command: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.sh(command, timeoutMs);
    if (status !== 0) throw new Error(`'${command}' ended with ${status}: ${output.trim() || "it said nothing"}`);
    return output;
  }

  /** Runs a command that must end badly; returns what it said. */
  async refused(command: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.sh(command, timeoutMs);
    if (status === 0) throw new Error(`'${command}' should have failed, but said: ${output.trim() || "nothing"}`);
    return output;
  }

  /** Runs a command that prints JSON, an object a line; other lines are passed over. */
  async json<T>(command: string, timeoutMs?: number): Promise<T[]> {
    const output = await this.run(command, timeoutMs);
    return output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as T);
  }

  async status(): Promise<Status> {
    return (await this.json<Status>("understudy status --json"))[0]!;
  }

  /** What the VMM has noted from a sequence number on. */
  async events(from = 0): Promise<VmmEvent[]> {
    const events = await this.json<Omit<VmmEvent, "a" | "b"> & { a: string; b: string }>(`understudy events --json | awk -F'[:,]' '$2 >= ${from}'`);
    return events.map((event) => ({ ...event, a: BigInt(event.a), b: BigInt(event.b) }));
  }

  /** The sequence number that the next event will have. */
  async nextEvent(): Promise<number> {
    return Number(await this.run("understudy events --json | tail -n 1 | awk -F'[:,]' '{ print $2 + 1 }'"));
  }

  /** Lets an instance try attacks, one after the other: OS 1's kernel by its module, or the hostile kernel as OS 2. */
  async attack(instance: Instance, ...lines: string[]): Promise<Answer[]> {
    const output = await this.run(`ask ${instance} ${lines.map((line) => `'${line}'`).join(" ")}`);
    // A message of the kernel may stand between the answers.
    const answers = output.split("\n").filter((line) => line !== "" && !line.startsWith("["));
    if (answers.length !== lines.length) throw new Error(`${lines.length} attacks, ${answers.length} answers: ${output}`);
    return answers.map(parseAnswer);
  }

  /** One attack. */
  async try(instance: Instance, line: string): Promise<Answer> {
    return (await this.attack(instance, line))[0]!;
  }

  /** Boots the hostile kernel as instance 2. */
  async launchHostile(): Promise<void> {
    await this.run(`${launchHostile} && ask 2`, 120 * seconds);
  }

  /** Lines of trouble in OS 1's kernel log since the tests began, and what the VMM and the emulator complain of. */
  async complaints(): Promise<string[]> {
    const lines = (await this.run(`dmesg | grep -Ei '${trouble}' || true`)).split("\n").filter(Boolean);
    const panics = readFileSync(this.machine.com1Log, "latin1").match(/understudy: panic.*/g) ?? [];
    return [...lines, ...panics, ...this.machine.troubles];
  }

  /** What is worth reading when something went wrong. */
  describe(): string {
    const { com1Log, troubles } = this.machine;
    return [`--- end of ${com1Log}`, tail(com1Log, 40), "--- the emulator's complaints", ...troubles.slice(-10)].join("\n");
  }
}

/**
 * A machine for the tests of the enclosing `describe`: booted to OS 1's shell before the first of them, with the hostile
 * module loaded. When a test fails, what the machine said last is printed.
 */
export function useSystem(options: { name: string; cpus: number }, target: Target = bochs): System {
  const system = new System();
  beforeAll(async () => {
    system.machine = await target.start({ memoryMiB: 1536, ...options, iso: inject("hostileIso") });
    await system.machine.expect(/os1# /, 300 * seconds);
    // From here on the kernel's log is the tests'.
    await system.run("insmod /lib/hostile/hostile.ko && dmesg -c >/dev/null");
  });
  afterEach(({ task }) => {
    if (task.result?.state === "fail" && system.machine) console.log(`${task.name}\n${system.describe()}`);
  });
  afterAll(() => system.machine?.stop());
  return system;
}
