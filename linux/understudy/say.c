// SPDX-License-Identifier: MIT OR GPL-2.0
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void say(const char *format, va_list arguments)
{
	fflush(stdout);
	fputs("understudy: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	exit(1);
}

void misused(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	exit(2);
}

/* ---- JSON ----------------------------------------------------------------------- */

static char closing[16];
static int depth;
static bool first = true;

static void print_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ')
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void begin(const char *key)
{
	if (!first)
		putchar(',');
	first = false;
	if (key) {
		print_string(key);
		putchar(':');
	}
}

void json_open(const char *key, char bracket)
{
	begin(key);
	putchar(bracket);
	closing[depth++] = bracket == '{' ? '}' : ']';
	first = true;
}

void json_close(void)
{
	putchar(closing[--depth]);
	first = depth == 0;
	if (depth == 0) {
		putchar('\n');
		fflush(stdout);
	}
}

void json_number(const char *key, uint64_t value)
{
	begin(key);
	printf("%llu", (unsigned long long)value);
}

void json_address(const char *key, uint64_t value)
{
	begin(key);
	printf("\"%#llx\"", (unsigned long long)value);
}

void json_text(const char *key, const char *value)
{
	begin(key);
	print_string(value);
}

void json_bool(const char *key, bool value)
{
	begin(key);
	fputs(value ? "true" : "false", stdout);
}

/* ---- units ---------------------------------------------------------------------- */

double milliseconds(uint64_t ticks, uint32_t tsc_khz)
{
	return tsc_khz ? (double)ticks / tsc_khz : 0;
}

const char *size_text(uint64_t bytes)
{
	static char text[32];
	static const struct { unsigned shift; const char *unit; } units[] = { { 30, "GiB" }, { 20, "MiB" }, { 10, "KiB" } };

	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		double value = (double)bytes / (double)(1ull << units[i].shift);

		if (value >= 1) {
			bool whole = bytes % (1ull << units[i].shift) == 0;

			snprintf(text, sizeof(text), whole ? "%.0f %s" : "%.1f %s", value, units[i].unit);
			return text;
		}
	}
	snprintf(text, sizeof(text), "%llu bytes", (unsigned long long)bytes);
	return text;
}
