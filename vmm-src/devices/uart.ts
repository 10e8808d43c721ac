/**
 * The console of an instance that does not hold the serial port: a 16550A at the
 * port's own address with the port's own model, its output kept in a ring that
 * the other instance reads. At hand-over the registers go into the real port and
 * the kernel's driver goes on with that (PC16550D data sheet, table 2).
 */
import { portIn8, portOut8 } from '../machine/intrinsics.ts';

export const COM1: u16 = 0x3f8;
export const UART_PORTS: u32 = 8;
export const UART_IRQ: u32 = 4;

const RING = 16384;
const OUTPUT_MASK: u32 = 16383;
const INPUT_MASK: u32 = 255;

/** Register offsets. */
const DATA: u32 = 0;
const IER: u32 = 1;
const IIR_FCR: u32 = 2;
const LCR: u32 = 3;
const MCR: u32 = 4;
const LSR: u32 = 5;
const MSR: u32 = 6;
const LCR_DLAB: u8 = 0x80;
const IER_RECEIVE: u8 = 1;
const IER_TRANSMIT: u8 = 2;
const IIR_NONE: u8 = 1;
const IIR_TRANSMIT: u8 = 2;
const IIR_RECEIVE: u8 = 4;
const IIR_FIFO: u8 = 0xc0;
const LSR_DATA: u8 = 1;
const LSR_IDLE: u8 = 0x60;
const MCR_LOOP: u8 = 0x10;
const MCR_SIGNALS: u8 = 0xf;
/** CTS, DSR and carrier present. */
const MSR_CONNECTED: u8 = 0xb0;

export class Uart extends Struct {
  divisorLow: u8;
  divisorHigh: u8;
  ier: u8;
  fcr: u8;
  lcr: u8;
  mcr: u8;
  scratch: u8;
  /** The transmitter has become empty since IIR was last read. */
  transmitted: boolean;
  /** Counts of bytes ever put in and taken out. */
  outHead: u32;
  outTail: u32;
  inHead: u32;
  inTail: u32;
  output: FixedArray<u8, 16384>;
  input: FixedArray<u8, 256>;
}
assertStatic(RING === 16384);

export const uart: Uart = zeroed();

export function resetUart(): void {
  fillBytes(addressOf(uart), 0, u64(sizeOf<Uart>()));
}

/** Whether the interrupt line is raised. */
export function uartInterrupt(): boolean {
  if ((uart.ier & IER_RECEIVE) !== 0 && uart.inHead !== uart.inTail) return true;
  return (uart.ier & IER_TRANSMIT) !== 0 && uart.transmitted;
}

function emit(byte: u8): void {
  const head = uart.outHead;
  uart.output[head & OUTPUT_MASK] = byte;
  atomicStore(uart.outHead, head + 1);
}

function readModemStatus(): u8 {
  if ((uart.mcr & MCR_LOOP) === 0) return MSR_CONNECTED;
  // In loopback the modem outputs appear as inputs: DTR as DSR, RTS as CTS, OUT1 as RI, OUT2 as DCD.
  const mcr = uart.mcr & MCR_SIGNALS;
  return ((mcr & 1) << 5) | ((mcr & 2) << 3) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
}

/** A read of register `offset`. */
export function uartRead(offset: u32): u8 {
  const divisor = (uart.lcr & LCR_DLAB) !== 0;
  switch (offset) {
    case DATA: {
      if (divisor) return uart.divisorLow;
      if (uart.inHead === uart.inTail) return 0;
      const byte = uart.input[uart.inTail & INPUT_MASK];
      atomicStore(uart.inTail, uart.inTail + 1);
      return byte;
    }
    case IER: return divisor ? uart.divisorHigh : uart.ier;
    case IIR_FCR: {
      const fifo: u8 = (uart.fcr & 1) !== 0 ? IIR_FIFO : 0;
      if ((uart.ier & IER_RECEIVE) !== 0 && uart.inHead !== uart.inTail) return fifo | IIR_RECEIVE;
      if ((uart.ier & IER_TRANSMIT) !== 0 && uart.transmitted) {
        uart.transmitted = false;
        return fifo | IIR_TRANSMIT;
      }
      return fifo | IIR_NONE;
    }
    case LCR: return uart.lcr;
    case MCR: return uart.mcr;
    case LSR: return uart.inHead !== uart.inTail ? LSR_IDLE | LSR_DATA : LSR_IDLE;
    case MSR: return readModemStatus();
    default: return uart.scratch;
  }
}

/** A write of register `offset`. */
export function uartWrite(offset: u32, value: u8): void {
  const divisor = (uart.lcr & LCR_DLAB) !== 0;
  switch (offset) {
    case DATA:
      if (divisor) uart.divisorLow = value;
      else {
        emit(value);
        uart.transmitted = true;
      }
      break;
    case IER:
      if (divisor) {
        uart.divisorHigh = value;
        break;
      }
      if ((value & IER_TRANSMIT) !== 0 && (uart.ier & IER_TRANSMIT) === 0) uart.transmitted = true;
      uart.ier = value & 0xf;
      break;
    case IIR_FCR: uart.fcr = value; break;
    case LCR: uart.lcr = value; break;
    case MCR: uart.mcr = value & 0x1f; break;
    case 7: uart.scratch = value; break;
    default: break;
  }
}

/** Takes up to `room` bytes of output; only the newest ring's worth is kept. */
export function takeOutput(to: HostVirtual, room: u32): u32 {
  const head = atomicLoad(uart.outHead);
  if (head - uart.outTail > OUTPUT_MASK) uart.outTail = head - OUTPUT_MASK;
  let count: u32 = 0;
  while (count < room && uart.outTail !== head) {
    store8(to + u64(count), uart.output[uart.outTail & OUTPUT_MASK]);
    uart.outTail++;
    count++;
  }
  return count;
}

/** Puts input in; returns how many bytes had room. */
export function putInput(from: HostVirtual, count: u32): u32 {
  let done: u32 = 0;
  while (done < count && uart.inHead - atomicLoad(uart.inTail) < INPUT_MASK) {
    uart.input[uart.inHead & INPUT_MASK] = load8(from + u64(done));
    atomicStore(uart.inHead, uart.inHead + 1);
    done++;
  }
  return done;
}

const FCR_CLEAR: u8 = 6;

/** Writes the shadow's settings into the real port, and what nobody has read yet of its output. */
export function handOverUart(): void {
  portOut8(COM1 + 1, 0);
  portOut8(COM1 + 3, uart.lcr | LCR_DLAB);
  portOut8(COM1, uart.divisorLow);
  portOut8(COM1 + 1, uart.divisorHigh);
  portOut8(COM1 + 3, uart.lcr & ~LCR_DLAB);
  portOut8(COM1 + 2, uart.fcr | FCR_CLEAR);
  portOut8(COM1 + 4, uart.mcr);
  portOut8(COM1 + 7, uart.scratch);
  while (uart.outTail !== uart.outHead) {
    if (uart.outHead - uart.outTail > OUTPUT_MASK) uart.outTail = uart.outHead - OUTPUT_MASK;
    for (let polls: u32 = 0; polls < 100000; polls++) {
      if ((portIn8(COM1 + 5) & 0x20) !== 0) break;
    }
    portOut8(COM1, uart.output[uart.outTail & OUTPUT_MASK]);
    uart.outTail++;
  }
  portOut8(COM1 + 1, uart.ier);
}
