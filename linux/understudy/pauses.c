// SPDX-License-Identifier: MIT OR GPL-2.0
/* How long each CPU had its interrupts off for a capture or a release. */
#include <stdio.h>

#include "pauses.h"
#include "say.h"

void report_pauses(const char *member, const us_u64 *ticks, const struct us_pauses *pauses, bool json)
{
	for (unsigned cpu = 0; cpu < pauses->cpu_count; cpu++) {
		if (!ticks[cpu])
			continue;
		if (json) {
			json_open(NULL, '{');
			json_number("cpu", cpu);
			json_number(member, ticks[cpu]);
			json_close();
		} else {
			printf("CPU %u paused for %llu ticks (%.4f ms)\n", cpu, (unsigned long long)ticks[cpu],
			       milliseconds(ticks[cpu], pauses->tsc_khz));
		}
	}
}
