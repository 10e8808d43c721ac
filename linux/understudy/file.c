// SPDX-License-Identifier: MIT OR GPL-2.0
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"

#define PATH_SIZE 512

#define FORMAT_PATH(path, format) do { \
	va_list arguments; \
	va_start(arguments, format); \
	vsnprintf(path, sizeof(path), format, arguments); \
	va_end(arguments); \
} while (0)

struct file read_file(const char *what, const char *path)
{
	struct file file = { NULL, 0 };
	struct stat status;
	size_t done = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) != 0)
		fail("%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		fail("%s %s: not a file", what, path);
	file.size = (size_t)status.st_size;
	file.data = malloc(file.size + 1);
	if (!file.data)
		fail("%s %s: no memory to read it", what, path);
	while (done < file.size) {
		ssize_t n = read(fd, file.data + done, file.size - done);

		if (n <= 0)
			fail("%s %s: %s", what, path, n < 0 ? strerror(errno) : "it became shorter while being read");
		done += (size_t)n;
	}
	close(fd);
	return file;
}

void free_file(struct file *file)
{
	free(file->data);
	*file = (struct file){ NULL, 0 };
}

static bool read_path(char *text, size_t size, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

bool read_line(char *text, size_t size, const char *format, ...)
{
	char path[PATH_SIZE];

	FORMAT_PATH(path, format);
	return read_path(text, size, path);
}

bool read_number(uint64_t *value, int base, const char *format, ...)
{
	char path[PATH_SIZE], text[64], *end;

	FORMAT_PATH(path, format);
	if (!read_path(text, sizeof(text), path))
		return false;
	*value = strtoull(text, &end, base);
	return end != text;
}

int write_line(const char *text, const char *format, ...)
{
	char path[PATH_SIZE];
	int fd, error = 0;

	FORMAT_PATH(path, format);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

bool exists(const char *format, ...)
{
	char path[PATH_SIZE];

	FORMAT_PATH(path, format);
	return access(path, F_OK) == 0;
}

uint64_t parse_list(const char *text)
{
	uint64_t mask = 0;

	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (end == text)
			break;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < 64; first++)
			mask |= 1ull << first;
		text = *end == ',' ? end + 1 : end;
	}
	return mask;
}

const char *list_text(uint64_t mask)
{
	static char text[256];
	size_t length = 0;

	text[0] = '\0';
	for (unsigned first = 0; first < 64; first++) {
		unsigned last = first;

		if (!(mask >> first & 1))
			continue;
		while (last < 63 && mask >> (last + 1) & 1)
			last++;
		length += (size_t)snprintf(text + length, sizeof(text) - length, last > first ? "%s%u-%u" : "%s%u",
					   length ? "," : "", first, last);
		first = last;
	}
	return text;
}

uint64_t memory_info(const char *name)
{
	char line[128];
	uint64_t kib = 0;
	size_t length = strlen(name);
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, length) == 0 && line[length] == ':')
			kib = strtoull(line + length + 1, NULL, 10);
	if (file)
		fclose(file);
	return kib << 10;
}
