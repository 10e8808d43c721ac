/**
 * The memory map that a second instance's kernel is given: its own range as RAM,
 * the rest of the machine's RAM as reserved (it may join later, by memory hot-plug),
 * everything else as the firmware described it.
 */
import { MemoryRange } from '../abi.ts';
import { bootInfo } from '../machine/region.ts';
import { PAGE_SIZE } from '../machine/registers.ts';
import { E820_ACPI, E820_RAM, E820_RESERVED, LOW_RAM_END, LOW_END, pieceAt, pieceTotal } from '../partition.ts';

/** Layout of an instance's range, from its base: private low MiB, ACPI tables, boot data, RAM. */
export const RANGE_ACPI: u64 = 0x100000n;
export const RANGE_ACPI_SIZE: u64 = 0x80000n;
export const RANGE_BOOT: u64 = 0x180000n;

/** `boot_params.e820_table` holds 128 entries of 20 bytes (Linux, Documentation/arch/x86/zero-page.rst). */
export const E820_MAX: u32 = 128;
export class E820Entry extends Packed { base: u64; size: u64; type: u32 }
assertLayout<E820Entry>(20);

class Builder extends Struct { table: u64; count: u32; full: u32 }

function append(builder: Builder, base: u64, size: u64, type: u32): void {
  if (size === 0n) return;
  if (builder.count >= E820_MAX) {
    builder.full = 1;
    return;
  }
  const entry = at<E820Entry>(builder.table + u64(builder.count * sizeOf<E820Entry>()));
  entry.base = base;
  entry.size = size;
  entry.type = type;
  builder.count++;
}

/**
 * RAM that others own. What begins below 1 MiB is busy for Linux, which makes one of neighbours of a type: a page
 * between keeps that apart from what may join.
 */
function appendForeign(builder: Builder, base: u64, size: u64): void {
  const gap: u64 = base === LOW_END ? PAGE_SIZE : 0n;
  append(builder, base + gap, size - gap, E820_RESERVED);
}

/**
 * Writes the map of the instance `owner` with RAM [base, base + size) to `table`;
 * returns the number of entries, 0 if they do not fit.
 */
export function buildE820(table: HostVirtual, base: HostPhysical, size: u64): u32 {
  const builder: Builder = zeroed();
  builder.table = table;
  append(builder, 0n, LOW_RAM_END, E820_RAM);
  append(builder, LOW_RAM_END, LOW_END - LOW_RAM_END, E820_RESERVED);
  for (let i: u32 = 0; i < pieceTotal(); i++) {
    const piece = pieceAt(i);
    if (piece.base < LOW_END) continue;
    if (piece.base !== base) appendForeign(builder, piece.base, piece.size);
    else {
      append(builder, base + RANGE_ACPI, RANGE_ACPI_SIZE, E820_ACPI);
      append(builder, base + RANGE_BOOT, size - RANGE_BOOT, E820_RAM);
    }
  }
  appendFirmware(builder);
  return builder.full !== 0 ? 0 : builder.count;
}

/** What is not RAM in the firmware's own map, above the first MiB. */
function appendFirmware(builder: Builder): void {
  const info = bootInfo();
  for (let i: u32 = 0; i < 64; i++) {
    if (i >= info.rangeCount) break;
    const range: MemoryRange = info.range[i];
    if (range.type === E820_RAM || range.base < LOW_END) continue;
    append(builder, range.base, range.size, range.type);
  }
}
