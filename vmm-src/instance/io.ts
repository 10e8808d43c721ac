/** I/O instruction exits. */
import { StopReason } from '../abi.ts';
import { RAX, Vcpu } from '../cpu/cpu.ts';
import { IoExit } from '../cpu/exit.ts';
import { readIoExit } from '#processor/exits.ts';
import { advance, injectGp } from '#processor/guest.ts';
import { mergeRegister } from '../devices/decode.ts';
import { ioapicEntry } from '../devices/ioapic.ts';
import { PortEvent, isResetRequest, isSleepRequest, shadowIn, shadowOut } from '../devices/legacy.ts';
import { COM1, UART_IRQ, UART_PORTS, uartInterrupt } from '../devices/uart.ts';
import { portIn16, portIn32, portIn8, portOut16, portOut32, portOut8 } from '../machine/intrinsics.ts';
import { instanceOf, runningInstances } from './instance.ts';
import { raiseEntry } from './ipi.ts';
import { stopSelf } from './stop.ts';


/** Raises an instance's console interrupt, if the line is up. */
export function raiseConsole(instance: u32): void {
  if (uartInterrupt()) raiseEntry(instance, ioapicEntry(UART_IRQ));
}

function realIn(port: u16, size: u32): u32 {
  if (size === 1) return u32(portIn8(port));
  if (size === 2) return u32(portIn16(port));
  return portIn32(port);
}

function realOut(port: u16, size: u32, value: u32): void {
  if (size === 1) portOut8(port, wrapU8(value));
  else if (size === 2) portOut16(port, wrapU16(value));
  else portOut32(port, value);
}

function portIn(vcpu: Vcpu, port: u16, size: u32): void {
  const own = instanceOf(vcpu.instance).holdsPlatform;
  const value: u32 = own ? realIn(port, size) : shadowIn(port, size);
  vcpu.registers[RAX] = mergeRegister(vcpu.registers[RAX], u64(value), size, false);
  advance(vcpu);
}

/** An instance that shuts down or resets ends, and the node goes on with the other one; the last one takes the node with it. */
function portOut(vcpu: Vcpu, port: u16, size: u32): void {
  const value: u32 = wrapU32(vcpu.registers[RAX]);
  if (!instanceOf(vcpu.instance).holdsPlatform) {
    const event = shadowOut(port, size, value);
    advance(vcpu);
    if (event === PortEvent.POWEROFF) stopSelf(vcpu, StopReason.POWEROFF);
    else if (event === PortEvent.RESET) stopSelf(vcpu, StopReason.RESET);
    else if (port >= COM1 && port < COM1 + wrapU16(UART_PORTS)) raiseConsole(vcpu.instance);
    return;
  }
  const alone = runningInstances() < 2;
  if (!alone && isSleepRequest(port, size, value)) stopSelf(vcpu, StopReason.POWEROFF);
  else if (!alone && isResetRequest(port, size, value)) stopSelf(vcpu, StopReason.RESET);
  else {
    realOut(port, size, value);
    advance(vcpu);
  }
}

/** Handles the exit. String instructions on a trapped port get #GP: no kernel uses them on these devices. */
export function handleIo(vcpu: Vcpu): void {
  const io: IoExit = zeroed();
  readIoExit(vcpu, io);
  if (io.isString) injectGp(vcpu);
  else if (io.isIn) portIn(vcpu, io.port, u32(io.size));
  else portOut(vcpu, io.port, u32(io.size));
}
