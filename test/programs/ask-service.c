// SPDX-License-Identifier: MIT
/*
 * The client of a small service: asks a web server on this system's loopback, again and again, and notes when it answered.
 *   ask-service PORT INTERVAL LOG      asks every INTERVAL milliseconds, until killed; adds to LOG the tick of each answer
 *   ask-service --report LOG FROM TO   of the time between two ticks: how many answers, and the longest time without one,
 *                                      the edges included; one line of JSON
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tsc.h"

static bool ask(uint16_t port)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = 5 };
	char answer[1024];
	size_t length = 0;
	ssize_t n = -1;
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (server < 0)
		return false;
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(server, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    write(server, request, sizeof(request) - 1) == sizeof(request) - 1)
		while (length < sizeof(answer) - 1 && (n = read(server, answer + length, sizeof(answer) - 1 - length)) > 0)
			length += (size_t)n;
	close(server);
	answer[length] = '\0';
	return n == 0 && strstr(answer, " 200 OK") != NULL;
}

static int ask_on(uint16_t port, unsigned interval, const char *path)
{
	int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	while (log >= 0) {
		uint64_t tick = ask(port) ? ticks() : 0;

		if (write(log, &tick, sizeof(tick)) != sizeof(tick))
			break;
		usleep(interval * 1000);
	}
	fprintf(stderr, "ask-service: %s: %s\n", path, strerror(errno));
	return 1;
}

static int report(const char *path, uint64_t from, uint64_t to)
{
	uint64_t tick, last = from, gap = 0, at = 0;
	unsigned answers = 0, failures = 0;
	FILE *log = fopen(path, "re");

	if (!log) {
		fprintf(stderr, "ask-service: %s: %s\n", path, strerror(errno));
		return 1;
	}
	while (fread(&tick, sizeof(tick), 1, log) == 1) {
		/* 0 stands for a question without an answer. */
		if (tick == 0 && last > from && last < to)
			failures++;
		if (tick < from || tick > to)
			continue;
		answers++;
		if (tick - last > gap) {
			gap = tick - last;
			at = last;
		}
		last = tick;
	}
	gap = to - last > gap ? to - last : gap;
	printf("{\"answers\":%u,\"failures\":%u,\"longestGap\":%llu,\"gapAt\":%llu,\"ticks\":%llu}\n", answers, failures, (unsigned long long)gap, (unsigned long long)at,
	       (unsigned long long)(to - from));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "--report") == 0)
		return report(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	if (argc == 4)
		return ask_on((uint16_t)atoi(argv[1]), (unsigned)atoi(argv[2]), argv[3]);
	fprintf(stderr, "ask-service PORT INTERVAL LOG | --report LOG FROM TO\n");
	return 2;
}
