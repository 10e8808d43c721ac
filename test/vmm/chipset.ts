/** The devices of the simulated machine that are not in a processor: IOAPIC, HPET, RTC, PCI, serial port. */
import type { Machine } from "./machine.ts";

/** What an IOAPIC of 24 pins holds (82093AA). */
export class Ioapic {
  select = 0;
  readonly registers = new Map<number, number>([[0, 0x2000000], [1, 0x170020], ...Array.from({ length: 24 }, (_, pin): [number, number] => [0x10 + 2 * pin, 0x10000])]);
  /** Table registers in the order in which they were written. */
  readonly writes: { register: number; value: number }[] = [];

  constructor(machine: Machine, base = 0xfec0_0000n) {
    machine.memory.mapDevice({
      start: base,
      size: 0x1000n,
      read: (address) => BigInt((address & 0xfffn) === 0n ? this.select : this.registers.get(this.select) ?? 0),
      write: (address, _bytes, value) => {
        if ((address & 0xfffn) === 0n) this.select = Number(value);
        else {
          this.registers.set(this.select, Number(value));
          this.writes.push({ register: this.select, value: Number(value) });
        }
      },
    });
  }

  entry(pin: number): bigint {
    return (BigInt(this.registers.get(0x11 + 2 * pin) ?? 0) << 32n) | BigInt(this.registers.get(0x10 + 2 * pin) ?? 0);
  }
}

/** Main counter at 14.318 MHz, three timers (IA-PC HPET 1.0a). */
export class Hpet {
  readonly registers = new Map<bigint, bigint>([[0n, 0x8086a201n], [4n, 69841279n]]);
  readonly writes: { offset: bigint; value: bigint }[] = [];

  constructor(machine: Machine, base = 0xfed0_0000n) {
    machine.memory.mapDevice({
      start: base,
      size: 0x1000n,
      read: (address, count) => {
        const offset = address - base;
        const low = this.registers.get(offset) ?? 0n;
        return count === 8 ? low | ((this.registers.get(offset + 4n) ?? 0n) << 32n) : low;
      },
      write: (address, _bytes, value) => {
        this.registers.set(address - base, value);
        this.writes.push({ offset: address - base, value });
      },
    });
  }
}

export interface PciDevice { bdf: number; id: number; classCode: number; headerType?: number; secondaryBus?: number }

/** Configuration mechanism 1; returns the register at CF8. */
export function addPci(machine: Machine, devices: PciDevice[]): { address: number } {
  const state = { address: 0 };
  const read = (): number => {
    const device = devices.find((one) => one.bdf === ((state.address >> 8) & 0xffff));
    if ((state.address & 0x80000000) === 0 || !device) return 0xffffffff;
    switch (state.address & 0xfc) {
      case 0: return device.id;
      case 8: return (device.classCode << 8) | 1;
      case 0xc: return (device.headerType ?? 0) << 16;
      case 0x18: return (device.secondaryBus ?? 0) << 8;
      default: return device.bdf << 16 | (state.address & 0xfc);
    }
  };
  machine.ports.set(0xcf8, { in: () => state.address, out: (value) => { state.address = value; } });
  for (let lane = 0; lane < 4; lane++) machine.ports.set(0xcfc + lane, { in: () => read() >>> (8 * lane) });
  return state;
}

/** 128 bytes of CMOS; byte n holds n, but register A, in which an update is in progress. */
export function addRtc(machine: Machine): Uint8Array {
  const content = Uint8Array.from({ length: 128 }, (_, i) => i);
  content[0xa] = 0xa6;
  let index = 0;
  machine.ports.set(0x70, { in: () => index, out: (value) => { index = value & 0x7f; } });
  machine.ports.set(0x71, { in: () => content[index]!, out: (value) => { content[index] = value; } });
  return content;
}

/** A serial port whose transmitter is always ready; what was sent is `text`. */
export class Serial {
  text = "";

  constructor(machine: Machine) {
    machine.ports.set(0x3fd, { in: () => 0x60 });
    machine.ports.set(0x3f8, { out: (value) => { this.text += String.fromCharCode(value); } });
  }
}

export interface Chipset { ioapic: Ioapic; hpet: Hpet; pci: { address: number }; rtc: Uint8Array; serial: Serial }

/** A host bridge, a PCI bridge to bus 1, a network card behind it, a function of a device of several. */
export const PCI_DEVICES: PciDevice[] = [
  { bdf: 0x0000, id: 0x29c08086, classCode: 0x060000 },
  { bdf: 0x0008, id: 0x244e8086, classCode: 0x060400, headerType: 1, secondaryBus: 1 },
  { bdf: 0x00f8, id: 0x29188086, classCode: 0x060100, headerType: 0x80 },
  { bdf: 0x00fa, id: 0x29228086, classCode: 0x010601 },
  { bdf: 0x0118, id: 0x10d38086, classCode: 0x020000 },
];

export function addChipset(machine: Machine): Chipset {
  return { ioapic: new Ioapic(machine), hpet: new Hpet(machine), pci: addPci(machine, PCI_DEVICES), rtc: addRtc(machine), serial: new Serial(machine) };
}
