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

int verb_vanish(char **arguments)
{
	bool json = false;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	char beneath[13];
	int device;

	parse_arguments("vanish", arguments, options, NULL);
	device = open_captured();
	if (ioctl(device, US_IOC_VANISH) != 0)
		fail("not released: %s", vanish_error(errno));
	if (!verify(beneath))
		return 1;
	report(get_pauses(device), beneath, json);
	return 0;
}
