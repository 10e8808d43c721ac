/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What this kernel has given to another instance: CPUs and memory blocks taken offline by its own hot-plug,
 * noted in /run so that `stop` can bring them back, also after a failure half way.
 */
#ifndef GIVEN_H
#define GIVEN_H

#include <stdbool.h>
#include <stdint.h>

struct given {
	uint64_t cpus;			/* mask of this kernel's numbers */
	unsigned first_block, blocks;
	unsigned devices;		/* how many PCI functions this kernel has removed */
};

/* The size of a memory block: hot-plug's unit. Ends the program if this kernel has no memory hot-plug. */
uint64_t block_size(void);

/*
 * Take CPUs (the highest, but neither 0 nor those in `kept`) or a run of memory blocks (the topmost) offline. False
 * after a line about the reason; then nothing of that kind is offline that was online before.
 */
bool give_cpus(struct given *given, unsigned count, uint64_t kept);
bool give_memory(struct given *given, uint64_t size);

/* Brings it all online again; false after a line for each piece that stays offline. */
bool take_back(const struct given *given);

/* The note in /run. */
bool note_given(unsigned instance, const struct given *given);	/* false after a line */
bool recall_given(unsigned instance, struct given *given);
void forget_given(unsigned instance);

/* Set by SIGINT and SIGTERM after interrupts_wait(): long steps end early, so that what was done can be undone. */
extern volatile bool interrupted;
void interrupts_wait(void);

/* The mask of this kernel's online CPUs. */
uint64_t online_cpus(void);
/* Brings one CPU or block online: 0 or an errno. */
int bring_cpu(unsigned cpu);
int bring_block(unsigned block, const char *how);

#endif
