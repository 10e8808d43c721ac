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

		bool may_end = option && option->flag;

		if (may_end)
			*option->flag = true;
		if (may_end && (!option->text || !arguments[1] || *arguments[1] == '-'))
			continue;
		if (option) {
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

uint64_t parse_cpus(const char *option, const char *text)
{
	uint64_t mask = 0;
	const char *at = text;

	do {
		char *end;
		unsigned long first, last;

		errno = 0;
		first = last = strtoul(at, &end, 10);
		if (end != at && *end == '-' && isdigit((unsigned char)end[1]))
			last = strtoul(end + 1, &end, 10);
		if (!isdigit((unsigned char)*at) || (*end && *end != ',') || errno || first > last)
			misused("%s %s: not a list of CPUs: write for example 0,2 or 1-3", option, text);
		if (last >= US_MAX_CPUS)
			misused("%s %s: CPUs have numbers from 0 to %u", option, text, US_MAX_CPUS - 1);
		for (; first <= last; first++) {
			if (mask >> first & 1)
				misused("%s %s: CPU %lu is named twice", option, text, first);
			mask |= 1ull << first;
		}
		at = *end ? end + 1 : NULL;
	} while (at);
	return mask;
}

uint32_t parse_instance(const char *verb, const char *text)
{
	if (!text)
		misused("%s: of which instance? see understudy %s --help", verb, verb);
	return parse_number("instance", text, 1, US_MAX_INSTANCES);
}
