// SPDX-License-Identifier: MIT
/*
 * kvm-switch CPU: two of KVM's guests, each with one virtual CPU, take turns on a CPU for two seconds, and each stamps
 * the time whenever it runs. A switch takes from the last stamp of the one to the first of the other. One line of JSON:
 * the shortest, where nothing else happened in between, and the median. Ends with 1 if there was none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tsc.h"

#define SECONDS 2
#define MEMORY 0x10000
#define CODE 0x1000
#define STAMPS 0x2000			/* one for each guest */
/* With interrupts on, or Bochs keeps the host's from its guest, too. Nobody sends the guest one. */
#define FLAGS 0x202
#define SWITCHES 0x3000			/* to each guest, their ticks; 0 after the last */
#define SWITCHES_SIZE 0x4000

/*
 * 16-bit real mode, the low half of the TSC. SI: the own stamp, BX: the other guest's, DI to BP: room for switches. If
 * the other's stamp is later than the last one of its own, the guest has been away, and the other has run.
 */
extern const uint8_t guest_code[], guest_code_end[];
asm(	".pushsection .rodata\n"
	".code16\n"
	"guest_code:\n"
	"	rdtsc\n"
	"	movl	(%si), %ecx\n"
	"	movl	%eax, (%si)\n"
	"	movl	(%bx), %edx\n"
	"	subl	%edx, %ecx\n"
	"	jns	guest_code\n"
	"	subl	%edx, %eax\n"
	"	movl	%eax, (%di)\n"
	"	addw	$4, %di\n"
	"	cmpw	%bp, %di\n"
	"	jb	guest_code\n"
	"	hlt\n"
	"guest_code_end:\n"
	".code64\n"
	".popsection\n");

static int try(const char *what, int result)
{
	if (result < 0) {
		fprintf(stderr, "kvm-switch: %s: %s\n", what, strerror(errno));
		exit(1);
	}
	return result;
}

static void on_alarm(int number)
{
	(void)number;
}

/* Time may be up before the guest is entered: then it is up again soon. */
static void limit_time(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval limit = { .it_value.tv_sec = SECONDS, .it_interval.tv_usec = 10000 };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &limit, NULL);
}

static void run_guest(uint8_t *memory, unsigned number)
{
	int kvm = try("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC)), vm = try("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0)), cpu;
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)memory };
	struct kvm_sregs segments;
	/* Both see the TSC itself: KVM would give each guest one of its own. */
	uint64_t offset = 0;
	struct kvm_device_attr tsc = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset };
	struct kvm_regs registers = {
		.rip = CODE, .rflags = FLAGS, .rsi = STAMPS + 4 * number, .rbx = STAMPS + 4 * !number,
		.rdi = SWITCHES + SWITCHES_SIZE * number, .rbp = SWITCHES + SWITCHES_SIZE * (number + 1) - 4,
	};

	try("KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	cpu = try("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	try("KVM_VCPU_TSC_OFFSET", ioctl(cpu, KVM_SET_DEVICE_ATTR, &tsc));
	try("KVM_GET_SREGS", ioctl(cpu, KVM_GET_SREGS, &segments));
	segments.cs.selector = 0;
	segments.cs.base = 0;
	try("KVM_SET_SREGS", ioctl(cpu, KVM_SET_SREGS, &segments));
	try("KVM_SET_REGS", ioctl(cpu, KVM_SET_REGS, &registers));
	limit_time();
	/* Until the time is up, or there is no more room. */
	ioctl(cpu, KVM_RUN, 0);
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *one = a, *other = b;

	return *one < *other ? -1 : *one > *other;
}

int main(int count, char **arguments)
{
	static uint32_t switches[2 * SWITCHES_SIZE / 4];
	size_t found = 0;
	uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t cpus;

	if (memory == MAP_FAILED)
		try("no memory", -1);
	CPU_ZERO(&cpus);
	CPU_SET(count > 1 ? atoi(arguments[1]) : 0, &cpus);
	try("no such CPU", sched_setaffinity(0, sizeof(cpus), &cpus));
	for (unsigned number = 0; number < 2; number++)
		memcpy(memory + STAMPS + 4 * number, &(uint32_t){ (uint32_t)ticks() }, 4);
	memcpy(memory + CODE, guest_code, (size_t)(guest_code_end - guest_code));
	for (unsigned number = 0; number < 2; number++) {
		if (try("fork", fork()) == 0) {
			run_guest(memory, number);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	for (unsigned number = 0; number < 2; number++) {
		const uint32_t *own = (const uint32_t *)(memory + SWITCHES + SWITCHES_SIZE * number);

		for (unsigned i = 0; i < SWITCHES_SIZE / 4 && own[i]; i++)
			switches[found++] = own[i];
	}
	if (found == 0) {
		fprintf(stderr, "kvm-switch: the guests never took turns\n");
		return 1;
	}
	qsort(switches, found, sizeof(switches[0]), by_value);
	printf("{\"switches\":%zu,\"shortestTicks\":%u,\"medianTicks\":%u}\n", found, switches[0], switches[found / 2]);
	return 0;
}
