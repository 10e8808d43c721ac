/**
 * Servicing hardware: a PCI function that no instance holds is kept from all of
 * them, and its slot is switched off beneath them, so that it can be taken out.
 * What any of them would see of that is an empty slot.
 */
import { EventType, HIDDEN, Result, TRAPPED_IO } from '../abi.ts';
import { Vcpu } from '../cpu/cpu.ts';
import { bridgeAbove, isBridge, writeConfig } from '../devices/pci-bus.ts';
import { switchSlotOff } from '../devices/pci-slot.ts';
import { record } from '../events.ts';
import { PCI_COMMAND } from '../machine/pci.ts';
import { PciFunction, findFunction, functionAt, functionTotal, isHeld } from '../partition.ts';
import { instanceOf, runningInstances, stillTrapped } from './instance.ts';

/** The function does nothing any more, and is nobody's until it leaves the machine. */
function hide(fn: PciFunction): void {
  writeConfig(u32(fn.bdf), PCI_COMMAND, 2, 0);
  if (fn.owner === HIDDEN) return;
  fn.owner = HIDDEN;
  record(EventType.HIDDEN, 0, 0, u64(fn.bdf), u64(load32(addressOf(fn.config))));
}

/**
 * Hides a function that no instance holds, from the hand-over too. BUSY while
 * another instance could still want it; FUNCTION if it is none, a bridge, or held.
 */
export function hideFunction(vcpu: Vcpu, bdf: u32): Result {
  if (!instanceOf(vcpu.instance).holdsPlatform && runningInstances() > 1) return Result.BUSY;
  const index = findFunction(wrapU16(bdf));
  if (bdf > 0xffff || index === functionTotal()) return Result.FUNCTION;
  const fn = functionAt(index);
  if (isBridge(fn) || isHeld(fn.owner)) return Result.FUNCTION;
  hide(fn);
  return Result.OK;
}

/**
 * Hides everything that is in a function's slot, and switches the slot off. The
 * caller holds the platform. DIRECT once I/O is the
 * caller's own. SLOT where the port above has none that can be
 * switched, such as one that the firmware's hot-plug has: that is the kernel's to ask.
 */
export function ejectFunction(vcpu: Vcpu, bdf: u32): Result {
  if (!instanceOf(vcpu.instance).holdsPlatform) return Result.INSTANCE;
  if ((stillTrapped(vcpu.instance) & TRAPPED_IO) === 0) return Result.DIRECT;
  const bus: u32 = bdf >> 8;
  const port = bridgeAbove(bus);
  if (bdf > 0xffff || findFunction(wrapU16(bdf)) === functionTotal() || port === functionTotal()) return Result.FUNCTION;
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (u32(fn.bdf >> 8) === bus && (isBridge(fn) || isHeld(fn.owner))) return Result.FUNCTION;
  }
  for (let i: u32 = 0; i < functionTotal(); i++) {
    if (u32(functionAt(i).bdf >> 8) === bus) hide(functionAt(i));
  }
  return switchSlotOff(functionAt(port)) ? Result.OK : Result.SLOT;
}
