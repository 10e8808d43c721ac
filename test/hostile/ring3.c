// SPDX-License-Identifier: MIT
/*
 * ring3: what a program without privileges can try: hypercalls, and the VMX instructions. Each must end in a signal, as
 * it does on a machine without a VMM. One line of JSON counts what each came to.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>

#include "abi.h"

static sigjmp_buf back;

static void on_signal(int signal)
{
	siglongjmp(back, signal);
}

static unsigned executed, illegal, segmentation, other;

static void count(int signal)
{
	switch (signal) {
	case 0: executed++; break;
	case SIGILL: illegal++; break;
	case SIGSEGV: segmentation++; break;
	default: other++;
	}
}

static void hypercall(uint64_t number, uint64_t rdi, uint64_t rsi, uint64_t rdx)
{
	int signal = sigsetjmp(back, 1);

	if (signal == 0)
		asm volatile("vmcall" : "+a" (number), "+d" (rdx) : "D" (rdi), "S" (rsi) : "memory", "cc");
	count(signal);
}

#define TRY(instruction) do { \
	int signal = sigsetjmp(back, 1); \
	if (signal == 0) \
		asm volatile(instruction : : "a" (0ul), "c" (0ul), "d" (1ul), "m" (area) : "rbx", "memory", "cc"); \
	count(signal); \
} while (0)

int main(void)
{
	static uint64_t area[512] __attribute__((aligned(4096)));
	uint64_t seed = 88172645463325252ull;

	for (int signal = 1; signal < 32; signal++)
		if (signal == SIGILL || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGTRAP)
			sigaction(signal, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	for (unsigned i = 0; i < 300; i++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		hypercall(i < 30 ? US_HC(i) : seed, (uintptr_t)area, i % 2 ? sizeof(area) : seed, seed & 3);
	}
	for (unsigned i = 0; i < 30; i++)
		TRY("vmmcall");
	TRY("vmrun");
	TRY("vmload");
	TRY("vmsave");
	TRY("stgi");
	TRY("clgi");
	TRY("vmxon %3");
	TRY("vmclear %3");
	TRY("vmptrld %3");
	TRY("vmptrst %3");
	TRY("vmlaunch");
	TRY("vmresume");
	TRY("vmread %%rdx, %%rcx");
	TRY("vmwrite %%rdx, %%rcx");
	TRY("vmxoff");
	TRY("vmfunc");
	TRY("invept %3, %%rdx");
	TRY("invvpid %3, %%rdx");
	TRY("getsec");
	TRY("xsetbv");
	TRY("invd");
	printf("{\"executed\":%u,\"illegal\":%u,\"segmentation\":%u,\"other\":%u}\n", executed, illegal, segmentation, other);
	return executed || other;
}
