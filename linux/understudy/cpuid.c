// SPDX-License-Identifier: MIT OR GPL-2.0
#include "cpuid.h"

#include <sched.h>
#include <string.h>

#include "abi.h"

#define HYPERVISOR_BIT (1u << 31)	/* of leaf 1's ECX */
#define SVM_BIT (1u << 2)		/* of leaf 0x80000001's ECX */

struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

bool shows_svm(void)
{
	return cpuid(0x80000000, 0).eax >= 0x80000001 && cpuid(0x80000001, 0).ecx & SVM_BIT;
}

bool understudy_beneath(void)
{
	struct cpuid r = cpuid(US_CPUID_SIGNATURE, 0);

	return r.ebx == US_SIGNATURE_EBX && r.ecx == US_SIGNATURE_ECX && r.edx == US_SIGNATURE_EDX;
}

void hypervisor_name(char *text)
{
	struct cpuid r = cpuid(US_CPUID_SIGNATURE, 0);

	memset(text, 0, 13);
	if (understudy_beneath() || cpuid(1, 0).ecx & HYPERVISOR_BIT) {
		memcpy(text, &r.ebx, 4);
		memcpy(text + 4, &r.ecx, 4);
		memcpy(text + 8, &r.edx, 4);
		while (*text && text[strlen(text) - 1] == ' ')
			text[strlen(text) - 1] = '\0';
		if (!*text)
			strcpy(text, "unnamed");
	}
}

bool run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

void run_anywhere(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
}
