// SPDX-License-Identifier: MIT OR GPL-2.0
/* The VMM's memory, region and annex: checks the image, finds a place for both, and fills in what the VMM must be told. */
#include "understudy.h"

#include <linux/crc32.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/processor.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#define ALIGNMENT SZ_2M
#define MAX_SIZE SZ_4M		/* order 10, the largest that the page allocator hands out */

/* What of the file is covered by its checksum: all but the page that the loader fills in. */
#define CHECKSUM_START PAGE_SIZE

/* Page-table bits, Intel SDM volume 3, 4.5. */
#define PRESENT_WRITABLE 0x3ull
#define GIB_PAGE 0x83ull
#define ENTRIES 512
#define MAX_LEVELS 3	/* of our own: PML5, PML4, PDPT */
#define KERNEL_HALF 256

static int check_image(const struct us_image_header *header, u64 size)
{
	if (header->magic != US_IMAGE_MAGIC) {
		pr_err("the image has no VMM's magic number\n");
		return -ENOEXEC;
	}
	if (header->abi_version != US_ABI_VERSION) {
		pr_err("the image has ABI version %u, this module %u\n", header->abi_version, US_ABI_VERSION);
		return -EPROTO;
	}
	if (header->memory_size > MAX_SIZE || header->annex_size > MAX_SIZE) {
		pr_err("the image needs %llu and %llu bytes, one more than %u\n", header->memory_size, header->annex_size, MAX_SIZE);
		return -EFBIG;
	}
	if (header->file_size != size || header->memory_size < size) {
		pr_err("the image has %llu bytes, its header says %llu (%llu in memory)\n",
		       size, header->file_size, header->memory_size);
		return -EINVAL;
	}
	/*
	 * The root must lie at an even page: with page-table isolation Linux's NMI entry takes bit 12 of CR3
	 * for "user page tables" and would load some other CR3 if an NMI came while we are on these.
	 */
	if (header->enter_offset < CHECKSUM_START || header->enter_offset >= size ||
	    !IS_ALIGNED(header->tables_offset, 2 * PAGE_SIZE) || header->tables_offset < PAGE_SIZE ||
	    header->tables_offset > header->memory_size - MAX_LEVELS * PAGE_SIZE) {
		pr_err("the image's entry (%#llx) or tables (%#llx) lie at an impossible offset\n",
		       header->enter_offset, header->tables_offset);
		return -EINVAL;
	}
	if ((crc32_le(~0, (const u8 *)header + CHECKSUM_START, size - CHECKSUM_START) ^ ~0) != header->crc32) {
		pr_err("the image is damaged: its checksum is wrong\n");
		return -EBADMSG;
	}
	return 0;
}

static int check_machine(void)
{
	if (!us_has_vmx() && !us_has_svm()) {
		pr_err("this CPU has neither VT-x nor AMD-V\n");
		return -ENODEV;
	}
	if (!boot_cpu_has(X86_FEATURE_GBPAGES)) {
		pr_err("this CPU has no 1 GiB pages\n");
		return -EOPNOTSUPP;
	}
	if (us_encrypts_memory()) {
		pr_err("the kernel encrypts its memory: boot with mem_encrypt=off\n");
		return -EOPNOTSUPP;
	}
	if (us_cpu_count() > US_MAX_CPUS) {
		pr_err("%u CPUs are more than %u\n", us_cpu_count(), US_MAX_CPUS);
		return -E2BIG;
	}
	return 0;
}

/*
 * A block from the DMA zone (the first 16 MiB) is the best: when this kernel's memory goes to its successor,
 * it goes in whole blocks of 128 MiB, and the one that holds the VMM can't. The first one can't anyway.
 * The region must lie below 4 GiB, where a processor can turn paging off: between 4 and 5 levels there is no other way.
 */
static int take_memory(const char *what, u64 needed, u64 *base, u64 *size)
{
	gfp_t flags = GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY;
	unsigned int order = get_order(max_t(u64, needed, ALIGNMENT));
	struct page *pages = alloc_pages(flags | GFP_DMA, order);

	if (!pages)
		pages = alloc_pages(flags | GFP_DMA32, order);
	if (!pages) {
		pr_err("no contiguous %lu KiB are free below 4 GiB for the VMM's %s\n", PAGE_SIZE << order >> 10, what);
		return -ENOMEM;
	}
	*base = page_to_phys(pages);
	*size = PAGE_SIZE << order;
	return 0;
}

static void give_memory(u64 base, u64 size)
{
	if (size)
		__free_pages(pfn_to_page(PHYS_PFN(base)), get_order(size));
}

static int fill_boot_info(struct us_boot_info *info, const struct us_region *region, const struct us_start *start)
{
	unsigned int cpu;

	if (start->range_count > US_MAX_RANGES) {
		pr_err("%llu memory ranges are more than %u\n", start->range_count, US_MAX_RANGES);
		return -EINVAL;
	}
	if (copy_from_user(info->range, u64_to_user_ptr(start->ranges), start->range_count * sizeof(info->range[0])))
		return -EFAULT;
	info->range_count = start->range_count;
	info->region_base = region->base;
	info->region_size = region->size;
	info->annex_base = region->annex_base;
	info->annex_size = region->annex_size;
	info->rsdp = start->rsdp;
	info->tsc_khz = tsc_khz;
	info->cpu_count = us_cpu_count();
	for (cpu = 0; cpu < info->cpu_count; cpu++) {
		bool known = cpu_possible(cpu) && per_cpu(x86_cpu_to_apicid, cpu) != BAD_APICID;

		info->apic_id[cpu] = known ? per_cpu(x86_cpu_to_apicid, cpu) : ~0u;
	}
	return 0;
}

/*
 * The launch tables, on which a CPU runs for the first instructions of the VMM:
 *
 *   root   [0] ──► ... ──► PDPT [0..511]: 512 GiB, each page at its physical address
 *          [256..511]: the kernel's, so that its stack, its module text and its NMI handler are there
 *
 * The root is a PML4, or a PML5 where the kernel has one, with a PML4 of one entry below it.
 */
static void fill_launch_tables(u64 *root, u64 physical)
{
	unsigned int above = __read_cr4() & X86_CR4_LA57 ? 2 : 1;
	u64 *kernel = __va(read_cr3_pa());
	u64 *pdpt = root + above * ENTRIES;
	u64 i;

	memcpy(root + KERNEL_HALF, kernel + KERNEL_HALF, (ENTRIES - KERNEL_HALF) * sizeof(u64));
	for (i = 0; i < above; i++)
		root[i * ENTRIES] = (physical + (i + 1) * PAGE_SIZE) | PRESENT_WRITABLE;
	for (i = 0; i < ENTRIES; i++)
		pdpt[i] = i << 30 | GIB_PAGE;
}

static int fill_region(struct us_region *region, const struct us_image_header *image, const struct us_start *start)
{
	u8 *memory = __va(region->base);
	int error;

	BUILD_BUG_ON(US_BOOT_INFO_OFFSET < sizeof(*image));
	BUILD_BUG_ON(US_BOOT_INFO_OFFSET + sizeof(struct us_boot_info) > CHECKSUM_START);
	memcpy(memory, image, image->file_size);
	error = fill_boot_info((struct us_boot_info *)(memory + US_BOOT_INFO_OFFSET), region, start);
	if (error)
		return error;
	region->launch_cr3 = region->base + image->tables_offset;
	region->entry = region->base + image->enter_offset;
	fill_launch_tables((u64 *)(memory + image->tables_offset), region->launch_cr3);
	return 0;
}

static int make_region(struct us_region *region, const struct us_image_header *image, const struct us_start *start)
{
	int error = take_memory("region", image->memory_size, &region->base, &region->size);

	if (!error && image->annex_size)
		error = take_memory("annex", image->annex_size, &region->annex_base, &region->annex_size);
	if (!error)
		error = fill_region(region, image, start);
	if (error)
		us_region_free(region);
	return error;
}

/* Returns 0 and a region that CPUs can enter, or an errno after a line in the log. */
int us_region_make(struct us_region *region, const struct us_start *start)
{
	struct us_image_header *image;
	int error = check_machine();

	if (error)
		return error;
	if (start->image_size <= CHECKSUM_START || start->image_size > MAX_SIZE) {
		pr_err("%llu bytes can't be an image\n", start->image_size);
		return start->image_size > MAX_SIZE ? -EFBIG : -ENOEXEC;
	}
	image = vmemdup_user(u64_to_user_ptr(start->image), start->image_size);
	if (IS_ERR(image))
		return PTR_ERR(image);
	error = check_image(image, start->image_size);
	if (!error)
		error = make_region(region, image, start);
	kvfree(image);
	return error;
}

void us_region_free(struct us_region *region)
{
	give_memory(region->base, region->size);
	give_memory(region->annex_base, region->annex_size);
	*region = (struct us_region){};
}
