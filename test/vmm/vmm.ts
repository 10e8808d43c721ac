/** The whole VMM over a simulated machine: prepared, captured, and driven exit by exit. */
import { fileURLToPath } from "node:url";
import { compile } from "../../compiler/compile.ts";
import { type DialectFunction, type Loaded, instantiate } from "../../compiler/emit-js/load.ts";
import type { Program } from "../../compiler/ir.ts";
import { reportAll } from "../../compiler/report.ts";
import { type Chipset, addChipset } from "./chipset.ts";
import { type ApicHelp, setApicHelp } from "./apic-hardware.ts";
import { entryProblems } from "./entry-checks.ts";
import { type AcpiOptions, MEMORY_MAP, MIB, type Range, setUpProcessors, writeAcpi, writeBootInfo } from "./firmware.ts";
import { readApicPage, writeApicPage, writeCr8 } from "./guest-apic.ts";
import { Gone, Machine, type Processor } from "./machine.ts";

/** The VMM's region: 4 MiB, the image at its start, with the storage behind the code. */
export const REGION = 0x3000_0000n;
export const REGION_SIZE = 4n * MIB;
/** Its other memory. */
export const ANNEX = 0x3800_0000n;
export const ANNEX_SIZE = 4n * MIB;
/** What the loader tells it of both. */
export const PLACE = { regionBase: REGION, regionSize: REGION_SIZE, annexBase: ANNEX, annexSize: ANNEX_SIZE };
export const TEXT_END = 0x10000n;
/** Behind all storage. */
const STACK = REGION + 0x3f_0000n;
/** Where a captured kernel goes on. */
export const KERNEL_RIP = 0xffffffff_c0801234n;
export const KERNEL_RSP = 0xffffc900_00123f58n;
export const KERNEL_CR3 = 0x100_0000n;

/** Of struct us_status, which hypercall.test.ts fills in. */
export const STATUS_SIZE = 6352n;

export const OK = 0;
export const AGAIN = 14;

const compiled = new Map<string, Program>();
const source = (path: string): string => fileURLToPath(new URL(`../../vmm-src/${path}`, import.meta.url));

/** A program of the VMM's modules, by their paths in vmm-src; compiled once in a test file. `project` says for which processors. */
export function compileVmm(modules: string[], project = "tsconfig.json"): Program {
  const key = [project, ...modules].join();
  const known = compiled.get(key);
  if (known) return known;
  const { program, errors } = compile({ entries: modules.map(source), project: source(project) }, "exports");
  if (errors.length > 0) throw new Error(`\n${reportAll(errors)}`);
  compiled.set(key, program);
  return program;
}

/** Modules over a machine, with the region where the loader puts it. */
export function loadModules(machine: Machine, modules: string[], project?: string): Loaded {
  const stubs = ["exitStub", "exceptionStubs", "nmiStub", "releaseNmiStub", "interruptStub"];
  return instantiate(compileVmm(modules, project), {
    memory: machine.memory,
    base: REGION + TEXT_END,
    stack: STACK,
    externals: {
      ...machine.externals(),
      imageBase: () => REGION,
      imageTextEnd: () => TEXT_END,
      ...Object.fromEntries(stubs.map((stub, i) => [stub, () => REGION + 0x2000n + BigInt(i) * 0x400n])),
    },
  });
}

/** A struct in the machine's memory, read and written by its fields' names; u64 as bigint, arrays as their address. */
export type View = Record<string, any>;

export function viewOf(loaded: Loaded, struct: string, address: bigint): View {
  const { offsets, sizes } = loaded.layout(struct);
  const place = (name: string): [bigint, number] => {
    const offset = offsets[name];
    if (offset === undefined) throw new Error(`${struct} has no field ${name}`);
    return [address + BigInt(offset), sizes[name]!];
  };
  return new Proxy({}, {
    get(_target, name) {
      if (typeof name === "symbol") return undefined;
      const [at, bytes] = place(name);
      if (![1, 2, 4, 8].includes(bytes)) return at;
      const value = loaded.memory.read(at, bytes as 8);
      return bytes === 8 ? value : Number(value);
    },
    set(_target, name, value) {
      const [at, bytes] = place(String(name));
      loaded.memory.write(at, bytes as 8, BigInt(value));
      return true;
    },
  });
}

export const Reason = {
  EXCEPTION_OR_NMI: 0, EXTERNAL_INTERRUPT: 1, TRIPLE_FAULT: 2, INIT: 3, SIPI: 4, INTERRUPT_WINDOW: 7, CPUID: 10, GETSEC: 11, HLT: 12, INVD: 13, VMCALL: 18, VMXON: 27, CR_ACCESS: 28, IO: 30, RDMSR: 31, WRMSR: 32, MWAIT: 36,
  MONITOR_TRAP_FLAG: 37, TPR_BELOW_THRESHOLD: 43, APIC_ACCESS: 44, EPT_VIOLATION: 48, EPT_MISCONFIGURATION: 49, PREEMPTION_TIMER: 52, XSETBV: 55, APIC_WRITE: 56,
};

export interface ExitInfo { qualification?: bigint; length?: number; physical?: bigint; vectoring?: bigint; vectoringCode?: bigint; entryFailure?: boolean; interruption?: bigint }

export interface VmmOptions { apicIds?: number[]; map?: Range[]; acpi?: Partial<AcpiOptions>; tables?: boolean; apicHelp?: ApicHelp }

/** Number of a general register in instruction encodings. */
export const RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSI = 6, RDI = 7;

export class Vmm {
  readonly machine: Machine;
  readonly chipset: Chipset;
  readonly loaded: Loaded;
  /** What each processor's last VM entry injected, by processor. */
  readonly injected: (bigint | null)[] = [];
  /** Processors that are out of the VMM for good, and how. */
  readonly gone = new Map<number, Gone>();
  /** Processors in the VMM. */
  protected readonly busy = new Set<Processor>();
  /** Processors that were told to wait, and would be waiting now. */
  protected readonly held = new Set<Processor>();
  protected idlePauses = 0;

  constructor({ apicIds = [0, 1], map = MEMORY_MAP, acpi = {}, tables = true, apicHelp }: VmmOptions = {}) {
    this.machine = this.createMachine(apicIds);
    this.chipset = addChipset(this.machine);
    setUpProcessors(this.machine);
    if (apicHelp) for (const { msrs } of this.machine.processors) setApicHelp(msrs, apicHelp);
    const rsdp = tables ? writeAcpi(this.machine, { apicIds, ...acpi }) : 0n;
    this.loaded = this.load();
    writeBootInfo(this.machine, REGION + 256n, { ...PLACE, rsdp, apicIds, map });
    this.machine.onPause = () => this.deliverSignals();
  }

  protected createMachine(apicIds: number[]): Machine { return new Machine(apicIds); }
  protected load(): Loaded { return loadModules(this.machine, ["entry/main.ts"]); }

  get call(): Record<string, DialectFunction> { return this.loaded.call; }
  get fields(): Record<string, number> { return this.loaded.enums.Vmcs!; }
  get result(): Record<string, number> { return this.loaded.enums.Result!; }

  constant(name: string): number { return Number(this.loaded.constants[name]); }

  /** Every step of the preparation; the result that is not AGAIN. */
  prepare(): number {
    for (let step = 0; ; step++) {
      const result = this.call.enter!((0x80000000 | step) >>> 0, 0n, 0n, 0n);
      if (result !== AGAIN) return result;
    }
  }

  /** Late launch on one processor; on OK the kernel goes on as a guest. */
  capture(cpu: number, rsp = KERNEL_RSP): number {
    this.machine.now = this.machine.processors[cpu]!;
    const result = this.call.enter!(cpu, KERNEL_RIP, rsp, KERNEL_CR3);
    if (result === OK) this.enterGuest(this.machine.now, this.cpu(cpu).vcpu, false);
    return result;
  }

  /** Prepared, and captured on these processors (all of them). */
  static captured<Kind extends Vmm>(this: new (options?: VmmOptions) => Kind, options: VmmOptions = {}, cpus = (options.apicIds ?? [0, 1]).map((_, i) => i)): Kind {
    const vmm = new this(options);
    const results = [vmm.prepare(), ...cpus.map((cpu) => vmm.capture(cpu))];
    if (results.some((one) => one !== OK)) throw new Error(`not captured: ${results.join()}`);
    return vmm;
  }

  cpu(index: number): View { return this.element("Cpu", this.loaded.addressOf("cpus"), index); }
  /** The virtual CPU that a processor carries, or one of an instance. */
  vcpu(cpu: number, instance?: number): View {
    return this.view("Vcpu", instance === undefined ? this.cpu(cpu).vcpu : this.call.vcpuOf!(instance, cpu));
  }
  instance(number: number): View { return this.view("Instance", this.call.instanceOf!(number)); }
  view(struct: string, address: bigint): View { return viewOf(this.loaded, struct, address); }
  element(struct: string, array: bigint, index: number): View {
    return this.view(struct, array + BigInt(index * this.loaded.layout(struct).size));
  }

  register(cpu: number, number: number): bigint { return this.machine.memory.read(this.vcpu(cpu).registers + BigInt(8 * number), 8); }
  setRegister(cpu: number, number: number, value: bigint): void { this.machine.memory.write(this.vcpu(cpu).registers + BigInt(8 * number), 8, value); }

  /** A field of the VMCS that is current on a processor. */
  read(cpu: number, field: string): bigint { return this.machine.processors[cpu]!.field(this.fields[field]!); }
  write(cpu: number, field: string, value: bigint): void { this.machine.processors[cpu]!.vmcs!.fields.set(this.fields[field]!, value); }

  /** What runs on a processor is a user program. */
  enterUserMode(cpu: number): void {
    this.write(cpu, "GUEST_SS_ACCESS_RIGHTS", 0xc0f3n);
    this.write(cpu, "GUEST_CS_ACCESS_RIGHTS", 0xa0fbn);
  }

  /** Whether an instance's access to a port exits. */
  portExits(instance: number, port: number): boolean {
    return this.bit(this.call.ioBitmap!(instance, port >> 15), port & 0x7fff);
  }

  /** Whether an instance's RDMSR, or WRMSR, of an MSR exits (SDM Vol. 3C, 26.6.9). */
  msrExits(instance: number, msr: number, writes: boolean): boolean {
    return this.bit(this.call.msrBitmap!(instance) + (writes ? 2048n : 0n) + (msr >= 0xc000_0000 ? 1024n : 0n), msr & 0x1fff);
  }

  protected bit(table: bigint, number: number): boolean {
    return ((this.machine.memory.read(table + BigInt(number >> 3), 1) >> BigInt(number & 7)) & 1n) === 1n;
  }

  /** Whether a processor waits for a SIPI, its guest's or the VMM's. */
  waitsForSipi(cpu: number): boolean {
    return this.read(cpu, "GUEST_ACTIVITY_STATE") === 3n;
  }

  /** The memory map that a processor's guest is on. */
  mapUnder(cpu: number): bigint {
    return this.read(cpu, "EPT_POINTER");
  }

  /** An INIT or SIPI that a guest which holds its whole machine sends, command as in the ICR. */
  sendStartup(cpu: number, command: number, destination: number): void {
    this.machine.deliver(this.machine.processors[cpu]!, destination, command);
  }

  /** How often a processor has forgotten what it knew of an instance's memory map. */
  mapFlushes(cpu: number, instance: number): number {
    const pointer = `ept ${this.call.mapPointer!(instance).toString(16)}`;
    return this.machine.processors[cpu]!.flushes.filter((one) => one === pointer).length;
  }

  /** A VM exit on a processor, up to and with the next VM entry. */
  exit(cpu: number, reason: number, info: ExitInfo = {}): void {
    const processor = this.machine.processors[cpu]!;
    this.setExit(processor, reason, info);
    const vcpu = this.cpu(cpu).vcpu;
    const before = this.machine.now;
    this.machine.now = processor;
    this.busy.add(processor);
    try {
      const common: boolean = this.call.handleExit!(vcpu);
      this.enterGuest(processor, common ? vcpu : this.handleRareExit(vcpu), common);
    } catch (error) {
      if (!(error instanceof Gone)) throw error;
      if (this.chipset.serial.text.includes("panic")) throw new Error(this.chipset.serial.text.trim(), { cause: error });
      this.leftBy(processor, error);
    } finally {
      this.busy.delete(processor);
      this.machine.now = before;
    }
    if (this.busy.size === 0) this.settle();
  }

  /** A processor does not go on in a guest. */
  protected leftBy(processor: Processor, how: Gone): void {
    this.gone.set(processor.index, how);
  }

  /** What the processor says of an exit. */
  protected setExit(processor: Processor, reason: number, info: ExitInfo): void {
    const fields = processor.vmcs!.fields;
    // Of the host's state, what the VMM looks at: its CR4.
    processor.cr4 = fields.get(0x6c04)!;
    fields.set(0x4402, BigInt(reason) | (info.entryFailure ? 0x80000000n : 0n));
    fields.set(0x6400, info.qualification ?? 0n);
    fields.set(0x440c, BigInt(info.length ?? 3));
    fields.set(0x2400, info.physical ?? 0n);
    fields.set(0x4404, info.interruption ?? 0n);
    fields.set(0x4408, info.vectoring ?? 0n);
    fields.set(0x440a, info.vectoringCode ?? 0n);
  }

  private handleRareExit(vcpu: bigint): bigint {
    this.view("Vcpu", vcpu).launched = 1;
    return this.call.handleRareExit!(vcpu);
  }

  /** The stub's end (boot/vmx/exit.asm): VMRESUME after the commonest exit, else what Vcpu.launched says. */
  protected enterGuest(processor: Processor, vcpu: bigint, resume: boolean): void {
    const nmi = this.cpu(processor.index).nmiCount > 0;
    const entered: bigint = nmi ? this.call.deliverNmi!(vcpu) : vcpu;
    if (entered !== this.cpu(processor.index).vcpu) throw new Error("the virtual CPU that is entered is not the one that the processor carries");
    const view = this.view("Vcpu", entered);
    const state = processor.vmcs!;
    if ((resume && !nmi) || view.launched !== 0) {
      if (!state.launched) throw new Error("VMRESUME of a VMCS that is clear");
    } else if (state.launched) throw new Error("VMLAUNCH of a VMCS that is not clear");
    const problems = entryProblems(processor);
    if (problems.length > 0) throw new Error(`VM entry fails: ${problems.join("; ")}`);
    state.launched = true;
    const info = state.fields.get(0x4016)!;
    this.injected[processor.index] = info & 0x80000000n ? info : null;
    state.fields.set(0x4016, info & ~0x80000000n);
  }

  /** The guest's write to its virtual APIC's page, or of CR8; false where that exits before it is done. */
  writesApic(cpu: number, register: number | "CR8", value: number): boolean {
    const processor = this.machine.processors[cpu]!;
    const { memory } = this.machine;
    const done = register === "CR8" ? writeCr8(memory, processor, value) : writeApicPage(memory, processor, register, value);
    if (done === null || done === "APIC access") return false;
    if (done === "APIC write") this.exit(cpu, Reason.APIC_WRITE, { qualification: BigInt(register), length: 0 });
    else if (done === "TPR below threshold") this.exit(cpu, Reason.TPR_BELOW_THRESHOLD, { length: 0 });
    return true;
  }

  /** What the guest reads from its virtual APIC's page; null where that exits. */
  readsApic(cpu: number, register: number): number | null {
    return readApicPage(this.machine.memory, this.machine.processors[cpu]!, register);
  }

  /** Signals that have arrived make their processors exit. */
  private deliverSignals(): void {
    for (const processor of this.machine.processors) this.take(processor);
    if (++this.idlePauses > 250_000) throw new Error("a processor waits in the VMM for something that nobody does");
  }

  protected take(processor: Processor): void {
    if (this.busy.has(processor)) return;
    const { index } = processor;
    if (this.held.has(processor) && !this.letGoOf(processor)) return;
    if (processor.vmxRegion === null) {
      processor.takeInit();
      return;
    }
    const waits = processor.field(0x4826) === 3n;
    const sipi = processor.sipis.splice(0).at(-1);
    if (waits && sipi !== undefined) this.signalExit(processor, Reason.SIPI, BigInt(sipi));
    else if (!waits && processor.initLatched) {
      processor.initLatched = false;
      if (this.cpu(index).command !== this.loaded.enums.Command!.HOLD) this.signalExit(processor, Reason.INIT, 0n);
      else {
        // It would spin until it is let go; that turn comes later.
        this.cpu(index).command = 0;
        this.held.add(processor);
      }
    }
  }

  protected signalExit(processor: Processor, reason: number, qualification: bigint): void {
    this.idlePauses = 0;
    this.exit(processor.index, reason, { qualification, length: 0 });
  }

  /** A held processor's turn, once nobody holds it any more. */
  protected letGoOf(processor: Processor): boolean {
    if (this.machine.memory.read(this.loaded.addressOf("holding"), 4) !== 0n) {
      // Held anew before it could go on: it has noticed that in between, and taken the second signal.
      if (this.cpu(processor.index).command === this.loaded.enums.Command!.HOLD) {
        this.cpu(processor.index).command = 0;
        processor.initLatched = false;
      }
      return false;
    }
    this.held.delete(processor);
    const ordered = this.cpu(processor.index).command;
    this.cpu(processor.index).command = this.loaded.enums.Command!.HOLD!;
    this.signalExit(processor, Reason.INIT, 0n);
    this.cpu(processor.index).command = ordered;
    return true;
  }

  /** What is still on the way arrives; a bare processor takes its INIT as hardware does. */
  private settle(): void {
    for (const processor of this.machine.processors) this.take(processor);
  }

  /** VMCALL at CPL 0: RDI, RSI, RDX; the result. */
  hypercall(cpu: number, number: number, { rdi = 0n, rsi = 0n, rdx = 0n } = {}): number {
    this.setRegister(cpu, RAX, BigInt(number));
    this.setRegister(cpu, RDI, rdi);
    this.setRegister(cpu, RSI, rsi);
    this.setRegister(cpu, RDX, rdx);
    this.exit(cpu, Reason.VMCALL);
    return this.gone.has(cpu) ? -1 : Number(this.register(cpu, RAX));
  }

  /** Everything recorded since sequence number `from`. */
  events(from = 0n): { type: string; instance: number; cpu: number; a: bigint; b: bigint }[] {
    const names = Object.fromEntries(Object.entries(this.loaded.enums.EventType!).map(([name, value]) => [value, name]));
    const out = [];
    for (let sequence = from; sequence < this.call.nextSequence!(); sequence++) {
      const { type, instance, cpu, a, b } = this.view("Event", this.call.eventAt!(sequence));
      out.push({ type: names[type]!, instance, cpu, a, b });
    }
    return out;
  }
}
