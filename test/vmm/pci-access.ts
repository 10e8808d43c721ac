/** Configuration space by ports CF8 and CFC, as a kernel of the simulated machine reads and writes it. */
import { inb, outb } from "./scenario.ts";
import type { Vmm } from "./vmm.ts";

function select(vmm: Vmm, cpu: number, bdf: number, offset: number): number {
  outb(vmm, cpu, 0xcf8, (0x8000_0000 | (bdf << 8) | (offset & 0xfc)) >>> 0, 4);
  return 0xcfc + (offset & 3);
}

export const config = (vmm: Vmm, cpu: number, bdf: number, offset: number, size: number): number => inb(vmm, cpu, select(vmm, cpu, bdf, offset), size);

export const configWrite = (vmm: Vmm, cpu: number, bdf: number, offset: number, size: number, value: number): void =>
  outb(vmm, cpu, select(vmm, cpu, bdf, offset), value, size);
