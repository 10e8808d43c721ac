/** A local APIC of the simulated machine (SDM Vol. 3A, chapter 12), in xAPIC and x2APIC mode. */

export const SHORTHAND = 0xc0000;
export const SHORTHAND_SELF = 0x40000;
export const SHORTHAND_ALL = 0x80000;

const ID = 0x20;
const EOI = 0xb0;
const LDR = 0xd0;
const DFR = 0xe0;
const ISR = 0x100;
const IRR = 0x200;
const ICR_LOW = 0x300;
const ICR_HIGH = 0x310;
/** Registers that exist, by first and last offset. */
const EXISTING = [[0x20, 0x30], [0x80, 0x80], [0xa0, 0xb0], [0xd0, 0x280], [0x2f0, 0x390], [0x3e0, 0x3e0]] as const;

export interface Apic { read(register: number): number; write(register: number, value: number): void }

export class LocalApic implements Apic {
  private readonly registers = new Map<number, number>();

  constructor(private readonly id: number, private readonly send: (destination: number, command: number) => void) {
    this.registers.set(ID, (id << 24) >>> 0);
  }

  read(register: number): number {
    this.check(register);
    return this.registers.get(register) ?? 0;
  }

  write(register: number, value: number): void {
    this.check(register);
    if (register === EOI) this.endOfInterrupt();
    else this.registers.set(register, value >>> 0);
    if (register === ICR_LOW) this.send(this.read(ICR_HIGH) >>> 24, value);
  }

  /** x2APIC: one MSR for each register, the ICR in one piece, no DFR, a logical id that follows from the id. */
  readMsr(index: number): bigint {
    const register = this.registerOf(index);
    if (register === ICR_LOW) return (BigInt(this.read(ICR_HIGH)) << 32n) | BigInt(this.read(ICR_LOW));
    if (register === LDR) return BigInt((this.id >> 4 << 16) | (1 << (this.id & 15)));
    return BigInt(register === ID ? this.id : this.read(register));
  }

  writeMsr(index: number, value: bigint): void {
    const register = this.registerOf(index);
    if (register === ICR_LOW) {
      this.registers.set(ICR_HIGH, Number(value >> 32n));
      this.registers.set(ICR_LOW, Number(value & 0xffffffffn));
      this.send(Number(value >> 32n), Number(value & 0xffffffffn));
    } else this.write(register, Number(value));
  }

  /** A vector arrives. */
  request(vector: number): void {
    this.setBit(IRR, vector, true);
  }

  /** The highest request, if its class is above that of what is in service; -1 if there is none. */
  deliverable(): number {
    const vector = this.highest(IRR);
    return vector >> 4 > this.highest(ISR) >> 4 ? vector : -1;
  }

  /** Takes it into service; false if there is none. */
  accept(): boolean {
    const vector = this.deliverable();
    if (vector < 0) return false;
    this.setBit(IRR, vector, false);
    this.setBit(ISR, vector, true);
    return true;
  }

  /** Vectors that are requested or in service. */
  pending(): number[] {
    return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => this.bit(IRR, vector) || this.bit(ISR, vector));
  }

  /** Those in service. */
  inService(): number[] {
    return this.pending().filter((vector) => this.bit(ISR, vector));
  }

  private registerOf(index: number): number {
    const register = (index - 0x800) << 4;
    if (register === DFR || register === ICR_HIGH) throw new Error(`#GP: x2APIC has no MSR 0x${index.toString(16)}`);
    return register;
  }

  private check(register: number): void {
    if ((register & 15) !== 0 || !EXISTING.some(([first, last]) => register >= first && register <= last)) {
      throw new Error(`the local APIC has no register 0x${register.toString(16)}`);
    }
  }

  private endOfInterrupt(): void {
    const vector = this.highest(ISR);
    if (vector >= 0) this.setBit(ISR, vector, false);
  }

  private highest(bank: number): number {
    for (let vector = 255; vector >= 0; vector--) if (this.bit(bank, vector)) return vector;
    return -1;
  }

  private bit(bank: number, vector: number): boolean {
    return ((this.registers.get(bank + (vector >> 5) * 16) ?? 0) & (1 << (vector & 31))) !== 0;
  }

  private setBit(bank: number, vector: number, on: boolean): void {
    const register = bank + (vector >> 5) * 16;
    const mask = 1 << (vector & 31);
    const before = this.registers.get(register) ?? 0;
    this.registers.set(register, (on ? before | mask : before & ~mask) >>> 0);
  }
}
