/**
 * What a processor does by itself with a virtual-APIC page (SDM Vol. 3C, chapter 30),
 * for a guest in xAPIC mode and without virtual-interrupt delivery. Offsets and rules
 * are written out here, so that what the VMM takes for granted of them shows.
 */
import type { Memory } from "../../compiler/emit-js/load.ts";

const [TPR, EOI, ICR, ICR_HIGH] = [0x80, 0xb0, 0x300, 0x310];
const banks = [0x100, 0x180, 0x200].flatMap((bank) => Array.from({ length: 8 }, (_, word) => bank + 16 * word));
/** Registers that are read from the page with APIC-register virtualization (30.4.2), and written to it (30.4.3.1). */
const READ = new Set([0x20, 0x30, TPR, EOI, 0xd0, 0xe0, 0xf0, ...banks, 0x280, ICR, ICR_HIGH, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0]);
const WRITTEN = new Set([0x20, TPR, EOI, 0xd0, 0xe0, 0xf0, 0x280, ICR, ICR_HIGH, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0]);

/** How much of a virtual local APIC a processor does. */
export type ApicHelp = "nothing" | "CR8" | "its registers";
export const APIC_HELPS: ApicHelp[] = ["nothing", "CR8", "its registers"];

/** Makes a processor's capabilities such. */
export function setApicHelp(msrs: Map<number, bigint>, help: ApicHelp): void {
  const level = APIC_HELPS.indexOf(help);
  const allow = (msr: number, bit: bigint, on: boolean): void => { msrs.set(msr, on ? msrs.get(msr)! | (bit << 32n) : msrs.get(msr)! & ~(bit << 32n)); };
  allow(0x48e, 0x200000n, level >= 1);
  allow(0x48b, 1n, level >= 2);
  allow(0x48b, 0x100n, level >= 2);
}

/** What an access came to: done by the processor, or an exit before it, or behind it (30.4.3.3). */
export type Access = "done" | "APIC access" | "APIC write" | "TPR below threshold";

export class ApicHardware {
  /** `registers`: with APIC-register virtualization. */
  constructor(private readonly memory: Memory, private readonly page: bigint, readonly registers: boolean, private readonly threshold: () => number) {}

  private register(offset: number): number { return Number(this.memory.read(this.page + BigInt(offset), 4)); }
  private set(offset: number, value: number): void { this.memory.write(this.page + BigInt(offset), 4, BigInt(value >>> 0)); }

  private static within(offset: number, size: number): boolean {
    return size <= 4 && offset >> 2 === (offset + size - 1) >> 2;
  }

  /** The value, or null where the guest exits for it. */
  read(offset: number, size: number): number | null {
    const here = this.registers ? READ.has(offset & ~3) : offset === TPR;
    return here && ApicHardware.within(offset, size) ? Number(this.memory.read(this.page + BigInt(offset), size as 4)) : null;
  }

  write(offset: number, value: number, size: number): Access {
    const register = offset & ~3;
    const here = this.registers ? WRITTEN.has(register) : offset === TPR;
    if (!here || !ApicHardware.within(offset, size)) return "APIC access";
    this.memory.write(this.page + BigInt(offset), size as 4, BigInt.asUintN(8 * size, BigInt(value)));
    if (register === TPR) {
      this.set(TPR, this.register(TPR) & 0xff);
      return this.virtualizeTaskPriority();
    }
    if (register !== ICR_HIGH) return "APIC write";
    this.set(ICR_HIGH, this.register(ICR_HIGH) & 0xff000000);
    return "done";
  }

  /** MOV to CR8, whose value fits. */
  writeCr8(value: number): Access {
    this.set(TPR, value << 4);
    return this.virtualizeTaskPriority();
  }

  /** TPR virtualization (30.1.2). */
  private virtualizeTaskPriority(): Access {
    return this.register(TPR) >> 4 < this.threshold() ? "TPR below threshold" : "done";
  }
}
