/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Attacks that an instance may try on what is not its own. A line of text asks for one, a line of text tells what came
 * of it, as in
 *   read 8 0x12345000        ->  fault=0x0 value=0xffffffffffffffff rip=0xffffffff80001234
 * The same code is part of a Linux module (linux.c) and of a kernel of its own (kernel.c).
 */
#ifndef HOSTILE_ATTACK_H
#define HOSTILE_ATTACK_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/string.h>
#include <asm/asm.h>
/* An instruction at `at` that faults goes on at `back` with the vector in RAX. */
#define ON_FAULT(at, back) _ASM_EXTABLE_TYPE(at, back, EX_TYPE_FAULT)
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
void *memset(void *to, int value, size_t size);
#define ON_FAULT(at, back) ".pushsection .guards, \"a\"\n.quad " #at ", " #back "\n.popsection\n"
#endif

/* ---- what was asked, and the answer --------------------------------------------- */

#define MAX_NUMBERS 5

struct request {
	char verb[16];
	u64 number[MAX_NUMBERS];	/* 0 where the line has none */
};

struct answer {
	char text[1000];
	size_t length;
};

struct request parse(const char *line);
bool is(const struct request *request, const char *verb);
void say(struct answer *answer, const char *text);
void say_number(struct answer *answer, const char *name, u64 value);

/* ---- attack.c ------------------------------------------------------------------- */

/* The CPU has AMD-V. */
bool has_svm(void);
/* False when there is no such attack. */
bool attack(const struct request *request, struct answer *answer);

/* ---- what linux.c and kernel.c each bring --------------------------------------- */

#define SCRATCH_SIZE 0x10000ull

/* Memory of our own: SCRATCH_SIZE bytes for patterns, and a page for hypercalls and VMX. */
u8 *scratch(void);
u8 *page(void);
u64 physical(const void *memory);

/* Makes a physical address readable and writable, whosesoever it is; NULL if the kernel can't. */
void *map(u64 address);
void unmap(void *mapped);

/* The local APIC's registers; between these two nobody else writes them on this CPU. */
u8 *claim_apic(unsigned long *state);
void yield_apic(unsigned long state);

#endif
