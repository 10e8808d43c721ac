/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#ifndef PAUSES_H
#define PAUSES_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

/* One line, or one JSON object with `member`, for each CPU that paused; `ticks` is an array of `pauses`. */
void report_pauses(const char *member, const us_u64 *ticks, const struct us_pauses *pauses, bool json);

#endif
