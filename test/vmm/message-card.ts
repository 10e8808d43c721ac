/** A card that interrupts by messages, below a port; what a second kernel writes to it, and the messages that it has then. */
import type { Machine } from "./machine.ts";
import { configWrite } from "./pci-access.ts";
import type { PciExpress } from "./pci-express.ts";
import { store } from "./scenario.ts";
import type { Vmm } from "./vmm.ts";

export const PORT = 0x10, CARD = 0x100;
/** Its capabilities, and its memory: MSI-X's table is in a page with other registers. */
export const MSI = 0x40, MSIX = 0x60, WINDOW = 0xfe80_0000n, MESSAGES = WINDOW + 0x2000n;

/** A card with four MSI messages, maskable, and eight of MSI-X. */
export function addCard(pci: PciExpress): void {
  pci.addPort(PORT, 1);
  pci.functions.get(PORT)!.setUint32(0x20, 0xfe90_fe80, true);
  const card = pci.add(CARD, 0x11e81234, 0x00ff00);
  card.setUint16(6, 0x10, true);
  card.setUint8(0x34, MSI);
  card.setUint32(MSI, 0x0184_6005, true);
  card.setUint32(MSIX, 0x0007_0011, true);
  card.setUint32(MSIX + 4, 0x2000, true);
  card.setUint32(0x10, Number(WINDOW), true);
}

/** The kernel on processor 1 writes MSI's message. */
export function setMsi(vmm: Vmm, destination: number, vector: number, control = 1): void {
  configWrite(vmm, 1, CARD, MSI + 4, 4, 0xfee0_0000 | (destination << 12));
  configWrite(vmm, 1, CARD, MSI + 8, 4, 0);
  configWrite(vmm, 1, CARD, MSI + 12, 2, vector);
  configWrite(vmm, 1, CARD, MSI + 2, 2, 0x184 | control);
}

/** And one of MSI-X's. */
export function setMsix(vmm: Vmm, number: number, destination: number, vector: number): void {
  const place = MESSAGES + BigInt(number * 16);
  store(vmm, 1, place, 0xfee0_0000 + destination * 0x1000);
  store(vmm, 1, place + 4n, 0);
  store(vmm, 1, place + 8n, vector);
  store(vmm, 1, place + 12n, 0);
}

/** What the card sends. */
export interface Message { address: bigint; data: number }

export function msi(pci: PciExpress, number = 0): Message {
  const card = pci.functions.get(CARD)!;
  return { address: BigInt(card.getUint32(MSI + 4, true)), data: card.getUint16(MSI + 12, true) | number };
}

export function msix({ memory }: Machine, number: number): Message {
  const place = MESSAGES + BigInt(number * 16);
  return { address: memory.read(place, 4) | (memory.read(place + 4n, 4) << 32n), data: Number(memory.read(place + 8n, 4)) };
}
