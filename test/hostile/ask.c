// SPDX-License-Identifier: MIT
/*
 * ask 1 LINE...: gives this kernel's hostile module a line at a time, and prints its answers.
 * ask 2 LINE...: types them at the console of the second instance's hostile kernel. Without a line it waits for the
 * first prompt. Ends with 3 when that instance has stopped, with 4 when no answer comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"

#define SECOND 2
#define PATIENCE_SECONDS 20
#define PROMPT "\n> "

static int device;
static union { struct us_console console; uint8_t space[4096]; } buffer;

static void fail(const char *what)
{
	fprintf(stderr, "ask: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void call(uint32_t number, size_t length)
{
	struct us_call call = { .number = number, .argument = SECOND, .buffer = (uintptr_t)&buffer, .length = length };

	if (ioctl(device, US_IOC_CALL, &call) != 0)
		fail("no call");
	if (call.result == US_E_INSTANCE) {
		puts("stopped");
		exit(3);
	}
	if (call.result) {
		fprintf(stderr, "ask: error %u\n", call.result);
		exit(2);
	}
}

static int runs(void)
{
	static struct us_status status;
	struct us_call call = { .number = US_HC_STATUS, .buffer = (uintptr_t)&status, .length = sizeof(status) };

	if (ioctl(device, US_IOC_CALL, &call) != 0 || call.result)
		fail("no status");
	return status.instance[SECOND - 1].state == US_INSTANCE_RUNNING;
}

/* Adds what has come to `text`; returns the new length. */
static size_t receive(char *text, size_t length, size_t size)
{
	memset(&buffer.console, 0, sizeof(buffer.console));
	call(US_HC_CONSOLE_READ, sizeof(buffer));
	if (buffer.console.count > size - 1 - length)
		fail("too long an answer");
	memcpy(text + length, buffer.console.byte, buffer.console.count);
	length += buffer.console.count;
	text[length] = '\0';
	return length;
}

static void type(const char *line)
{
	size_t length = strlen(line), done = 0;
	char all[256];

	snprintf(all, sizeof(all), "%s\n", line);
	for (length++; done < length; done += buffer.console.count) {
		buffer.console.count = (uint32_t)(length - done);
		memcpy(buffer.console.byte, all + done, length - done);
		call(US_HC_CONSOLE_WRITE, sizeof(buffer.console) + length - done);
	}
}

/* Prints what comes before the next prompt. */
static void print_answer(void)
{
	static char text[8192];
	size_t length = 0, end = strlen(PROMPT);
	time_t start = time(NULL);

	for (;;) {
		int running = runs();

		length = receive(text, length, sizeof(text));
		if (length >= end && strcmp(text + length - end, PROMPT) == 0)
			break;
		if (!running) {
			puts("stopped");
			exit(3);
		}
		if (time(NULL) > start + PATIENCE_SECONDS) {
			printf("no answer, only '%s'\n", text);
			exit(4);
		}
		usleep(1000);
	}
	text[length - end] = '\0';
	puts(text);
}

static void ask_second(char **lines)
{
	static char old[8192];

	device = open("/dev/understudy", O_RDWR | O_CLOEXEC);
	if (device < 0)
		fail("/dev/understudy");
	if (!*lines)
		print_answer();
	for (; *lines; lines++) {
		receive(old, 0, sizeof(old));
		type(*lines);
		print_answer();
	}
}

static void ask_module(char **lines)
{
	static char answer[2048];
	int file = open("/proc/hostile", O_RDWR | O_CLOEXEC);
	ssize_t length;

	if (file < 0)
		fail("/proc/hostile");
	for (; *lines; lines++) {
		if (write(file, *lines, strlen(*lines)) < 0)
			fail(*lines);
		length = pread(file, answer, sizeof(answer) - 1, 0);
		if (length < 0)
			fail("no answer");
		answer[length] = '\0';
		puts(answer);
		fflush(stdout);
	}
}

int main(int count, char **arguments)
{
	if (count < 2)
		return 2;
	if (strcmp(arguments[1], "1") == 0)
		ask_module(arguments + 2);
	else
		ask_second(arguments + 2);
	return 0;
}
