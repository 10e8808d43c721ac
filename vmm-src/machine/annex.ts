/**
 * The annex: memory beside the region, since that is the largest piece that Linux's
 * page allocator hands out. The loader brings it zeroed, as large as the image's
 * header says (boot/header.asm); like the region it is the VMM's alone, mapped at
 * its own address, not executable (docs/decisions/0019-annex.md).
 */
import "../../compiler/core/dialect.mjs";
import { PageTable } from './registers.ts';
import { bootInfo } from './region.ts';

export const ANNEX_PAGES = 1024;

/** Its size goes into the image's header. @asm */
export class Annex extends Struct {
  /** The IOMMUs' own tables from the start on (devices/iommu/tables.ts), shadows of I/O page tables to the end (shadow.ts). */
  pages: FixedArray<PageTable, typeof ANNEX_PAGES>;
}
export const ANNEX_SIZE: u64 = u64(sizeOf<Annex>());

/** Only behind buildPartition (instance/capture.ts), which refuses an annex that is too small. */
export function annex(): Annex {
  return at<Annex>(bootInfo().annexBase);
}
