// SPDX-License-Identifier: MIT OR GPL-2.0
/* weight, pause, resume: the turns of an instance that shares a CPU. */
#include <stdio.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "say.h"
#include "verbs.h"

static int set_paused(const char *verb, char **arguments, bool paused)
{
	bool json = false;
	const char *operand = NULL;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	uint32_t instance;
	enum us_error error;

	parse_arguments(verb, arguments, options, &operand);
	instance = parse_instance(verb, operand);
	error = call(open_captured(), US_HC_PAUSE, instance | (uint64_t)paused << 32, NULL, 0);
	if (error == US_E_CPU)
		fail("%s: instance %u holds CPUs of its own: only shares can be taken away for a while", verb, instance);
	if (error)
		fail("%s: instance %u: %s", verb, instance, error_text(error));
	if (json) {
		json_open(NULL, '{');
		json_number("instance", instance);
		json_bool("paused", paused);
		json_close();
	} else {
		printf("%s: instance %u\n", paused ? "paused" : "goes on", instance);
	}
	return 0;
}

int verb_pause(char **arguments)
{
	return set_paused("pause", arguments, true);
}

int verb_resume(char **arguments)
{
	return set_paused("resume", arguments, false);
}

int verb_weight(char **arguments)
{
	bool json = false;
	const char *number = arguments[0], *text = number ? arguments[1] : NULL;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	uint32_t instance = parse_instance("weight", number), weight;
	enum us_error error;

	if (!text)
		misused("weight: of which weight? see understudy weight --help");
	weight = parse_number("weight", text, 1, US_MAX_WEIGHT);
	parse_arguments("weight", arguments + 2, options, NULL);
	error = call(open_captured(), US_HC_WEIGHT, instance | (uint64_t)weight << 32, NULL, 0);
	if (error)
		fail("weight: instance %u: %s", instance, error_text(error));
	if (json) {
		json_open(NULL, '{');
		json_number("instance", instance);
		json_number("weight", weight);
		json_close();
	} else {
		printf("instance %u has weight %u\n", instance, weight);
	}
	return 0;
}
