// SPDX-License-Identifier: MIT
/*
 * gaps MILLISECONDS TICKS: stamps the time as fast as it can for so long, and prints when it was not there for TICKS or
 * more: a line of JSON, with [how long it was there before, how long it was not] for each gap, in ticks of the TSC from
 * `start` on. Two systems that share a CPU find each other's turns in their gaps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tsc.h"

#define MAX_GAPS 4096

static struct gap { uint64_t from, to; } gap[MAX_GAPS];

static uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

int main(int count, char **arguments)
{
	uint64_t duration = count > 2 ? strtoull(arguments[1], NULL, 10) : 1000, least = count > 2 ? strtoull(arguments[2], NULL, 10) : 5000;
	uint64_t end = now_ms() + duration, start = ticks(), last = start;
	unsigned gaps = 0;

	/* The clock is looked at after gaps only: a turn or a tick comes soon enough. */
	while (gaps < MAX_GAPS) {
		uint64_t now = ticks();

		if (now - last >= least) {
			gap[gaps++] = (struct gap){ last, now };
			if (now_ms() >= end)
				break;
		}
		last = now;
	}
	printf("{\"start\":%llu,\"gaps\":[", (unsigned long long)start);
	for (unsigned i = 0; i < gaps; i++)
		printf("%s[%llu,%llu]", i ? "," : "", (unsigned long long)(gap[i].from - (i ? gap[i - 1].to : start)),
		       (unsigned long long)(gap[i].to - gap[i].from));
	puts("]}");
	return 0;
}
