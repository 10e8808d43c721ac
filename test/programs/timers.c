// SPDX-License-Identifier: MIT
/*
 * timers CPU COUNT [LOW HIGH]: on that CPU, timers that expire LOW to HIGH microseconds apart (100 to 1000 unless told),
 * until COUNT expiries have been seen; then a line of JSON. Six are one-shot: each expiry arms the next, so that none
 * stands in for another, and one that does not come within a second is lost. Two are periodic: at every look their
 * expiries so far are as many as periods have passed. Delays are from an expiry's time to when the program hears of it.
 * Ends with 1 if anything was lost, came twice or came early.
 */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ONE_SHOT 6
#define TIMERS 8
#define SECOND 1000000000ull
#define PATIENCE SECOND

struct timer {
	int fd;
	uint64_t due;		/* one-shot: when it expires; periodic: when its first expiry was due */
	uint64_t period;	/* 0 for one-shot */
	uint64_t came;
};

static struct timer timers[TIMERS];
static uint64_t low = 100000, high = 1000000;
static uint64_t lost, doubled, early, miscounted;
static uint64_t worst, delays, delayed;

static void fail(const char *what)
{
	fprintf(stderr, "timers: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static uint64_t random_interval(void)
{
	static uint64_t seed = 88172645463325252ull;

	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return low + seed % (high - low + 1);
}

static struct timespec spec(uint64_t time)
{
	return (struct timespec){ .tv_sec = (time_t)(time / SECOND), .tv_nsec = (long)(time % SECOND) };
}

static void set(struct timer *timer, uint64_t due)
{
	struct itimerspec value = { .it_value = spec(due), .it_interval = spec(timer->period) };

	timer->due = due;
	if (timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &value, NULL) != 0)
		fail("a timer can't be set");
}

static void delay(uint64_t time)
{
	worst = time > worst ? time : worst;
	delays += time;
	delayed++;
}

/* Expiries since the last look; 0 if there are none. */
static uint64_t take(const struct timer *timer)
{
	uint64_t count;
	ssize_t length = read(timer->fd, &count, sizeof(count));

	if (length == sizeof(count))
		return count;
	if (errno != EAGAIN)
		fail("a timer can't be read");
	return 0;
}

static void look_at_one_shot(struct timer *timer)
{
	uint64_t count = take(timer), time = now();

	if (count == 0)
		return;
	timer->came++;
	doubled += count - 1 + take(timer);
	if (time < timer->due)
		early++;
	else
		delay(time - timer->due);
	set(timer, time + random_interval());
}

static uint64_t expiries(const struct timer *timer, uint64_t time)
{
	return time < timer->due ? 0 : (time - timer->due) / timer->period + 1;
}

static void look_at_periodic(struct timer *timer)
{
	uint64_t before = now(), oldest = timer->due + timer->came * timer->period;
	uint64_t count = take(timer), after = now();

	if (count == 0)
		return;
	timer->came += count;
	if (timer->came < expiries(timer, before) || timer->came > expiries(timer, after))
		miscounted++;
	if (before > oldest)
		delay(before - oldest);
}

/* A one-shot timer that is long overdue will not come. */
static void look_for_lost(void)
{
	for (struct timer *timer = timers; timer < timers + ONE_SHOT; timer++) {
		if (now() < timer->due + PATIENCE || take(timer) > 0)
			continue;
		lost++;
		set(timer, now() + random_interval());
	}
}

static int make_timers(void)
{
	int poll = epoll_create1(0);

	for (struct timer *timer = timers; timer < timers + TIMERS; timer++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = timer };

		timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
		if (timer->fd < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, timer->fd, &event) != 0)
			fail("no timer");
		timer->period = timer < timers + ONE_SHOT ? 0 : random_interval();
		set(timer, now() + random_interval());
	}
	return poll;
}

static uint64_t total(int from, int to)
{
	uint64_t sum = 0;

	for (int i = from; i < to; i++)
		sum += timers[i].came;
	return sum;
}

/* Alone on the CPU as far as this kernel goes: delays are the interrupts'. */
static void settle_on(unsigned cpu)
{
	struct sched_param priority = { .sched_priority = 50 };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
		fail("no such CPU");
	if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0)
		fail("no real-time priority");
}

int main(int count, char **arguments)
{
	unsigned cpu = count > 2 ? (unsigned)atoi(arguments[1]) : 0;
	uint64_t wanted = count > 2 ? strtoull(arguments[2], NULL, 10) : 1000;
	int poll;

	if (count > 4) {
		low = strtoull(arguments[3], NULL, 10) * 1000;
		high = strtoull(arguments[4], NULL, 10) * 1000;
	}
	if (low == 0 || high < low) {
		errno = EINVAL;
		fail("no interval");
	}
	settle_on(cpu);
	poll = make_timers();
	while (total(0, TIMERS) < wanted) {
		struct epoll_event events[TIMERS];
		int ready = epoll_wait(poll, events, TIMERS, 1000);

		if (ready < 0 && errno != EINTR)
			fail("waiting");
		for (int i = 0; i < ready; i++) {
			struct timer *timer = events[i].data.ptr;

			if (timer->period)
				look_at_periodic(timer);
			else
				look_at_one_shot(timer);
		}
		look_for_lost();
	}
	printf("{\"cpu\":%u,\"oneShot\":%llu,\"periodic\":%llu,\"lost\":%llu,\"doubled\":%llu,\"early\":%llu,\"miscounted\":%llu,"
	       "\"worstUs\":%llu,\"meanUs\":%llu}\n",
	       cpu, (unsigned long long)total(0, ONE_SHOT), (unsigned long long)total(ONE_SHOT, TIMERS), (unsigned long long)lost,
	       (unsigned long long)doubled, (unsigned long long)early, (unsigned long long)miscounted, (unsigned long long)worst / 1000,
	       (unsigned long long)(delayed ? delays / delayed / 1000 : 0));
	return lost || doubled || early || miscounted;
}
