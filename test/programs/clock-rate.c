// SPDX-License-Identifier: MIT
/*
 * clock-rate MILLISECONDS: how fast this kernel's clock goes by the machine's own, ACPI's power management timer, whose
 * port nobody stands before. After so long one line of JSON: by how many parts in a million the kernel's clock is ahead,
 * and by how many that may be wrong. Whoever else runs between two looks only makes them worse: the best of many counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

#define FADT "/sys/firmware/acpi/tables/FACP"
/* ACPI 6.5, table 5.9 (PM_TMR_BLK) and section 4.8.3.3: 24 bits at least, of which all timers have those. */
#define FADT_PM_TIMER 76
#define PM_TIMER_HZ 3579545ull
#define PM_TIMER_MASK 0xffffffu
#define LOOKS 2000
#define SECOND 1000000000ull

struct look {
	uint64_t from, to;	/* nanoseconds of the kernel's clock, around the timer's */
	uint32_t timer;
};

static void fail(const char *what)
{
	fprintf(stderr, "clock-rate: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static uint16_t timer_port(void)
{
	uint32_t port;
	int table = open(FADT, O_RDONLY);

	if (table < 0 || pread(table, &port, sizeof(port), FADT_PM_TIMER) != sizeof(port))
		fail(FADT);
	close(table);
	if (port == 0 || port > UINT16_MAX || ioperm(port, sizeof(port), 1) != 0)
		fail("no power management timer");
	return (uint16_t)port;
}

static struct look look(uint16_t port)
{
	struct look best = { .to = UINT64_MAX };

	for (int i = 0; i < LOOKS; i++) {
		struct look one = { .from = now() };

		one.timer = inl(port) & PM_TIMER_MASK;
		one.to = now();
		if (one.to - one.from < best.to - best.from)
			best = one;
	}
	return best;
}

int main(int count, char **arguments)
{
	uint64_t duration = count > 1 ? strtoull(arguments[1], NULL, 10) : 1000, passed;
	uint16_t port = timer_port();
	struct look first, last;
	double elapsed, expected, period = (double)(PM_TIMER_MASK + 1) / PM_TIMER_HZ, real;

	first = look(port);
	usleep((useconds_t)(duration * 1000));
	last = look(port);
	elapsed = ((double)(last.from + last.to) - (double)(first.from + first.to)) / 2 / SECOND;
	passed = (last.timer - first.timer) & PM_TIMER_MASK;
	/* The timer has gone round every 4.7 s: as often as is nearest to what the kernel says. */
	expected = (double)passed / PM_TIMER_HZ;
	real = expected + period * (double)(int64_t)((elapsed - expected) / period + 0.5);
	printf("{\"seconds\":%.3f,\"aheadPpm\":%.2f,\"errorPpm\":%.2f}\n", real, (elapsed / real - 1) * 1e6,
	       ((double)(first.to - first.from + last.to - last.from) / 2 / SECOND + 1.0 / PM_TIMER_HZ) / real * 1e6);
	return 0;
}
