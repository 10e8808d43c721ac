/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What of an instance is trapped: its processor, its memory, its I/O, its devices' DMA; masks of US_TRAPPED_*. */
#ifndef PARTS_H
#define PARTS_H

#include <stdint.h>

#include "abi.h"

/* "processor, memory, I/O", "nothing"; in a static buffer. */
const char *parts_text(uint32_t parts);
/* The exits that stay when the processor is not trapped any more: "CPUID, XSETBV"; in a static buffer. */
const char *unconditional_text(const struct us_status *status);
/* { "processor": true, ... } and, where they are all that is left of the processor's, its unconditional exits. */
void json_parts(const char *key, const struct us_status *status);

#endif
