// SPDX-License-Identifier: MIT
/*
 * traps CPU: on that CPU, watches memory by debug registers and executes instructions step by step, CPUID among them;
 * every trap must come at the right instruction, and none other. Until SIGTERM; then a line of JSON:
 * {"cpu":0,"rounds":1234,"wrong":0}, with the first wrong trap if there ever was one; then it ends with 1.
 * traps vanish: lets the VMM out amid steps and a watched write, and compares the traps with those around the same ioctl
 * on a file that is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "abi.h"

/* ---- traps ---------------------------------------------------------------------- */

#define MAX_TRAPS 64

/* Where a trap came, and what said so: a debug register by its number, or the trap flag. */
#define BY_TRAP_FLAG 4
struct trap { uintptr_t rip; int by; };
struct traps { unsigned count; struct trap at[MAX_TRAPS]; };

static struct traps taken;

#ifndef TRAP_PERF
#define TRAP_PERF 6
#endif

/* siginfo_t of Linux 5.13, which C libraries are slow to know: si_perf_data follows si_addr. */
static int debug_register(const siginfo_t *info)
{
	uint64_t data;

	if (info->si_code != TRAP_PERF)
		return BY_TRAP_FLAG;
	memcpy(&data, (const char *)&info->si_addr + sizeof(info->si_addr), sizeof(data));
	return (int)data;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *user = context;

	(void)signal;
	if (taken.count < MAX_TRAPS)
		taken.at[taken.count] = (struct trap){ (uintptr_t)user->uc_mcontext.gregs[REG_RIP], debug_register(info) };
	taken.count++;
}

static unsigned wrong;
static char first[128];

static void compare(const struct traps *expected)
{
	for (unsigned i = 0; i < MAX_TRAPS && (i < taken.count || i < expected->count); i++) {
		struct trap is = i < taken.count ? taken.at[i] : (struct trap){ 0, -1 };
		struct trap should = i < expected->count ? expected->at[i] : (struct trap){ 0, -1 };

		if (is.rip == should.rip && is.by == should.by)
			continue;
		if (!wrong++)
			snprintf(first, sizeof(first), "trap %u of %u is at %#lx by %d instead of %#lx by %d", i, taken.count,
				 (unsigned long)is.rip, is.by, (unsigned long)should.rip, should.by);
	}
}

static void fail(const char *what)
{
	fprintf(stderr, "traps: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- debug registers ------------------------------------------------------------ */

static uint64_t watched[5];

/*
 * Writes to `watched` and reads it, with loops in between, in which something beneath the kernel may come or go. Debug
 * registers 0 and 1 watch for writes, 2 for reads too, 3 watches what nobody writes. (Not code: Bochs takes a breakpoint
 * there again and again.)
 */
void touch(void);
extern const char wrote_first[], wrote_third[], read_fourth[];
asm(	".pushsection .text\n"
	"touch:\n"
	"	mov	$20000, %ecx\n1:	loop	1b\n"
	"	mov	%rax, watched(%rip)\n"
	"wrote_first:\n"
	"	mov	%rax, watched+8(%rip)\n"
	"	mov	watched(%rip), %rax\n"
	"	mov	$20000, %ecx\n1:	loop	1b\n"
	"	mov	watched+16(%rip), %rax\n"
	"	mov	%eax, watched+20(%rip)\n"
	"wrote_third:\n"
	"	xor	%eax, %eax\n	xor	%ecx, %ecx\n"
	"	push	%rbx\n	cpuid\n	pop	%rbx\n"
	"	mov	watched+24(%rip), %rax\n"
	"read_fourth:\n"
	"	mov	watched+32(%rip), %rax\n"
	"	ret\n"
	".popsection\n");

static void watch(int number, const uint64_t *address, uint32_t type)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attributes), .sample_period = 1, .exclude_kernel = 1, .exclude_hv = 1,
		.precise_ip = 2, .remove_on_exec = 1, .sigtrap = 1, .sig_data = (uint64_t)number,
		.bp_type = type, .bp_addr = (uintptr_t)address, .bp_len = sizeof(*address),
	};

	if (syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC) < 0)
		fail("no debug register");
}

static void watch_all(void)
{
	watch(0, &watched[0], HW_BREAKPOINT_W);
	watch(1, &watched[2], HW_BREAKPOINT_W);
	watch(2, &watched[3], HW_BREAKPOINT_RW);
	watch(3, &watched[4], HW_BREAKPOINT_W);
}

static const struct traps *touches(void)
{
	static struct traps traps;

	traps = (struct traps){ 3, { { (uintptr_t)wrote_first, 0 }, { (uintptr_t)wrote_third, 1 }, { (uintptr_t)read_fourth, 2 } } };
	return &traps;
}

/* ---- the trap flag -------------------------------------------------------------- */

/* A trap follows each instruction after the one that sets the flag, up to the one that clears it; here RIP is then. */
void step(void);
extern const uintptr_t stops[], stops_end[];
asm(	".pushsection .text\n"
	"step:\n"
	"	push	%rbx\n"
	"	pushfq\n"
	"	pushfq\n"
	"	orq	$0x100, (%rsp)\n"
	"	popfq\n"
	"	mov	$1, %eax\n"
	"s1:	xor	%ecx, %ecx\n"
	"s2:	cpuid\n"
	"s3:	nop\n"
	"s4:	xor	%eax, %eax\n"
	"s5:	cpuid\n"
	"s6:	cpuid\n"
	"s7:	nop\n"
	"s8:	popfq\n"
	"s9:	pop	%rbx\n"
	"	ret\n"
	".popsection\n"
	".pushsection .rodata\n"
	".balign 8\n"
	"stops:	.quad s1, s2, s3, s4, s5, s6, s7, s8, s9\n"
	"stops_end:\n"
	".popsection\n");

static const struct traps *steps(void)
{
	static struct traps traps;

	traps.count = (unsigned)(stops_end - stops);
	for (unsigned i = 0; i < traps.count; i++)
		traps.at[i] = (struct trap){ stops[i], BY_TRAP_FLAG };
	return &traps;
}

/*
 * An ioctl with steps before and after it, among them a MOV SS, which holds back the trap until after the next instruction
 * (SDM volume 3A, 6.8.3), and then a write that is watched. SYSCALL itself is no step: in Bochs it would trap in the
 * kernel, where no processor does.
 */
long step_ioctl(int file, unsigned long request);
asm(	".pushsection .text\n"
	"step_ioctl:\n"
	"	push	%rbx\n"
	"	pushfq\n"
	"	pushfq\n"
	"	orq	$0x100, (%rsp)\n"
	"	popfq\n"
	"	mov	%ss, %eax\n"
	"	mov	%eax, %ss\n"
	"	cpuid\n"
	"	popfq\n"
	"	mov	$16, %eax\n"			/* SYS_ioctl */
	"	xor	%edx, %edx\n"
	"	syscall\n"
	"	pushfq\n"
	"	pushfq\n"
	"	orq	$0x100, (%rsp)\n"
	"	popfq\n"
	"	mov	%rax, %r8\n"
	"	xor	%eax, %eax\n"
	"	cpuid\n"
	"	mov	%ss, %eax\n"
	"	mov	%eax, %ss\n"
	"	nop\n"
	"	mov	%r8, %rax\n"
	"	popfq\n"
	"	mov	%rax, watched(%rip)\n"
	"	pop	%rbx\n"
	"	ret\n"
	".popsection\n");

static int vanish(void)
{
	struct traps expected;
	int device = open("/dev/understudy", O_RDWR | O_CLOEXEC);
	long result;

	if (device < 0)
		fail("/dev/understudy");
	watch_all();
	step_ioctl(-1, US_IOC_VANISH);
	expected = taken;
	taken.count = 0;
	result = step_ioctl(device, US_IOC_VANISH);
	compare(&expected);
	printf("{\"result\":%ld,\"traps\":%u,\"wrong\":%u%s%s%s}\n", result, taken.count, wrong,
	       wrong ? ",\"first\":\"" : "", first, wrong ? "\"" : "");
	return result != 0 || wrong;
}

/* ---- the program ---------------------------------------------------------------- */

static volatile sig_atomic_t ended;

static void on_end(int signal)
{
	(void)signal;
	ended = 1;
}

static int keep_trapping(unsigned cpu)
{
	unsigned rounds = 0;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
		fail("no such CPU");
	watch_all();
	for (; !ended; rounds++) {
		taken.count = 0;
		touch();
		compare(touches());
		taken.count = 0;
		step();
		compare(steps());
	}
	printf("{\"cpu\":%u,\"rounds\":%u,\"wrong\":%u%s%s%s}\n", cpu, rounds, wrong, wrong ? ",\"first\":\"" : "", first, wrong ? "\"" : "");
	return wrong > 0;
}

int main(int count, char **arguments)
{
	sigaction(SIGTRAP, &(struct sigaction){ .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO }, NULL);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_end }, NULL);
	if (count > 1 && strcmp(arguments[1], "vanish") == 0)
		return vanish();
	return keep_trapping(count > 1 ? (unsigned)atoi(arguments[1]) : 0);
}
