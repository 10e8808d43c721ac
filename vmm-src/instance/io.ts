/** I/O instruction exits. */
import { StopReason } from '../abi.ts';
import { Cpu, RAX, Vcpu, cpuOf } from '../cpu/cpu.ts';
import { IoExit } from '../cpu/exit.ts';
import { lock, unlock } from '../cpu/kick.ts';
import { readIoExit } from '#processor/exits.ts';
import { advance, injectGp } from '#processor/guest.ts';
import { mergeRegister } from '../devices/decode.ts';
import { ioapicEntry } from '../devices/ioapic.ts';
import { PortEvent, isResetRequest, isSleepRequest, shadowIn, shadowOut } from '../devices/legacy.ts';
import { configIn, configOut, isConfigPort } from '../devices/pci-config.ts';
import { takeMapChange } from '../devices/messages/registers.ts';
import { COM1, UART_IRQ, UART_PORTS, uartInterrupt } from '../devices/uart.ts';
import { portRead, portWrite } from '../machine/ports.ts';
import { raiseEntry } from './deliver.ts';
import { instanceOf, runningInstances } from './instance.ts';
import { forgetMaps } from './mmio.ts';
import { stopSelf } from './stop.ts';

/** Raises an instance's console interrupt, if the line is up; `self` is the processor that runs this. */
export function raiseConsole(self: Cpu, instance: u32): void {
  if (!uartInterrupt()) return;
  raiseEntry(self, instance, ioapicEntry(UART_IRQ));
}

function portIn(vcpu: Vcpu, port: u16, size: u32): void {
  const own = instanceOf(vcpu.instance).holdsPlatform;
  const value: u32 = own ? portRead(port, size) : shadowIn(port, size);
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
    else if (port >= COM1 && port < COM1 + wrapU16(UART_PORTS)) raiseConsole(cpuOf(vcpu), vcpu.instance);
    return;
  }
  const alone = runningInstances() < 2;
  if (!alone && isSleepRequest(port, size, value)) stopSelf(vcpu, StopReason.POWEROFF);
  else if (!alone && isResetRequest(port, size, value)) stopSelf(vcpu, StopReason.RESET);
  else {
    portWrite(port, size, value);
    advance(vcpu);
  }
}

/** An access to PCI configuration space; one at a time, since selecting and accessing are two steps. */
function handleConfig(vcpu: Vcpu, io: IoExit): void {
  if (!lock(vcpu)) return;
  const size: u32 = u32(io.size);
  const holder = instanceOf(vcpu.instance).holdsPlatform;
  if (io.isIn) {
    const value = configIn(vcpu.instance, holder, io.port, size);
    vcpu.registers[RAX] = mergeRegister(vcpu.registers[RAX], u64(value), size, false);
  } else configOut(vcpu.instance, holder, io.port, size, wrapU32(vcpu.registers[RAX]));
  if (takeMapChange()) forgetMaps(vcpu);
  advance(vcpu);
  unlock();
}

/** Handles the exit. String instructions on a trapped port get #GP: no kernel uses them on these devices. */
export function handleIo(vcpu: Vcpu): void {
  const io: IoExit = zeroed();
  readIoExit(vcpu, io);
  if (io.isString) injectGp(vcpu);
  else if (isConfigPort(io.port, u32(io.size))) handleConfig(vcpu, io);
  else if (io.isIn) portIn(vcpu, io.port, u32(io.size));
  else portOut(vcpu, io.port, u32(io.size));
}
