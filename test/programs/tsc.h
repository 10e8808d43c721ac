/* SPDX-License-Identifier: MIT */
/* The clock of everything measured here: the processor's time-stamp counter, which all systems on a machine share. */
#ifndef TSC_H
#define TSC_H

#include <stdint.h>

static inline uint64_t ticks(void)
{
	uint32_t low, high;

	/* LFENCE: what comes before has been executed. */
	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

#endif
