/**
 * Messages when the instance that they interrupt takes the platform: it knows of no
 * IOMMU, so interrupts are remapped no more, and functions have what their kernel
 * wrote. None may be lost meanwhile.
 */
import { MAX_GRANTS } from '../../abi.ts';
import { MSIX_CONTROL, MSIX_ENABLE, MSIX_ENTRY, MSIX_ENTRY_CONTROL, MSIX_ENTRY_MASKED, MSIX_MASKED, MSI_CONTROL, MSI_ENABLE, MSI_MASKABLE, MSI_MESSAGE } from '../../machine/pci.ts';
import { readConfig, writeConfig } from '../pci-bus.ts';
import { dataOffset, setMsi } from './registers.ts';
import { Slot, forgetMessages, isOfMsi, isTaken, raiseMessage, slotAt, slotTotal, sourceAt, sourceTotal } from './slots.ts';

/** Keeps MSI-X messages back in their functions, where they wait; what is enabled, `mask` or not. */
function maskTables(mask: boolean): void {
  for (let i: u32 = 0; i < MAX_GRANTS; i++) {
    const source = sourceAt(i);
    if (i >= sourceTotal() || source.msix === 0) continue;
    const at: u32 = source.msix + MSIX_CONTROL;
    const control = readConfig(source.bdf, at, 2);
    if (mask) source.masked = control & MSIX_MASKED;
    writeConfig(source.bdf, at, 2, mask ? control | MSIX_MASKED : (control & ~MSIX_MASKED) | source.masked);
  }
}

/** The platform is about to be the instance's, and interrupts to be remapped no more: until releaseMessages. */
export function holdMessages(): void {
  maskTables(true);
}

/** The functions have the messages that their kernel wrote. */
function writeOwnMessages(): void {
  for (let i: u32 = 0; i < slotTotal(); i++) {
    const slot = slotAt(i);
    if (!isTaken(i)) continue;
    const source = sourceAt(slot.source);
    const entry: u64 = source.table + u64(slot.number * MSIX_ENTRY);
    if (isOfMsi(i)) {
      if (slot.number === 0) setMsi(source, slot.address, slot.data);
    } else if (source.table !== 0n) {
      store32(entry, slot.address);
      store32(entry + 8n, slot.data);
    }
  }
}

/** Whether a function sends a message now, by its own word. */
function isEnabled(slot: Slot, isMsi: boolean): boolean {
  const source = sourceAt(slot.source);
  if (!isMsi) {
    const control = readConfig(source.bdf, source.msix + MSIX_CONTROL, 2);
    const entry: u64 = source.table + u64(slot.number * MSIX_ENTRY + MSIX_ENTRY_CONTROL);
    return source.table !== 0n && (control & (MSIX_ENABLE | MSIX_MASKED)) === MSIX_ENABLE && (load32(entry) & MSIX_ENTRY_MASKED) === 0;
  }
  const control = readConfig(source.bdf, source.msi + MSI_CONTROL, 2);
  if ((control & MSI_ENABLE) === 0 || slot.number >= u32(1) << (((control >> 4) & 7) % 6)) return false;
  const masks: u32 = (control & MSI_MASKABLE) !== 0 ? readConfig(source.bdf, source.msi + MSI_MESSAGE + dataOffset(source) + 4, 4) : 0;
  return ((masks >> slot.number) & 1) === 0;
}

/**
 * Interrupts are remapped no more: functions send what their kernel wrote. MSI that
 * cannot be masked may have been sent into the void meanwhile, so each interrupt that
 * is on is raised once: one too many does no harm.
 */
export function releaseMessages(): void {
  writeOwnMessages();
  maskTables(false);
  for (let i: u32 = 0; i < slotTotal(); i++) {
    if (isTaken(i) && isEnabled(slotAt(i), isOfMsi(i))) raiseMessage(i);
  }
  forgetMessages();
}
