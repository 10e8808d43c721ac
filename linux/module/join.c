// SPDX-License-Identifier: MIT OR GPL-2.0
/* Memory that was another instance's joins this kernel, as memory that was plugged in. */
#include "understudy.h"

#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>

/*
 * Comes as memory blocks that are offline. Not "driver managed": nobody takes it away again, and a kernel that
 * is loaded by kexec may use it. The kernel itself refuses what is not whole blocks.
 */
int us_join_memory(const struct us_memory *memory)
{
#ifdef CONFIG_MEMORY_HOTPLUG
	if (!memory->size || memory->base + memory->size < memory->base)
		return -EINVAL;
	if (region_intersects(memory->base, memory->size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) != REGION_DISJOINT)
		return -EEXIST;
	return add_memory(memory_add_physaddr_to_nid(memory->base), memory->base, memory->size, MHP_NONE);
#else
	return -EOPNOTSUPP;
#endif
}
