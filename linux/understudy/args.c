// SPDX-License-Identifier: MIT OR GPL-2.0
#include "args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "say.h"

static const struct option *find(const struct option *options, const char *name)
{
	for (; options->name; options++)
		if (strcmp(options->name, name) == 0)
			return options;
	return NULL;
}

void parse_arguments(const char *verb, char **arguments, const struct option *options, const char **operand)
{
	for (; *arguments; arguments++) {
		const struct option *option = find(options, *arguments);

		if (option && option->flag) {
			*option->flag = true;
		} else if (option) {
			if (!arguments[1])
				misused("%s: %s needs a value", verb, *arguments);
			if (*option->text)
				misused("%s: %s is given twice", verb, *arguments);
			*option->text = *++arguments;
		} else if (**arguments == '-') {
			misused("%s: no option %s: see understudy %s --help", verb, *arguments, verb);
		} else if (operand && !*operand) {
			*operand = *arguments;
		} else {
			misused("%s: '%s' is one argument too many: see understudy %s --help", verb, *arguments, verb);
		}
	}
}

uint64_t parse_size(const char *option, const char *text)
{
	char *end;
	unsigned shift = 0;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	switch (toupper((unsigned char)*end)) {
	case 'K': shift = 10; end++; break;
	case 'M': shift = 20; end++; break;
	case 'G': shift = 30; end++; break;
	}
	if (!isdigit((unsigned char)*text) || *end || errno || value == 0 || value > UINT64_MAX >> shift >> 1)
		misused("%s %s: not a size: write for example 256M or 1G", option, text);
	return value << shift;
}

uint32_t parse_number(const char *what, const char *text, uint32_t least, uint32_t most)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || value < least || value > most)
		misused("%s %s: a number from %u to %u is needed", what, text, least, most);
	return (uint32_t)value;
}

uint32_t parse_instance(const char *verb, const char *text)
{
	if (!text)
		misused("%s: of which instance? see understudy %s --help", verb, verb);
	return parse_number("instance", text, 1, US_MAX_INSTANCES);
}
