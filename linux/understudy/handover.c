// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * handover: the other instance has shut down, and this kernel takes what it held, by the hot-plug of its own:
 * memory in its blocks, CPUs and PCI functions. Every part is tried, whatever happens to the others.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "file.h"
#include "functions.h"
#include "given.h"
#include "names.h"
#include "say.h"
#include "verbs.h"

#define MEMORY "/sys/devices/system/memory"
#define PCI "/sys/bus/pci"

/* ---- memory --------------------------------------------------------------------- */

static bool has_block(uint64_t number)
{
	return exists(MEMORY "/memory%llu", (unsigned long long)number);
}

static bool join(int device, uint64_t base, uint64_t size)
{
	struct us_memory memory = { base, size };

	if (ioctl(device, US_IOC_JOIN, &memory) == 0)
		return true;
	complain("%s of memory at %#llx do not join: %s; the kernel log says why", size_text(size), (unsigned long long)base,
		 strerror(errno));
	return false;
}

/*
 * Linux adds memory in whole blocks. What lies before the first and after the last of a range stays out, and so
 * does a range that holds none: the firmware's edges, and what is beside the VMM.
 */
static bool join_range(int device, const struct us_memory_range *range)
{
	uint64_t block = block_size(), first = (range->base + block - 1) / block, end = (range->base + range->size) / block;
	bool all = true;

	while (first < end) {
		uint64_t last = first;

		while (last < end && !has_block(last))
			last++;
		if (last > first)
			all &= join(device, first * block, (last - first) * block);
		first = last + 1;
	}
	return all;
}

/* All that the VMM has granted to this instance and that is not among this kernel's memory blocks. */
static bool join_memory(int device)
{
	const struct us_status *status = get_status(device);
	const struct us_instance_status *own = &status->instance[status->own_instance - 1];
	bool all = true;

	for (unsigned i = 0; i < own->range_count; i++)
		all &= join_range(device, &own->range[i]);
	return all;
}

/* Movable, so that it can be given away again. Returns the number of blocks, or -1 after a line. */
static int online_blocks(void)
{
	struct dirent *entry;
	int joined = 0;
	bool all = true;
	DIR *directory = opendir(MEMORY);

	while (directory && (entry = readdir(directory))) {
		char state[32];
		unsigned block;
		int error;

		if (sscanf(entry->d_name, "memory%u", &block) != 1 ||
		    !read_line(state, sizeof(state), MEMORY "/%s/state", entry->d_name) || strcmp(state, "offline") != 0)
			continue;
		error = bring_block(block, "online_movable");
		if (error)
			complain("memory block %u stays offline: %s", block, strerror(error));
		else
			joined++;
		all &= error == 0;
	}
	if (directory)
		closedir(directory);
	return all ? joined : -1;
}

/* ---- CPUs and devices ----------------------------------------------------------- */

static bool online_all_cpus(void)
{
	char text[256];
	uint64_t missing;
	bool all = true;

	if (!read_line(text, sizeof(text), "/sys/devices/system/cpu/present")) {
		complain("/sys/devices/system/cpu/present: unreadable: mount /sys");
		return false;
	}
	missing = parse_list(text) & ~online_cpus();
	for (unsigned cpu = 0; cpu < 64; cpu++) {
		int error = missing >> cpu & 1 ? bring_cpu(cpu) : 0;

		if (error)
			complain("CPU %u stays offline: %s; the kernel log says why", cpu, strerror(error));
		all &= error == 0;
	}
	return all;
}

static unsigned count_functions(void)
{
	struct dirent *entry;
	unsigned count = 0;
	DIR *directory = opendir(PCI "/devices");

	while (directory && (entry = readdir(directory)))
		count += entry->d_name[0] != '.';
	if (directory)
		closedir(directory);
	return count;
}

/* ---- the verb ------------------------------------------------------------------- */

struct holdings { uint64_t memory; unsigned cpus, functions; };

static struct holdings count_holdings(void)
{
	return (struct holdings){
		.memory = memory_info("MemTotal"),
		.cpus = (unsigned)__builtin_popcountll(online_cpus()),
		.functions = count_functions(),
	};
}

static void report(const struct holdings *before, const struct holdings *now, bool complete, bool json)
{
	if (json) {
		json_open(NULL, '{');
		json_bool("complete", complete);
		json_number("memory_before", before->memory);
		json_number("memory", now->memory);
		json_number("cpus_before", before->cpus);
		json_number("cpus", now->cpus);
		json_number("functions_before", before->functions);
		json_number("functions", now->functions);
		json_close();
		return;
	}
	printf("memory  %s", size_text(before->memory));
	printf(" -> %s\n", size_text(now->memory));
	printf("CPUs    %u -> %u\n", before->cpus, now->cpus);
	printf("devices %u -> %u\n", before->functions, now->functions);
	puts(complete ? "handed over: this kernel holds the machine; understudy vanish lets the VMM out"
		      : "handed over in part: what is missing is said above; understudy handover tries again");
}

/* The number of another instance that runs; 0 if there is none. */
static unsigned other_running(int device)
{
	const struct us_status *status = get_status(device);
	unsigned found = 0;

	for (unsigned number = 1; number <= US_MAX_INSTANCES; number++)
		if (number != status->own_instance && status->instance[number - 1].state == US_INSTANCE_RUNNING)
			found = number;
	return found;
}

#define POLL_MICROSECONDS 200000
/* So often: a CPU that was shared has to leave an interrupt handler first. */
#define TRIES 10

static void take(int device, bool wait, const struct functions *hidden)
{
	enum us_error error = US_E_BUSY;
	unsigned number;

	while ((number = other_running(device)) && wait)
		usleep(POLL_MICROSECONDS);
	if (number)
		fail("instance %u still runs: shut it down first, or wait for it with --wait", number);
	for (unsigned i = 0; i < hidden->count; i++) {
		error = call(device, US_HC_HIDE, hidden->bdf[i], NULL, 0);
		if (error == US_E_FUNCTION)
			fail("nothing was handed over: --hide %s: there is no such device, or it is an instance's", function_name(hidden->bdf[i]));
		if (error)
			fail("nothing was handed over: --hide %s: %s", function_name(hidden->bdf[i]), error_text(error));
	}
	for (unsigned i = 0; i < TRIES && (error = call(device, US_HC_TAKE, 0, NULL, 0)) == US_E_BUSY; i++)
		usleep(POLL_MICROSECONDS);
	if (error)
		fail("nothing was handed over: %s", error_text(error));
}

int verb_handover(char **arguments)
{
	bool json = false, wait = false, complete;
	const char *hide = NULL;
	const struct option options[] = {
		{ "--json", NULL, &json }, { "--wait", NULL, &wait }, { "--hide", &hide, NULL }, { NULL, NULL, NULL },
	};
	struct functions hidden;
	struct holdings before, now;
	int device;

	parse_arguments("handover", arguments, options, NULL);
	hidden = parse_functions("--hide", hide);
	device = open_captured();
	before = count_holdings();
	take(device, wait, &hidden);
	complete = join_memory(device);
	complete &= online_blocks() >= 0;
	complete &= online_all_cpus();
	complete &= rescan_functions();
	now = count_holdings();
	report(&before, &now, complete, json);
	return complete ? 0 : 1;
}
