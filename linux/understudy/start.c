// SPDX-License-Identifier: MIT OR GPL-2.0
/* start: slips the VMM beneath this kernel, on all of its CPUs. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "args.h"
#include "check.h"
#include "cpuid.h"
#include "device.h"
#include "file.h"
#include "pauses.h"
#include "say.h"
#include "verbs.h"

#define VMX_IMAGE "/lib/understudy/vmm-vmx.img"
#define SVM_IMAGE "/lib/understudy/vmm-svm.img"
#define MEMORY_MAP "/sys/firmware/memmap"
#define MAX_ENTRIES 512
#define E820_RAM 1

/* ---- the firmware's memory map -------------------------------------------------- */

/* As the kernel writes E820 types; whatever else it says is nothing to use. */
static uint32_t e820_type(const char *text)
{
	static const struct { const char *text; uint32_t type; } types[] = {
		{ "System RAM", E820_RAM },
		{ "ACPI Tables", 3 },
		{ "ACPI Non-volatile Storage", 4 },
		{ "Unusable memory", 5 },
		{ "Persistent Memory", 7 },
		{ "Persistent Memory (legacy)", 12 },
		{ "Soft Reserved", 0xefffffff },
	};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(text, types[i].text) == 0)
			return types[i].type;
	return 2;
}

static int by_base(const void *a, const void *b)
{
	const struct us_memory_range *one = a, *other = b;

	return one->base < other->base ? -1 : one->base > other->base;
}

/* Memory that joined a running kernel is listed beside the reserved range in which it lies: what is RAM wins. */
static void cut_out_ram(struct us_memory_range *all, unsigned *count)
{
	for (unsigned i = 0; i < *count; i++) {
		for (unsigned j = 0; j < *count && all[i].type != E820_RAM; j++) {
			struct us_memory_range *range = &all[i], *ram = &all[j];
			uint64_t end = range->base + range->size, ram_end = ram->base + ram->size;

			if (ram->type != E820_RAM || ram_end <= range->base || ram->base >= end)
				continue;
			if (ram_end < end && *count < MAX_ENTRIES)
				all[(*count)++] = (struct us_memory_range){ ram_end, end - ram_end, range->type, 0 };
			range->size = ram->base > range->base ? ram->base - range->base : 0;
		}
	}
}

/* Returns the number of ranges, neighbours of a type joined. */
static unsigned read_memory_map(struct us_memory_range *ranges)
{
	static struct us_memory_range all[MAX_ENTRIES];
	unsigned count = 0, joined = 0;
	struct dirent *entry;
	DIR *directory = opendir(MEMORY_MAP);

	while (directory && (entry = readdir(directory))) {
		uint64_t start, end;
		char type[64];

		if (entry->d_name[0] == '.' || count == MAX_ENTRIES)
			continue;
		if (!read_number(&start, 0, MEMORY_MAP "/%s/start", entry->d_name) ||
		    !read_number(&end, 0, MEMORY_MAP "/%s/end", entry->d_name) ||
		    !read_line(type, sizeof(type), MEMORY_MAP "/%s/type", entry->d_name))
			fail("%s/%s: unreadable", MEMORY_MAP, entry->d_name);
		all[count++] = (struct us_memory_range){ start, end - start + 1, e820_type(type), 0 };
	}
	if (directory)
		closedir(directory);
	if (count == 0)
		fail("%s is empty: the kernel must tell the firmware's memory map (CONFIG_FIRMWARE_MEMMAP)", MEMORY_MAP);
	cut_out_ram(all, &count);
	qsort(all, count, sizeof(all[0]), by_base);
	for (unsigned i = 0; i < count; i++) {
		struct us_memory_range *last = joined ? &ranges[joined - 1] : NULL;

		if (all[i].size == 0)
			continue;
		if (last && last->base + last->size == all[i].base && last->type == all[i].type)
			last->size += all[i].size;
		else if (joined == US_MAX_RANGES)
			fail("%s: more than %u ranges", MEMORY_MAP, US_MAX_RANGES);
		else
			ranges[joined++] = all[i];
	}
	return joined;
}

/* UEFI says where the ACPI tables begin; 0 means a BIOS, where the VMM searches. */
static uint64_t find_rsdp(void)
{
	char line[128];
	uint64_t rsdp = 0;
	FILE *file = fopen("/sys/firmware/efi/systab", "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "ACPI20=", 7) == 0)
			rsdp = strtoull(line + 7, NULL, 0);
		else if (strncmp(line, "ACPI=", 5) == 0 && rsdp == 0)
			rsdp = strtoull(line + 5, NULL, 0);
	}
	if (file)
		fclose(file);
	return rsdp;
}

/* The VMM is built for each kind of processor. */
static const char *default_image(void)
{
	return shows_svm() ? SVM_IMAGE : VMX_IMAGE;
}

/* ---- the verb ------------------------------------------------------------------- */

static const char *start_error(int error)
{
	switch (error) {
	case EALREADY: return "a VMM is beneath this kernel already: see understudy status";
	case ENODEV: return "the CPU lacks something that the VMM needs: see understudy check";
	case EOPNOTSUPP: return "memory encryption is on, or 1 GiB pages are missing: see understudy check";
	case E2BIG: return "this machine has too many CPUs";
	case EBUSY: return "VT-x or AMD-V is in use: stop KVM's guests and unload kvm_intel or kvm_amd";
	case ENOEXEC: return "the image is not a VMM";
	case EPROTO: return "image and module differ in version: install matching ones";
	case EINVAL: return "the image's header makes no sense: reinstall it";
	case EBADMSG: return "the image is damaged (wrong checksum): reinstall it";
	case EFBIG: return "the image is too large";
	case ENOMEM: return "no contiguous memory for the VMM: try echo 1 > /proc/sys/vm/compact_memory";
	case EIO: return "a CPU did not take an instruction of VT-x or AMD-V: the kernel log says where";
	default: return strerror(error);
	}
}

static void report(const struct us_pauses *pauses, bool json)
{
	if (json) {
		json_open(NULL, '{');
		json_text("state", "captured");
		json_address("region_base", pauses->region_base);
		json_number("region_size", pauses->region_size);
		json_address("annex_base", pauses->annex_base);
		json_number("annex_size", pauses->annex_size);
		json_number("tsc_khz", pauses->tsc_khz);
		json_open("cpus", '[');
	} else {
		printf("captured: the VMM is beneath this kernel, in %s at %#llx", size_text(pauses->region_size + pauses->annex_size),
		       (unsigned long long)pauses->region_base);
		if (pauses->annex_size)
			printf(" and %#llx", (unsigned long long)pauses->annex_base);
		printf("\n");
	}
	report_pauses("capture_ticks", pauses->capture_ticks, pauses, json);
	if (json) {
		json_close();
		json_close();
	}
}

int verb_start(char **arguments)
{
	static struct us_memory_range ranges[US_MAX_RANGES];
	const char *path = NULL;
	bool json = false;
	const struct option options[] = { { "--image", &path, NULL }, { "--json", NULL, &json }, { NULL, NULL, NULL } };
	struct us_start start;
	struct file image;
	int device;

	parse_arguments("start", arguments, options, NULL);
	if (!path)
		path = default_image();
	image = read_file("image", path);
	if (image.size < sizeof(struct us_image_header) || ((struct us_image_header *)image.data)->magic != US_IMAGE_MAGIC)
		fail("image %s: not a VMM", path);
	require_ready();
	device = open_device();
	start = (struct us_start){
		.image = (uintptr_t)image.data,
		.image_size = image.size,
		.ranges = (uintptr_t)ranges,
		.range_count = read_memory_map(ranges),
		.rsdp = find_rsdp(),
	};
	if (ioctl(device, US_IOC_START, &start) != 0)
		fail("not captured: %s", start_error(errno));
	/* With the first look the VMM takes note of the devices that are there: what comes later is shielded. */
	get_status(device);
	report(get_pauses(device), json);
	return 0;
}
