/**
 * The annex: memory beside the region, since that is the largest piece that Linux's
 * page allocator hands out. The loader brings it zeroed, as large as the image's
 * header says (boot/header.asm); like the region it is the VMM's alone, mapped at
 * its own address, not executable. In it are pools of pages that hardware reads.
 */
import "../../compiler/core/dialect.mjs";
import { PageTable } from './registers.ts';
import { bootInfo } from './region.ts';

/** How many I/O page tables can have a shadow. */
export const SHADOWS = 88;
export const UNIT_TABLES = 64;

/** What lies in it; all of whole pages. Its size goes into the image's header. @asm */
export class Annex extends Struct {
  /** devices/iommu/shadow.ts */
  shadows: FixedArray<PageTable, typeof SHADOWS>;
  /** devices/iommu/tables.ts */
  unitTables: FixedArray<PageTable, typeof UNIT_TABLES>;
  /** devices/iommu/vtd-interrupts.ts */
  interruptEntries: FixedArray<PageTable, 128>;
}
export const ANNEX_SIZE: u64 = u64(sizeOf<Annex>());

/** Only behind buildPartition (instance/capture.ts), which refuses an annex that is too small. */
export function annex(): Annex {
  return at<Annex>(bootInfo().annexBase);
}
