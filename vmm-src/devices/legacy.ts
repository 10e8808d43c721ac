/**
 * The PC's legacy devices as an instance sees them that holds none: PIC, PIT, port
 * 61, RTC, keyboard controller, ACPI registers, all by I/O port. Each answers
 * what an idle device of its kind would, keeps what is written, and is handed
 * over with that. What answers sufficed was measured, not guessed.
 */
import { portIn8, portOut8, portOut16, portOut32 } from '../machine/intrinsics.ts';
import { CONFIG_ADDRESS } from './pci-bus.ts';
import { configAddress } from './pci-config.ts';
import { inBlock, platform } from './platform.ts';
import { setTickPeriod } from './tick.ts';
import { COM1, UART_PORTS, uartRead, uartWrite } from './uart.ts';

const PIC1_MASK: u16 = 0x21;
const PIC2_MASK: u16 = 0xa1;
const ELCR: u16 = 0x4d0;
const PIT_CHANNEL0: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;
const PORT_61: u16 = 0x61;
/** Output of PIT channel 2: set, so that a calibration on it ends at once and the kernel uses another clock. */
const PORT_61_OUT2: u8 = 0x20;
const RTC_INDEX: u16 = 0x70;
const RTC_DATA: u16 = 0x71;
const RTC_REGISTER_A: u8 = 0xa;
const RTC_UPDATING: u8 = 0x80;
const RTC_REGISTER_C: u8 = 0xc;
export const KEYBOARD_DATA: u16 = 0x60;
export const KEYBOARD_COMMAND: u16 = 0x64;
/** Commands F0 to FF pulse the output lines whose bit is 0; line 0 resets the processor. D1: the next data byte is the output port. */
const KEYBOARD_PULSE: u8 = 0xf1;
const KEYBOARD_PULSE_RESET: u8 = 0xf0;
const KEYBOARD_OUTPUT_PORT: u8 = 0xd1;
/** System control port A: bit 0 resets the processor. */
export const FAST_RESET: u16 = 0x92;
export const KEYBOARD_RESET: u8 = 0xfe;
export const RESET_CONTROL: u16 = 0xcf9;
export const RESET_CPU: u8 = 6;
const RESET_CPU_BIT: u8 = 4;
const SLEEP_ENABLE: u8 = 0x20;
const SCI_ENABLE: u8 = 1;
/** PIT input clock in Hz, and nanoseconds in a second. */
const PIT_HZ: u64 = 1193182n;
const SECOND_NS: u64 = 1000000000n;

/** What a write asked for beyond the device. */
export enum PortEvent { NONE = 0, POWEROFF = 1, RESET = 2 }

class Legacy extends Struct {
  pic1: u8;
  pic2: u8;
  elcr: FixedArray<u8, 2>;
  port61: u8;
  rtcIndex: u8;
  pitLow: u8;
  pitHighNext: boolean;
  pm1Enable: FixedArray<u8, 2>;
  padding: u16;
  gpeEnable: FixedArray<u8, 32>;
  rtc: FixedArray<u8, 128>;
}
const legacy: Legacy = zeroed();

/** Devices as after a firmware's start; the RTC a snapshot of the real one. The caller holds the other processors. */
export function resetLegacy(): void {
  fillBytes(addressOf(legacy), 0, u64(sizeOf<Legacy>()));
  legacy.pic1 = 0xff;
  legacy.pic2 = 0xff;
  for (let i: u32 = 0; i < 128; i++) {
    portOut8(RTC_INDEX, wrapU8(i));
    legacy.rtc[i] = portIn8(RTC_DATA);
  }
}

function readRtc(): u8 {
  if (legacy.rtcIndex === RTC_REGISTER_A) return legacy.rtc[RTC_REGISTER_A] & ~RTC_UPDATING;
  if (legacy.rtcIndex === RTC_REGISTER_C) return 0;
  return legacy.rtc[legacy.rtcIndex & 127];
}

/** Status reads as zero; enables as written. Status is the first half of each block (ACPI 6.5, 4.8.3). */
function readAcpi(port: u16): u8 {
  if (inBlock(port, platform.pm1aEvent, platform.pm1EventLength)) {
    const offset: u32 = u32(port - platform.pm1aEvent);
    const half: u32 = u32(platform.pm1EventLength) >> 1;
    return offset >= half ? legacy.pm1Enable[(offset - half) & 1] : 0;
  }
  if (inBlock(port, platform.gpe0, platform.gpe0Length)) {
    const offset: u32 = u32(port - platform.gpe0);
    const half: u32 = u32(platform.gpe0Length) >> 1;
    return offset >= half ? legacy.gpeEnable[(offset - half) & 31] : 0;
  }
  if (port === platform.pm1aControl) return SCI_ENABLE;
  if (inBlock(port, platform.pm1aControl, 2)) return 0;
  return 0xff;
}

function writeAcpi(port: u16, value: u8): void {
  if (inBlock(port, platform.pm1aEvent, platform.pm1EventLength)) {
    const offset: u32 = u32(port - platform.pm1aEvent);
    const half: u32 = u32(platform.pm1EventLength) >> 1;
    if (offset >= half) legacy.pm1Enable[(offset - half) & 1] = value;
  }
  if (inBlock(port, platform.gpe0, platform.gpe0Length)) {
    const offset: u32 = u32(port - platform.gpe0);
    const half: u32 = u32(platform.gpe0Length) >> 1;
    if (offset >= half) legacy.gpeEnable[(offset - half) & 31] = value;
  }
}

function readByte(port: u16): u8 {
  if (port >= COM1 && port < COM1 + UART_PORTS) return uartRead(u32(port - COM1));
  switch (port) {
    case 0x20: case 0xa0: return 0;
    case PIC1_MASK: return legacy.pic1;
    case PIC2_MASK: return legacy.pic2;
    case ELCR: case 0x4d1: return legacy.elcr[port & 1];
    case PIT_CHANNEL0: case 0x41: case 0x42: case PIT_COMMAND: return 0;
    case PORT_61: return (legacy.port61 & 0xf) | PORT_61_OUT2;
    case RTC_INDEX: return legacy.rtcIndex;
    case RTC_DATA: return readRtc();
    case RESET_CONTROL: return 0;
    default: return readAcpi(port);
  }
}

/** Channel 0's reload value, low byte then high byte: the period of the kernel's first tick. */
function writePitCount(value: u8): void {
  if (!legacy.pitHighNext) legacy.pitLow = value;
  else {
    const count: u64 = (u64(value) << 8n) | u64(legacy.pitLow);
    setTickPeriod((count === 0n ? 65536n : count) * SECOND_NS / PIT_HZ);
  }
  legacy.pitHighNext = !legacy.pitHighNext;
}

function writeByte(port: u16, value: u8): void {
  if (port >= COM1 && port < COM1 + UART_PORTS) uartWrite(u32(port - COM1), value);
  else writeAcpi(port, value);
  switch (port) {
    case PIC1_MASK: legacy.pic1 = value; break;
    case PIC2_MASK: legacy.pic2 = value; break;
    case ELCR: case 0x4d1: legacy.elcr[port & 1] = value; break;
    case PIT_CHANNEL0: writePitCount(value); break;
    case PIT_COMMAND: legacy.pitHighNext = false; break;
    case PORT_61: legacy.port61 = value; break;
    case RTC_INDEX: legacy.rtcIndex = value & 0x7f; break;
    case RTC_DATA: legacy.rtc[legacy.rtcIndex & 127] = value; break;
    default: break;
  }
}

/** A shadowed read of `size` bytes (1, 2 or 4). */
export function shadowIn(port: u16, size: u32): u32 {
  let value: u32 = 0;
  for (let i: u32 = 0; i < size; i++) value |= u32(readByte(port + wrapU16(i))) << (8 * i);
  return value;
}

/** A shadowed write of `size` bytes (1, 2 or 4). */
export function shadowOut(port: u16, size: u32, value: u32): PortEvent {
  if (port === CONFIG_ADDRESS) return PortEvent.NONE;
  if (isSleepRequest(port, size, value)) return PortEvent.POWEROFF;
  if (isResetRequest(port, size, value)) return PortEvent.RESET;
  for (let i: u32 = 0; i < size; i++) writeByte(port + wrapU16(i), wrapU8(value >> (8 * i)));
  return PortEvent.NONE;
}

/** SLP_EN is in the second byte of PM1 control (ACPI 6.5, 4.8.3.2.1). */
function isSleepByte(port: u16, value: u8): boolean {
  const isControl = (platform.pm1aControl !== 0 && port === platform.pm1aControl + 1)
    || (platform.pm1bControl !== 0 && port === platform.pm1bControl + 1);
  return isControl && (value & SLEEP_ENABLE) !== 0;
}

/** The last command to the real keyboard controller. */
let keyboardCommand: u8 = 0;

function isResetByte(port: u16, value: u8): boolean {
  if (port === KEYBOARD_COMMAND) {
    keyboardCommand = value;
    return (value & KEYBOARD_PULSE) === KEYBOARD_PULSE_RESET;
  }
  if (port === KEYBOARD_DATA) return keyboardCommand === KEYBOARD_OUTPUT_PORT && (value & 1) === 0;
  if (port === FAST_RESET) return (value & 1) !== 0;
  if (port === RESET_CONTROL) return (value & RESET_CPU_BIT) !== 0;
  return port !== 0 && port === platform.reset && value === platform.resetValue;
}

/** Whether a write of `size` bytes enters an ACPI sleep state. */
export function isSleepRequest(port: u16, size: u32, value: u32): boolean {
  for (let i: u32 = 0; i < size; i++) {
    if (isSleepByte(port + wrapU16(i), wrapU8(value >> (8 * i)))) return true;
  }
  return false;
}

/** Whether a write of `size` bytes resets the machine. 32 bits at CF8 are a configuration address, whatever its bytes. */
export function isResetRequest(port: u16, size: u32, value: u32): boolean {
  if (port === CONFIG_ADDRESS && size === 4) return false;
  for (let i: u32 = 0; i < size; i++) {
    if (isResetByte(port + wrapU16(i), wrapU8(value >> (8 * i)))) return true;
  }
  return false;
}

/** Writes the shadows into the real devices. */
export function handOverLegacy(): void {
  portOut8(PIC1_MASK, legacy.pic1);
  portOut8(PIC2_MASK, legacy.pic2);
  portOut8(ELCR, legacy.elcr[0]);
  portOut8(ELCR + 1, legacy.elcr[1]);
  if (platform.pm1aEvent !== 0) {
    const enable: u16 = u16(legacy.pm1Enable[0]) | (u16(legacy.pm1Enable[1]) << 8);
    portOut16(platform.pm1aEvent + (platform.pm1EventLength >> 1), enable);
  }
  const half: u16 = platform.gpe0Length >> 1;
  for (let i: u32 = 0; i < 32; i++) {
    if (i < u32(half)) portOut8(platform.gpe0 + half + wrapU16(i), legacy.gpeEnable[i]);
  }
  portOut32(CONFIG_ADDRESS, configAddress());
}
