/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What CPUID says on a CPU. */
#ifndef CPUID_H
#define CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct cpuid { uint32_t eax, ebx, ecx, edx; };

struct cpuid cpuid(uint32_t leaf, uint32_t subleaf);

/* The CPU has AMD-V. */
bool shows_svm(void);
/* An Understudy VMM is beneath the CPU that this runs on. */
bool understudy_beneath(void);
/* The name that leaf 0x40000000 gives, "" if the hypervisor bit is clear; text has 13 bytes. */
void hypervisor_name(char *text);

/* Moves the program to a CPU; false if that is offline. */
bool run_on(unsigned cpu);
/* Lets it run anywhere again. */
void run_anywhere(void);

#endif
