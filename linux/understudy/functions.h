/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* PCI functions as arguments: "01:00.0,02:00.0", of segment 0. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

struct functions {
	unsigned count;
	uint16_t bdf[US_MAX_GRANTS];
};

/* Misuse ends the program. NULL: none. */
struct functions parse_functions(const char *option, const char *text);
bool has_function(const struct functions *functions, unsigned bdf);
void add_function(const char *option, struct functions *functions, unsigned bdf);

/* Bus, device and function of "01:00.0", of which `text` has one. Misuse ends the program. */
unsigned parse_function(const char *option, const char *text);

/* This kernel lets functions go: their drivers unbind and it forgets them. False after a line; then it has them all again. */
bool remove_functions(const struct functions *functions);
/* It looks for functions that it does not know. False after a line. */
bool rescan_functions(void);

#endif
