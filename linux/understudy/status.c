// SPDX-License-Identifier: MIT OR GPL-2.0
/* status: who holds what, and what it costs. */
#include <stdio.h>
#include <string.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "file.h"
#include "names.h"
#include "parts.h"
#include "say.h"
#include "verbs.h"

#define SHOWN_REASONS 4

static uint64_t memory_of(const struct us_instance_status *instance)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < instance->range_count && i < US_MAX_RANGES; i++)
		size += instance->range[i].size;
	return size;
}

static uint64_t exits_of(const struct us_instance_status *instance)
{
	uint64_t count = 0;

	for (unsigned reason = 0; reason < US_EXIT_REASONS; reason++)
		count += instance->exits[reason];
	return count;
}

/* ---- for people ----------------------------------------------------------------- */

/* "183 exits (CPUID 180, VMCALL 3)": the most frequent first. */
static void print_exits(const struct us_instance_status *instance)
{
	uint64_t left[US_EXIT_REASONS];

	memcpy(left, instance->exits, sizeof(left));
	printf("           %llu exits", (unsigned long long)exits_of(instance));
	for (unsigned shown = 0; shown < SHOWN_REASONS; shown++) {
		unsigned most = 0;

		for (unsigned reason = 1; reason < US_EXIT_REASONS; reason++)
			if (left[reason] > left[most])
				most = reason;
		if (left[most] == 0) {
			if (shown)
				printf(")");
			printf("\n");
			return;
		}
		printf("%s%s %llu", shown ? ", " : " (", exit_reason_name(most), (unsigned long long)left[most]);
		left[most] = 0;
	}
	for (unsigned reason = 0; reason < US_EXIT_REASONS; reason++) {
		if (left[reason]) {
			printf(", ...");
			break;
		}
	}
	printf(")\n");
}

static void print_trapped(const struct us_status *status)
{
	printf("           still trapped: %s\n", parts_text(status->still_trapped));
	if (!(status->still_trapped & US_TRAPPED_PROCESSOR))
		printf("           exits as long as the VMM is there: %s\n", unconditional_text(status));
	if (!(status->still_trapped & US_TRAPPED_DMA))
		printf("           not enforced: what devices reach by DMA\n");
}

/* Whether its CPUs or some of them are shared, it is a holder or a tenant. */
static bool shares(const struct us_status *status, const struct us_instance_status *instance)
{
	uint64_t shared = 0;

	for (unsigned i = 0; i < US_MAX_INSTANCES; i++)
		shared |= status->instance[i].share_mask;
	return instance->share_mask || (instance->cpu_mask & shared);
}

static void print_share(const struct us_status *status, const struct us_instance_status *instance)
{
	if (!shares(status, instance))
		return;
	printf("           %s%s, weight %u%s; ran %.1f ms there, waited %.3f ms at most\n",
	       instance->share_mask ? "by turns on CPU " : "shares its CPUs",
	       instance->share_mask ? list_text(instance->share_mask) : "", instance->weight, instance->paused ? ", paused" : "",
	       milliseconds(instance->ran, status->tsc_khz), milliseconds(instance->worst_wait, status->tsc_khz));
}

static void print_instance(const struct us_status *status, unsigned number)
{
	const struct us_instance_status *instance = &status->instance[number - 1];
	bool own = number == status->own_instance;
	uint64_t end = instance->state == US_INSTANCE_STOPPED ? instance->stop_tick : status->now;

	if (instance->state == US_INSTANCE_NONE)
		return;
	printf("instance %u %s%s; CPUs %s; %s; for %.1f s\n", number, instance_state_name(instance->state), own ? " (this one)" : "",
	       instance->cpu_mask ? list_text(instance->cpu_mask) : "none", size_text(memory_of(instance)),
	       milliseconds(end - instance->start_tick, status->tsc_khz) / 1000);
	print_share(status, instance);
	print_exits(instance);
	if (own)
		print_trapped(status);
}

static void print_status(const struct us_status *status)
{
	printf("VMM        in %s at %#llx", size_text(status->region_size + status->annex_size), (unsigned long long)status->region_base);
	if (status->annex_size)
		printf(" and %#llx", (unsigned long long)status->annex_base);
	printf(", beneath %u CPUs\n", status->cpu_count);
	for (unsigned number = 1; number <= US_MAX_INSTANCES; number++)
		print_instance(status, number);
	for (unsigned cpu = 0; cpu < status->cpu_count && cpu < US_MAX_CPUS; cpu++) {
		const struct us_cpu_status *its = &status->cpu[cpu];

		printf("CPU %-6u %s", cpu, cpu_state_name(its->state));
		if (its->instance)
			printf(", instance %u", its->instance);
		printf(", APIC %u, %llu exits\n", its->apic_id, (unsigned long long)its->exits);
	}
	for (unsigned i = 0; i < status->function_count && i < US_MAX_FUNCTIONS; i++) {
		const struct us_function_status *its = &status->function[i];

		printf("%s    ", function_name(its->bdf));
		if (its->instance == US_SHIELDED)
			printf("plugged in, shielded");
		else if (its->instance == US_HIDDEN)
			printf("to be taken out, hidden");
		else if (its->instance)
			printf("instance %u", its->instance);
		else
			printf("free");
		printf(", %04x:%04x, class %06x\n", its->id & 0xffff, its->id >> 16, its->class_code);
	}
}

/* ---- for machines --------------------------------------------------------------- */

static void json_instance(const struct us_status *status, unsigned number)
{
	const struct us_instance_status *instance = &status->instance[number - 1];

	if (instance->state == US_INSTANCE_NONE)
		return;
	json_open(NULL, '{');
	json_number("instance", number);
	json_bool("own", number == status->own_instance);
	json_text("state", instance_state_name(instance->state));
	json_text("cpus", list_text(instance->cpu_mask));
	if (shares(status, instance)) {
		json_text("shared_cpus", list_text(instance->share_mask));
		json_number("weight", instance->weight);
		json_bool("paused", instance->paused);
		json_number("ran_ticks", instance->ran);
		json_number("worst_wait_ticks", instance->worst_wait);
	}
	json_number("memory", memory_of(instance));
	json_open("ranges", '[');
	for (unsigned i = 0; i < instance->range_count && i < US_MAX_RANGES; i++) {
		json_open(NULL, '{');
		json_address("base", instance->range[i].base);
		json_number("size", instance->range[i].size);
		json_close();
	}
	json_close();
	json_number("start_tick", instance->start_tick);
	json_number("stop_tick", instance->stop_tick);
	json_number("exits", exits_of(instance));
	json_open("exits_by_reason", '{');
	for (unsigned reason = 0; reason < US_EXIT_REASONS; reason++)
		if (instance->exits[reason])
			json_number(exit_reason_name(reason), instance->exits[reason]);
	json_close();
	json_close();
}

static void json_status(const struct us_status *status, bool captured)
{
	json_open(NULL, '{');
	json_text("state", captured ? "captured" : "attached");
	json_number("own_instance", status->own_instance);
	json_number("now", status->now);
	json_number("tsc_khz", status->tsc_khz);
	json_address("region_base", status->region_base);
	json_number("region_size", status->region_size);
	json_address("annex_base", status->annex_base);
	json_number("annex_size", status->annex_size);
	json_parts("still_trapped", status);
	json_open("instances", '[');
	for (unsigned number = 1; number <= US_MAX_INSTANCES; number++)
		json_instance(status, number);
	json_close();
	json_open("cpus", '[');
	for (unsigned cpu = 0; cpu < status->cpu_count && cpu < US_MAX_CPUS; cpu++) {
		json_open(NULL, '{');
		json_number("cpu", cpu);
		json_number("apic_id", status->cpu[cpu].apic_id);
		json_number("instance", status->cpu[cpu].instance);
		json_text("state", cpu_state_name(status->cpu[cpu].state));
		json_number("exits", status->cpu[cpu].exits);
		json_close();
	}
	json_close();
	json_open("functions", '[');
	for (unsigned i = 0; i < status->function_count && i < US_MAX_FUNCTIONS; i++) {
		json_open(NULL, '{');
		json_text("function", function_name(status->function[i].bdf));
		json_number("instance", status->function[i].instance > US_MAX_INSTANCES ? 0 : status->function[i].instance);
		json_bool("shielded", status->function[i].instance == US_SHIELDED);
		json_bool("hidden", status->function[i].instance == US_HIDDEN);
		json_number("vendor", status->function[i].id & 0xffff);
		json_number("device", status->function[i].id >> 16);
		json_number("class", status->function[i].class_code);
		json_close();
	}
	json_close();
	json_close();
}

int verb_status(char **arguments)
{
	bool json = false;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	int device;

	parse_arguments("status", arguments, options, NULL);
	if (!captured()) {
		if (json) {
			json_open(NULL, '{');
			json_text("state", "bare");
			json_close();
		} else {
			puts("bare: no VMM is beneath this kernel");
		}
		return 0;
	}
	device = open_captured();
	if (json)
		json_status(get_status(device), get_pauses(device)->state == US_CAPTURED);
	else
		print_status(get_status(device));
	return 0;
}
