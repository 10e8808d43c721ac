/**
 * A simulated machine: what vmm-src/machine/intrinsics.ts asks of hardware, for
 * several processors that take turns. It is strict where hardware would fault: an
 * MSR, VMCS field or APIC register that does not exist stops the test.
 */
import { HardwareFault as Fault, Msrs, Ports } from "../../compiler/emit-js/hardware.ts";
import { Memory } from "../../compiler/emit-js/load.ts";
import { type Apic, LocalApic, SHORTHAND, SHORTHAND_ALL, SHORTHAND_SELF } from "./local-apic.ts";

/** An exception in VMX root mode: the end of the VMM on that processor. */
export { HardwareFault as Fault } from "../../compiler/emit-js/hardware.ts";

/** What a function that does not return came to. */
export class Gone extends Error {
  constructor(readonly how: "halted" | "released" | "waits", readonly state = 0n) { super(how); }
}

export const APIC_BASE = 0x1b;
export const APIC_BASE_BSP = 0x100n;
export const APIC_BASE_X2APIC = 0x400n;
const CR4_VMXE = 0x2000n;
const READ_ONLY_FIELD = 1;

export interface VmcsState { fields: Map<number, bigint>; launched: boolean; on: Processor | null }

/** An interprocessor interrupt that went out: to which processor, delivery mode as in the ICR (0 fixed, 4 NMI, 5 INIT, 6 SIPI). */
export interface Ipi { from: number; to: number; mode: number; vector: number }

export interface Descriptors { base: bigint; limit: number }

export class Processor {
  cr0 = 0x8005_0033n;
  cr3 = 0x100_0000n;
  cr4 = 0x17_06f0n;
  dr6 = 0xffff0ff0n;
  dr7 = 0x400n;
  xcr0 = 7n;
  cr2 = 0n;
  /** DR0 to DR3. */
  readonly breakpoints = [0n, 0n, 0n, 0n];
  /** What stands for all vector registers. */
  vectors = 0n;
  /** As Linux has them: __KERNEL_CS, __KERNEL_DS for SS, its TSS. */
  selectors = { es: 0, cs: 0x10, ss: 0x18, ds: 0, fs: 0, gs: 0, ldtr: 0, tr: 0x40 };
  gdtr: Descriptors = { base: 0n, limit: 0 };
  idtr: Descriptors = { base: 0xfffffe00_00000000n, limit: 0xfff };
  readonly msrs = new Msrs();
  readonly apic: LocalApic;
  /** VMXON region while VMX is on. */
  vmxRegion: bigint | null = null;
  vmcs: VmcsState | null = null;
  /** VMX instructions that fail here, by name. */
  readonly failing = new Set<string>();
  /** An INIT waits here until it can be taken. */
  initLatched = false;
  /** Vectors of SIPIs on the way. */
  readonly sipis: number[] = [];
  /** What an INIT did to it outside VMX: it waits for a SIPI, or the bootstrap processor has started firmware. */
  reset: "waits" | "firmware" | null = null;
  nmis = 0;
  vectorStateCleared = 0;
  /** What INVEPT and INVVPID were executed on. */
  readonly flushes: string[] = [];

  constructor(readonly index: number, readonly apicId: number, machine: Machine) {
    this.apic = new LocalApic(apicId, (destination, command) => machine.deliver(this, destination, command));
    this.msrs.set(APIC_BASE, 0xfee0_0800n | (index === 0 ? APIC_BASE_BSP : 0n));
  }

  get x2apic(): boolean {
    return (this.msrs.get(APIC_BASE)! & APIC_BASE_X2APIC) !== 0n;
  }

  /** An INIT that arrived outside VMX operation (SDM Vol. 3A, 10.4.4). */
  takeInit(): void {
    if (this.initLatched) this.reset = this.msrs.get(APIC_BASE)! & APIC_BASE_BSP ? "firmware" : "waits";
    this.initLatched = false;
  }

  /** A VMCS field of the virtual CPU that runs here. */
  field(number: number): bigint {
    const value = this.vmcs?.fields.get(number);
    if (value === undefined) throw new Fault(`VMREAD of field 0x${number.toString(16)}, which ${this.vmcs ? "was never written" : "no VMCS has"}`);
    return value;
  }
}

export class Machine {
  readonly memory = new Memory();
  readonly processors: Processor[];
  /** The processor whose turn it is. */
  now: Processor;
  readonly ports = new Ports();
  /** Writes to ports, in order. */
  readonly portWrites = this.ports.writes;
  readonly ipis: Ipi[] = [];
  readonly cpuid = new Map<string, [eax: number, ebx: number, ecx: number, edx: number]>();
  readonly vmcss = new Map<bigint, VmcsState>();
  tsc = 1_000_000n;
  cacheWritebacks = 0;
  readonly linesWrittenBack = new Set<bigint>();
  /** What happens elsewhere while a processor spins. */
  onPause: () => void = () => {};

  constructor(apicIds: number[] = [0, 1]) {
    this.processors = apicIds.map((id, index) => new Processor(index, id, this));
    this.now = this.processors[0]!;
    const apic = (): Apic => {
      if (this.now.x2apic) throw new Fault("the xAPIC page is touched in x2APIC mode");
      return this.now.apic;
    };
    this.memory.mapDevice({
      start: 0xfee0_0000n,
      size: 0x1000n,
      read: (address) => BigInt(apic().read(Number(address & 0xfffn))),
      write: (address, _bytes, value) => apic().write(Number(address & 0xfffn), Number(value)),
    });
  }

  /** Hands an interprocessor interrupt to the processors it names; everybody here sends physical destinations only. */
  deliver(from: Processor, destination: number, command: number): void {
    const mode = (command >> 8) & 7;
    const vector = command & 0xff;
    if (command & 0x800) throw new Error("the VMM sent a logical destination");
    const shorthand = command & SHORTHAND;
    const everybody = from.x2apic ? 0xffff_ffff : 0xff;
    for (const to of this.processors) {
      const named = shorthand === SHORTHAND_SELF ? to === from
        : shorthand !== 0 ? shorthand === SHORTHAND_ALL || to !== from
        : to.apicId === destination || destination === everybody;
      if (!named) continue;
      this.ipis.push({ from: from.index, to: to.index, mode, vector });
      if (mode === 4) to.nmis++;
      else if (mode === 5) to.initLatched = true;
      else if (mode === 6) to.sipis.push(vector);
      else to.apic.request(vector);
    }
  }

  /** The implementations of intrinsics.ts that have nothing to do with VMX. */
  private basics(): Record<string, (...args: any[]) => unknown> {
    const { memory } = this;
    const storeTable = (out: bigint, table: Descriptors): void => {
      memory.write(out, 2, BigInt(table.limit));
      memory.write(out + 2n, 8, table.base);
    };
    return {
      cpuid: (leaf: number, subleaf: number, out: bigint) => {
        const values = this.cpuid.get(`${leaf}:${subleaf}`) ?? this.cpuid.get(`${leaf}`) ?? [0, 0, 0, 0];
        values.forEach((value, i) => memory.write(out + BigInt(4 * i), 4, BigInt(value >>> 0)));
      },
      readTsc: () => (this.tsc += 100n),
      readMsr: (index: number) => this.readMsr(index),
      writeMsr: (index: number, value: bigint) => this.writeMsr(index, value),
      xsetbv: (index: number, value: bigint) => {
        const set = (bits: bigint): boolean => (value & bits) === bits;
        const clear = (bits: bigint): boolean => (value & bits) === 0n;
        const [low, , , high] = this.cpuid.get("13:0") ?? [0, 0, 0, 0];
        const supported = BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
        const valid = index === 0 && set(1n) && clear(~supported) && (set(2n) || clear(4n))
          && (set(0x18n) || clear(0x18n)) && (set(0xe6n) || clear(0xe0n)) && (set(0x60000n) || clear(0x60000n));
        if (!valid) throw new Fault(`#GP: XSETBV of 0x${value.toString(16)}`);
        this.now.xcr0 = value;
      },
      xgetbv: () => this.now.xcr0,
      // In the area: at 512 which components are not in their initial state, at 576 the stand-in for them all.
      xsave: (area: bigint, components: bigint) => {
        if ((area & 63n) !== 0n) throw new Fault("#GP: XSAVE to an area that is not aligned");
        memory.write(area + 512n, 8, this.now.vectors === 0n ? 0n : components & this.now.xcr0);
        memory.write(area + 576n, 8, this.now.vectors);
      },
      xrstor: (area: bigint, components: bigint) => {
        if ((area & 63n) !== 0n) throw new Fault("#GP: XRSTOR from an area that is not aligned");
        const held = memory.read(area + 512n, 8);
        if ((held & ~this.now.xcr0) !== 0n) throw new Fault("#GP: XRSTOR of components that XCR0 does not have");
        this.now.vectors = (held & components) === 0n ? 0n : memory.read(area + 576n, 8);
      },
      readBreakpoint: (number: number) => this.now.breakpoints[number],
      writeBreakpoint: (number: number, value: bigint) => { this.now.breakpoints[number] = value; },
      readCr2: () => this.now.cr2,
      writeCr2: (value: bigint) => { this.now.cr2 = value; },
      readCr0: () => this.now.cr0,
      readCr3: () => this.now.cr3,
      readCr4: () => this.now.cr4,
      writeCr0: (value: bigint) => { this.now.cr0 = value; },
      writeCr4: (value: bigint) => {
        if (this.now.vmxRegion !== null && (value & CR4_VMXE) === 0n) throw new Fault("#GP: CR4.VMXE is cleared in VMX operation");
        this.now.cr4 = value;
      },
      readDr6: () => this.now.dr6,
      writeDr6: (value: bigint) => { this.now.dr6 = value; },
      readDr7: () => this.now.dr7,
      writeDr7: (value: bigint) => { this.now.dr7 = value; },
      storeGdt: (out: bigint) => storeTable(out, this.now.gdtr),
      storeIdt: (out: bigint) => storeTable(out, this.now.idtr),
      ...Object.fromEntries(["Es", "Cs", "Ss", "Ds", "Fs", "Gs", "Ldtr", "Tr"].map((name) =>
        [`read${name}`, () => this.now.selectors[name.toLowerCase() as "es"]])),
      loadAccessRights: (selector: number) => Number((this.descriptor(selector) >> 32n) & 0xffff00n),
      loadSegmentLimit: (selector: number) => {
        const descriptor = this.descriptor(selector);
        const limit = Number((descriptor & 0xffffn) | ((descriptor >> 32n) & 0xf0000n));
        return descriptor & (1n << 55n) ? ((limit << 12) | 0xfff) >>> 0 : limit;
      },
      ...this.ports.externals(),
      writebackInvalidate: () => { this.cacheWritebacks++; },
      writeBackLine: (address: bigint) => { this.linesWrittenBack.add(address & ~63n); },
      pause: () => this.onPause(),
      // One at a time: the handler returns with interrupts off.
      acceptInterrupts: () => { this.now.apic.accept(); },
      clearVectorState: () => { this.now.vectorStateCleared++; },
      haltForever: () => { throw new Gone("halted"); },
      leaveVmm: (state: bigint) => { throw new Gone("released", state); },
    };
  }

  /** The descriptor of a selector, by the GDT or the LDT; 0 for one that LAR and LSL refuse. */
  private descriptor(selector: number): bigint {
    const { gdtr, selectors } = this.now;
    const offset = BigInt(selector & 0xfff8);
    if ((selector & 0xfffc) === 0) return 0n;
    if ((selector & 4) === 0) return offset + 7n > BigInt(gdtr.limit) ? 0n : this.memory.read(gdtr.base + offset, 8);
    const ldt = gdtr.base + BigInt(selectors.ldtr & 0xfff8);
    const low = this.memory.read(ldt, 8);
    const base = ((low >> 16n) & 0xffffffn) | ((low >> 32n) & 0xff000000n) | (this.memory.read(ldt + 8n, 8) << 32n);
    return this.memory.read(base + offset, 8);
  }

  private readMsr(index: number): bigint {
    const x2apic = this.now.x2apic && index >= 0x800 && index < 0x900;
    return x2apic ? this.now.apic.readMsr(index) : this.now.msrs.read(index);
  }

  private writeMsr(index: number, value: bigint): void {
    if (this.now.x2apic && index >= 0x800 && index < 0x900) this.now.apic.writeMsr(index, value);
    else this.now.msrs.write(index, value);
  }

  /** VMX instructions (SDM Vol. 3C, chapter 31), with what fails and what faults. */
  private vmx(): Record<string, (...args: any[]) => unknown> {
    const revisionAt = (address: bigint): bigint => this.memory.read(address, 4);
    const ready = (name: string, address: bigint): boolean => {
      if (this.now.vmxRegion === null) throw new Fault(`#UD: ${name} outside VMX operation`);
      return !this.now.failing.has(name) && (address & 0xfffn) === 0n;
    };
    const revision = (): bigint => this.now.msrs.get(0x480)! & 0x7fffffffn;
    const vmcsAt = (address: bigint): VmcsState => {
      const state = this.vmcss.get(address) ?? { fields: new Map(), launched: false, on: null };
      this.vmcss.set(address, state);
      return state;
    };
    return {
      vmxon: (region: bigint) => {
        if ((this.now.cr4 & CR4_VMXE) === 0n) throw new Fault("#UD: VMXON without CR4.VMXE");
        if (this.now.failing.has("vmxon") || (region & 0xfffn) !== 0n || revisionAt(region) !== revision()) return false;
        this.now.vmxRegion = region;
        return true;
      },
      vmxoff: () => {
        if (this.now.vmxRegion === null) throw new Fault("#UD: VMXOFF outside VMX operation");
        this.now.vmxRegion = null;
        this.now.vmcs = null;
      },
      vmclear: (address: bigint) => {
        if (!ready("vmclear", address)) return false;
        const state = vmcsAt(address);
        if (state.on && state.on !== this.now) throw new Error("VMCLEAR of a VMCS that is active on another processor");
        state.launched = false;
        state.on = null;
        if (this.now.vmcs === state) this.now.vmcs = null;
        return true;
      },
      vmptrld: (address: bigint) => {
        if (!ready("vmptrld", address) || revisionAt(address) !== revision()) return false;
        const state = vmcsAt(address);
        if (state.on && state.on !== this.now) throw new Error("VMPTRLD of a VMCS that is active on another processor");
        state.on = this.now;
        this.now.vmcs = state;
        return true;
      },
      vmread: (field: number) => this.now.field(field),
      vmwrite: (field: number, value: bigint) => {
        if (!this.now.vmcs) throw new Fault("VMWRITE without a current VMCS");
        if (((field >> 10) & 3) === READ_ONLY_FIELD) throw new Fault(`VMWRITE to read-only field 0x${field.toString(16)}`);
        this.now.vmcs.fields.set(field, value);
      },
      invept: (pointer: bigint) => { this.now.flushes.push(`ept ${pointer.toString(16)}`); },
      invvpid: (vpid: number) => { this.now.flushes.push(`vpid ${vpid}`); },
    };
  }

  externals(): Record<string, (...args: any[]) => unknown> {
    return { ...this.basics(), ...this.vmx() };
  }
}
