// SPDX-License-Identifier: MIT OR GPL-2.0
#include "parts.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "names.h"
#include "say.h"

static const struct { uint32_t part; const char *name, *key; } parts_known[] = {
	{ US_TRAPPED_PROCESSOR, "processor", "processor" },
	{ US_TRAPPED_MEMORY, "memory", "memory" },
	{ US_TRAPPED_IO, "I/O", "io" },
	{ US_TRAPPED_DMA, "DMA", "dma" },
};
#define PARTS (sizeof(parts_known) / sizeof(parts_known[0]))

static void append(char *text, size_t size, const char *word)
{
	size_t length = strlen(text);

	snprintf(text + length, size - length, "%s%s", length ? ", " : "", word);
}

const char *parts_text(uint32_t parts)
{
	static char text[40];

	*text = '\0';
	for (unsigned i = 0; i < PARTS; i++)
		if (parts & parts_known[i].part)
			append(text, sizeof(text), parts_known[i].name);
	return *text ? text : "nothing";
}

static bool is_unconditional(const struct us_status *status, unsigned reason)
{
	return status->unconditional[reason / 64] >> reason % 64 & 1;
}

const char *unconditional_text(const struct us_status *status)
{
	static char text[400];

	*text = '\0';
	for (unsigned reason = 0; reason < US_EXIT_REASONS; reason++)
		if (is_unconditional(status, reason))
			append(text, sizeof(text), exit_reason_name(reason));
	return text;
}

void json_parts(const char *key, const struct us_status *status)
{
	json_open(key, '{');
	for (unsigned i = 0; i < PARTS; i++)
		json_bool(parts_known[i].key, status->still_trapped & parts_known[i].part);
	json_close();
	if (status->still_trapped & US_TRAPPED_PROCESSOR)
		return;
	json_open("unconditional_exits", '[');
	for (unsigned reason = 0; reason < US_EXIT_REASONS; reason++)
		if (is_unconditional(status, reason))
			json_text(NULL, exit_reason_name(reason));
	json_close();
}
