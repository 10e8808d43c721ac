/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#ifndef CHECK_H
#define CHECK_H

#include "capability.h"

#define MAX_MISSING 32

/* Why a machine can't be captured: a word for machines and a line for people. */
struct missing { const char *code; char text[160]; };
struct verdict { unsigned count; struct missing missing[MAX_MISSING]; };

/* Depends on the dump alone. */
struct verdict judge(const struct capabilities *capabilities);

/* Ends the program, with a line for each thing that is missing, if this machine can't be captured. */
void require_ready(void);

#endif
