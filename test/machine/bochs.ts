import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, closeSync, constants, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type Server, type Socket, createServer } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { ReadStream } from "node:tty";
import { getBochs } from "../../image/bochs.ts";
import { buildDir } from "../../image/paths.ts";
import { Console, type ShellResult, patience } from "./console.ts";

export interface BochsOptions {
  /** A bootable disk image: the project's ISO is one. */
  iso: string;
  /** Processors; 1 unless told. */
  cpus?: number;
  /** 1024 unless told. */
  memoryMiB?: number;
  /** Names the machine's folder, build/machines/NAME; two machines at a time need two names. */
  name: string;
  /** A second disk's image, in whole cylinders (16 × 63 × 512 bytes). */
  disk?: string;
  /** An e1000 network card; there unless told otherwise. */
  nic?: boolean;
  /** Emulated instructions per emulated second. */
  ips?: number;
  /** More lines for Bochs' configuration. */
  config?: string[];
}

/** Lines in Bochs' log that say that a VM entry failed, or that the machine did. */
const troubles = /VMFAIL|VMENTER FAIL|VM ?entry.*fail|VMX abort|PANIC|triple fault/i;

const tail = (file: string, lines: number) =>
  existsSync(file) ? readFileSync(file, "latin1").trimEnd().split("\n").slice(-lines).join("\n") : "";

/** A machine that runs in Bochs. Its first serial port is at our hand; its second writes to a file. */
export class BochsMachine {
  readonly com1Log: string;
  readonly com2Log: string;
  private readonly bochsLogFile: string;
  private readonly out: string;
  private console!: Console;
  private server!: Server;
  private child!: ChildProcess;
  private screen: ReadStream | undefined;
  private died: string | undefined;
  private readonly onExit = () => this.kill();

  constructor(private readonly options: Required<Omit<BochsOptions, "disk">> & Pick<BochsOptions, "disk">) {
    const dir = join(buildDir, "machines", options.name);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    this.com1Log = join(dir, "com1.log");
    this.com2Log = join(dir, "com2.log");
    this.bochsLogFile = join(dir, "bochs.log");
    this.out = join(dir, "bochs.out");
    writeFileSync(this.com1Log, "");
  }

  /** The process, for those who measure. */
  get pid(): number {
    return this.child.pid!;
  }

  /** The connection to the first serial port, for those who put it on a terminal. */
  socket!: Socket;

  /** Instructions executed, as of Bochs' last word: while a Linux runs, that is less than a timer tick ago. */
  ticks = 0;

  /** Everything that Bochs said of the machine, but for floods. */
  get bochsLog(): string {
    return existsSync(this.bochsLogFile) ? readFileSync(this.bochsLogFile, "latin1") : "";
  }

  /** What Bochs' log says of failed VM entries, panics and triple faults. */
  get troubles(): string[] {
    return this.bochsLog.split("\n").filter((line) => troubles.test(line));
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
    const connected = new Promise<Socket>((resolve) => {
      // Bochs connects to us: so the port is ours before anyone else can take it.
      this.server = createServer((socket) => resolve(socket.setNoDelay()));
    });
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.spawn((this.server.address() as { port: number }).port);
    process.on("exit", this.onExit);
    const ended = new Promise<never>((_, reject) => {
      this.child.once("close", () => reject(new Error(`Bochs did not start${this.explain()}`)));
      this.child.once("error", reject);
    });
    this.socket = await Promise.race([connected, ended]);
    ended.catch(() => {});
    this.console = new Console(this.socket, this.com1Log, () => this.explain(), patience);
    this.child.once("close", (code, signal) => {
      this.died ??= `Bochs ended (${signal ?? `status ${code}`})`;
      this.console.ended(this.died);
    });
  }

  /** Ends the machine at once. Bochs ignores SIGTERM, and leaves its locks behind. */
  async stop(): Promise<void> {
    process.off("exit", this.onExit);
    this.died ??= "the machine was stopped";
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((resolve) => this.child.once("exit", resolve));
      this.kill();
      await gone;
    }
    this.removeLocks();
    this.screen?.destroy();
    this.socket?.destroy();
    this.server.close();
  }

  private kill(): void {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
  }

  private removeLocks(): void {
    for (const image of [this.disk0, this.options.disk]) if (image) rmSync(`${image}.lock`, { force: true });
  }

  /** Bochs locks its disks; the ISO is only read, so every machine takes it by a name of its own. */
  private get disk0(): string {
    return join(buildDir, "machines", this.options.name, "disk.img");
  }

  private spawn(port: number): void {
    const bochs = getBochs();
    const dir = join(buildDir, "machines", this.options.name);
    const rc = join(dir, "bochsrc");
    const debugger_ = join(dir, "debugger");
    // Not a link: GRUB or a guest may write.
    copyFileSync(this.options.iso, this.disk0);
    this.removeLocks();
    writeFileSync(rc, this.config(port, bochs.bios, bochs.vgaBios).join("\n") + "\n");
    // It is a debugger's build: tell it to continue.
    writeFileSync(debugger_, "c\n");
    const out = openSync(this.out, "w");
    const [program, ...args] = [...bochs.command, "-q", "-f", rc, "-rc", debugger_];
    // setpriv ends it with us, even if we get no chance to.
    this.child = spawn("setpriv", ["--pdeathsig", "KILL", program!, ...args], {
      stdio: ["ignore", out, "pipe"],
      // Some devices leave files where Bochs was started.
      cwd: dir,
      detached: true,
      // Its display is a terminal of its own, which ncurses must know.
      env: { ...process.env, TERM: "linux", ...bochs.env },
    });
    closeSync(out);
    this.keepLog(this.child.stderr!);
  }

  /**
   * Writes Bochs' log (its stderr), but for what Linux causes at every tick: reads of APERF and MPERF, which
   * Bochs has not; for NMIs; and for the sound library's complaints.
   */
  private keepLog(stream: Readable): void {
    let rest = "";
    stream.setEncoding("latin1").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      if (!this.screen) this.watchScreen(lines);
      this.ticks = Number(/^\d{11,}/.exec(lines.at(-1) ?? "")?.[0] ?? this.ticks);
      const kept = lines.filter((line) => !/RDMSR: Unknown register|Deliver NMI$|Virtual Apic (RD|WR) |^ALSA /.test(line));
      if (kept.length > 0) appendFileSync(this.bochsLogFile, kept.join("\n") + "\n", "latin1");
    });
  }

  /** Its screen is a terminal of its own, at which someone must look: when that is full, Bochs waits. */
  private watchScreen(lines: string[]): void {
    const path = lines.map((line) => /connected to screen "(.*)"/.exec(line)?.[1]).find(Boolean);
    if (path) this.screen = new ReadStream(openSync(path, constants.O_RDWR | constants.O_NOCTTY)).setRawMode(true).on("error", () => {}).resume();
  }

  private config(port: number, bios: string, vgaBios: string): string[] {
    const { cpus, memoryMiB, ips, disk, nic, config } = this.options;
    return [
      "display_library: term",
      "config_interface: textconfig",
      `cpu: model=corei7_haswell_4770, count=${cpus}, ips=${ips}, reset_on_triple_fault=0`,
      `memory: guest=${memoryMiB}, host=${memoryMiB}`,
      `romimage: file=${bios}`,
      `vgaromimage: file=${vgaBios}`,
      `pci: enabled=1, chipset=i440fx${nic ? ", slot1=e1000" : ""}`,
      "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
      `ata0-master: type=disk, mode=flat, path=${this.disk0}`,
      ...(disk ? ["ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15", `ata1-master: type=disk, mode=flat, path=${disk}`] : []),
      ...(nic ? ["e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=null"] : []),
      "boot: disk",
      // A fixed time makes runs repeatable, tick by tick.
      "clock: sync=none, time0=1700000000",
      `com1: enabled=1, mode=socket-client, dev=127.0.0.1:${port}`,
      `com2: enabled=1, mode=file, dev=${this.com2Log}`,
      "port_e9_hack: enabled=1",
      "log: -",
      "panic: action=fatal",
      "error: action=report",
      "info: action=report",
      "debug: action=ignore",
      "speaker: enabled=0",
      ...config,
    ];
  }

  private explain(): string {
    const bochs = this.died || !this.console ? `\n--- end of ${this.bochsLogFile}\n${tail(this.bochsLogFile, 8)}\n${tail(this.out, 8)}` : "";
    return `\n--- end of ${this.com1Log}\n${tail(this.com1Log, 25)}${bochs}`;
  }
}

/** Starts a machine. It may still be in its BIOS when this returns: `machine.expect(/os1# /)` waits for the shell. */
export async function startBochs(options: BochsOptions): Promise<BochsMachine> {
  const cpus = options.cpus ?? 1;
  const ips = options.ips ?? (cpus === 1 ? 50_000_000 : 10_000_000);
  const machine = new BochsMachine({ memoryMiB: 1024, nic: true, config: [], ...options, cpus, ips });
  await machine.start();
  return machine;
}
