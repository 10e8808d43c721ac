// SPDX-License-Identifier: MIT
/*
 * cpuid-bench [CPU...]: on each of these CPUs (or where it is), what CPUID says of a hypervisor and how many ticks
 * a CPUID takes, which beneath a VMM is a whole exit: one line of JSON for each. The median of many small rounds, so
 * that interrupts don't count.
 */
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tsc.h"

#define ROUNDS 201
#define PER_ROUND 50
#define HYPERVISOR (1u << 31)		/* leaf 1, ECX */
#define HYPERVISOR_LEAF 0x40000000u

static int by_value(const void *a, const void *b)
{
	const uint64_t *one = a, *other = b;

	return *one < *other ? -1 : *one > *other;
}

static double measure(void)
{
	static uint64_t took[ROUNDS];

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start = ticks();

		for (unsigned j = 0; j < PER_ROUND; j++) {
			unsigned a = 0, b, c = 0, d;

			__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		}
		took[i] = ticks() - start;
	}
	qsort(took, ROUNDS, sizeof(took[0]), by_value);
	return (double)took[ROUNDS / 2] / PER_ROUND;
}

static void report(int cpu)
{
	unsigned a, b, c, d;
	bool hypervisor;
	char name[13] = "";

	__cpuid(1, a, b, c, d);
	hypervisor = c & HYPERVISOR;
	if (hypervisor) {
		__cpuid(HYPERVISOR_LEAF, a, b, c, d);
		memcpy(name, (unsigned[]){ b, c, d }, 12);
	}
	printf("{\"cpu\":%d,\"hypervisor\":%s,\"name\":\"%s\",\"ticksPerCpuid\":%.1f}\n", cpu, hypervisor ? "true" : "false", name,
	       measure());
}

int main(int argc, char **argv)
{
	if (argc == 1)
		report(sched_getcpu());
	for (int i = 1; i < argc; i++) {
		int cpu = atoi(argv[i]);
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) != 0) {
			fprintf(stderr, "cpuid-bench: CPU %d: %s\n", cpu, strerror(errno));
			return 1;
		}
		report(cpu);
	}
	return 0;
}
