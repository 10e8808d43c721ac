// SPDX-License-Identifier: MIT OR GPL-2.0
/* vanish: lets the VMM out, and looks on every CPU whether it is gone. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "abi.h"
#include "args.h"
#include "cpuid.h"
#include "device.h"
#include "given.h"
#include "names.h"
#include "parts.h"
#include "pauses.h"
#include "say.h"
#include "verbs.h"

static const char *vanish_error(int error)
{
	switch (error) {
	case ENODEV: return "bare already";
	case EBUSY: return "another instance still runs: understudy stop it, or shut it down and understudy handover";
	case EIO: return "a CPU stayed beneath: the kernel log says which";
	default: return strerror(error);
	}
}

/* What is beneath this kernel afterwards: "" when nothing is. What it says of the last CPU holds for all. */
static bool verify(char *beneath)
{
	uint64_t online = online_cpus();
	bool gone = true;

	*beneath = '\0';
	for (unsigned cpu = 0; cpu < 64; cpu++) {
		if (!(online >> cpu & 1))
			continue;
		if (!run_on(cpu)) {
			complain("CPU %u can't be looked at: %s", cpu, strerror(errno));
			gone = false;
		} else if (understudy_beneath()) {
			complain("CPU %u still shows the VMM in CPUID", cpu);
			gone = false;
		} else {
			hypervisor_name(beneath);
		}
	}
	run_anywhere();
	return gone;
}

static void report(const struct us_pauses *pauses, const char *beneath, bool json)
{
	if (json) {
		json_open(NULL, '{');
		json_text("state", "bare");
		json_text("hypervisor", beneath);
		json_number("tsc_khz", pauses->tsc_khz);
		json_open("cpus", '[');
	} else if (*beneath) {
		printf("vanished: no Understudy beneath this kernel; %s is, as before\n", beneath);
	} else {
		puts("vanished: this kernel is bare, and CPUID shows no hypervisor on any CPU");
	}
	report_pauses("release_ticks", pauses->release_ticks, pauses, json);
	if (json) {
		json_close();
		json_close();
	}
}

/* The first function that this instance does not hold, of which --io could not let go. */
static void require_functions(const struct us_status *status)
{
	for (unsigned i = 0; i < status->function_count && i < US_MAX_FUNCTIONS; i++)
		if (status->function[i].instance != status->own_instance)
			fail("nothing changed: --io: device %s is not this kernel's, and would show: take it with a hand-over, eject it, or vanish altogether",
			     function_name(status->function[i].bdf));
}

static void devirtualize(int device, uint32_t parts, bool json)
{
	const struct us_status *status = get_status(device);

	if (parts & ~status->still_trapped)
		fail("nothing changed: %s: trapped no more already", parts_text(parts & ~status->still_trapped));
	for (unsigned number = 1; number <= US_MAX_INSTANCES; number++)
		if (number != status->own_instance && status->instance[number - 1].state != US_INSTANCE_NONE)
			fail("nothing changed: instance %u is %s: understudy stop it, or shut it down and understudy handover", number,
			     instance_state_name(status->instance[number - 1].state));
	if (parts & US_TRAPPED_IO)
		require_functions(status);
	if (ioctl(device, US_IOC_DEVIRTUALIZE, (unsigned long)parts) != 0)
		fail("nothing changed: %s", vanish_error(errno));
	status = get_status(device);
	if (json) {
		json_open(NULL, '{');
		json_parts("still_trapped", status);
		json_close();
		return;
	}
	printf("trapped no more: %s", parts_text(parts));
	printf("; still trapped: %s\n", parts_text(status->still_trapped));
}

int verb_vanish(char **arguments)
{
	bool json = false, io = false, memory = false, cpu = false;
	const struct option options[] = {
		{ "--io", NULL, &io }, { "--memory", NULL, &memory }, { "--cpu", NULL, &cpu }, { "--json", NULL, &json },
		{ NULL, NULL, NULL },
	};
	uint32_t parts;
	char beneath[13];
	int device;

	parse_arguments("vanish", arguments, options, NULL);
	parts = (io ? US_TRAPPED_IO : 0u) | (memory ? US_TRAPPED_MEMORY : 0u) | (cpu ? US_TRAPPED_PROCESSOR : 0u);
	device = open_captured();
	if (parts && get_status(device)->still_trapped & US_TRAPPED_ALL & ~parts) {
		devirtualize(device, parts, json);
		return 0;
	}
	if (ioctl(device, US_IOC_VANISH) != 0)
		fail("not released: %s", vanish_error(errno));
	if (!verify(beneath))
		return 1;
	report(get_pauses(device), beneath, json);
	return 0;
}
