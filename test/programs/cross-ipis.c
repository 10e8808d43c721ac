// SPDX-License-Identifier: MIT
/*
 * cross-ipis SECONDS: makes CPUs interrupt each other for that long, all pairs, both ways, and sees that every one is
 * answered; then a line of JSON.
 *
 * On each CPU a thread asks all others for a memory barrier, time after time: the kernel interrupts the CPUs that run
 * one and waits for each (membarrier, CAL or, with a page that loses its permissions besides, TLB in /proc/interrupts).
 * A token goes round meanwhile by futexes, from CPU to CPU: a wakeup that is lost stops it, one too many counts it
 * wrongly. And a thread goes round the CPUs itself, by sched_setaffinity.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tsc.h"

#define MAX_CPUS 32
#define PAGE 4096
/* In each round a thread that has asked rests, so that those that wait for the token get the CPU. */
#define ASKS 20u
#define REST_US 1000

static unsigned cpus[MAX_CPUS], count;
static atomic_bool over;
static _Atomic uint32_t token;
static atomic_ulong asked, flushed, handed, moved, wrong;
static _Atomic uint64_t worst;

static void fail(const char *what)
{
	fprintf(stderr, "cross-ipis: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void go_to(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		fail("a CPU is not there");
}

static void note(uint64_t start)
{
	uint64_t took = ticks() - start, before = atomic_load(&worst);

	while (took > before && !atomic_compare_exchange_weak(&worst, &before, took))
		;
}

static void *ask(void *place)
{
	volatile char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		fail("no memory");
	go_to(cpus[(uintptr_t)place]);
	while (!atomic_load(&over)) {
		for (unsigned i = 0; i < ASKS; i++) {
			uint64_t start = ticks();

			if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
				fail("membarrier");
			note(start);
			atomic_fetch_add(&asked, 1);
			*page = (char)i;
			if (mprotect((void *)page, PAGE, PROT_READ) != 0 || mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE) != 0)
				fail("mprotect");
			atomic_fetch_add(&flushed, 1);
		}
		usleep(REST_US);
	}
	return NULL;
}

static void *hand_on(void *place)
{
	unsigned mine = (unsigned)(uintptr_t)place;

	go_to(cpus[mine]);
	while (!atomic_load(&over)) {
		uint32_t now = atomic_load(&token);
		struct timespec most = { .tv_sec = 1 };

		if (now % count != mine) {
			syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, now, &most, NULL, 0);
			continue;
		}
		/* Nobody else may have it. */
		if (!atomic_compare_exchange_strong(&token, &now, now + 1))
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&handed, 1);
		syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, MAX_CPUS, NULL, NULL, 0);
	}
	return NULL;
}

static void *move(void *unused)
{
	(void)unused;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		unsigned cpu = cpus[i % count];

		go_to(cpu);
		if (sched_getcpu() != (int)cpu)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&moved, 1);
		usleep(REST_US);
	}
	return NULL;
}

static pthread_t start(void *(*what)(void *), unsigned place)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, what, (void *)(uintptr_t)place) != 0)
		fail("no thread");
	return thread;
}

int main(int argument_count, char **arguments)
{
	unsigned seconds = argument_count > 1 ? (unsigned)atoi(arguments[1]) : 5;
	pthread_t threads[2 * MAX_CPUS + 1];
	unsigned started = 0;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		fail("no CPUs");
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < MAX_CPUS; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[count++] = cpu;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0)
		fail("this kernel has no membarrier");
	for (unsigned i = 0; i < count; i++) {
		threads[started++] = start(ask, i);
		threads[started++] = start(hand_on, i);
	}
	threads[started++] = start(move, 0);
	sleep(seconds);
	atomic_store(&over, true);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&token) != (uint32_t)atomic_load(&handed))
		atomic_fetch_add(&wrong, 1);
	printf("{\"cpus\":%u,\"barriers\":%lu,\"flushes\":%lu,\"handed\":%lu,\"moved\":%lu,\"wrong\":%lu,\"worstTicks\":%llu}\n", count, asked, flushed, handed, moved,
	       wrong, (unsigned long long)worst);
	return wrong > 0;
}
