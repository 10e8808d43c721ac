// SPDX-License-Identifier: MIT OR GPL-2.0
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "say.h"
#include "verbs.h"

static const struct verb {
	const char *name;
	int (*run)(char **arguments);
	const char *usage, *summary, *details;
} verbs[] = {
	{ "check", verb_check, "[--json] [--from FILE] [--dump]", "can this machine be captured?",
	  "  --from FILE     judge the machine that FILE describes\n"
	  "  --dump          describe this machine, for --from\n" },
	{ "start", verb_start, "[--image FILE] [--json]", "capture: slip the VMM beneath this kernel",
	  "  --image FILE    the VMM (default /lib/understudy/vmm-vmx.img or vmm-svm.img, by the CPU)\n" },
	{ "launch", verb_launch, "--kernel FILE --initrd FILE --append TEXT --memory SIZE [--cpus N] [--share [CPU,...]] [--weight W] [--device BDF,...] [--hide BDF,...] [--json]",
	  "boot a second kernel beside this one",
	  "  --kernel FILE   a bzImage, such as /boot/vmlinuz-...\n"
	  "  --initrd FILE   its initrd\n"
	  "  --append TEXT   its command line\n"
	  "  --memory SIZE   what this kernel gives it, for example 512M; rounded up to whole memory blocks\n"
	  "  --cpus N        how many CPUs this kernel gives it; 0 is --share\n"
	  "  --share CPU,... it runs on these by turns with this kernel, which keeps them online: for example 0,2 or 1-3; without\n"
	  "                  a number on CPU 0, the default where there is one CPU. With --cpus it has whole CPUs besides\n"
	  "  --weight W      of its turns, 1 to 100; this kernel's is 1\n"
	  "  --device BDF    a PCI function that this kernel gives it, for example 01:00.0; several with commas; not with --share\n"
	  "  --hide BDF      a function that was plugged in and that it does not get either\n" },
	{ "console", verb_console, "[--log] N", "talk to instance N; Ctrl-] leaves",
	  "  --log           only show what it says\n" },
	{ "status", verb_status, "[--json]", "who holds what, and what it costs", "" },
	{ "events", verb_events, "[--json] [--follow]", "what happened, since the start",
	  "  --follow        go on as more happens\n" },
	{ "weight", verb_weight, "N W [--json]", "give instance N's turns on a shared CPU the weight W", "" },
	{ "pause", verb_pause, "[--json] N", "give instance N no more turns on the CPU that it shares", "" },
	{ "resume", verb_resume, "[--json] N", "give it turns again", "" },
	{ "stop", verb_stop, "[--json] N", "end instance N and take its CPUs and memory back", "" },
	{ "handover", verb_handover, "[--wait] [--hide BDF,...] [--json]", "take everything, after the other instance has shut down",
	  "  --wait          wait until it has\n"
	  "  --hide BDF      but a PCI function that is to be taken out, for example 01:00.0; several with commas\n" },
	{ "eject", verb_eject, "[--json] BDF", "switch off the slot of a hidden or shielded PCI function, to take it out",
	  "  No instance holds it: it was hidden with the hand-over, or plugged in since the start. Its slot is off when this ends\n"
	  "  well, by native hot-plug or by this kernel's ACPI; \"state\" says whether the card is in it still or gone.\n" },
	{ "vanish", verb_vanish, "[--io] [--memory] [--cpu] [--json]", "release: let the VMM out from beneath this kernel",
	  "  Without an option, all of it. In parts, each for itself and in any order; the last one lets the VMM out:\n"
	  "  --io            no port, no configuration space and no local APIC is trapped any more\n"
	  "  --memory        nor is any memory kept from this kernel, not even the VMM's own\n"
	  "  --cpu           nor does the processor exit for more than it must; understudy status says for what it does\n" },
};

#define COUNT (sizeof(verbs) / sizeof(verbs[0]))

static int help(void)
{
	puts("understudy: a second kernel beside this one, without a reboot\n");
	for (unsigned i = 0; i < COUNT; i++)
		printf("  understudy %-9s %s\n", verbs[i].name, verbs[i].summary);
	puts("\nunderstudy VERB --help tells more; --json prints for machines.");
	return 0;
}

static int help_for(const struct verb *verb)
{
	printf("understudy %s %s\n  %s\n", verb->name, verb->usage, verb->summary);
	if (*verb->details)
		printf("\n%s", verb->details);
	return 0;
}

static bool asks_for_help(const char *argument)
{
	return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

int main(int count, char **arguments)
{
	if (count < 2)
		misused("say what to do: see understudy --help");
	if (asks_for_help(arguments[1]) || strcmp(arguments[1], "help") == 0)
		return help();
	for (unsigned i = 0; i < COUNT; i++) {
		if (strcmp(arguments[1], verbs[i].name) != 0)
			continue;
		if (count > 2 && asks_for_help(arguments[2]))
			return help_for(&verbs[i]);
		return verbs[i].run(arguments + 2);
	}
	misused("no verb '%s': see understudy --help", arguments[1]);
}
