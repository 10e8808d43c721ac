// SPDX-License-Identifier: MIT
/*
 * workload RUNS: the same work again and again: starts programs, which compute checksums of a file, and walks through
 * memory in an order that no cache or prefetcher likes. One line of JSON: how many ticks each run took, and a checksum
 * of all results, so that they can be compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tsc.h"

#define PROGRAMS 12
#define FILE_BYTES (256 * 1024)
#define WALK_SLOTS (1u << 20)
#define WALK_STEPS 1500000u
#define FNV 0x100000001b3ull

static char file_name[] = "/tmp/workload.XXXXXX";
static uint32_t *next;

static void fail(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void make_file(void)
{
	static uint32_t content[FILE_BYTES / 4];
	int file = mkstemp(file_name);
	uint32_t value = 1;

	for (size_t i = 0; i < FILE_BYTES / 4; i++)
		content[i] = value = value * 1664525 + 1013904223;
	if (file < 0 || write(file, content, FILE_BYTES) != FILE_BYTES)
		fail(file_name);
	close(file);
}

/* A full cycle through all slots: an LCG modulo a power of two visits each once. */
static void make_walk(void)
{
	next = mmap(NULL, WALK_SLOTS * sizeof(*next), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (next == MAP_FAILED)
		fail("no memory");
	for (uint32_t i = 0; i < WALK_SLOTS; i++)
		next[i] = (i * 1664525 + 1013904223) & (WALK_SLOTS - 1);
}

static uint64_t mix(uint64_t sum, const void *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		sum = (sum ^ ((const uint8_t *)data)[i]) * FNV;
	return sum;
}

/* md5sum of the file, in a process of its own. */
static uint64_t run_program(uint64_t sum)
{
	char answer[64];
	ssize_t length;
	int ends[2], status;
	pid_t child;

	if (pipe(ends) != 0 || (child = fork()) < 0)
		fail("no process");
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		execlp("md5sum", "md5sum", file_name, NULL);
		_exit(127);
	}
	close(ends[1]);
	length = read(ends[0], answer, sizeof(answer));
	close(ends[0]);
	if (waitpid(child, &status, 0) != child || status != 0 || length < 32)
		fail("md5sum");
	return mix(sum, answer, 32);
}

static uint64_t run(uint64_t sum)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < PROGRAMS; i++)
		sum = run_program(sum);
	for (unsigned i = 0; i < WALK_STEPS; i++) {
		at = next[at];
		sum += at;
	}
	return sum;
}

int main(int argc, char **argv)
{
	int runs = argc == 2 ? atoi(argv[1]) : 0;
	uint64_t sum = 0;

	if (runs < 1) {
		fprintf(stderr, "workload RUNS\n");
		return 2;
	}
	make_file();
	make_walk();
	printf("{\"ticks\":[");
	for (int i = 0; i < runs; i++) {
		uint64_t start = ticks();

		/* Each run alike, whatever the ones before it gave. */
		sum = run(FNV);
		printf("%s%llu", i ? "," : "", (unsigned long long)(ticks() - start));
	}
	printf("],\"sum\":\"%016llx\"}\n", (unsigned long long)sum);
	unlink(file_name);
	return 0;
}
