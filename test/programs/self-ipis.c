// SPDX-License-Identifier: MIT
/*
 * self-ipis CPU COUNT: makes that CPU send itself COUNT interprocessor interrupts, one at a time, and sees that each
 * arrives; then a line of JSON. Each is a page fault that perf counts: its kernel half tells of it by an interrupt that
 * it sends its own CPU (irq_work, IWI in /proc/interrupts), and that by a signal. One that is not there when the fault
 * has been handled is late; it is lost when the next one finds it still missing. `vectors` is what IWI grew by: more
 * than were sent came twice, but for the few of others. Ends with 1 if one was lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tsc.h"

#define PAGE 4096
/* Looks for a signal that was not there at once. */
#define LOOKS 100000000u

static volatile sig_atomic_t came;
static volatile uint64_t came_at;

static void on_signal(int number)
{
	(void)number;
	came_at = ticks();
	came++;
}

static void fail(const char *what)
{
	fprintf(stderr, "self-ipis: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* The CPU's count of interrupts by which it does irq_work. */
static unsigned long long vectors(unsigned cpu)
{
	char line[4096];
	FILE *file = fopen("/proc/interrupts", "r");
	unsigned long long value = 0;

	if (!file)
		fail("/proc/interrupts");
	while (fgets(line, sizeof(line), file)) {
		char *word = strtok(line, " ");

		if (!word || strcmp(word, "IWI:") != 0)
			continue;
		for (unsigned i = 0; i <= cpu && word; i++)
			word = strtok(NULL, " ");
		value = word ? strtoull(word, NULL, 10) : 0;
	}
	fclose(file);
	return value;
}

/* A signal of its own kind for every page fault of this process: those queue. */
static int count_faults(void)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes), .config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1, .wakeup_events = 1, .disabled = 1, .exclude_kernel = 1,
	};
	struct sigaction action = { .sa_handler = on_signal };
	int fd = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);

	if (fd < 0)
		fail("no perf event");
	if (sigaction(SIGRTMIN, &action, NULL) != 0 || fcntl(fd, F_SETFL, O_ASYNC) != 0 || fcntl(fd, F_SETSIG, SIGRTMIN) != 0 ||
	    fcntl(fd, F_SETOWN, getpid()) != 0)
		fail("no signal");
	return fd;
}

int main(int count, char **arguments)
{
	unsigned cpu = count > 2 ? (unsigned)atoi(arguments[1]) : 0, wanted = count > 2 ? (unsigned)atoi(arguments[2]) : 1000, late = 0, lost = 0;
	unsigned long long before, delta;
	uint64_t worst = 0;
	volatile char *memory;
	cpu_set_t cpus;
	int fd;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
		fail("no such CPU");
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("no memory");
	fd = count_faults();
	on_signal(0);
	came = 0;
	before = vectors(cpu);
	for (unsigned sent = 1; sent <= wanted; sent++) {
		uint64_t start;

		madvise((void *)memory, PAGE, MADV_DONTNEED);
		ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
		start = ticks();
		*memory = 1;
		if ((unsigned)came != sent - lost)
			late++;
		for (unsigned looks = 0; (unsigned)came != sent - lost && looks < LOOKS; looks++)
			;
		ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
		if ((unsigned)came != sent - lost)
			lost++;
		else if (came_at - start > worst)
			worst = came_at - start;
	}
	delta = vectors(cpu) - before;
	printf("{\"cpu\":%u,\"sent\":%u,\"came\":%u,\"late\":%u,\"lost\":%u,\"vectors\":%llu,\"worstTicks\":%llu}\n", cpu, wanted, (unsigned)came, late, lost, delta,
	       (unsigned long long)worst);
	return lost > 0;
}
