/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#ifndef ARGS_H
#define ARGS_H

#include <stdbool.h>
#include <stdint.h>

/* A verb's option: with `text` it takes a value, with `flag` none, with both it may. A table ends with an empty name. */
struct option {
	const char *name;
	const char **text;
	bool *flag;
};

/* Reads what follows the verb into the options and one operand (NULL: it takes none); misuse ends the program. */
void parse_arguments(const char *verb, char **arguments, const struct option *options, const char **operand);

/* "256M", "1G", "65536K", "67108864"; misuse ends the program. */
uint64_t parse_size(const char *option, const char *text);
/* A whole number within limits. */
uint32_t parse_number(const char *what, const char *text, uint32_t least, uint32_t most);

/* "0", "1,3", "2-3": CPUs, bit by number, each named once. */
uint64_t parse_cpus(const char *option, const char *text);

/* An instance's number as an operand. */
uint32_t parse_instance(const char *verb, const char *text);

#endif
