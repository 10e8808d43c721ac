// SPDX-License-Identifier: MIT OR GPL-2.0
/* The header of a bzImage: Documentation/arch/x86/boot.rst in Linux. */
#include "kernel.h"

#include <string.h>

#include "say.h"

#define SECTOR 512
#define SETUP_SECTS 0x1f1
#define BOOT_FLAG 0x1fe
#define HEADER_MAGIC 0x202
#define VERSION 0x206
#define RELOCATABLE 0x234
#define XLOADFLAGS 0x236
#define CMDLINE_SIZE 0x238
#define INIT_SIZE 0x260
#define HEADER_END 0x268

#define OLDEST_VERSION 0x20c		/* the first with xloadflags */
#define XLF_KERNEL_64 1

static uint64_t field(const struct file *file, size_t offset, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, file->data + offset, bytes);
	return value;
}

struct kernel read_kernel(const char *path)
{
	struct kernel kernel = { .file = read_file("--kernel", path) };
	const struct file *file = &kernel.file;
	uint64_t sectors;

	if (file->size < HEADER_END || field(file, BOOT_FLAG, 2) != 0xaa55 || memcmp(file->data + HEADER_MAGIC, "HdrS", 4) != 0)
		fail("--kernel %s: not a bzImage: give a /boot/vmlinuz-... file", path);
	if (field(file, VERSION, 2) < OLDEST_VERSION)
		fail("--kernel %s: boot protocol %llu.%02llu is older than 2.12: give a newer kernel", path,
		     (unsigned long long)field(file, VERSION + 1, 1), (unsigned long long)field(file, VERSION, 1));
	if (!(field(file, XLOADFLAGS, 2) & XLF_KERNEL_64))
		fail("--kernel %s: no 64-bit entry: give a 64-bit kernel", path);
	if (!field(file, RELOCATABLE, 1))
		fail("--kernel %s: not relocatable: give a kernel with CONFIG_RELOCATABLE", path);
	sectors = field(file, SETUP_SECTS, 1);
	kernel.setup_size = ((sectors ? sectors : 4) + 1) * SECTOR;
	kernel.init_size = field(file, INIT_SIZE, 4);
	kernel.command_line_size = (uint32_t)field(file, CMDLINE_SIZE, 4);
	if (kernel.setup_size >= file->size)
		fail("--kernel %s: cut short: its setup alone has %zu bytes", path, kernel.setup_size);
	if (kernel.init_size < file->size - kernel.setup_size)
		kernel.init_size = file->size - kernel.setup_size;
	return kernel;
}
