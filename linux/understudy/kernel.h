/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "file.h"

/* What the boot protocol's header says of a bzImage. */
struct kernel {
	struct file file;
	size_t setup_size;		/* the real-mode part, before what runs */
	uint64_t init_size;		/* what it needs from its place on, until it manages memory itself */
	uint32_t command_line_size;
};

/* A relocatable bzImage with a 64-bit entry; anything else ends the program. */
struct kernel read_kernel(const char *path);

#endif
