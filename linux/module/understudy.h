/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The module's rooms: main.c the device and the verbs, region.c the VMM's memory, cpu.c the CPUs' way
 * in and out, launch.S its instructions, call.c hypercalls, stage.c memory for a second instance,
 * join.c memory of one that has ended.
 */
#ifndef UNDERSTUDY_H
#define UNDERSTUDY_H

#undef pr_fmt
#define pr_fmt(text) KBUILD_MODNAME ": " text

#include <linux/linkage.h>
#include <linux/types.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include "../abi.h"

/* ---- launch.S ------------------------------------------------------------------- */

struct us_result { u64 result, value; };	/* a hypercall's RAX and RDX; also how C returns 16 bytes */

asmlinkage u64 us_enter(u64 launch_cr3, u64 entry, u32 cpu);
asmlinkage struct us_result us_leave(u64 number);

/* ---- main.c --------------------------------------------------------------------- */

/* A hypercall while nothing can change beneath it; -ENODEV when there is no VMM. */
int us_hypercall_guarded(const struct us_call *call, u64 buffer, struct us_result *result);

/* ---- region.c ------------------------------------------------------------------- */

/* Where the VMM lives and how a CPU gets there; all addresses physical. */
struct us_region {
	u64 base, size;
	u64 annex_base, annex_size;	/* its other memory */
	u64 launch_cr3, entry;
};

int us_region_make(struct us_region *region, const struct us_start *start);
void us_region_free(struct us_region *region);

/* ---- cpu.c ---------------------------------------------------------------------- */

bool us_has_vmx(void);
bool us_has_svm(void);
bool us_encrypts_memory(void);

bool us_beneath(void);			/* the VMM is beneath this CPU */
u32 us_cpu_count(void);			/* possible CPUs that have a processor */
int us_capture_all(const struct us_region *region);
int us_capture_this(const struct us_region *region);
int us_release_all(void);
int us_release_this(void);
int us_devirtualize(u32 parts);		/* US_TRAPPED_* bits */
/* CPU hot-plug, once CPUs leave for good when they go offline: this one is online again, and bare. */
void us_note_bare(void);
/* Whether the CPU that this runs on carries another instance, too. */
bool us_shared(void);
/* A hypercall on a CPU that the VMM is still beneath; -ENODEV if there is none. */
int us_call_beneath(const struct us_call *call, u64 buffer, struct us_result *result);
void us_pauses(struct us_pauses *pauses);
void us_capabilities(struct us_capabilities *capabilities);

/* ---- call.c --------------------------------------------------------------------- */

int us_errno(u64 result);		/* of an enum us_error, with a line in the kernel log */
int us_call_for_user(struct us_call *call);

static inline struct us_result us_hypercall(u64 number, u64 buffer, u64 length, u64 argument)
{
	struct us_result r = { .result = number, .value = argument };

	asm volatile(ALTERNATIVE("vmcall", "vmmcall", X86_FEATURE_VMMCALL)
		     : "+a" (r.result), "+d" (r.value) : "D" (buffer), "S" (length) : "memory", "cc");
	return r;
}

/* ---- stage.c -------------------------------------------------------------------- */

int us_stage(const struct us_stage *stage);

/* ---- join.c --------------------------------------------------------------------- */

int us_join_memory(const struct us_memory *memory);

#endif
