// SPDX-License-Identifier: MIT OR GPL-2.0
#include "given.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "functions.h"
#include "say.h"

#define MEMORY "/sys/devices/system/memory"
#define CPU "/sys/devices/system/cpu"
#define NOTES "/run/understudy"
#define MAX_BLOCKS 65536

/* The kernel goes on trying to empty a block for ever; after this long it is told to stop. */
#define OFFLINE_SECONDS 60
/* Besides what is given away, so that emptying the blocks does not push this kernel out of memory. */
#define MEMORY_MARGIN (32ull << 20)

volatile bool interrupted;

static void on_signal(int signal)
{
	if (signal != SIGALRM)
		interrupted = true;
}

void interrupts_wait(void)
{
	/* Without SA_RESTART, so that a write to /sys that takes too long returns. */
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
}

/* ---- CPUs ----------------------------------------------------------------------- */

uint64_t online_cpus(void)
{
	char text[256];

	if (!read_line(text, sizeof(text), CPU "/online"))
		fail(CPU "/online: unreadable: mount /sys");
	return parse_list(text);
}

int bring_cpu(unsigned cpu)
{
	return write_line("1", CPU "/cpu%u/online", cpu);
}

static bool take_back_cpus(uint64_t cpus)
{
	bool all = true;

	for (unsigned cpu = 0; cpu < 64; cpu++) {
		int error = cpus >> cpu & 1 ? bring_cpu(cpu) : 0;

		if (error) {
			complain("CPU %u stays offline: %s; try echo 1 > " CPU "/cpu%u/online", cpu, strerror(error), cpu);
			all = false;
		}
	}
	return all;
}

bool give_cpus(struct given *given, unsigned count, uint64_t kept)
{
	uint64_t online = online_cpus();
	unsigned cpu = 64;

	given->cpus = 0;
	while (count && cpu-- > 1) {
		int error;

		if (!((online & ~kept) >> cpu & 1))
			continue;
		error = interrupted ? EINTR : write_line("0", CPU "/cpu%u/online", cpu);
		if (error) {
			complain("CPU %u does not go offline: %s", cpu, strerror(error));
			break;
		}
		given->cpus |= 1ull << cpu;
		count--;
	}
	if (count == 0)
		return true;
	if (cpu == 0)
		complain("%u CPUs too few: CPU %s stays with this kernel", count, list_text(kept | 1));
	take_back_cpus(given->cpus);
	given->cpus = 0;
	return false;
}

/* ---- memory --------------------------------------------------------------------- */

uint64_t block_size(void)
{
	uint64_t size;

	if (!read_number(&size, 16, MEMORY "/block_size_bytes") || size == 0)
		fail(MEMORY "/block_size_bytes: unreadable: this kernel has no memory hot-plug");
	return size;
}

int bring_block(unsigned block, const char *how)
{
	return write_line(how, MEMORY "/memory%u/state", block);
}

static bool is_online(unsigned block)
{
	char state[32];

	return read_line(state, sizeof(state), MEMORY "/memory%u/state", block) && strcmp(state, "online") == 0;
}

static int take_offline(unsigned block)
{
	int error = EBUSY;

	/* Pages that are only just in use make the first attempt fail now and then. */
	for (unsigned attempt = 0; attempt < 2 && error == EBUSY && !interrupted; attempt++) {
		alarm(OFFLINE_SECONDS);
		error = write_line("offline", MEMORY "/memory%u/state", block);
		alarm(0);
	}
	return interrupted ? EINTR : error;
}

static bool take_back_blocks(unsigned first, unsigned count)
{
	bool all = true;

	for (unsigned block = first; block < first + count; block++) {
		int error = is_online(block) ? 0 : bring_block(block, "online");

		if (error) {
			complain("memory block %u stays offline: %s; try echo online > " MEMORY "/memory%u/state", block,
				 strerror(error), block);
			all = false;
		}
	}
	return all;
}

static unsigned highest_block(void)
{
	unsigned highest = 0, block;
	struct dirent *entry;
	DIR *directory = opendir(MEMORY);

	while (directory && (entry = readdir(directory)))
		if (sscanf(entry->d_name, "memory%u", &block) == 1 && block > highest && block < MAX_BLOCKS)
			highest = block;
	if (directory)
		closedir(directory);
	return highest;
}

/*
 * Down from the top, where this kernel's own unmovable pages are rarest. A run that meets a block which refuses
 * is given back, and the search goes on below that block.
 */
bool give_memory(struct given *given, uint64_t size)
{
	unsigned need = (unsigned)((size + block_size() - 1) / block_size());
	unsigned refused = 0, have = 0, first = 0;
	uint64_t available = memory_info("MemAvailable");

	if (available < need * block_size() + MEMORY_MARGIN) {
		char wanted[32];

		snprintf(wanted, sizeof(wanted), "%s", size_text(need * block_size()));
		complain("%s can't be given away: only %s are available; free memory or ask for less", wanted, size_text(available));
		return false;
	}
	for (unsigned block = highest_block() + 1; block-- > 0 && have < need && !interrupted;) {
		int error = is_online(block) ? take_offline(block) : ENOENT;

		if (!error) {
			first = block;
			have++;
			continue;
		}
		refused += error != ENOENT;
		take_back_blocks(first, have);
		have = 0;
	}
	if (have == need) {
		given->first_block = first;
		given->blocks = need;
		return true;
	}
	take_back_blocks(first, have);
	if (interrupted)
		complain("interrupted: memory and CPUs come back");
	else
		complain("no %u neighbouring memory blocks of %s go offline (%u refused): ask for less, or boot this kernel with movable_node or movablecore",
			 need, size_text(block_size()), refused);
	return false;
}

/* ---- all of it ------------------------------------------------------------------ */

bool take_back(const struct given *given)
{
	bool blocks = take_back_blocks(given->first_block, given->blocks);
	bool cpus = take_back_cpus(given->cpus & ~online_cpus());
	bool devices = given->devices == 0 || rescan_functions();

	return blocks && cpus && devices;
}

bool note_given(unsigned instance, const struct given *given)
{
	char path[64];
	FILE *file;

	mkdir("/run", 0755);
	mkdir(NOTES, 0700);
	snprintf(path, sizeof(path), NOTES "/%u", instance);
	file = fopen(path, "we");
	if (!file || fprintf(file, "cpus %#llx\nfirst_block %u\nblocks %u\ndevices %u\n", (unsigned long long)given->cpus,
			     given->first_block, given->blocks, given->devices) < 0 || fclose(file) != 0) {
		complain("%s: %s", path, strerror(errno));
		return false;
	}
	return true;
}

bool recall_given(unsigned instance, struct given *given)
{
	char path[64];
	unsigned long long cpus;
	bool read;
	FILE *file;

	snprintf(path, sizeof(path), NOTES "/%u", instance);
	file = fopen(path, "re");
	if (!file)
		return false;
	read = fscanf(file, "cpus %llx first_block %u blocks %u devices %u", &cpus, &given->first_block, &given->blocks,
		      &given->devices) == 4;
	given->cpus = cpus;
	fclose(file);
	return read;
}

void forget_given(unsigned instance)
{
	char path[64];

	snprintf(path, sizeof(path), NOTES "/%u", instance);
	unlink(path);
}
