/** Address Translation Services: the cache that a device has of what an IOMMU has translated for it (PCI Express 5.0, 7.8.8 and 10.3). */
import {
  PCIE_ATS, PCIE_ATS_CONTROL, PCIE_ATS_ENABLE, PCIE_EXTENDED_CAPABILITIES, PCIE_EXTENDED_ID, PCIE_EXTENDED_NEXT_SHIFT,
} from '../machine/pci.ts';
import { ecamBase, readConfig, writeConfig } from './pci-bus.ts';

/** As many as have room. */
const MAX_CAPABILITIES: u32 = 48;

/** Offset of a function's ATS capability in its configuration space; 0 if it has none. */
function findAts(bdf: u32): u32 {
  let at: u32 = ecamBase() === 0n ? 0 : PCIE_EXTENDED_CAPABILITIES;
  for (let i: u32 = 0; i < MAX_CAPABILITIES && at >= PCIE_EXTENDED_CAPABILITIES; i++) {
    const header = readConfig(bdf, at, 4);
    if ((header & PCIE_EXTENDED_ID) === PCIE_ATS) return at;
    at = (header >> PCIE_EXTENDED_NEXT_SHIFT) & 0xffc;
  }
  return 0;
}

/**
 * A function that does nothing asks for no translations any more, and forgets those that it has. The next kernel
 * that it goes to sees no IOMMU, and would not look.
 */
export function turnAtsOff(bdf: u32): void {
  const ats = findAts(bdf);
  if (ats === 0) return;
  const control = readConfig(bdf, ats + PCIE_ATS_CONTROL, 2);
  if ((control & PCIE_ATS_ENABLE) !== 0) writeConfig(bdf, ats + PCIE_ATS_CONTROL, 2, control & ~PCIE_ATS_ENABLE);
}
