// SPDX-License-Identifier: MIT OR GPL-2.0
/* events: what the VMM has noted, one a line. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "given.h"
#include "names.h"
#include "say.h"
#include "verbs.h"

#define BUFFER 16384
#define POLL_MS 200

static void print_event(const struct us_event *event, uint64_t sequence, uint32_t tsc_khz)
{
	double seconds = milliseconds(event->tick, tsc_khz) / 1000;

	if (event->instance)
		printf("%5llu %14.6f s  instance %u, CPU %u: %s\n", (unsigned long long)sequence, seconds, event->instance,
		       event->cpu, event_text(event));
	else
		printf("%5llu %14.6f s  %s\n", (unsigned long long)sequence, seconds, event_text(event));
}

/* One object a line, so that --follow can be read as it comes. */
static void json_event(const struct us_event *event, uint64_t sequence)
{
	json_open(NULL, '{');
	json_number("sequence", sequence);
	json_number("tick", event->tick);
	json_text("event", event_name(event->type));
	json_number("instance", event->instance);
	json_number("cpu", event->cpu);
	json_address("a", event->a);
	json_address("b", event->b);
	json_text("text", event_text(event));
	json_close();
}

/* Prints what there is from a sequence number on; returns the next. */
static uint64_t print_from(int device, uint64_t sequence, uint32_t tsc_khz, bool json)
{
	static union { struct us_events events; uint8_t space[BUFFER]; } buffer;
	enum us_error error;

	for (;;) {
		uint64_t first;

		memset(&buffer, 0, sizeof(buffer.events));
		error = call(device, US_HC_EVENTS, sequence, &buffer, sizeof(buffer));
		if (error)
			fail("no events: %s", error_text(error));
		if (buffer.events.count > (BUFFER - sizeof(buffer.events)) / sizeof(struct us_event))
			fail("no events: the VMM says that there are %u", buffer.events.count);
		if (buffer.events.count == 0)
			return sequence;
		first = buffer.events.next_sequence - buffer.events.count;
		if (first > sequence)
			complain("%llu older events were overwritten", (unsigned long long)(first - sequence));
		for (unsigned i = 0; i < buffer.events.count; i++) {
			if (json)
				json_event(&buffer.events.event[i], first + i);
			else
				print_event(&buffer.events.event[i], first + i, tsc_khz);
		}
		fflush(stdout);
		sequence = buffer.events.next_sequence;
	}
}

int verb_events(char **arguments)
{
	bool json = false, follow = false;
	const struct option options[] = { { "--json", NULL, &json }, { "--follow", NULL, &follow }, { NULL, NULL, NULL } };
	uint64_t sequence;
	uint32_t tsc_khz;
	int device;

	parse_arguments("events", arguments, options, NULL);
	device = open_captured();
	tsc_khz = get_status(device)->tsc_khz;
	interrupts_wait();
	sequence = print_from(device, 0, tsc_khz, json);
	while (follow && !interrupted) {
		usleep(POLL_MS * 1000);
		sequence = print_from(device, sequence, tsc_khz, json);
	}
	return 0;
}
