// SPDX-License-Identifier: MIT OR GPL-2.0
/* Copies a second instance's kernel and initrd into memory that this kernel has given up. */
#include "understudy.h"

#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CHUNK SZ_64K

/* RAM, but of memory blocks that are offline: nobody's, as long as the administrator leaves them so. */
static int check_range(u64 base, u64 size)
{
	u64 pfn;

	if (region_intersects(base, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) != REGION_INTERSECTS) {
		pr_err("%#llx-%#llx is not memory\n", base, base + size - 1);
		return -EFAULT;
	}
	for (pfn = PHYS_PFN(base); pfn < PHYS_PFN(base + size); pfn++) {
		if (pfn_to_online_page(pfn)) {
			pr_err("%#llx is online: this kernel still uses it\n", (u64)PFN_PHYS(pfn));
			return -EBUSY;
		}
	}
	return 0;
}

/*
 * By way of our own buffer: the user's page may fault, and the usercopy checks look at the target's struct
 * pages, which say nothing sensible about an offline one.
 */
static int copy_chunk(u64 address, const void __user *source, size_t length, void *buffer)
{
	int error = check_range(address, PAGE_ALIGN(length));
	void *target;

	if (error)
		return error;
	if (copy_from_user(buffer, source, length))
		return -EFAULT;
	target = memremap(address, PAGE_ALIGN(length), MEMREMAP_WB);
	if (!target)
		return -EFAULT;
	memcpy(target, buffer, length);
	memunmap(target);
	return 0;
}

int us_stage(const struct us_stage *stage)
{
	void *buffer;
	u64 done = 0;
	int error = 0;

	if (!PAGE_ALIGNED(stage->address) || !stage->length || stage->address + stage->length < stage->address)
		return -EINVAL;
	buffer = kmalloc(CHUNK, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	while (done < stage->length && !error) {
		size_t length = min_t(u64, CHUNK, stage->length - done);

		error = copy_chunk(stage->address + done, u64_to_user_ptr(stage->source + done), length, buffer);
		done += length;
		if (fatal_signal_pending(current))
			error = -EINTR;
		cond_resched();
	}
	kfree(buffer);
	return error;
}
