/**
 * A simulated AMD-Vi unit (48882 rev. 3.08): registers, rings of commands and events, caches that forget only what
 * they are told to, and a walker that knows nothing of how the VMM builds tables.
 */
import type { Machine } from "./machine.ts";

export const AMD_BASE = 0xfed8_0000n;
export const AMD = { TABLE: 0, COMMANDS: 8, EVENTS: 0x10, CONTROL: 0x18, FEATURES: 0x30, COMMAND_HEAD: 0x2000, COMMAND_TAIL: 0x2008, EVENT_HEAD: 0x2010, EVENT_TAIL: 0x2018, STATUS: 0x2020 };
export const ENABLE = 1n, EVENTS_ON = 4n, COMMANDS_ON = 0x1000n;
const PERMISSIONS = { read: 1n << 61n, write: 1n << 62n };

/** An interrupt that a message became. */
export interface Interrupt { vector: number; destination: number }

export class AmdUnit {
  /** 64-bit registers by offset. */
  readonly registers = new Map<number, bigint>([[AMD.FEATURES, 0x29d3n]]);
  private readonly entries = new Map<number, bigint[]>();
  /** Interrupt table entries that were looked up, by requester and index. */
  private readonly remapped = new Map<string, [bigint, bigint]>();
  private readonly pages = new Map<string, { domain: bigint; entry: bigint }>();
  /** What devices with ATS keep of the unit's translations, by requester and page. */
  private readonly kept = new Map<string, bigint>();
  interrupts = 0;

  constructor(private readonly machine: Machine, readonly base = AMD_BASE) {
    machine.memory.mapDevice({
      start: base, size: 0x4000n,
      read: (address, size) => {
        const offset = Number(address - base);
        return size === 8 ? this.get(offset) : (this.get(offset & ~7) >> BigInt(8 * (offset & 7))) & 0xffff_ffffn;
      },
      write: (address, size, value) => {
        const offset = Number(address - base);
        const shift = BigInt(8 * (offset & 7));
        const whole = size === 8 ? value : (this.get(offset & ~7) & ~(0xffff_ffffn << shift)) | (value << shift);
        this.write(offset & ~7, whole, size === 8 ? value : value << shift);
      },
    });
  }

  get(offset: number): bigint { return this.registers.get(offset) ?? 0n; }

  private runs(bit: bigint): boolean { return (this.get(AMD.CONTROL) & (ENABLE | bit)) === (ENABLE | bit); }

  private write(offset: number, value: bigint, written: bigint): void {
    if (offset === AMD.FEATURES) throw new Error("the features can't be written");
    if (offset === AMD.STATUS) return void this.registers.set(offset, this.get(offset) & ~(written & 7n));
    const rings = [AMD.COMMANDS, AMD.COMMAND_HEAD].includes(offset) ? COMMANDS_ON : [AMD.EVENTS, AMD.EVENT_TAIL].includes(offset) ? EVENTS_ON : 0n;
    if (rings && this.runs(rings)) throw new Error(`register 0x${offset.toString(16)} is written while its ring runs`);
    this.registers.set(offset, value);
    if (offset === AMD.COMMANDS) this.registers.set(AMD.COMMAND_HEAD, 0n).set(AMD.COMMAND_TAIL, 0n);
    if (offset === AMD.EVENTS) this.registers.set(AMD.EVENT_HEAD, 0n).set(AMD.EVENT_TAIL, 0n);
    if (offset === AMD.CONTROL) this.registers.set(AMD.STATUS, (this.get(AMD.STATUS) & ~0x18n) | (this.runs(COMMANDS_ON) ? 0x10n : 0n) | (this.runs(EVENTS_ON) ? 8n : 0n));
    this.runCommands();
  }

  private runCommands(): void {
    const { memory } = this.machine;
    const base = this.get(AMD.COMMANDS) & 0xf_ffff_ffff_f000n;
    const size = 16n << ((this.get(AMD.COMMANDS) >> 56n) & 15n);
    while (this.get(AMD.STATUS) & 0x10n && this.get(AMD.COMMAND_HEAD) !== this.get(AMD.COMMAND_TAIL)) {
      const head = this.get(AMD.COMMAND_HEAD);
      const low = memory.read(base + head, 8);
      if (!this.execute(low, memory.read(base + head + 8n, 8))) {
        this.registers.set(AMD.STATUS, this.get(AMD.STATUS) & ~0x10n);
        return;
      }
      this.registers.set(AMD.COMMAND_HEAD, (head + 16n) % size);
    }
  }

  /** False for a command that there is not. */
  private execute(low: bigint, high: bigint): boolean {
    switch (Number(low >> 60n)) {
      case 1:
        if (low & 1n) this.machine.memory.write(low & 0xf_ffff_ffff_fff8n, 8, high);
        if (low & 2n) this.interrupts++;
        return true;
      case 2: return this.entries.delete(Number(low & 0xffffn)) || true;
      case 3:
        for (const [key, { domain }] of this.pages) if (domain === ((low >> 32n) & 0xffffn)) this.pages.delete(key);
        return true;
      case 4:
        for (const key of this.kept.keys()) if (key === `${low & 0xffffn} ${high >> 12n}` || (high === 0x7fff_ffff_ffff_f001n && key.startsWith(`${low & 0xffffn} `))) this.kept.delete(key);
        return true;
      case 5:
        for (const [key] of this.remapped) if (key.startsWith(`${low & 0xffffn} `)) this.remapped.delete(key);
        return true;
      case 8:
        this.remapped.clear();
        this.entries.clear();
        this.pages.clear();
        return true;
      default: return false;
    }
  }

  /** Where an access of a device goes; null where nowhere, and an event says so. */
  access(bdf: number, address: bigint, write: boolean): bigint | null {
    if (!(this.get(AMD.CONTROL) & ENABLE)) return address;
    const entry = this.entries.get(bdf) ?? this.lookUp(bdf);
    if (entry) this.entries.set(bdf, entry);
    const found = entry ? this.translate(bdf, entry, address, write) : null;
    if (found === null) this.log((entry ? 2n : 1n) << 60n | (write ? 1n << 53n : 0n) | BigInt(bdf), address);
    return found;
  }

  /** The same for one with ATS: it asks for a translation once, and then makes translated accesses until it is told to forget. */
  accessByAts(bdf: number, address: bigint, write: boolean): bigint | null {
    if (!((this.lookUp(bdf)?.[1] ?? 0n) & (1n << 32n))) return null;
    const key = `${bdf} ${address >> 12n}`;
    const page = this.kept.get(key) ?? this.access(bdf, address & ~0xfffn, write);
    if (page !== null) this.kept.set(key, page);
    return page === null ? null : page | (address & 0xfffn);
  }

  /** What a device's message becomes; null for none, and an event says so. */
  interrupt(bdf: number, address: bigint, data: number): Interrupt | null {
    if (!(this.get(AMD.CONTROL) & ENABLE)) return { vector: data & 0xff, destination: Number((address >> 12n) & 0xffn) };
    const device = this.entries.get(bdf) ?? this.lookUp(bdf);
    const part = device?.[2] ?? 0n;
    if (device) this.entries.set(bdf, device);
    if (device && !(part & 1n)) return { vector: data & 0xff, destination: Number((address >> 12n) & 0xffn) };
    const index = data & 0x7ff;
    const found = device && (part >> 60n) % 4n === 2n && index < 1 << Number((part >> 1n) & 15n) ? this.remap(bdf, part & 0xf_ffff_ffff_ffc0n, index) : null;
    if (!found) this.log((2n << 60n) | (1n << 51n) | BigInt(bdf), BigInt(index));
    return found;
  }

  private remap(bdf: number, table: bigint, index: number): Interrupt | null {
    const wide = (this.get(AMD.CONTROL) & 0x2_0000n) !== 0n;
    const { memory } = this.machine;
    const key = `${bdf} ${index}`;
    const read = (): [bigint, bigint] => (wide ? [memory.read(table + BigInt(index) * 16n, 8), memory.read(table + BigInt(index) * 16n + 8n, 8)] : [memory.read(table + BigInt(index) * 4n, 4), 0n]);
    const [low, high] = this.remapped.get(key) ?? read();
    if (!(low & 1n)) return null;
    this.remapped.set(key, [low, high]);
    if (low & 0xfcn) throw new Error("the VMM makes fixed interrupts with physical destinations, and their kernel the EOIs");
    return wide ? { vector: Number(high & 0xffn), destination: Number((low >> 8n) & 0xff_ffffn) } : { vector: Number((low >> 16n) & 0xffn), destination: Number((low >> 8n) & 0xffn) };
  }

  /** A device's entry as the unit has it: the words of 8 bytes. */
  lookUp(bdf: number): bigint[] | null {
    const table = this.get(AMD.TABLE);
    if (BigInt(bdf) * 32n >= ((table & 0x1ffn) + 1n) * 4096n) return null;
    return [0n, 8n, 16n, 24n].map((at) => this.machine.memory.read((table & 0xf_ffff_ffff_f000n) + BigInt(bdf) * 32n + at, 8));
  }

  private translate(bdf: number, entry: bigint[], address: bigint, write: boolean): bigint | null {
    const [low, domains] = entry as [bigint, bigint];
    const permission = write ? PERMISSIONS.write : PERMISSIONS.read;
    if (!(low & 1n)) return address;
    if (!(low & 2n) || !(low & permission)) return null;
    const mode = Number((low >> 9n) & 7n);
    if (mode === 0) return address;
    const key = `${bdf} ${address >> 12n}`;
    const page = this.pages.get(key)?.entry ?? this.walk(low & 0xf_ffff_ffff_f000n, mode, address);
    if (page === null) return null;
    this.pages.set(key, { domain: domains & 0xffffn, entry: page });
    return page & permission ? (page & 0xf_ffff_ffff_f000n) | (address & 0xfffn) : null;
  }

  /** The 4 KiB of a page that an address is in, with the permissions of all levels. */
  private walk(root: bigint, levels: number, address: bigint): bigint | null {
    if (address >> BigInt(12 + 9 * levels)) return null;
    let table = root;
    let permissions = PERMISSIONS.read | PERMISSIONS.write;
    for (let level = levels; level > 0; ) {
      const shift = BigInt(12 + 9 * (level - 1));
      const entry = this.machine.memory.read(table + ((address >> shift) & 511n) * 8n, 8);
      if (!(entry & 1n)) return null;
      permissions &= entry;
      const next = Number((entry >> 9n) & 7n);
      if (next >= level) throw new Error(`an entry of level ${level} says that the next is ${next}`);
      if (next === 0) return (entry & 0xf_ffff_ffff_f000n & ~((1n << shift) - 1n)) | (address & ((1n << shift) - 1n) & ~0xfffn) | permissions;
      // Levels that are left out are for address bits that are 0.
      if ((address >> BigInt(12 + 9 * next)) & ((1n << BigInt(9 * (level - 1 - next))) - 1n)) return null;
      table = entry & 0xf_ffff_ffff_f000n;
      level = next;
    }
    return null;
  }

  private log(low: bigint, high: bigint): void {
    if (!(this.get(AMD.STATUS) & 8n)) return;
    const tail = this.get(AMD.EVENT_TAIL);
    const next = (tail + 16n) % (16n << ((this.get(AMD.EVENTS) >> 56n) & 15n));
    if (next === this.get(AMD.EVENT_HEAD)) return;
    const base = this.get(AMD.EVENTS) & 0xf_ffff_ffff_f000n;
    this.machine.memory.write(base + tail, 8, low);
    this.machine.memory.write(base + tail + 8n, 8, high);
    this.registers.set(AMD.EVENT_TAIL, next).set(AMD.STATUS, this.get(AMD.STATUS) | 2n);
  }
}
