/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What people and machines read: one-line errors and JSON. */
#ifndef SAY_H
#define SAY_H

#include <stdbool.h>
#include <stdint.h>

/* "understudy: what, where, what to do" on stderr; fail() then exits with 1, misused() with 2. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A JSON value on stdout, piece by piece; the key is NULL in an array and for the whole. */
void json_open(const char *key, char bracket);	/* '{' or '[' */
void json_close(void);				/* with the last bracket comes a line feed */
void json_number(const char *key, uint64_t value);
void json_address(const char *key, uint64_t value);	/* as a hexadecimal string: beyond 2^53 numbers lose digits */
void json_text(const char *key, const char *value);
void json_bool(const char *key, bool value);

/* Ticks as milliseconds; 0 when the frequency is unknown. */
double milliseconds(uint64_t ticks, uint32_t tsc_khz);

/* "1.5 GiB", "128 MiB", "4 KiB"; in a static buffer. */
const char *size_text(uint64_t bytes);

#endif
