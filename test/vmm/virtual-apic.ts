/** A virtual local APIC for tests: its guest's accesses, its time, and what its processor is told. */
import { type ApicHelp, ApicHardware } from "./apic-hardware.ts";
import { Machine } from "./machine.ts";
import type { Loaded } from "../../compiler/emit-js/load.ts";
import { type View, loadModules, viewOf } from "./vmm.ts";

export const NO_INTERRUPT = 0xffff_ffff;
export const NEVER = 0xffff_ffff_ffff_ffffn;
export const [BASE_MSR, DEADLINE_MSR, X2APIC_MSRS] = [0x1b, 0x6e0, 0x800];
/** IA32_APIC_BASE. */
export const [DISABLED, XAPIC, X2APIC] = [0xfee0_0000n, 0xfee0_0800n, 0xfee0_0c00n];
export const [ID, VERSION, TPR, APR, PPR, EOI, RRD, LDR, DFR, SVR] = [0x20, 0x30, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0];
export const [ISR, TMR, IRR, ESR, CMCI, ICR, ICR_HIGH] = [0x100, 0x180, 0x200, 0x280, 0x2f0, 0x300, 0x310];
export const [TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR] = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];
export const [INITIAL, CURRENT, DIVIDE, SELF_IPI] = [0x380, 0x390, 0x3e0, 0x3f0];
export const LVTS = [CMCI, TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR];
export const MASKED = 0x10000;
export const [PERIODIC, TSC_DEADLINE] = [0x20000, 0x40000];
/** Six LVT entries and CMCI, EOI-broadcast suppression. */
export const FULL_VERSION = 0x01060015;
/** An interrupt command that goes out, an EOI that IOAPICs hear of, #GP; anything else is just done. */
export type Outcome = { kind: number; command?: number; destination?: number; vector?: number };
export const [DONE, COMMAND, END_OF_INTERRUPT, FAULT] = [0, 1, 2, 3];
export const APIC_ID = 3;

export class VirtualApic {
  readonly machine: Machine;
  readonly loaded: Loaded;
  readonly address: bigint;
  readonly model: View;
  now = 1_000_000n;
  /** What the processor does of it in xAPIC mode. */
  private readonly hardware: ApicHardware | null;

  constructor(machine = new Machine(), modules = ["devices/virtual-apic-registers.ts"], help: ApicHelp = "nothing") {
    this.machine = machine;
    this.loaded = loadModules(machine, modules);
    this.address = this.loaded.call.virtualApic!(0);
    this.model = viewOf(this.loaded, "ApicModel", this.loaded.addressOf("apicModel"));
    this.hardware = help === "its registers" ? new ApicHardware(machine.memory, this.address, true, () => this.threshold()) : null;
  }

  /** The processor in front of the page; null where everything exits. */
  private get front(): ApicHardware | null {
    return this.call.hasPage!(this.address) ? this.hardware : null;
  }

  /** As after RESET, of a kind that has everything, and enabled by software. */
  reset({ version = FULL_VERSION, id = APIC_ID, deadline = true, x2apic = true, enabled = true, rate = 0x10000n } = {}): void {
    Object.assign(this.model, { version, hasTscDeadline: Number(deadline), hasX2apic: Number(x2apic) });
    this.now = 1_000_000n;
    this.call.setTimerRate!(rate);
    this.call.resetVirtualApic!(this.address, 2, id, true);
    if (enabled) this.write(SVR, 0x1ff);
  }

  get call(): Loaded["call"] { return this.loaded.call; }

  read(offset: number, size = 4): number {
    // What has arrived meanwhile made the guest exit: the timer's deadline, another processor's ring.
    if (this.hardware) {
      this.advance();
      this.call.collectPosted!(this.address);
    }
    return this.front?.read(offset, size) ?? Number(this.call.readPage!(this.address, offset, size, this.now));
  }
  write(offset: number, value: number, size = 4): Outcome {
    switch (this.front?.write(offset, value, size) ?? "APIC access") {
      case "APIC access": return this.call.writePage!(this.address, offset, size, value >>> 0, this.now);
      case "APIC write": return this.call.acceptWrite!(this.address, offset, this.now);
      case "done": case "TPR below threshold": return { kind: DONE };
    }
  }
  /** null for #GP. */
  readMsr(index: number): bigint | null {
    const { ok, value } = this.call.readApicMsr!(this.address, index, this.now);
    return ok ? value : null;
  }
  writeMsr(index: number, value: bigint): Outcome { return this.call.writeApicMsr!(this.address, index, value, this.now); }
  /** The x2APIC MSR of a register. */
  rdmsr(offset: number): bigint | null { return this.readMsr(X2APIC_MSRS + (offset >> 4)); }
  wrmsr(offset: number, value: bigint): Outcome { return this.writeMsr(X2APIC_MSRS + (offset >> 4), value); }
  setMode(...bases: bigint[]): void { for (const base of bases) this.writeMsr(BASE_MSR, base); }

  raise(vector: number, level = false): boolean { return this.call.raise!(this.address, vector, level); }
  deliverable(): number { return this.call.deliverable!(this.address); }
  threshold(): number { return this.call.taskPriorityThreshold!(this.address); }
  /** The processor takes what is deliverable. */
  take(): number {
    this.advance();
    const vector = this.deliverable();
    if (vector !== NO_INTERRUPT) this.call.acknowledge!(this.address, vector);
    return vector;
  }
  advance(): boolean { return this.call.advance!(this.address, this.now); }
  nextDeadline(): bigint { return this.call.nextDeadline!(this.address); }

  /** Vectors whose bits are set in one of ISR, TMR, IRR. */
  vectors(bank: number): number[] {
    const word = (index: number): number => Number(this.call.apicRegister!(this.address, bank + index * 16));
    return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => (word(vector >> 5) >>> (vector & 31)) & 1);
  }
  /** What ESR says after it is written. */
  errors(): number {
    this.write(ESR, 0);
    return this.read(ESR);
  }
}
