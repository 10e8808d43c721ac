/** A guest's accesses to the virtual-APIC page that its VMCS names (SDM Vol. 3C, chapter 30). */
import type { Memory } from "../../compiler/emit-js/load.ts";
import { type Access, ApicHardware } from "./apic-hardware.ts";
import type { Processor } from "./machine.ts";

const [PROCESSOR_BASED, SECONDARY, PAGE, THRESHOLD] = [0x4002, 0x401e, 0x2012, 0x401c];
const [APIC_ACCESSES, REGISTERS, CR8_LOAD_EXITING] = [1n, 0x100n, 0x80000n];

/** What the processor does with the page of the virtual CPU that runs on it. */
function apicOf(memory: Memory, processor: Processor): ApicHardware {
  return new ApicHardware(memory, processor.field(PAGE), (processor.field(SECONDARY) & REGISTERS) !== 0n, () => Number(processor.field(THRESHOLD)));
}

function hasPage(processor: Processor): boolean {
  return processor.vmcs !== null && (processor.field(SECONDARY) & APIC_ACCESSES) !== 0n;
}

/** What the guest reads, or null where it exits. */
export function readApicPage(memory: Memory, processor: Processor, offset: number): number | null {
  return hasPage(processor) ? apicOf(memory, processor).read(offset, 4) : null;
}

/** What the guest's write comes to; null where it has no such page. */
export function writeApicPage(memory: Memory, processor: Processor, offset: number, value: number): Access | null {
  return hasPage(processor) ? apicOf(memory, processor).write(offset, value, 4) : null;
}

/** MOV to CR8 where that does not exit; null where it does. */
export function writeCr8(memory: Memory, processor: Processor, value: number): Access | null {
  return (processor.field(PROCESSOR_BASED) & CR8_LOAD_EXITING) !== 0n ? null : apicOf(memory, processor).writeCr8(value);
}
