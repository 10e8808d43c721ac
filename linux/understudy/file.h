/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Files, and the one-line files of /sys and /proc. */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file { uint8_t *data; size_t size; };

/* The whole file; what can't be read ends the program with a line that begins with `what`. */
struct file read_file(const char *what, const char *path);
void free_file(struct file *file);

/* The following take a printf path. Reads at most size - 1 bytes and cuts the line feed off; false if unreadable. */
bool read_line(char *text, size_t size, const char *path, ...) __attribute__((format(printf, 3, 4)));
/* A number as C writes it; false if unreadable. */
bool read_number(uint64_t *value, int base, const char *path, ...) __attribute__((format(printf, 3, 4)));
/* 0 or an errno. */
int write_line(const char *text, const char *path, ...) __attribute__((format(printf, 2, 3)));
bool exists(const char *path, ...) __attribute__((format(printf, 1, 2)));

/* "0-3,5" as a mask of 64. */
uint64_t parse_list(const char *text);
/* A mask as "0-3,5"; in a static buffer. */
const char *list_text(uint64_t mask);

/* A line of /proc/meminfo in bytes; 0 if there is none. */
uint64_t memory_info(const char *name);

#endif
