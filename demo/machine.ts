import { existsSync, readFileSync } from "node:fs";
import { type ShellResult, patience } from "../test/machine/console.ts";

/** What the cycle needs of a machine, whatever runs it. */
export interface Machine {
  /** What its serial ports have said. */
  readonly com1Log: string;
  readonly com2Log: string;
  /** What its log says of failed VM entries and the like. */
  readonly troubles: string[];
  expect(pattern: RegExp, timeoutMs?: number): Promise<unknown>;
  send(text: string): Promise<void>;
  sh(command: string, timeoutMs?: number): Promise<ShellResult>;
  sync(timeoutMs?: number): Promise<string>;
  stop(): Promise<void>;
}

/** A machine of this many processors, with the ISO as its disk. */
export interface MachineOptions {
  iso: string;
  cpus: number;
  memoryMiB: number;
  name: string;
  /** Whether it has UEFI instead of a BIOS, where QEMU runs it. */
  uefi?: boolean;
  /** More of QEMU's arguments, where that is what runs the machine. */
  args?: string[];
  /** What executes its instructions, where that can be chosen: unless told, an emulation whose clock they are. */
  accel?: string[];
}

/** Runs a command that must end well; returns what it said. */
export async function run(machine: Machine, command: string, timeoutMs?: number): Promise<string> {
  const { status, output } = await machine.sh(command, timeoutMs);
  if (status !== 0) throw new Error(`'${command}' ended with ${status}: ${output.trim() || "it said nothing"}`);
  return output;
}

/** Runs a command that prints JSON, an object a line; returns the objects. Other lines, such as the kernel's, are passed over. */
export async function runJson<T>(machine: Machine, command: string, timeoutMs?: number): Promise<T[]> {
  const output = await run(machine, command, timeoutMs);
  const objects = output.split("\n").flatMap((line) => {
    try {
      return line.startsWith("{") ? [JSON.parse(line) as T] : [];
    } catch {
      return [];
    }
  });
  if (objects.length === 0) throw new Error(`'${command}' printed no JSON: ${output.trim() || "nothing"}`);
  return objects;
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A serial log without what is meant for a terminal; Bochs makes the file when there is something to write. */
export function readLog(file: string): string {
  if (!existsSync(file)) return "";
  return readFileSync(file, "latin1").replace(/\x1b\[[0-9;?]*[A-Za-z]|\r/g, "");
}

/** Waits for text in a log that grows; returns what it is. `from` counts characters. */
export async function expectInLog(file: string, pattern: RegExp, timeoutMs: number, from = 0): Promise<RegExpExecArray> {
  const deadline = Date.now() + timeoutMs * patience;
  for (;;) {
    const text = readLog(file).slice(from);
    const match = pattern.exec(text);
    if (match) return match;
    if (Date.now() > deadline) {
      throw new Error(`no ${pattern} in ${file} within ${(timeoutMs * patience) / 1000} s; it ends with\n${text.trimEnd().split("\n").slice(-25).join("\n")}`);
    }
    await sleep(100);
  }
}
