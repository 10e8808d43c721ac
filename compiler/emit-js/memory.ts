/** A simulated physical memory: 4 KiB pages on demand, little-endian, with ranges that devices answer for. */

const PAGE = 4096;

export interface Device {
  /** First address and number of bytes. */
  start: bigint;
  size: bigint;
  read?: (address: bigint, bytes: number) => bigint;
  write?: (address: bigint, bytes: number, value: bigint) => void;
}

interface DeviceRange { start: number; end: number; device: Device }

export class Memory {
  private readonly pages = new Map<number, DataView | null>();
  private readonly devices: DeviceRange[] = [];
  private lastNumber = -1;
  private lastPage: DataView | null = null;

  /** Accesses in the device's range go to it instead of memory. */
  mapDevice(device: Device): void {
    const start = Number(device.start);
    const range = { start, end: start + Number(device.size), device };
    this.devices.push(range);
    for (let page = Math.floor(start / PAGE); page * PAGE < range.end; page++) {
      if (this.pages.get(page)) throw new Error(`page 0x${(page * PAGE).toString(16)} is memory already`);
      this.pages.set(page, null);
    }
    this.lastNumber = -1;
  }

  // For tests: addresses are bigints, as the dialect's own u64.

  read(address: bigint, bytes: 1 | 2 | 4 | 8): bigint {
    return this.get(addressNumber(address), bytes);
  }

  write(address: bigint, bytes: 1 | 2 | 4 | 8, value: bigint): void {
    this.set(addressNumber(address), bytes, value);
  }

  readBytes(address: bigint, count: number): Uint8Array {
    const start = addressNumber(address);
    return Uint8Array.from({ length: count }, (_, i) => this.get8(start + i));
  }

  writeBytes(address: bigint, bytes: Uint8Array): void {
    const start = addressNumber(address);
    bytes.forEach((byte, i) => this.set8(start + i, byte));
  }

  // For compiled code: addresses are numbers.

  get8(at: number): number {
    const page = this.pageOf(at);
    return page ? page.getUint8(offsetOf(at)) : Number(this.get(at, 1));
  }

  get16(at: number): number {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    return page && offset <= PAGE - 2 ? page.getUint16(offset, true) : Number(this.get(at, 2));
  }

  get32(at: number): number {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    return page && offset <= PAGE - 4 ? page.getUint32(offset, true) : Number(this.get(at, 4));
  }

  get64(at: number): bigint {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    return page && offset <= PAGE - 8 ? page.getBigUint64(offset, true) : this.get(at, 8);
  }

  /** A stored pointer. */
  getAddress(at: number): number {
    return addressNumber(this.get64(at));
  }

  set8(at: number, value: number): void {
    const page = this.pageOf(at);
    if (page) page.setUint8(offsetOf(at), value);
    else this.set(at, 1, BigInt(value));
  }

  set16(at: number, value: number): void {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    if (page && offset <= PAGE - 2) page.setUint16(offset, value, true);
    else this.set(at, 2, BigInt(value));
  }

  set32(at: number, value: number): void {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    if (page && offset <= PAGE - 4) page.setUint32(offset, value, true);
    else this.set(at, 4, BigInt(value));
  }

  set64(at: number, value: bigint): void {
    const page = this.pageOf(at);
    const offset = offsetOf(at);
    if (page && offset <= PAGE - 8) page.setBigUint64(offset, value, true);
    else this.set(at, 8, value);
  }

  setAddress(at: number, value: number): void {
    this.set64(at, BigInt(value));
  }

  fill(at: number, value: number, count: number): void {
    for (let done = 0; done < count;) {
      const page = this.pageOf(at + done);
      const offset = offsetOf(at + done);
      const part = page ? Math.min(count - done, PAGE - offset) : 1;
      if (page) new Uint8Array(page.buffer, offset, part).fill(value);
      else this.set8(at + done, value);
      done += part;
    }
  }

  copy(to: number, from: number, count: number): void {
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i++) bytes[i] = this.get8(from + i);
    for (let i = 0; i < count; i++) this.set8(to + i, bytes[i]!);
  }

  private pageOf(at: number): DataView | null {
    const number = Math.floor(at / PAGE);
    if (number === this.lastNumber) return this.lastPage;
    let page = this.pages.get(number);
    if (page === undefined) {
      page = new DataView(new ArrayBuffer(PAGE));
      this.pages.set(number, page);
    }
    this.lastNumber = number;
    this.lastPage = page;
    return page;
  }

  /** The long way: devices, and accesses that cross pages. */
  private get(at: number, bytes: number): bigint {
    const range = this.deviceAt(at);
    if (range) return BigInt.asUintN(bytes * 8, range.device.read?.(BigInt(at), bytes) ?? -1n);
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.byteAt(at + i));
    return value;
  }

  private set(at: number, bytes: number, value: bigint): void {
    const range = this.deviceAt(at);
    if (range) {
      range.device.write?.(BigInt(at), bytes, BigInt.asUintN(bytes * 8, value));
      return;
    }
    for (let i = 0; i < bytes; i++) this.ownPage(at + i).setUint8(offsetOf(at + i), Number((value >> BigInt(8 * i)) & 0xffn));
  }

  private byteAt(at: number): number {
    return this.ownPage(at).getUint8(offsetOf(at));
  }

  /** A page of memory, also beside a device in the same page. */
  private ownPage(at: number): DataView {
    const page = this.pageOf(at);
    if (page) return page;
    const number = Math.floor(at / PAGE);
    let beside = this.beside.get(number);
    if (!beside) {
      beside = new DataView(new ArrayBuffer(PAGE));
      this.beside.set(number, beside);
    }
    return beside;
  }

  private readonly beside = new Map<number, DataView>();

  private deviceAt(at: number): DeviceRange | undefined {
    return this.devices.find((range) => at >= range.start && at < range.end);
  }
}

/** An address as compiled code holds it. The simulation has 53 bits of address space. */
export function addressNumber(address: bigint): number {
  if (address < 0n || address > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Error(`address 0x${address.toString(16)} is beyond the simulated memory`);
  }
  return Number(address);
}

function offsetOf(at: number): number {
  return at - Math.floor(at / PAGE) * PAGE;
}
