// SPDX-License-Identifier: MIT
/*
 * fill-memory MIB: writes to each cache line of that much memory, reads it back, and looks where it lies (/proc/self/pagemap): how much of it
 * in memory that joined this kernel after its boot, which /proc/iomem shows within what was reserved then. One line of JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tsc.h"

#define PAGE 4096u
#define LINE (64 / sizeof(uint64_t))
#define MAX_RANGES 64
#define PRESENT (1ull << 63)		/* of a pagemap entry; bits 0-54 are the frame's number */
#define FRAME ((1ull << 55) - 1)
#define MIX 0x9e3779b97f4a7c15ull

static struct { uint64_t start, end; } joined[MAX_RANGES];
static unsigned joined_count;

static void fail(const char *what)
{
	fprintf(stderr, "fill-memory: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void find_joined(void)
{
	FILE *map = fopen("/proc/iomem", "re");
	char line[256];

	while (map && joined_count < MAX_RANGES && fgets(line, sizeof(line), map)) {
		if (*line == ' ' && strstr(line, ": System RAM\n") &&
		    sscanf(line, " %" SCNx64 "-%" SCNx64, &joined[joined_count].start, &joined[joined_count].end) == 2)
			joined_count++;
	}
	if (!map)
		fail("/proc/iomem");
	fclose(map);
}

static bool has_joined(uint64_t address)
{
	for (unsigned i = 0; i < joined_count; i++)
		if (address >= joined[i].start && address <= joined[i].end)
			return true;
	return false;
}

/* How many bytes of a mapping lie in memory that has joined. */
static uint64_t count_joined(const uint8_t *memory, size_t size)
{
	static uint64_t entries[512];
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t bytes = 0;

	if (map < 0)
		fail("/proc/self/pagemap");
	for (size_t done = 0; done < size;) {
		off_t at = (off_t)(((uintptr_t)memory + done) / PAGE * sizeof(entries[0]));
		size_t want = (size - done) / PAGE * sizeof(entries[0]);
		ssize_t got = pread(map, entries, want < sizeof(entries) ? want : sizeof(entries), at);

		if (got <= 0)
			fail("/proc/self/pagemap");
		for (size_t i = 0; i < (size_t)got / sizeof(entries[0]); i++, done += PAGE)
			if (entries[i] & PRESENT && has_joined((entries[i] & FRAME) * PAGE))
				bytes += PAGE;
	}
	close(map);
	return bytes;
}

int main(int argc, char **argv)
{
	size_t size = (argc == 2 ? strtoull(argv[1], NULL, 10) : 0) << 20;
	uint64_t start = ticks(), sum = 0, expected = 0, value = MIX;
	uint64_t *memory;

	if (!size) {
		fprintf(stderr, "fill-memory MIB\n");
		return 2;
	}
	find_joined();
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("no memory");
	for (size_t i = 0; i < size / sizeof(*memory); i += LINE, value += MIX) {
		memory[i] = value;
		expected ^= value + i;
	}
	for (size_t i = 0; i < size / sizeof(*memory); i += LINE)
		sum ^= *(volatile uint64_t *)&memory[i] + i;
	printf("{\"bytes\":%zu,\"joined\":%" PRIu64 ",\"sum\":\"%016" PRIx64 "\",\"expected\":\"%016" PRIx64 "\",\"ticks\":%" PRIu64 "}\n",
	       size, count_joined((uint8_t *)memory, size), sum, expected, ticks() - start);
	return sum == expected ? 0 : 1;
}
