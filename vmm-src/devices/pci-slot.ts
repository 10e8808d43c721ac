/**
 * Hot-plug slots of PCI Express ports (PCI Express Base 5.0, 6.7 and 7.5.3.9-11)
 * as an instance sees them that holds the port and not what is in the slot: empty,
 * and nothing happens there. What happens, the VMM takes note of in its place: a
 * card that is put into a slot that the kernel has switched off gets its power.
 */
import {
  PCIE_FLAGS, PCIE_FLAGS_SLOT, PCIE_LINK, PCIE_LINK_ACTIVE, PCIE_SLOT, PCIE_SLOT_ATTENTION, PCIE_SLOT_CAPABILITIES, PCIE_SLOT_CONTROL,
  PCIE_SLOT_HOT_PLUG, PCIE_SLOT_LINK_CHANGED, PCIE_SLOT_POWER_CONTROLLER, PCIE_SLOT_POWER_INDICATOR, PCIE_SLOT_POWER_INDICATOR_OFF,
  PCIE_SLOT_POWER_INDICATOR_ON, PCIE_SLOT_POWER_OFF, PCIE_SLOT_PRESENCE_CHANGED, PCIE_SLOT_PRESENT, PCI_CAPABILITIES,
  PCI_CAPABILITY_EXPRESS, PCI_SECONDARY_BUS, PCI_STATUS, PCI_STATUS_CAPABILITIES,
} from '../machine/pci.ts';
import { EventType, HIDDEN } from '../abi.ts';
import { record } from '../events.ts';
import { PciFunction, functionAt, functionTotal, isHeld, removeFunction } from '../partition.ts';
import { bridgeAbove, isPciBridge, isPresent, readConfig, writeConfig } from './pci-bus.ts';

const MAX_CAPABILITIES: u32 = 48;
/** What happens to a slot that is being filled. */
const EVENTS: u32 = PCIE_SLOT_ATTENTION | PCIE_SLOT_PRESENCE_CHANGED | PCIE_SLOT_LINK_CHANGED;
/** What an empty slot does not have. */
const OCCUPIED: u32 = PCIE_SLOT_PRESENT | EVENTS;
/** What the kernel switches while it does not hold what is in the slot. */
const POWER: u32 = PCIE_SLOT_POWER_OFF | PCIE_SLOT_POWER_INDICATOR;

/** Offset of a port's PCI Express capability if it has a hot-plug slot, else 0. */
function slotOf(fn: PciFunction): u32 {
  if (!isPciBridge(fn) || (u32(fn.config[PCI_STATUS]) & PCI_STATUS_CAPABILITIES) === 0) return 0;
  let at: u32 = u32(fn.config[PCI_CAPABILITIES]) & 0xfc;
  for (let i: u32 = 0; i < MAX_CAPABILITIES; i++) {
    if (at < 0x40 || at > 0xe4) return 0;
    if (u32(fn.config[at]) === PCI_CAPABILITY_EXPRESS) break;
    at = u32(fn.config[at + 1]) & 0xfc;
  }
  const hasSlot = (load32(addressOf(fn.config) + u64(at)) >> (8 * PCIE_FLAGS) & PCIE_FLAGS_SLOT) !== 0;
  const capabilities = load32(addressOf(fn.config) + u64(at + PCIE_SLOT_CAPABILITIES));
  return hasSlot && (capabilities & PCIE_SLOT_HOT_PLUG) !== 0 ? at : 0;
}

function busBelow(fn: PciFunction): u32 {
  return readConfig(u32(fn.bdf), PCI_SECONDARY_BUS, 1);
}

/** Whether `owner` has something in the slot. */
function holdsCard(owner: u32, bus: u32): boolean {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    if (u32(fn.bdf >> 8) === bus && fn.owner === owner) return true;
  }
  return false;
}

/** Offset of the capability of a slot that `instance` is to see as empty, else 0. */
function shieldedSlot(instance: u32, fn: PciFunction): u32 {
  const at = slotOf(fn);
  return at === 0 || holdsCard(instance, busBelow(fn)) ? 0 : at;
}

/** Takes note of what has happened in a slot whose capability is at `at`: clears the events, and gives a card its power, unless that is to be taken out. */
function attend(fn: PciFunction, at: u32): void {
  const bdf: u32 = u32(fn.bdf);
  const slot = readConfig(bdf, at + PCIE_SLOT, 4);
  const events = slot & EVENTS;
  // Apart: any write of Slot Control is a command to the slot.
  if (events !== 0) writeConfig(bdf, at + PCIE_SLOT + 2, 2, events >> 16);
  if ((slot & PCIE_SLOT_PRESENT) === 0 || (slot & PCIE_SLOT_POWER_OFF) === 0 || holdsCard(HIDDEN, busBelow(fn))) return;
  writeConfig(bdf, at + PCIE_SLOT, 2, (slot & PCIE_SLOT_CONTROL & ~POWER) | PCIE_SLOT_POWER_INDICATOR_ON);
}

/** Takes note of what has happened in the slots that `instance` sees as empty. */
export function attendSlots(instance: u32): void {
  for (let i: u32 = 0; i < functionTotal(); i++) {
    const fn = functionAt(i);
    const at = fn.owner === instance ? shieldedSlot(instance, fn) : 0;
    if (at !== 0) attend(fn, at);
  }
}

/**
 * Switches a port's slot off, so that the card can be taken out; false if it has
 * none that can be switched, or one that knows of no card: then the registers are
 * there for show, and the firmware has the slot (ACPI hot-plug).
 */
export function switchSlotOff(port: PciFunction): boolean {
  const at = slotOf(port);
  if (at === 0 || (load32(addressOf(port.config) + u64(at + PCIE_SLOT_CAPABILITIES)) & PCIE_SLOT_POWER_CONTROLLER) === 0) return false;
  const slot = readConfig(u32(port.bdf), at + PCIE_SLOT, 4);
  if ((slot & PCIE_SLOT_PRESENT) === 0) return false;
  writeConfig(u32(port.bdf), at + PCIE_SLOT, 2, (slot & PCIE_SLOT_CONTROL & ~POWER) | PCIE_SLOT_POWER_OFF | PCIE_SLOT_POWER_INDICATOR_OFF);
  return true;
}

/** Whether a function has left the machine: one that is only switched off is still in its slot. */
function isGone(fn: PciFunction): boolean {
  if (isPresent(u32(fn.bdf))) return false;
  const above = bridgeAbove(u32(fn.bdf >> 8));
  const at = above === functionTotal() ? 0 : slotOf(functionAt(above));
  return at === 0 || (readConfig(u32(functionAt(above).bdf), at + PCIE_SLOT, 4) & PCIE_SLOT_PRESENT) === 0;
}

/** Forgets those functions that no instance holds and that are not there any more. */
export function forgetRemoved(): void {
  let i: u32 = 0;
  while (i < functionTotal()) {
    const fn = functionAt(i);
    if (isHeld(fn.owner) || !isGone(fn)) {
      i++;
      continue;
    }
    record(EventType.REMOVED, 0, 0, u64(fn.bdf), u64(load32(addressOf(fn.config))));
    removeFunction(i);
  }
}

/** A word that was read of a port's configuration space, as the instance that holds the port is to see it. */
export function shieldRead(instance: u32, fn: PciFunction, offset: u32, word: u32): u32 {
  const at = shieldedSlot(instance, fn);
  if (at === 0) return word;
  if (offset === at + PCIE_LINK) return word & ~PCIE_LINK_ACTIVE;
  if (offset !== at + PCIE_SLOT) return word;
  attend(fn, at);
  const own = load32(addressOf(fn.config) + u64(offset)) & POWER;
  return (word & ~(OCCUPIED | POWER)) | own;
}

/**
 * A write of `size` bytes to a port that an instance holds; false if it is nothing
 * special. It clears no event that it does not see, and switches power in its own
 * view only.
 */
export function shieldWrite(instance: u32, fn: PciFunction, offset: u32, size: u32, value: u32): boolean {
  const at = shieldedSlot(instance, fn);
  if (at === 0 || (offset & ~u32(3)) !== at + PCIE_SLOT) return false;
  const bdf: u32 = u32(fn.bdf);
  const real = readConfig(bdf, at + PCIE_SLOT, 4);
  const shift: u32 = 8 * (offset & 3);
  const mask: u32 = (size === 4 ? 0xffffffff : (u32(1) << (8 * size)) - 1) << shift;
  const word: u32 = (real & ~mask) | ((value << shift) & mask);
  const shadow: HostVirtual = addressOf(fn.config) + u64(at + PCIE_SLOT);
  if ((mask & PCIE_SLOT_CONTROL) !== 0) store32(shadow, word & PCIE_SLOT_CONTROL);
  writeConfig(bdf, offset, size, ((word & ~(OCCUPIED | POWER)) | (real & POWER)) >> shift);
  return true;
}
