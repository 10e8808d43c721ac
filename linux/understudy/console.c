// SPDX-License-Identifier: MIT OR GPL-2.0
/* console: an instance's serial line, until it stops or the user leaves. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "device.h"
#include "given.h"
#include "say.h"
#include "verbs.h"

#define BUFFER 4096
#define QUIET_POLL_MS 50
#define LEAVE 0x1d		/* Ctrl-] */

static struct termios before;

static void restore_terminal(void)
{
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

static bool raw_terminal(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0)
		return false;
	raw = before;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	atexit(restore_terminal);
	return true;
}

/* Shows what has come; returns the number of bytes, or -1 when the instance is no more. */
static int show(int device, unsigned instance)
{
	static union { struct us_console console; uint8_t space[BUFFER]; } buffer;
	enum us_error error;

	memset(&buffer, 0, sizeof(buffer.console));
	error = call(device, US_HC_CONSOLE_READ, instance, &buffer, sizeof(buffer));
	if (error == US_E_INSTANCE)
		return -1;
	if (error)
		fail("console %u: %s", instance, error_text(error));
	if (buffer.console.count > BUFFER - sizeof(buffer.console))
		fail("console %u: the VMM says that there are %u bytes", instance, buffer.console.count);
	for (size_t done = 0; done < buffer.console.count;) {
		ssize_t n = write(STDOUT_FILENO, buffer.console.byte + done, buffer.console.count - done);

		if (n <= 0 && errno != EINTR)
			exit(1);
		done += n > 0 ? (size_t)n : 0;
	}
	return (int)buffer.console.count;
}

/* Hands over what was typed; a full line waits. False when the user leaves or the input ends. */
static bool forward(int device, unsigned instance, bool *leave)
{
	static union { struct us_console console; uint8_t space[BUFFER]; } buffer;
	uint8_t typed[256];
	ssize_t length = read(STDIN_FILENO, typed, sizeof(typed));
	const uint8_t *end;

	if (length <= 0)
		return length < 0 && errno == EINTR;
	end = isatty(STDIN_FILENO) ? memchr(typed, LEAVE, (size_t)length) : NULL;
	if (end) {
		*leave = true;
		length = end - typed;
	}
	for (ssize_t done = 0; done < length && !interrupted;) {
		enum us_error error;

		buffer.console.count = (uint32_t)(length - done);
		memcpy(buffer.console.byte, typed + done, (size_t)(length - done));
		error = call(device, US_HC_CONSOLE_WRITE, instance, &buffer, sizeof(buffer.console) + (size_t)(length - done));
		if (error)
			return false;
		done += buffer.console.count;
		if (done < length && show(device, instance) <= 0)
			usleep(QUIET_POLL_MS * 1000);
	}
	return !end;
}

static bool runs(int device, unsigned instance)
{
	return get_status(device)->instance[instance - 1].state == US_INSTANCE_RUNNING;
}

int verb_console(char **arguments)
{
	bool log = false, leave = false, input;
	const char *operand = NULL;
	const struct option options[] = { { "--log", NULL, &log }, { NULL, NULL, NULL } };
	unsigned instance;
	int device;

	parse_arguments("console", arguments, options, &operand);
	instance = parse_instance("console", operand);
	device = open_captured();
	if (get_status(device)->own_instance == instance)
		fail("console %u: that is this kernel itself", instance);
	interrupts_wait();
	input = !log;
	if (input && raw_terminal())
		fprintf(stderr, "[instance %u; Ctrl-] leaves]\r\n", instance);
	while (!leave && !interrupted) {
		struct pollfd poll_input = { .fd = input ? STDIN_FILENO : -1, .events = POLLIN };
		int shown = show(device, instance);

		/* What it said last may have come between the two calls. */
		if (shown < 0 || (shown == 0 && !runs(device, instance) && show(device, instance) <= 0)) {
			fprintf(stderr, "[instance %u has stopped]\r\n", instance);
			return 0;
		}
		if (poll(&poll_input, 1, shown ? 0 : QUIET_POLL_MS) > 0 && poll_input.revents)
			input = forward(device, instance, &leave);
	}
	return 0;
}
