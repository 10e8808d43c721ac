import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type Server, type Socket, createServer } from "node:net";
import { join } from "node:path";
import { buildDir } from "../../image/paths.ts";
import { getQemu } from "../../image/qemu.ts";
import { Console, type ShellResult, patience } from "./console.ts";
import { Monitor } from "./monitor.ts";

export interface QemuOptions {
  /** A bootable disk image: the project's ISO is one. */
  iso: string;
  /** Processors; 1 unless told. */
  cpus?: number;
  /** 1024 unless told. */
  memoryMiB?: number;
  /** Names the machine's folder, build/machines/NAME; two machines at a time need two names. */
  name: string;
  /** What executes its instructions: QEMU's emulation, counted and one processor at a time, unless told. */
  accel?: string[];
  /** How long an instruction takes, 1 << shift nanoseconds: 0 unless told. The more, the quicker a machine's second is over. */
  shift?: number;
  /** QEMU's processor model and flags. */
  cpu?: string;
  /** Levels of page tables that the processor can have, and that kernels then use: 5 unless told. */
  levels?: 4 | 5;
  /** Whether the machine has UEFI instead of a BIOS. */
  uefi?: boolean;
  /** More of QEMU's arguments. */
  args?: string[];
}

/**
 * Everything that TCG emulates of a processor, AMD's SVM with nested paging included. It sets CPUID's hypervisor bit,
 * unless told not to: to a kernel this is then a bare machine, as it is for the VMM.
 */
const defaultCpu = "max,-hypervisor";

const counted = (shift: number) => ["-accel", "tcg,thread=single", "-icount", `shift=${shift},sleep=on`];

/** For x2APIC mode: QEMU 10 aborts ("Bad icount read") where its MSRs read a clock that is driven by instructions. */
export const withoutCounting = ["-accel", "tcg,thread=single"];

const tail = (file: string, lines: number) =>
  existsSync(file) ? readFileSync(file, "latin1").trimEnd().split("\n").slice(-lines).join("\n") : "";


/**
 * A q35 machine that QEMU emulates (TCG), an instruction a nanosecond unless told, whatever else the host does, its processors in
 * turns: clocks that a busy host would disturb are the guests' own then, and runs repeat. Its first serial port is at our hand;
 * its second writes to a file.
 */
export class QemuMachine {
  readonly com1Log: string;
  readonly com2Log: string;
  /** QEMU's own word, and ours to it: devices plugged in and out. */
  monitor!: Monitor;
  /** The connection to the first serial port, for those who put it on a terminal. */
  socket!: Socket;
  private readonly dir: string;
  private readonly qemuLog: string;
  private console!: Console;
  private child!: ChildProcess;
  private readonly servers: Server[] = [];
  private died: string | undefined;

  constructor(private readonly options: Required<QemuOptions>) {
    this.dir = join(buildDir, "machines", options.name);
    rmSync(this.dir, { recursive: true, force: true });
    mkdirSync(this.dir, { recursive: true });
    this.com1Log = join(this.dir, "com1.log");
    this.com2Log = join(this.dir, "com2.log");
    this.qemuLog = join(this.dir, "qemu.log");
    for (const log of [this.com1Log, this.com2Log]) writeFileSync(log, "");
  }

  /** The process, for those who measure. */
  get pid(): number {
    return this.child.pid!;
  }

  /** What QEMU complained of, and what the VMM said when it stopped for good. */
  get troubles(): string[] {
    const linesOf = (file: string) => readFileSync(file, "latin1").split("\n");
    return [...linesOf(this.qemuLog).filter((line) => line !== ""), ...linesOf(this.com1Log).filter((line) => line.includes("understudy: panic"))];
  }

  expect(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    return this.console.expect(pattern, timeoutMs);
  }

  send(text: string): Promise<void> {
    return this.console.send(text);
  }

  /** Runs a command in the shell at the first serial port. */
  sh(command: string, timeoutMs?: number): Promise<ShellResult> {
    return this.console.sh(command, timeoutMs);
  }

  /** Finds whichever shell has the first serial port now; returns its host name. */
  sync(timeoutMs?: number): Promise<string> {
    return this.console.sync(timeoutMs);
  }

  async start(): Promise<void> {
    const { iso } = this.options;
    if (!existsSync(iso)) throw new Error(`${iso} does not exist (make iso makes it)`);
    const [serial, monitor] = await Promise.all([this.listen(), this.listen()]);
    this.spawn(serial.port, monitor.port);
    const ended = new Promise<never>((_, reject) => {
      this.child.once("exit", () => reject(new Error(`QEMU did not start: ${tail(this.qemuLog, 8)}`)));
      this.child.once("error", reject);
    });
    ended.catch(() => {});
    this.socket = await Promise.race([serial.connected, ended]);
    this.console = new Console(this.socket, this.com1Log, () => this.explain(), patience);
    this.child.once("exit", (code, signal) => {
      this.died ??= `QEMU ended (${signal ?? `status ${code}`})`;
      this.console.ended(this.died);
    });
    this.monitor = new Monitor(await Promise.race([monitor.connected, ended]));
    await Promise.race([this.monitor.ready(), ended]);
  }

  /** Ends the machine at once. */
  async stop(): Promise<void> {
    this.died ??= "the machine was stopped";
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill("SIGKILL");
      await gone;
    }
    this.socket?.destroy();
    for (const server of this.servers) server.close();
  }

  /** QEMU connects to us: so the port is ours before anyone else can take it. */
  private async listen(): Promise<{ port: number; connected: Promise<Socket> }> {
    let accept: (socket: Socket) => void;
    const connected = new Promise<Socket>((resolve) => (accept = resolve));
    const server = createServer((socket) => accept(socket.setNoDelay()));
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { port: (server.address() as { port: number }).port, connected };
  }

  private spawn(serial: number, monitor: number): void {
    const { iso, cpus, memoryMiB, accel, cpu, levels, uefi, args } = this.options;
    const qemu = getQemu();
    const log = openSync(this.qemuLog, "w");
    const command = [
      ...qemu.command,
      "-machine", "q35", ...accel, "-cpu", levels === 4 ? `${cpu},-la57` : cpu, "-smp", String(cpus), "-m", String(memoryMiB),
      "-drive", `file=${iso},format=raw,if=ide,snapshot=on`, "-netdev", "user,id=net0,restrict=on", "-device", "e1000,netdev=net0,addr=3", "-display", "none", "-no-reboot",
      "-serial", `tcp:127.0.0.1:${serial}`, "-serial", `file:${this.com2Log}`, "-qmp", `tcp:127.0.0.1:${monitor}`,
      ...(uefi ? this.firmware(qemu.ovmf) : []), ...args,
    ];
    // setpriv ends it with us, even if we get no chance to.
    this.child = spawn("setpriv", ["--pdeathsig", "KILL", ...command], { stdio: ["ignore", log, log], cwd: this.dir, env: { ...process.env, ...qemu.env } });
  }

  /** OVMF in flash, with variables of this machine's own. */
  private firmware(folder: string): string[] {
    const variables = join(this.dir, "uefi-variables.fd");
    copyFileSync(join(folder, "OVMF_VARS_4M.fd"), variables);
    const flash = (unit: number, file: string, more = "") => ["-drive", `if=pflash,format=raw,unit=${unit},file=${file}${more}`];
    return [...flash(0, join(folder, "OVMF_CODE_4M.fd"), ",readonly=on"), ...flash(1, variables)];
  }

  private explain(): string {
    return `\n--- end of ${this.com1Log}\n${tail(this.com1Log, 25)}\n--- end of ${this.qemuLog}\n${tail(this.qemuLog, 8)}`;
  }
}

/** Starts a machine. It may still be in its BIOS when this returns: `machine.expect(/os1# /)` waits for the shell. */
export async function startQemu(options: QemuOptions): Promise<QemuMachine> {
  const machine = new QemuMachine({ cpus: 1, memoryMiB: 1024, accel: counted(options.shift ?? 0), shift: 0, cpu: defaultCpu, levels: 5, uefi: false, args: [], ...options });
  await machine.start();
  return machine;
}
