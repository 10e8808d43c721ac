/** PCI Express of the simulated machine: configuration space in memory, root ports with hot-plug slots, what is plugged in. */
import type { Machine } from "./machine.ts";

export const ECAM = 0xb000_0000n;
/** Where a root port has its PCI Express capability, and the registers in it. */
const EXPRESS = 0x54;
export const LINK_STATUS = EXPRESS + 0x12, SLOT_CONTROL = EXPRESS + 0x18, SLOT_STATUS = EXPRESS + 0x1a;
export const POWER_OFF = 0x400, ATTENTION = 1, PRESENCE_CHANGED = 8, PRESENT = 0x40, LINK_CHANGED = 0x100, LINK_ACTIVE = 0x2000;
const COMMAND_COMPLETED = 0x10;
const EVENTS = 0x11f;

export class PciExpress {
  readonly functions = new Map<number, DataView>();
  readonly writes: { bdf: number; offset: number; size: number; value: number }[] = [];
  /** Functions in slots that have no power, by bus. */
  private readonly dark = new Map<number, [number, DataView][]>();

  constructor(machine: Machine, buses = 4) {
    machine.memory.mapDevice({
      start: ECAM,
      size: BigInt(buses) << 20n,
      read: (address, size) => BigInt(this.read(Number(address - ECAM) >> 12, Number(address & 0xfffn), size)),
      write: (address, size, value) => this.write(Number(address - ECAM) >> 12, Number(address & 0xfffn), size, Number(value)),
    });
  }

  add(bdf: number, id: number, classCode: number): DataView {
    const config = makeFunction(id, classCode);
    this.functions.set(bdf, config);
    return config;
  }

  /** A root port with an empty hot-plug slot that its driver has switched off. */
  addPort(bdf: number, secondaryBus: number): void {
    const config = this.add(bdf, 0x000c1b36, 0x060400);
    config.setUint8(0x0e, 1);
    config.setUint16(6, 0x10, true);
    config.setUint8(0x19, secondaryBus);
    config.setUint8(0x34, 0x40);
    config.setUint32(0x40, 0x0001_5405, true); // MSI, then PCI Express
    config.setUint32(EXPRESS, 0x0142_0010, true);
    config.setUint32(EXPRESS + 0x14, 0x42, true);
    config.setUint16(SLOT_CONTROL, POWER_OFF | 0x300, true);
    this.dark.set(secondaryBus, []);
  }

  /** Puts a card into a port's slot. */
  plug(port: number, id: number, classCode: number): void {
    const config = this.functions.get(port)!;
    const bus = config.getUint8(0x19);
    this.dark.get(bus)!.push([bus << 8, makeFunction(id, classCode)]);
    config.setUint16(SLOT_STATUS, config.getUint16(SLOT_STATUS, true) | PRESENT | PRESENCE_CHANGED | ATTENTION, true);
    this.power(config);
  }

  /** Takes the card out of a port's slot, which has to be switched off. */
  unplug(port: number): void {
    const config = this.functions.get(port)!;
    if (!(config.getUint16(SLOT_CONTROL, true) & POWER_OFF)) throw new Error("a card is pulled out of a slot that has power");
    this.dark.set(config.getUint8(0x19), []);
    config.setUint16(SLOT_STATUS, (config.getUint16(SLOT_STATUS, true) & ~PRESENT) | PRESENCE_CHANGED, true);
  }

  private power(port: DataView): void {
    const bus = port.getUint8(0x19);
    if (port.getUint16(SLOT_CONTROL, true) & POWER_OFF) {
      for (const [bdf, card] of this.functions) if (bdf >> 8 === bus) this.dark.get(bus)!.push([bdf, card]);
      for (const [bdf] of this.dark.get(bus)!) this.functions.delete(bdf);
      return;
    }
    const cards = this.dark.get(bus)!.splice(0);
    for (const [bdf, card] of cards) this.functions.set(bdf, card);
    if (cards.length === 0) return;
    port.setUint16(LINK_STATUS, LINK_ACTIVE, true);
    port.setUint16(SLOT_STATUS, port.getUint16(SLOT_STATUS, true) | LINK_CHANGED, true);
  }

  read(bdf: number, offset: number, size: number): number {
    const config = this.functions.get(bdf);
    if (!config) return 2 ** (8 * size) - 1;
    return size === 1 ? config.getUint8(offset) : size === 2 ? config.getUint16(offset, true) : config.getUint32(offset, true);
  }

  write(bdf: number, offset: number, size: number, value: number): void {
    this.writes.push({ bdf, offset, size, value });
    const config = this.functions.get(bdf);
    if (!config) return;
    for (let i = 0; i < size; i += 1) this.writeByte(config, offset + i, (value >>> (8 * i)) & 0xff);
    if (config.getUint8(0x0e) !== 1 || offset > SLOT_CONTROL + 1 || offset + size <= SLOT_CONTROL) return;
    config.setUint16(SLOT_STATUS, config.getUint16(SLOT_STATUS, true) | COMMAND_COMPLETED, true);
    this.power(config);
  }

  private writeByte(config: DataView, offset: number, value: number): void {
    const event = config.getUint8(0x0e) === 1 && offset >= SLOT_STATUS && offset < SLOT_STATUS + 2;
    const clears = event ? (EVENTS >> (8 * (offset - SLOT_STATUS))) & 0xff : 0;
    if (event) config.setUint8(offset, config.getUint8(offset) & ~(value & clears));
    else config.setUint8(offset, value);
  }
}

function makeFunction(id: number, classCode: number): DataView {
  const config = new DataView(new ArrayBuffer(4096));
  config.setUint32(0, id, true);
  config.setUint32(8, (classCode << 8) | 1, true);
  config.setUint32(0x100, 0x0001_0001, true);
  return config;
}
