// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * handover: the other instance has shut down, and this kernel takes what it held, by the hot-plug of its own:
 * memory that it has seen as soft reserved since its boot comes as DAX devices, which kmem turns into memory
 * blocks; CPUs and PCI functions as hot-plug does anywhere. Every part is tried, whatever happens to the others.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "file.h"
#include "functions.h"
#include "given.h"
#include "say.h"
#include "verbs.h"

#define DAX "/sys/bus/dax"
#define MEMORY "/sys/devices/system/memory"
#define PCI "/sys/bus/pci"

/* ---- memory --------------------------------------------------------------------- */

static bool need_module(const char *name)
{
	int error = load_module(name);

	if (error)
		complain("%s does not load, and without it no memory joins: %s", name, strerror(error));
	return error == 0;
}

/* The driver of a DAX device, "" for none. */
static void driver_of(const char *device, char *driver, size_t size)
{
	char path[300], target[300];
	ssize_t length;

	snprintf(path, sizeof(path), DAX "/devices/%s/driver", device);
	length = readlink(path, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	snprintf(driver, size, "%s", strrchr(target, '/') ? strrchr(target, '/') + 1 : "");
}

/*
 * Only what the firmware, here the VMM, has reserved for a purpose: other DAX devices, such as persistent memory
 * in devdax mode, hold their owner's data.
 */
static bool is_soft_reserved(const char *device)
{
	char path[300], target[PATH_MAX];

	snprintf(path, sizeof(path), DAX "/devices/%s", device);
	return realpath(path, target) && strstr(target, "/hmem.");
}

/*
 * Linux adds memory in whole blocks. What lies before the first and after the last of a range stays out, and so
 * does a range that holds none: the firmware's edges, and what is beside the VMM.
 */
static bool holds_whole_block(const char *device)
{
	uint64_t block = block_size(), start, size;
	char text[32];

	if (!read_line(text, sizeof(text), DAX "/devices/%s/resource", device))
		return true;
	start = strtoull(text, NULL, 0);
	if (!read_line(text, sizeof(text), DAX "/devices/%s/size", device))
		return true;
	size = strtoull(text, NULL, 0);
	return (start + block - 1) / block * block + block <= start + size;
}

/* Older kernels give a DAX device to device_dax and want to be told by new_id; newer ones give it to kmem at once. */
static bool give_to_kmem(const char *device)
{
	char driver[64];
	int error = 0;

	driver_of(device, driver, sizeof(driver));
	if (strcmp(driver, "kmem") == 0)
		return true;
	if (*driver)
		error = write_line(device, DAX "/drivers/%s/unbind", driver);
	if (error) {
		complain("%s stays with %s: %s", device, driver, strerror(error));
		return false;
	}
	/* new_id binds by itself where it exists; whether either did is told by the driver, not by their results. */
	write_line(device, DAX "/drivers/kmem/new_id");
	driver_of(device, driver, sizeof(driver));
	if (strcmp(driver, "kmem") != 0)
		error = write_line(device, DAX "/drivers/kmem/bind");
	driver_of(device, driver, sizeof(driver));
	if (strcmp(driver, "kmem") == 0)
		return true;
	complain("%s does not become memory: %s; the kernel log says why", device, strerror(error));
	return false;
}

static bool add_dax_memory(void)
{
	struct dirent *entry;
	unsigned found = 0;
	bool all = true;
	DIR *directory;

	if (!need_module("dax_hmem") || !need_module("kmem"))
		return false;
	directory = opendir(DAX "/devices");
	while (directory && (entry = readdir(directory))) {
		if (strncmp(entry->d_name, "dax", 3) != 0 || !is_soft_reserved(entry->d_name))
			continue;
		found++;
		if (!holds_whole_block(entry->d_name))
			continue;
		all &= give_to_kmem(entry->d_name);
	}
	if (directory)
		closedir(directory);
	if (!found)
		complain("no memory joins: this kernel was not told of any at its boot (no soft-reserved range in /proc/iomem)");
	return all && found;
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

static void take(int device, bool wait)
{
	enum us_error error;
	unsigned number;

	while ((number = other_running(device)) && wait)
		usleep(POLL_MICROSECONDS);
	if (number)
		fail("instance %u still runs: shut it down first, or wait for it with --wait", number);
	error = call(device, US_HC_TAKE, 0, NULL, 0);
	if (error)
		fail("nothing was handed over: %s", error_text(error));
}

int verb_handover(char **arguments)
{
	bool json = false, wait = false, complete;
	const struct option options[] = { { "--json", NULL, &json }, { "--wait", NULL, &wait }, { NULL, NULL, NULL } };
	struct holdings before, now;
	int device;

	parse_arguments("handover", arguments, options, NULL);
	device = open_captured();
	before = count_holdings();
	take(device, wait);
	complete = add_dax_memory();
	complete &= online_blocks() >= 0;
	complete &= online_all_cpus();
	complete &= rescan_functions();
	now = count_holdings();
	report(&before, &now, complete, json);
	return complete ? 0 : 1;
}
