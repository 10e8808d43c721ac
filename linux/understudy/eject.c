// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * eject: the slot of a PCI function that no instance holds is switched off, so that the card can be taken out. The
 * VMM does it where the port has the slot's registers (native hot-plug); where the firmware has them, this kernel's
 * ACPI runs its _EJ0, as it would for a card of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "file.h"
#include "functions.h"
#include "names.h"
#include "say.h"
#include "verbs.h"

#define SLOTS "/sys/bus/pci/slots"
/* A slot's power goes within a second (PCI Express Base 5.0, 6.7.1.8). */
#define POLLS 20
#define POLL_MICROSECONDS 100000

static const struct us_function_status *find(int device, unsigned bdf)
{
	const struct us_status *status = get_status(device);

	for (unsigned i = 0; i < status->function_count && i < US_MAX_FUNCTIONS; i++)
		if (status->function[i].bdf == bdf)
			return &status->function[i];
	return NULL;
}

/* Only one that no instance holds; anything else ends the program. */
static void require_nobodys(int device, unsigned bdf)
{
	const struct us_function_status *its = find(device, bdf);

	if (!its)
		fail("there is no device %s: see understudy status", function_name(bdf));
	if (its->instance != US_SHIELDED && its->instance != US_HIDDEN)
		fail("device %s is instance %u's: give it away first, or take the machine with understudy handover --hide %s",
		     function_name(bdf), its->instance, function_name(bdf));
}

/* By the slot that this kernel has under the function's address. */
static void eject_by_acpi(unsigned bdf)
{
	char wanted[16], address[32];
	struct dirent *entry;
	int error = ENODEV;
	DIR *directory = opendir(SLOTS);

	snprintf(wanted, sizeof(wanted), "0000:%02x:%02x", bdf >> 8 & 0xff, bdf >> 3 & 31);
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && read_line(address, sizeof(address), SLOTS "/%s/address", entry->d_name) &&
		    strcmp(address, wanted) == 0)
			error = write_line("0", SLOTS "/%s/power", entry->d_name);
	if (directory)
		closedir(directory);
	if (error == ENODEV)
		fail("device %s is in no slot that can be switched off: power the machine down to take it out", function_name(bdf));
	if (error)
		fail("the slot of device %s can't be switched off: %s", function_name(bdf), strerror(error));
}

static bool leaves(int device, unsigned bdf)
{
	for (unsigned i = 0; i < POLLS; i++) {
		if (!find(device, bdf))
			return true;
		usleep(POLL_MICROSECONDS);
	}
	return false;
}

int verb_eject(char **arguments)
{
	bool json = false, gone;
	const struct option options[] = { { "--json", NULL, &json }, { NULL, NULL, NULL } };
	const char *operand = NULL;
	enum us_error error;
	unsigned bdf;
	int device;

	parse_arguments("eject", arguments, options, &operand);
	if (!operand)
		misused("eject: say which PCI function, for example 01:00.0");
	bdf = parse_function("eject", operand);
	device = open_captured();
	require_nobodys(device, bdf);
	error = call(device, US_HC_EJECT, bdf, NULL, 0);
	if (error == US_E_FUNCTION)
		fail("device %s stays: an instance holds another function of its card", function_name(bdf));
	if (error == US_E_SLOT)
		eject_by_acpi(bdf);
	else if (error)
		fail("device %s stays: %s", function_name(bdf), error_text(error));
	gone = leaves(device, bdf);
	if (json) {
		json_open(NULL, '{');
		json_text("function", function_name(bdf));
		json_text("state", gone ? "gone" : "off");
		json_close();
	} else {
		printf("%s: its slot is off; %s\n", function_name(bdf), gone ? "it is gone" : "it can be taken out");
	}
	return 0;
}
