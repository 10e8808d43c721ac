// SPDX-License-Identifier: MIT
/*
 * kvm-guest [COUNT]: asks KVM for a virtual machine and runs a guest in it that executes COUNT CPUIDs, each of which
 * exits, and a HLT. Prints one line of JSON; ends with 1 and a line that says why if KVM can't, or the guest was wrong.
 * `nested` tells whether KVM would give its guests VT-x in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tsc.h"

#define MEMORY 0x10000
#define CODE 0x1000
#define COUNT_AT (CODE + 2)
#define VMX (1u << 5)			/* CPUID leaf 1, ECX */
#define MAX_LEAVES 256

/* 16-bit real mode. ESI counts down, EDI up. */
static const uint8_t code[] = {
	0x66, 0xbe, 0, 0, 0, 0,		/*       mov esi, COUNT */
	0x66, 0x31, 0xff,		/*       xor edi, edi */
	0x66, 0x31, 0xc0,		/* again: xor eax, eax */
	0x0f, 0xa2,			/*       cpuid */
	0x66, 0x47,			/*       inc edi */
	0x66, 0x4e,			/*       dec esi */
	0x75, 0xf5,			/*       jnz again */
	0xf4,				/*       hlt */
};

static void fail(const char *what)
{
	fprintf(stderr, "kvm-guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int try(const char *what, int result)
{
	if (result < 0)
		fail(what);
	return result;
}

struct guest {
	int cpu;
	bool nested;
	uint8_t *memory;
	struct kvm_run *run;
};

static bool gives_vmx(int kvm)
{
	static union { struct kvm_cpuid2 list; uint8_t space[sizeof(struct kvm_cpuid2) + MAX_LEAVES * sizeof(struct kvm_cpuid_entry2)]; } supported;

	supported.list.nent = MAX_LEAVES;
	try("KVM_GET_SUPPORTED_CPUID", ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &supported.list));
	for (unsigned i = 0; i < supported.list.nent; i++)
		if (supported.list.entries[i].function == 1)
			return supported.list.entries[i].ecx & VMX;
	return false;
}

static struct guest make_guest(void)
{
	int kvm = try("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC));
	int version = try("KVM_GET_API_VERSION", ioctl(kvm, KVM_GET_API_VERSION, 0));
	int vm = try("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));
	int size = try("KVM_GET_VCPU_MMAP_SIZE", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	struct guest guest;

	if (version != KVM_API_VERSION) {
		fprintf(stderr, "kvm-guest: /dev/kvm speaks version %d, not %d\n", version, KVM_API_VERSION);
		exit(1);
	}
	guest.nested = gives_vmx(kvm);
	guest.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest.memory == MAP_FAILED)
		fail("no memory for the guest");
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)guest.memory };
	try("KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	guest.cpu = try("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	guest.run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, guest.cpu, 0);
	if (guest.run == MAP_FAILED)
		fail("the virtual CPU's page");
	return guest;
}

static void prepare(struct guest *guest, uint32_t count)
{
	struct kvm_sregs segments;
	struct kvm_regs registers = { .rip = CODE, .rflags = 2 };

	memcpy(guest->memory + CODE, code, sizeof(code));
	memcpy(guest->memory + COUNT_AT, &count, sizeof(count));
	try("KVM_GET_SREGS", ioctl(guest->cpu, KVM_GET_SREGS, &segments));
	segments.cs.selector = 0;
	segments.cs.base = 0;
	try("KVM_SET_SREGS", ioctl(guest->cpu, KVM_SET_SREGS, &segments));
	try("KVM_SET_REGS", ioctl(guest->cpu, KVM_SET_REGS, &registers));
}

/* From the first instruction to the HLT; returns how long that took. */
static uint64_t run(struct guest *guest, uint32_t count)
{
	struct kvm_regs registers;
	uint64_t start, end;
	int result;

	prepare(guest, count);
	start = ticks();
	do
		result = ioctl(guest->cpu, KVM_RUN, 0);
	while (result < 0 && errno == EINTR);
	end = ticks();
	try("KVM_RUN", result);
	if (guest->run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "kvm-guest: the guest did not halt: exit reason %u, hardware's %#llx\n", guest->run->exit_reason,
			(unsigned long long)(guest->run->exit_reason == KVM_EXIT_FAIL_ENTRY
						     ? guest->run->fail_entry.hardware_entry_failure_reason
						     : guest->run->hw.hardware_exit_reason));
		exit(1);
	}
	try("KVM_GET_REGS", ioctl(guest->cpu, KVM_GET_REGS, &registers));
	if ((uint32_t)registers.rdi != count || (uint32_t)registers.rsi != 0) {
		fprintf(stderr, "kvm-guest: the guest counted to %llu, not %u\n", (unsigned long long)registers.rdi, count);
		exit(1);
	}
	return end - start;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
	struct guest guest;
	uint64_t once, all;

	if (count < 2 || count > 100000000) {
		fprintf(stderr, "kvm-guest: give a number of CPUIDs, at least 2\n");
		return 2;
	}
	guest = make_guest();
	/* The first run pays for the guest's page tables, the second tells what all but the other CPUIDs costs. */
	run(&guest, 1);
	once = run(&guest, 1);
	all = run(&guest, (uint32_t)count);
	printf("{\"ran\":true,\"nested\":%s,\"cpuids\":%lu,\"ticks\":%llu,\"ticksPerCpuid\":%.1f}\n", guest.nested ? "true" : "false",
	       count, (unsigned long long)all, (double)(all - once) / (double)(count - 1));
	return 0;
}
