// SPDX-License-Identifier: MIT OR GPL-2.0
/* stop: ends an instance and takes back what this kernel gave it. */
#include <stdio.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "file.h"
#include "given.h"
#include "say.h"
#include "verbs.h"

/* Whatever state it is in, afterwards it holds nothing. */
static void end(int device, unsigned instance)
{
	const struct us_status *status = get_status(device);
	uint32_t state = status->instance[instance - 1].state;
	enum us_error error = US_OK;

	if (status->own_instance == instance)
		fail("instance %u is this kernel itself: shut it down instead", instance);
	if (state == US_INSTANCE_RUNNING)
		error = call(device, US_HC_STOP, instance, NULL, 0);
	if (error)
		fail("instance %u does not stop: %s", instance, error_text(error));
	if (state != US_INSTANCE_NONE)
		error = call(device, US_HC_GIVE_BACK, instance, NULL, 0);
	if (error)
		fail("instance %u has stopped, but its CPUs and memory do not come back: %s", instance, error_text(error));
}

int verb_stop(char **arguments)
{
	bool json = false, noted;
	const char *operand = NULL;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	struct given given;
	unsigned instance;
	int device;

	parse_arguments("stop", arguments, options, &operand);
	instance = parse_instance("stop", operand);
	device = open_captured();
	noted = recall_given(instance, &given);
	if (!noted && get_status(device)->instance[instance - 1].state == US_INSTANCE_NONE)
		fail("there is no instance %u", instance);
	end(device, instance);
	if (!noted)
		fail("instance %u has stopped; /run/understudy/%u does not say what it was given: bring CPUs and memory online by hand",
		     instance, instance);
	if (!take_back(&given))
		return 1;
	forget_given(instance);
	if (json) {
		json_open(NULL, '{');
		json_number("instance", instance);
		json_text("cpus", list_text(given.cpus));
		json_number("memory", given.blocks * block_size());
		json_close();
	} else {
		printf("stopped: instance %u; ", instance);
		if (given.cpus)
			printf("CPU %s and ", list_text(given.cpus));
		printf("%s are back\n", size_text(given.blocks * block_size()));
	}
	return 0;
}
