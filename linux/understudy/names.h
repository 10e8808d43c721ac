/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Words for the numbers of abi.h and the Intel manual. */
#ifndef NAMES_H
#define NAMES_H

#include "abi.h"

const char *exit_reason_name(unsigned reason);
const char *instance_state_name(unsigned state);
const char *cpu_state_name(unsigned state);
const char *event_name(unsigned type);	/* for machines */
/* One event as people read it, in a static buffer. */
const char *event_text(const struct us_event *event);
/* "00:03.0", in a static buffer. */
const char *function_name(unsigned bdf);

#endif
