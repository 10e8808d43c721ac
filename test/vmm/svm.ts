/** The VMM for AMD-V over a simulated machine: what VMRUN and its like do, and exits as the VMCB tells them (APM Vol. 2, chapter 15). */
import type { Loaded } from "../../compiler/emit-js/load.ts";
import { Fault, Gone, Machine, type Processor } from "./machine.ts";
import { sendIpi } from "./scenario.ts";
import { type ExitInfo, Reason, Vmm, loadModules } from "./vmm.ts";

export const EFER = 0xc000_0080;
export const VM_CR = 0xc001_0114;
export const HSAVE = 0xc001_0117;
const SVME = 0x1000n;

/** Offsets in the VMCB (appendix B), written out here so that a wrong one in the VMM shows. Names are the VMCS's where it has the field. */
export const VMCB: Record<string, [offset: number, size: 1 | 2 | 4 | 8]> = {
  INTERCEPT1: [0x0c, 4], INTERCEPT2: [0x10, 4], IOPM: [0x40, 8], MSRPM: [0x48, 8], ASID: [0x58, 4], TLB_CONTROL: [0x5c, 1], INTERRUPT_CONTROL: [0x60, 8],
  SHADOW: [0x68, 8], EXIT_CODE: [0x70, 8], EXIT_INFO1: [0x78, 8], EXIT_INFO2: [0x80, 8], EXIT_INTERRUPTION: [0x88, 8], NESTED_CONTROL: [0x90, 8],
  EVENT: [0xa8, 8], NESTED_CR3: [0xb0, 8], NEXT_RIP: [0xc8, 8],
  GUEST_ES_SELECTOR: [0x400, 2], GUEST_CS_SELECTOR: [0x410, 2], GUEST_CS_ACCESS_RIGHTS: [0x412, 2], GUEST_CS_LIMIT: [0x414, 4], GUEST_CS_BASE: [0x418, 8],
  GUEST_SS_SELECTOR: [0x420, 2], GUEST_SS_ACCESS_RIGHTS: [0x422, 2], GUEST_DS_SELECTOR: [0x430, 2], GUEST_FS_BASE: [0x448, 8], GUEST_GS_BASE: [0x458, 8],
  GUEST_GDTR_LIMIT: [0x464, 4], GUEST_GDTR_BASE: [0x468, 8], GUEST_IDTR_LIMIT: [0x484, 4], GUEST_IDTR_BASE: [0x488, 8], GUEST_TR_SELECTOR: [0x490, 2],
  CPL: [0x4cb, 1], GUEST_EFER: [0x4d0, 8], GUEST_CR4: [0x548, 8], GUEST_CR3: [0x550, 8], GUEST_CR0: [0x558, 8], GUEST_DR7: [0x560, 8], GUEST_DR6: [0x568, 8],
  GUEST_RFLAGS: [0x570, 8], GUEST_RIP: [0x578, 8], GUEST_RSP: [0x5d8, 8], GUEST_CR2: [0x640, 8], GUEST_PAT: [0x668, 8], SPEC_CTRL: [0x6e0, 8],
};

/** Exit codes (appendix C) for the reasons that tests ask for. */
const EXIT_CODES: Record<number, bigint> = {
  [Reason.TRIPLE_FAULT]: 0x7fn, [Reason.CPUID]: 0x72n, [Reason.INVD]: 0x76n, [Reason.VMCALL]: 0x81n, [Reason.IO]: 0x7bn, [Reason.RDMSR]: 0x7cn,
  [Reason.WRMSR]: 0x7cn, [Reason.EPT_VIOLATION]: 0x400n, [Reason.EPT_MISCONFIGURATION]: 0x8an,
};
const INTR_EXIT = 0x60n;
export const NMI_EXIT = 0x61n;

/** What AMD-V adds to a processor. */
interface Svm { gif: boolean; nmi: boolean; waits: boolean; loaded: bigint | null; flushes: number }

class SvmMachine extends Machine {
  private readonly states = new Map<Processor, Svm>();

  of(processor: Processor): Svm {
    const state = this.states.get(processor) ?? { gif: true, nmi: false, waits: false, loaded: null, flushes: 0 };
    this.states.set(processor, state);
    return state;
  }

  override deliver(from: Processor, destination: number, command: number): void {
    const before = this.processors.map(({ nmis }) => nmis);
    super.deliver(from, destination, command);
    this.processors.forEach((processor, i) => { if (processor.nmis > before[i]!) this.of(processor).nmi = true; });
  }

  override externals(): Record<string, (...args: any[]) => unknown> {
    const svm = (name: string): Svm => {
      if ((this.now.msrs.get(EFER)! & SVME) === 0n) throw new Fault(`#UD: ${name} without EFER.SVME`);
      return this.of(this.now);
    };
    const basics = super.externals();
    return {
      ...basics,
      stgi: () => Object.assign(svm("STGI"), { gif: true, nmi: false }),
      clgi: () => { svm("CLGI").gif = false; },
      vmsave: (vmcb: bigint) => { svm("VMSAVE").loaded = vmcb; },
      vmload: (vmcb: bigint) => { svm("VMLOAD").loaded = vmcb; },
      waitForNmi: () => {
        const state = svm("STGI");
        // An NMI that is there already wakes it at once.
        if (!state.nmi) throw new Gone("waits");
        state.nmi = false;
      },
      readCr2: () => 0x7fff_1000n,
      writeCr2: () => {},
      readDr6: () => 0xffff0ff0n,
      writeDr6: () => {},
    };
  }
}

export class SvmVmm extends Vmm {
  /** What VMRUN itself has delivered, by processor. */
  readonly byEvent: (bigint | null)[] = [];

  protected override createMachine(apicIds: number[]): SvmMachine {
    const machine = new SvmMachine(apicIds);
    machine.cpuid.set(`${0x8000_0000}`, [0x8000_0021, 0, 0, 0]).set(`${0x8000_0001}`, [0, 0, 4, 0x2c10_0800]).set(`${0x8000_000a}`, [1, 16, 0, 1]);
    for (const { msrs } of machine.processors) msrs.set(EFER, 0xd01n).set(VM_CR, 0n).set(HSAVE, 0n).set(0x277, 0x7040600070406n);
    return machine;
  }

  protected override load(): Loaded {
    return loadModules(this.machine, ["entry/main.ts"], "tsconfig.svm.json");
  }

  svm(cpu: number): Svm {
    return (this.machine as SvmMachine).of(this.machine.processors[cpu]!);
  }

  override enterUserMode(cpu: number): void {
    this.write(cpu, "CPL", 3n);
  }

  override portExits(instance: number, port: number): boolean {
    return this.bit(this.call.ioPermissionsOf!(instance), port);
  }

  /** Two bits an MSR, reads and writes, 2 KiB for each range of MSRs (15.11). */
  override msrExits(instance: number, msr: number, writes: boolean): boolean {
    const range = msr >= 0xc001_0000 ? 0x1000n : msr >= 0xc000_0000 ? 0x800n : 0n;
    return this.bit(this.call.msrPermissionsOf!(instance) + range, 2 * (msr & 0x1fff) + (writes ? 1 : 0));
  }

  override waitsForSipi(cpu: number): boolean {
    return this.svm(cpu).waits;
  }

  override mapUnder(cpu: number): bigint {
    return this.read(cpu, "NESTED_CR3");
  }

  /** Interrupt commands exit there at all times. */
  override sendStartup(cpu: number, command: number, destination: number): void {
    sendIpi(this, cpu, command, destination);
  }

  override mapFlushes(cpu: number, _instance: number): number {
    return this.svm(cpu).flushes;
  }

  private place(cpu: number, field: string): [bigint, 1 | 2 | 4 | 8] {
    const place = VMCB[field];
    if (!place) throw new Error(`the VMCB has no ${field}`);
    return [(this.vcpu(cpu).control as bigint) + BigInt(place[0]), place[1]];
  }

  /** A field of the VMCB of the virtual CPU that a processor carries. */
  override read(cpu: number, field: string): bigint { return this.machine.memory.read(...this.place(cpu, field)); }
  override write(cpu: number, field: string, value: bigint): void { this.machine.memory.write(...this.place(cpu, field), value); }

  protected override setExit({ index }: Processor, reason: number, info: ExitInfo): void {
    const code = reason < 0 ? BigInt(-reason) : EXIT_CODES[reason];
    if (code === undefined) throw new Error(`AMD-V has no exit like VT-x's ${reason}`);
    const qualification = info.qualification ?? 0n;
    const length = BigInt(info.length ?? 3);
    const rip = this.read(index, "GUEST_RIP");
    this.write(index, "EXIT_CODE", code);
    this.write(index, "EXIT_INFO1", reason === Reason.IO ? ioInfo(qualification) : reason === Reason.WRMSR ? 1n : 0n);
    this.write(index, "EXIT_INFO2", reason === Reason.IO ? rip + length : info.physical ?? 0n);
    this.write(index, "EXIT_INTERRUPTION", info.vectoring ?? 0n);
    this.svm(index).gif = false;
  }

  /** An exit by its code, of those that VT-x has not. */
  exitByCode(cpu: number, code: bigint): void {
    this.exit(cpu, -Number(code));
  }

  protected override enterGuest(processor: Processor): void {
    const { index } = processor;
    const problems = vmrunProblems(processor, (field) => this.read(index, field), (this.vcpu(index).direct & 2) === 0);
    if (problems.length > 0) throw new Error(`VMRUN fails: ${problems.join("; ")}`);
    const event = this.read(index, "EVENT");
    this.byEvent[index] = event & 0x8000_0000n ? event : null;
    this.injected[index] = this.byEvent[index] ?? this.takeVirtualInterrupt(index);
    this.write(index, "EVENT", 0n);
    if (this.read(index, "TLB_CONTROL") !== 0n) this.svm(index).flushes++;
    this.svm(index).gif = true;
  }

  /** The virtual interrupt that a guest takes first of all, if it takes one and that does not exit (15.21.4). */
  private takeVirtualInterrupt(index: number): bigint | null {
    const control = this.read(index, "INTERRUPT_CONTROL");
    const [pending, ignoresPriority, window] = [0x100n, 0x10_0000n, 0x10n];
    if ((control & pending) === 0n || (control & ignoresPriority) === 0n || (this.read(index, "INTERCEPT1") & window) !== 0n) return null;
    if ((this.read(index, "GUEST_RFLAGS") & 0x200n) === 0n || (this.read(index, "SHADOW") & 1n) !== 0n) return null;
    this.write(index, "INTERRUPT_CONTROL", control & ~pending);
    return 0x8000_0000n | ((control >> 32n) & 0xffn);
  }

  protected override leftBy(processor: Processor, how: Gone): void {
    if (how.how === "waits") this.svm(processor.index).waits = true;
    else super.leftBy(processor, how);
  }

  /** The pending NMI makes a guest exit, or ends a wait in the VMM: the loop goes on as after an NMI's exit. */
  protected override take(processor: Processor): void {
    const { index } = processor;
    if (this.busy.has(processor) || (this.held.has(processor) && !this.letGoOf(processor))) return;
    if (this.cpu(index).vcpu === 0n) {
      processor.takeInit();
      return;
    }
    if (!this.svm(index).nmi) {
      if (this.isRung(processor)) this.exitByCode(index, INTR_EXIT);
      return;
    }
    if (this.cpu(index).command !== this.loaded.enums.Command!.HOLD) {
      this.signalExit(processor);
      return;
    }
    // It would spin until it is let go; that turn comes later.
    this.svm(index).nmi = false;
    this.cpu(index).command = 0;
    this.held.add(processor);
  }

  /** Whether an interrupt of the VMM's own makes a guest exit. Tests do that themselves with those of a guest. */
  private isRung({ index, apic }: Processor): boolean {
    const [masksVirtually, exits] = [0x100_0000n, 1n];
    if (apic.deliverable() !== 0xff || (this.read(index, "INTERCEPT1") & exits) === 0n) return false;
    return (this.read(index, "INTERRUPT_CONTROL") & masksVirtually) !== 0n || (this.read(index, "GUEST_RFLAGS") & 0x200n) !== 0n;
  }

  protected override letGoOf(processor: Processor): boolean {
    const isLetGo = super.letGoOf(processor);
    if (!isLetGo) this.svm(processor.index).nmi = false;
    return isLetGo;
  }

  protected override signalExit(processor: Processor): void {
    this.idlePauses = 0;
    this.svm(processor.index).waits = false;
    this.exitByCode(processor.index, NMI_EXIT);
  }

  /** An NMI of the machine's own. */
  nmi(cpu: number): void {
    this.svm(cpu).nmi = true;
    this.take(this.machine.processors[cpu]!);
  }
}

/** VT-x's qualification of an I/O instruction, as AMD-V says it. */
function ioInfo(qualification: bigint): bigint {
  const size = (qualification & 7n) + 1n;
  return (qualification & 0xffff0000n) | (size << 4n) | ((qualification >> 3n) & 1n) | ((qualification >> 2n) & 4n);
}

/** Why VMRUN would refuse (15.5.1). */
function vmrunProblems(processor: Processor, read: (field: string) => bigint, nested: boolean): string[] {
  const problems: string[] = [];
  const check = (holds: boolean, rule: string): void => { if (!holds) problems.push(rule); };
  const [cr0, cr4, efer] = ["GUEST_CR0", "GUEST_CR4", "GUEST_EFER"].map(read) as [bigint, bigint, bigint];
  const paging = (cr0 & 0x8000_0000n) !== 0n;
  check((processor.msrs.get(EFER)! & SVME) !== 0n, "host EFER.SVME is clear");
  check(processor.msrs.get(HSAVE)! !== 0n && (processor.msrs.get(HSAVE)! & 0xfffn) === 0n, "VM_HSAVE_PA");
  check((efer & SVME) !== 0n, "guest EFER.SVME is clear");
  check((cr0 & 0x6000_0000n) !== 0x2000_0000n && cr0 >> 32n === 0n, "CR0");
  check(read("GUEST_DR6") >> 32n === 0n && read("GUEST_DR7") >> 32n === 0n, "DR6 or DR7");
  check(!(efer & 0x100n) || !paging || (cr4 & 0x20n) !== 0n, "long mode without PAE");
  check(!(efer & 0x100n) || !paging || (cr0 & 1n) !== 0n, "long mode without protection");
  check(((efer & 0x400n) !== 0n) === ((efer & 0x100n) !== 0n && paging), "EFER.LMA is not LME with paging");
  check((read("INTERCEPT2") & 1n) !== 0n, "VMRUN is not intercepted");
  check(read("ASID") !== 0n, "ASID 0");
  for (const field of ["IOPM", "MSRPM", "NESTED_CR3"]) check(read(field) !== 0n && (read(field) & 0xfffn) === 0n, field);
  check((read("NESTED_CONTROL") === 1n) === nested, "nested paging, or none");
  const event = read("EVENT");
  check(!(event & 0x8000_0000n) || [0n, 2n, 3n, 4n].includes((event >> 8n) & 7n), "an event of no type");
  check(!(event & 0x8000_0000n) || ((event >> 8n) & 7n) !== 3n || (event & 0xffn) < 32n, "an exception above 31");
  return problems;
}
