import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type Server, type Socket, createServer } from "node:net";
import { dirname, join } from "node:path";
import { buildDir, projectDir } from "../image/paths.ts";
import { run } from "../image/tools.ts";
import { Console, type ShellResult } from "../test/machine/console.ts";
import type { Machine, MachineOptions } from "./machine.ts";

const qemu = "qemu-system-x86_64";

/** A tiny guest of our own tells what KVM's files and parameters only promise. */
const probe = join(buildDir, "programs/kvm-guest");

/** What keeps a guest of this host's KVM from having VT-x itself; nothing if all is there. */
export function missingForKvm(): string | undefined {
  if (!existsSync("/dev/kvm")) return "there is no /dev/kvm (modprobe kvm_intel)";
  run("make", ["-C", join(projectDir, "test/programs"), `OUT=${dirname(probe)}`]);
  const { status, stdout, stderr, error } = spawnSync(probe, { encoding: "utf8", timeout: 20_000 });
  if (error) return `/dev/kvm runs no guest: a tiny one did not end (${error.message})`;
  if (status !== 0) return `/dev/kvm runs no guest: ${stderr.trim()}`;
  if (!(JSON.parse(stdout) as { nested: boolean }).nested) {
    const parameter = "/sys/module/kvm_intel/parameters/nested";
    const said = existsSync(parameter) ? `nested=${readFileSync(parameter, "utf8").trim()}` : "kvm_intel is not loaded here";
    return `this host's KVM gives its guests no VT-x (${said}; modprobe kvm_intel nested=1)`;
  }
  if (spawnSync(qemu, ["--version"]).status !== 0) return `${qemu} is not installed (apt install qemu-system-x86)`;
  return undefined;
}

/** A machine that QEMU runs on KVM with nested VT-x: the same two serial ports as Bochs'. */
class KvmMachine implements Machine {
  readonly com1Log: string;
  readonly com2Log: string;
  private readonly qemuLog: string;
  private console!: Console;
  private child!: ChildProcess;
  private server!: Server;

  constructor(private readonly options: MachineOptions) {
    const dir = join(buildDir, "machines", options.name);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    this.com1Log = join(dir, "com1.log");
    this.com2Log = join(dir, "com2.log");
    this.qemuLog = join(dir, "qemu.log");
    for (const log of [this.com1Log, this.com2Log]) writeFileSync(log, "");
  }

  /** What QEMU itself complained of. */
  get troubles(): string[] {
    return readFileSync(this.qemuLog, "latin1").split("\n").filter((line) => /KVM internal error|entry failed|error:/i.test(line));
  }

  async start(): Promise<void> {
    const socket = new Promise<Socket>((resolve) => (this.server = createServer((one) => resolve(one.setNoDelay()))));
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    const { iso, cpus, memoryMiB } = this.options;
    const log = openSync(this.qemuLog, "w");
    const args = [
      "-machine", "pc,accel=kvm", "-cpu", "host,+vmx", "-smp", String(cpus), "-m", String(memoryMiB),
      "-drive", `file=${iso},format=raw,if=ide,snapshot=on`, "-nic", "none", "-display", "none", "-no-reboot",
      "-serial", `tcp:127.0.0.1:${(this.server.address() as { port: number }).port}`, "-serial", `file:${this.com2Log}`,
    ];
    // setpriv ends it with us, even if we get no chance to.
    this.child = spawn("setpriv", ["--pdeathsig", "KILL", qemu, ...args], { stdio: ["ignore", log, log] });
    const ended = new Promise<never>((_, reject) => {
      this.child.once("exit", () => reject(new Error(`QEMU did not start: ${readFileSync(this.qemuLog, "utf8").trim()}`)));
      this.child.once("error", reject);
    });
    ended.catch(() => {});
    this.console = new Console(await Promise.race([socket, ended]), this.com1Log, () => `\n${readFileSync(this.com1Log, "latin1").split("\n").slice(-25).join("\n")}`);
    this.child.once("exit", () => this.console.ended("QEMU ended"));
  }

  expect(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    return this.console.expect(pattern, timeoutMs);
  }

  send(text: string): Promise<void> {
    return this.console.send(text);
  }

  sh(command: string, timeoutMs?: number): Promise<ShellResult> {
    return this.console.sh(command, timeoutMs);
  }

  sync(timeoutMs?: number): Promise<string> {
    return this.console.sync(timeoutMs);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill("SIGKILL");
      await gone;
    }
    this.server.close();
  }
}

export async function startKvm(options: MachineOptions): Promise<Machine> {
  const machine = new KvmMachine(options);
  await machine.start();
  return machine;
}
