// SPDX-License-Identifier: MIT OR GPL-2.0
#include "functions.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "names.h"
#include "say.h"

#define PCI "/sys/bus/pci"

void add_function(const char *option, struct functions *functions, unsigned bdf)
{
	if (functions->count == US_MAX_GRANTS)
		misused("%s: more than %u functions", option, US_MAX_GRANTS);
	functions->bdf[functions->count++] = (uint16_t)bdf;
}

struct functions parse_functions(const char *option, const char *text)
{
	struct functions functions = { 0 };

	while (text && *text) {
		unsigned bus, device, function;
		int length = 0;

		if (sscanf(text, "%2x:%2x.%1u%n", &bus, &device, &function, &length) != 3 || device > 31 || function > 7 ||
		    (text[length] && text[length] != ','))
			misused("%s: '%s' is no PCI function: write for example 01:00.0 or 01:00.0,02:00.0", option, text);
		add_function(option, &functions, bus << 8 | device << 3 | function);
		text += length + (text[length] == ',');
	}
	return functions;
}

unsigned parse_function(const char *option, const char *text)
{
	struct functions one = parse_functions(option, text);

	if (one.count != 1)
		misused("%s: give one PCI function, for example 01:00.0", option);
	return one.bdf[0];
}

bool has_function(const struct functions *functions, unsigned bdf)
{
	for (unsigned i = 0; i < functions->count; i++)
		if (functions->bdf[i] == bdf)
			return true;
	return false;
}

bool rescan_functions(void)
{
	int error = write_line("1", PCI "/rescan");

	if (error)
		complain("no PCI rescan: %s", strerror(error));
	return error == 0;
}

bool remove_functions(const struct functions *functions)
{
	for (unsigned i = 0; i < functions->count; i++) {
		const char *name = function_name(functions->bdf[i]);
		int error = write_line("1", PCI "/devices/0000:%s/remove", name);

		if (!error)
			continue;
		complain("device %s can't be removed from this kernel: %s", name, strerror(error));
		rescan_functions();
		return false;
	}
	return true;
}
