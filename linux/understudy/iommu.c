// SPDX-License-Identifier: MIT OR GPL-2.0
#include "iommu.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

#define TABLES "/sys/firmware/acpi/tables/"
/* Both tables: header and a few fields, then structures with their own lengths. */
#define FIRST_STRUCTURE 48
#define MAX_UNITS 16
/* Pages that the VMM has for what its units read beside page tables (vmm-src/devices/iommu/tables.ts). */
#define PAGES 64

const char *limit_text(const char *limit)
{
	static const struct { const char *limit, *text; } texts[] = {
		{ "segment", "it is for a PCI segment other than 0" },
		{ "registers", "it has more than a page of registers" },
		{ "units", "there are more than 16 units" },
		{ "large-pages", "it has no pages of 2 MiB and 1 GiB" },
		{ "queue", "it has no queued invalidation" },
		{ "scalable", "this kernel may use its scalable mode, but not with intel_iommu=sm_off" },
		{ "invalidate-all", "it can't be told to forget everything" },
		{ "buses", "there are more PCI buses than the VMM has tables for" },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(texts[i].limit, limit) == 0)
			return texts[i].text;
	return NULL;
}

const char *iommu_kind(void)
{
	return exists(TABLES "DMAR") ? "vt-d" : exists(TABLES "IVRS") ? "amd-vi" : "none";
}

/* ---- what ACPI says ------------------------------------------------------------- */

static uint64_t number_at(const struct file *table, size_t at, unsigned size)
{
	uint64_t value = 0;

	if (at + size <= table->size)
		memcpy(&value, table->data + at, size);
	return value;
}

struct units { unsigned count; uint64_t base[MAX_UNITS]; const char *limit; };

static void add_unit(struct units *units, uint64_t base)
{
	/* IVRS names a unit several times. */
	for (unsigned i = 0; i < units->count; i++)
		if (units->base[i] == base)
			return;
	if (units->count == MAX_UNITS)
		units->limit = "units";
	else
		units->base[units->count++] = base;
}

/* VT-d 4.1, 8.3: remapping hardware unit definitions. */
static void read_dmar_unit(const struct file *table, size_t at, struct units *units)
{
	if (number_at(table, at, 2) != 0)
		return;
	if (number_at(table, at + 6, 2) != 0)
		units->limit = "segment";
	else if (number_at(table, at + 5, 1) & 15)
		units->limit = "registers";
	else
		add_unit(units, number_at(table, at + 8, 8));
}

/* AMD I/O virtualization 3.08, 5.2.2: hardware definition blocks of three revisions. */
static void read_ivrs_unit(const struct file *table, size_t at, struct units *units)
{
	uint64_t type = number_at(table, at, 1);

	if (type != 0x10 && type != 0x11 && type != 0x40)
		return;
	if (number_at(table, at + 16, 2) != 0)
		units->limit = "segment";
	else
		add_unit(units, number_at(table, at + 8, 8));
}

static struct units read_units(bool intel)
{
	struct file table = read_file("check", intel ? TABLES "DMAR" : TABLES "IVRS");
	struct units units = { 0 };

	for (size_t at = FIRST_STRUCTURE, length; at + 16 <= table.size; at += length) {
		length = number_at(&table, at + 2, 2);
		if (length < 4)
			break;
		if (intel)
			read_dmar_unit(&table, at, &units);
		else
			read_ivrs_unit(&table, at, &units);
	}
	free_file(&table);
	return units;
}

/* ---- what the kernel says ------------------------------------------------------- */

/* Buses with a function on them, and the highest of them. */
static unsigned count_buses(unsigned *last)
{
	bool used[256] = { false };
	unsigned count = 0, segment, bus;
	DIR *devices = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	*last = 0;
	while (devices && (entry = readdir(devices)))
		if (sscanf(entry->d_name, "%x:%x", &segment, &bus) == 2 && segment == 0 && bus < 256)
			used[bus] = true;
	if (devices)
		closedir(devices);
	for (bus = 0; bus < 256; bus++)
		if (used[bus])
			count++, *last = bus;
	return count;
}

/* The kernel chooses scalable mode where all units have it, unless it is told not to. */
static bool wants_scalable(void)
{
	char line[4096];

	return !read_line(line, sizeof(line), "/proc/cmdline") || !strstr(line, "sm_off");
}

/* Of registers that the kernel shows if it drives the unit. */
static const char *vtd_limit(const char *unit)
{
	uint64_t capability, extended;

	if (!read_number(&capability, 16, "/sys/class/iommu/%s/intel-iommu/cap", unit) ||
	    !read_number(&extended, 16, "/sys/class/iommu/%s/intel-iommu/ecap", unit))
		return NULL;
	if ((capability >> 34 & 3) != 3)
		return "large-pages";
	if (!(extended >> 1 & 1))
		return "queue";
	return extended >> 43 & 1 && wants_scalable() ? "scalable" : NULL;
}

static const char *amd_limit(const char *unit)
{
	char features[64], *last;

	if (!read_line(features, sizeof(features), "/sys/class/iommu/%s/amd-iommu/features", unit))
		return NULL;
	/* Two registers, newer kernels say, the second first. */
	last = strrchr(features, ':');
	return strtoull(last ? last + 1 : features, NULL, 16) >> 6 & 1 ? NULL : "invalidate-all";
}

static const char *driven_limit(bool intel)
{
	DIR *units = opendir("/sys/class/iommu");
	const char *limit = NULL;
	struct dirent *entry;

	while (units && !limit && (entry = readdir(units)))
		if (entry->d_name[0] != '.')
			limit = intel ? vtd_limit(entry->d_name) : amd_limit(entry->d_name);
	if (units)
		closedir(units);
	return limit;
}

/* VT-d: a root table, and tables and queues by bus and unit. AMD: 8 KiB of one table for each bus up to the last, and two rings by unit. */
static bool has_tables(bool intel, unsigned units)
{
	unsigned last, buses = count_buses(&last);

	return intel ? 1 + units + buses <= PAGES : 2 * (last + 1) + 2 * units <= PAGES;
}

const char *iommu_limit(void)
{
	bool intel = strcmp(iommu_kind(), "vt-d") == 0;
	struct units units;
	const char *limit;

	if (strcmp(iommu_kind(), "none") == 0)
		return NULL;
	units = read_units(intel);
	limit = units.limit ? units.limit : driven_limit(intel);
	return limit || has_tables(intel, units.count) ? limit : "buses";
}
