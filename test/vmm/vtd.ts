/**
 * A simulated VT-d unit (specification 4.1, legacy mode): registers, the invalidation queue, caches that forget only
 * what they are told to, and a walker that knows nothing of how the VMM builds tables.
 */
import type { Machine } from "./machine.ts";

export const VTD_BASE = 0xfed9_0000n;
const CAP = 0xd2_008c_222f_0606n, ECAP = 0xf0_0f4en;
const TE = 0x8000_0000, SRTP = 0x4000_0000, QIE = 0x0400_0000, IRE = 0x0200_0000, SIRTP = 0x0100_0000, CFI = 0x0080_0000;
export const VTD = { GCMD: 0x18, GSTS: 0x1c, RTADDR: 0x20, CCMD: 0x28, FSTS: 0x34, IQH: 0x80, IQT: 0x88, IQA: 0x90, IRTA: 0xb8, IOTLB: 0xf8, FRCD: 0x220 };
export { CFI, IRE, QIE, SIRTP, SRTP, TE };

interface Context { low: bigint; high: bigint }

/** An interrupt that a message became: delivery mode as in the ICR, destination as wide as the mode has it. */
export interface Interrupt { vector: number; mode: number; logical: boolean; destination: number }

export class VtdUnit {
  /** 32-bit registers by offset. */
  readonly registers = new Map<number, number>([[0x10, Number(ECAP)], [0x14, 0], [8, Number(CAP & 0xffff_ffffn)], [0xc, Number(CAP >> 32n)], [0x38, 0x8000_0000]]);
  /** The root table that was latched. */
  root = 0n;
  /** Kinds of descriptors that were carried out. */
  readonly done: number[] = [];
  private readonly contexts = new Map<number, Context>();
  /** What devices with ATS keep of the unit's translations, by requester and page. */
  private readonly kept = new Map<string, bigint>();
  /** A device that is told to forget does not answer, so often. */
  silent = 0;
  private readonly pages = new Map<string, { domain: bigint; entry: bigint | null }>();
  /** The interrupt remapping table that was latched, and its entries that were looked up. */
  interrupts = 0n;
  private readonly entries = new Map<number, Context>();
  /** Tables that were found on the way, by domain and what they are for: where the next walk may begin. */
  private readonly tables = new Map<string, { domain: bigint; table: bigint; permissions: bigint }>();

  constructor(private readonly machine: Machine, readonly base = VTD_BASE) {
    machine.memory.mapDevice({
      start: base, size: 0x1000n,
      read: (address, size) => (size === 8 ? this.get64(Number(address - base)) : BigInt(this.get(Number(address - base)))),
      write: (address, size, value) => {
        const offset = Number(address - base);
        this.write(offset, Number(value & 0xffff_ffffn));
        if (size === 8) this.write(offset + 4, Number(value >> 32n));
      },
    });
  }

  get(offset: number): number { return this.registers.get(offset) ?? 0; }
  get64(offset: number): bigint { return BigInt(this.get(offset)) | (BigInt(this.get(offset + 4)) << 32n); }
  private set64(offset: number, value: bigint): void {
    this.registers.set(offset, Number(value & 0xffff_ffffn)).set(offset + 4, Number(value >> 32n));
  }

  private write(offset: number, value: number): void {
    if (offset === VTD.GCMD) return this.command(value);
    if (offset === VTD.GSTS || offset === VTD.IQH || offset === 8 || offset === 0x10) throw new Error(`register 0x${offset.toString(16)} can't be written`);
    if (offset === VTD.FSTS) return void this.registers.set(offset, this.get(offset) & ~(value & 0x7d));
    if (offset === VTD.FRCD + 12) {
      if (value & TE) this.registers.set(offset, this.get(offset) & 0x7fff_ffff).set(VTD.FSTS, this.get(VTD.FSTS) & ~2);
      return;
    }
    this.registers.set(offset, value);
    if (offset === VTD.IQT && this.get(VTD.GSTS) & QIE) this.runQueue();
  }

  private command(value: number): void {
    const before = this.get(VTD.GSTS);
    let status = (value & (TE | QIE | IRE | CFI)) | (before & (SRTP | SIRTP));
    if (value & SIRTP) {
      this.interrupts = this.get64(VTD.IRTA);
      status |= SIRTP;
    }
    if (value & SRTP) {
      this.root = this.get64(VTD.RTADDR);
      status |= SRTP;
    }
    if (!(before & QIE) && value & QIE) {
      if (this.get64(VTD.IQT) !== 0n) throw new Error("the queue is turned on with its tail behind its start");
      this.set64(VTD.IQH, 0n);
    }
    if (before & QIE && !(value & QIE)) {
      if (this.get64(VTD.IQH) !== this.get64(VTD.IQT) || (this.done.length > 0 && this.done.at(-1) !== 5)) throw new Error("the queue is turned off with work in it");
      this.set64(VTD.IQH, 0n);
    }
    this.registers.set(VTD.GSTS, status >>> 0);
  }

  private runQueue(): void {
    const { memory } = this.machine;
    const base = this.get64(VTD.IQA) & ~0xfffn;
    const size = 0x1000n << (this.get64(VTD.IQA) & 7n);
    let head = this.get64(VTD.IQH);
    for (; head !== this.get64(VTD.IQT); head = (head + 16n) % size) {
      const low = memory.read(base + head, 8);
      const high = memory.read(base + head + 8n, 8);
      const kind = Number(low & 15n);
      this.done.push(kind);
      if (kind === 1) this.contexts.clear();
      else if (kind === 2) this.forgetPages(low);
      else if (kind === 3) this.forgetInDevice(low, high);
      else if (kind === 4) this.forgetEntries(low);
      else if (kind === 5) {
        if (low & 0x20n && !(this.get(VTD.FSTS) & 0x40)) memory.write(high & ~3n, 4, low >> 32n);
      } else {
        this.registers.set(VTD.FSTS, this.get(VTD.FSTS) | 0x10);
        break;
      }
    }
    this.set64(VTD.IQH, head);
  }

  private forgetPages(low: bigint): void {
    const global = ((low >> 4n) & 3n) === 1n;
    for (const cache of [this.pages, this.tables]) {
      for (const [key, { domain }] of cache) if (global || domain === ((low >> 16n) & 0xffffn)) cache.delete(key);
    }
  }

  private forgetInDevice(low: bigint, high: bigint): void {
    const isAll = high === 0x7fff_ffff_ffff_f001n;
    if (this.silent > 0) {
      this.silent--;
      this.registers.set(VTD.FSTS, this.get(VTD.FSTS) | 0x40);
    } else for (const key of this.kept.keys()) if (key === `${(low >> 32n) & 0xffffn} ${high >> 12n}` || (isAll && key.startsWith(`${(low >> 32n) & 0xffffn} `))) this.kept.delete(key);
  }

  private forgetEntries(low: bigint): void {
    const selected = (low & 0x10n) !== 0n;
    const mask = (low >> 27n) & 31n;
    const first = (low >> 32n) & 0xffffn;
    for (const [index] of this.entries) if (!selected || BigInt(index) >> mask === first >> mask) this.entries.delete(index);
  }

  /** What a device's message becomes (5.1); null for none, and a record is made of that if there is room. */
  interrupt(bdf: number, address: bigint, data: number): Interrupt | null {
    const compatible = !(address & 0x10n);
    if (!(this.get(VTD.GSTS) & IRE) || compatible) {
      const blocked = this.get(VTD.GSTS) & IRE && (this.interrupts & 0x800n || !(this.get(VTD.GSTS) & CFI));
      if (blocked) return this.refuse(bdf, 0, 0x25);
      return { vector: data & 0xff, mode: (data >> 8) & 7, logical: (address & 4n) !== 0n, destination: Number((address >> 12n) & 0xffn) };
    }
    const index = Number((address >> 5n) & 0x7fffn) + (address & 4n ? 0x8000 : 0) + (address & 8n ? data & 0xffff : 0);
    if (index >= 2 << Number(this.interrupts & 0xfn)) return this.refuse(bdf, index, 0x21);
    const entry = this.entries.get(index) ?? this.lookUpEntry(index);
    if (!(entry.low & 1n)) return this.refuse(bdf, index, 0x22);
    this.entries.set(index, entry);
    const x2apic = (this.interrupts & 0x800n) !== 0n;
    if (entry.low & (x2apic ? 0xff00_f000n : 0xffff_00ff_ff00_f000n) || entry.high >> 20n) return this.refuse(bdf, index, 0x24);
    if (((entry.high >> 18n) & 3n) === 1n && Number(entry.high & 0xffffn) !== bdf) return this.refuse(bdf, index, 0x26);
    const destination = Number((entry.low >> (x2apic ? 32n : 40n)) & (x2apic ? 0xffff_ffffn : 0xffn));
    return { vector: Number((entry.low >> 16n) & 0xffn), mode: Number((entry.low >> 5n) & 7n), logical: (entry.low & 4n) !== 0n, destination };
  }

  private lookUpEntry(index: number): Context {
    const place = (this.interrupts & ~0xfffn) + BigInt(index) * 16n;
    return { low: this.machine.memory.read(place, 8), high: this.machine.memory.read(place + 8n, 8) };
  }

  private refuse(bdf: number, index: number, reason: number): null {
    this.recordFault(bdf, BigInt(index) << 48n, reason);
    return null;
  }

  /** Where an access of a device goes; null where nowhere, and a record is made of that if there is room. */
  access(bdf: number, address: bigint, write: boolean): bigint | null {
    if (!(this.get(VTD.GSTS) & TE)) return address;
    const context = this.contexts.get(bdf) ?? this.lookUp(bdf);
    if (context.low & 1n) this.contexts.set(bdf, context);
    const found = context.low & 1n ? this.translate(bdf, context, address, write) : null;
    if (found === null) this.fault(bdf, address, write);
    return found;
  }

  /** The same for one with ATS: it asks for a translation once, and then makes translated accesses until it is told to forget. */
  accessByAts(bdf: number, address: bigint, write: boolean): bigint | null {
    const context = this.contexts.get(bdf) ?? this.lookUp(bdf);
    if ((context.low & 0xdn) !== 5n) return null;
    const key = `${bdf} ${address >> 12n}`;
    const page = this.kept.get(key) ?? this.access(bdf, address & ~0xfffn, write);
    if (page !== null) this.kept.set(key, page);
    return page === null ? null : page | (address & 0xfffn);
  }

  private lookUp(bdf: number): Context {
    const { memory } = this.machine;
    const bus = memory.read(this.root + BigInt(bdf >> 8) * 16n, 8);
    if (!(bus & 1n)) return { low: 0n, high: 0n };
    const place = (bus & ~0xfffn) + BigInt(bdf & 0xff) * 16n;
    return { low: memory.read(place, 8), high: memory.read(place + 8n, 8) };
  }

  private translate(bdf: number, { low, high }: Context, address: bigint, write: boolean): bigint | null {
    if (((low >> 2n) & 3n) === 2n) return address;
    const key = `${bdf} ${address >> 12n}`;
    const entry = this.pages.get(key)?.entry ?? this.walk(low & ~0xfffn, Number(high & 7n) + 2, address, (high >> 8n) & 0xffffn);
    // Without caching mode what is not there is not remembered.
    if (entry !== null) this.pages.set(key, { domain: (high >> 8n) & 0xffffn, entry });
    return entry === null || !(entry & (write ? 2n : 1n)) ? null : (entry & ~0xfffn) | (address & 0xfffn);
  }

  /** The 4 KiB of a page that an address is in, with its permissions. */
  private walk(root: bigint, levels: number, address: bigint, domain: bigint): bigint | null {
    let table = root;
    let permissions = 3n;
    if (address >> BigInt(12 + 9 * levels)) return null;
    for (let level = levels; ; level--) {
      const shift = BigInt(12 + 9 * (level - 1));
      const key = `${domain} ${root} ${level} ${address >> shift}`;
      const known = this.tables.get(key);
      if (known) {
        ({ table, permissions } = known);
        continue;
      }
      const entry = this.machine.memory.read(table + ((address >> shift) & 511n) * 8n, 8);
      if (!(entry & 3n)) return null;
      permissions &= entry;
      if (level === 1 || entry & 0x80n) {
        const within = (1n << shift) - 1n;
        return ((entry & 0x7fff_ffff_ffff_f000n & ~within) | (address & within & ~0xfffn)) | permissions;
      }
      table = entry & 0x7fff_ffff_ffff_f000n;
      this.tables.set(key, { domain, table, permissions });
    }
  }

  private fault(bdf: number, address: bigint, write: boolean): void {
    this.recordFault(bdf, address & ~0xfffn, (write ? 0 : 0x4000_0000) | 5);
  }

  private recordFault(bdf: number, information: bigint, flags: number): void {
    if (this.get(VTD.FRCD + 12) & TE) return void this.registers.set(VTD.FSTS, this.get(VTD.FSTS) | 1);
    this.set64(VTD.FRCD, information);
    this.registers.set(VTD.FRCD + 8, bdf).set(VTD.FRCD + 12, (TE | flags) >>> 0).set(VTD.FSTS, this.get(VTD.FSTS) | 2);
  }
}
