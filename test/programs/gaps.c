// SPDX-License-Identifier: MIT
/*
 * gaps MILLISECONDS TICKS: stamps the time as fast as it can for so long, and prints when it was not there for TICKS or
 * more: a line of JSON, with [how long it was there before, how long it was not, 1 if its kernel took an interrupt
 * meanwhile] for each gap, in ticks of the TSC from `start` on. Two systems that share a CPU find each other's turns in
 * their gaps, and in those that end with 0 the program was the first thing that ran of its system again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tsc.h"

#define MAX_GAPS 4096

static struct gap { uint64_t from, to; int interrupted; } gap[MAX_GAPS];

static uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/*
 * IRET to a less privileged level clears a data segment's selector that such code may not have (SDM Vol. 3A, 6.8.1), and
 * counts as such a null selector that is not 0. 64-bit code uses ES for nothing, and a hypervisor gives it back as it was.
 */
static inline int take_interrupted(void)
{
	uint32_t selector;

	__asm__ volatile("movl %%es, %0" : "=r"(selector));
	if (selector)
		return 0;
	__asm__ volatile("movl %0, %%es" : : "r"(3));
	return 1;
}

int main(int count, char **arguments)
{
	uint64_t duration = count > 2 ? strtoull(arguments[1], NULL, 10) : 1000, least = count > 2 ? strtoull(arguments[2], NULL, 10) : 5000;
	uint64_t end = now_ms() + duration, start = ticks(), last = start;
	int interrupted = take_interrupted();
	unsigned gaps = 0;

	/* The clock is looked at after gaps only: a turn or a tick comes soon enough. */
	while (gaps < MAX_GAPS) {
		uint64_t now = ticks();
		int before = interrupted;	/* perhaps since the last stamp */

		interrupted = take_interrupted();
		if (now - last >= least) {
			gap[gaps++] = (struct gap){ last, now, before || interrupted };
			if (now_ms() >= end)
				break;
		}
		last = now;
	}
	printf("{\"start\":%llu,\"gaps\":[", (unsigned long long)start);
	for (unsigned i = 0; i < gaps; i++)
		printf("%s[%llu,%llu,%d]", i ? "," : "", (unsigned long long)(gap[i].from - (i ? gap[i - 1].to : start)),
		       (unsigned long long)(gap[i].to - gap[i].from), gap[i].interrupted);
	puts("]}");
	return 0;
}
