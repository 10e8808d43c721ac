// SPDX-License-Identifier: MIT
/*
 * registers CPU: keeps patterns in every register that a program has, on that CPU, and looks again and again whether
 * they are as they were: general registers, RFLAGS, x87, SSE and AVX, FS and GS base, segment registers with selectors
 * of an LDT of its own. Between loading and looking it executes only a loop, or CPUIDs, so what is in the registers is
 * there whenever something comes or goes beneath the kernel. Until SIGTERM; then a line of JSON:
 * {"cpu":0,"rounds":1234,"wrong":0}, with what was wrong first if anything ever was; then it ends with 1.
 */
#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Turns of each loop: tens of thousands of instructions, or a hundred VM exits. */
#define SPINS 20000u
#define CPUIDS 100u

#define HWCAP2_FSGSBASE 2
#define CPUID_1_ECX_AVX (1u << 28)

/* ---- what is loaded, and what was found ----------------------------------------- */

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R15 = 15 };
static const char *const general_name[] = {
	"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

enum { DS, ES, FS, GS, SEGMENTS };
static const char *const segment_name[] = { "ds", "es", "fs", "gs" };

/* CF, PF, AF, ZF, SF, DF, OF, AC, ID: all that a program may set, but TF. The others have these values. */
#define FLAGS 0x240cd5ul
#define OTHER_FLAGS 0x202ul

/* The assembly below knows the offsets. */
struct state {
	uint64_t general[16];		/* 0 */
	uint64_t flags;			/* 128 */
	uint64_t base[2];		/* 136: FS, GS */
	uint64_t memory[2];		/* 152: what is at FS:0 and GS:0 */
	uint64_t limit[SEGMENTS];	/* 168: by LSL, of the selectors in DS, ES, FS, GS; for LDTR */
	uint16_t selector[SEGMENTS];	/* 200 */
};

/* SDM volume 1, 13.4: the standard form of the XSAVE area, with x87, SSE and AVX. */
#define COMPONENTS 7
struct vectors {
	uint8_t x87[24];		/* control, status, tags, opcode, instruction and data pointer */
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t unused[96];
	uint64_t components, compacted, reserved[6];
	uint8_t ymm_high[16][16];
} __attribute__((aligned(64)));

struct state set, got;
struct vectors vectors_set, vectors_got, vectors_own;

/*
 * Loads all of `set` and `vectors_set`, loops as often as RCX says, or executes CPUID as often as R15 says when RCX is
 * 0, and stores all in `got` and `vectors_got`. In between no instruction changes a flag, and memory is read by RIP
 * only. Base addresses that are 0 are left to the selector.
 */
void keep(void);
asm(	".pushsection .text\n"
	"keep:\n"
	"	push	%rbx\n	push	%rbp\n	push	%r12\n	push	%r13\n	push	%r14\n	push	%r15\n"
	"	mov	%rsp, own_stack(%rip)\n"
	"	rdfsbase %rax\n"
	"	mov	%rax, own_base(%rip)\n"
	"	mov	$7, %eax\n	xor	%edx, %edx\n"
	"	xsave64	vectors_own(%rip)\n"
	"	xrstor64 vectors_set(%rip)\n"
	"	mov	set+200(%rip), %ds\n	mov	set+202(%rip), %es\n	mov	set+204(%rip), %fs\n	mov	set+206(%rip), %gs\n"
	"	mov	set+136(%rip), %rax\n	test	%rax, %rax\n	jz	1f\n	wrfsbase %rax\n"
	"1:	mov	set+144(%rip), %rax\n	test	%rax, %rax\n	jz	1f\n	wrgsbase %rax\n"
	"1:	pushq	set+128(%rip)\n	popfq\n"
	"	mov	set(%rip), %rax\n	mov	set+8(%rip), %rbx\n	mov	set+16(%rip), %rcx\n	mov	set+24(%rip), %rdx\n"
	"	mov	set+32(%rip), %rsi\n	mov	set+40(%rip), %rdi\n	mov	set+48(%rip), %rbp\n	mov	set+56(%rip), %rsp\n"
	"	mov	set+64(%rip), %r8\n	mov	set+72(%rip), %r9\n	mov	set+80(%rip), %r10\n	mov	set+88(%rip), %r11\n"
	"	mov	set+96(%rip), %r12\n	mov	set+104(%rip), %r13\n	mov	set+112(%rip), %r14\n	mov	set+120(%rip), %r15\n"
	"	jrcxz	3f\n"
	"2:	loop	2b\n"
	"	jmp	4f\n"
	"3:	mov	$0, %eax\n	cpuid\n"
	"	lea	-1(%r15), %r15\n	mov	%r15, %rcx\n	jrcxz	4f\n"
	"	jmp	3b\n"
	"4:	mov	%rax, got(%rip)\n	mov	%rbx, got+8(%rip)\n	mov	%rcx, got+16(%rip)\n	mov	%rdx, got+24(%rip)\n"
	"	mov	%rsi, got+32(%rip)\n	mov	%rdi, got+40(%rip)\n	mov	%rbp, got+48(%rip)\n	mov	%rsp, got+56(%rip)\n"
	"	mov	%r8, got+64(%rip)\n	mov	%r9, got+72(%rip)\n	mov	%r10, got+80(%rip)\n	mov	%r11, got+88(%rip)\n"
	"	mov	%r12, got+96(%rip)\n	mov	%r13, got+104(%rip)\n	mov	%r14, got+112(%rip)\n	mov	%r15, got+120(%rip)\n"
	"	mov	own_stack(%rip), %rsp\n"
	"	pushfq\n	popq	got+128(%rip)\n"
	"	pushq	$2\n	popfq\n"
	"	mov	$7, %eax\n	xor	%edx, %edx\n"
	"	xsave64	vectors_got(%rip)\n"
	"	xrstor64 vectors_own(%rip)\n"
	"	mov	%ds, got+200(%rip)\n	mov	%es, got+202(%rip)\n	mov	%fs, got+204(%rip)\n	mov	%gs, got+206(%rip)\n"
	"	rdfsbase %rax\n	mov	%rax, got+136(%rip)\n"
	"	rdgsbase %rax\n	mov	%rax, got+144(%rip)\n"
	"	mov	%fs:0, %rax\n	mov	%rax, got+152(%rip)\n"
	"	mov	%gs:0, %rax\n	mov	%rax, got+160(%rip)\n"
	"	xor	%eax, %eax\n	lsl	got+200(%rip), %eax\n	mov	%rax, got+168(%rip)\n"
	"	xor	%eax, %eax\n	lsl	got+202(%rip), %eax\n	mov	%rax, got+176(%rip)\n"
	"	xor	%eax, %eax\n	lsl	got+204(%rip), %eax\n	mov	%rax, got+184(%rip)\n"
	"	xor	%eax, %eax\n	lsl	got+206(%rip), %eax\n	mov	%rax, got+192(%rip)\n"
	"	xor	%eax, %eax\n	mov	%eax, %ds\n	mov	%eax, %es\n	mov	%eax, %fs\n	mov	%eax, %gs\n"
	"	mov	own_base(%rip), %rax\n	wrfsbase %rax\n"
	"	pop	%r15\n	pop	%r14\n	pop	%r13\n	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
	"	ret\n"
	".popsection\n"
	".pushsection .bss\n"
	".balign 8\n"
	"own_stack:	.skip 8\n"
	"own_base:	.skip 8\n"
	".popsection\n");

/* ---- patterns ------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252ull;

static uint64_t random_word(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

static void fill(void *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 8)
		memcpy((char *)at + i, &(uint64_t){ random_word() }, bytes - i < 8 ? bytes - i : 8);
}

static void set_vectors(void)
{
	struct vectors *v = &vectors_set;

	/* Rounding, precision; condition codes and the top of the stack; no exception pending. Pointers are canonical. */
	*(uint16_t *)&v->x87[0] = (uint16_t)(0x7f | (random_word() & 0xf00));
	*(uint16_t *)&v->x87[2] = (uint16_t)(random_word() & 0x7f00);
	v->x87[4] = 0xff;
	v->mxcsr = 0x1f80 | (random_word() & 0xe07f);
	for (unsigned i = 0; i < 8; i++) {
		fill(v->st[i], 10);
		/* A normal number: the leading digit is 1, the exponent neither smallest nor largest. */
		v->st[i][7] |= 0x80;
		v->st[i][9] = (uint8_t)((v->st[i][9] & 0x8f) | 0x20);
	}
	fill(v->xmm, sizeof(v->xmm));
	fill(v->ymm_high, sizeof(v->ymm_high));
	v->components = COMPONENTS;
}

/* What FS:0 and GS:0 are, by base or by descriptor; and the LDT's descriptors. */
static uint64_t *marker;
#define FIRST_ENTRY 3u
#define LDT_SELECTOR(segment) ((uint16_t)((FIRST_ENTRY + (segment)) << 3 | 7))

static void set_segments(int by_descriptor)
{
	memset(set.base, 0, sizeof(set.base));
	memset(set.limit, 0, sizeof(set.limit));
	memset(set.selector, 0, sizeof(set.selector));
	for (unsigned i = 0; i < 2; i++)
		set.memory[i] = marker[(FS + i) * 64] = random_word();
	if (!by_descriptor) {
		set.base[0] = (uintptr_t)&marker[FS * 64];
		set.base[1] = (uintptr_t)&marker[GS * 64];
		return;
	}
	for (unsigned i = 0; i < SEGMENTS; i++) {
		set.selector[i] = LDT_SELECTOR(i);
		set.limit[i] = 0x3ff + 0x100 * i;
	}
}

/* Sets everything, and returns what must be found: the loops change some. */
static struct state prepare(unsigned round)
{
	struct state expected;

	fill(set.general, sizeof(set.general));
	set.general[RSP] &= 0x7ffffffffff8ul;
	set.general[RCX] = round % 4 == 3 ? 0 : SPINS;
	if (round % 4 == 3)
		set.general[R15] = CPUIDS;
	set.flags = OTHER_FLAGS | (random_word() & FLAGS);
	set_segments(round % 2);
	set_vectors();
	expected = set;
	expected.general[RCX] = 0;
	if (round % 4 == 3) {
		uint32_t eax, ebx, ecx, edx;

		__cpuid(0, eax, ebx, ecx, edx);
		expected.general[RAX] = eax;
		expected.general[RBX] = ebx;
		expected.general[RDX] = edx;
		expected.general[R15] = 0;
	}
	if (round % 2)
		for (unsigned i = 0; i < 2; i++)
			expected.base[i] = (uintptr_t)&marker[(FS + i) * 64];
	return expected;
}

/* ---- what is wrong -------------------------------------------------------------- */

static unsigned wrong;
static char first[128];

static void expect(const char *name, uint64_t value, uint64_t expected)
{
	if (value == expected)
		return;
	if (!wrong++)
		snprintf(first, sizeof(first), "%s is %#llx instead of %#llx", name, (unsigned long long)value, (unsigned long long)expected);
}

static void expect_bytes(const char *name, const void *bytes, const void *expected, size_t size)
{
	const uint8_t *one = bytes, *other = expected;
	char text[32];

	for (size_t i = 0; i < size; i++) {
		snprintf(text, sizeof(text), "%s byte %zu", name, i);
		expect(text, one[i], other[i]);
	}
}

static void look(const struct state *expected)
{
	for (unsigned i = 0; i < 16; i++)
		expect(general_name[i], got.general[i], expected->general[i]);
	expect("rflags", got.flags, expected->flags);
	for (unsigned i = 0; i < 2; i++) {
		expect(i ? "gs base" : "fs base", got.base[i], expected->base[i]);
		expect(i ? "gs:0" : "fs:0", got.memory[i], expected->memory[i]);
	}
	for (unsigned i = 0; i < SEGMENTS; i++) {
		expect(segment_name[i], got.selector[i], expected->selector[i]);
		expect("limit in the LDT", got.limit[i], expected->limit[i]);
	}
	expect_bytes("x87 environment", vectors_got.x87, vectors_set.x87, sizeof(vectors_set.x87));
	expect("mxcsr", vectors_got.mxcsr, vectors_set.mxcsr);
	expect_bytes("x87 stack", vectors_got.st, vectors_set.st, sizeof(vectors_set.st));
	expect_bytes("xmm", vectors_got.xmm, vectors_set.xmm, sizeof(vectors_set.xmm));
	expect_bytes("ymm high", vectors_got.ymm_high, vectors_set.ymm_high, sizeof(vectors_set.ymm_high));
}

/* ---- the program ---------------------------------------------------------------- */

static void fail(const char *what)
{
	fprintf(stderr, "registers: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void need_instructions(void)
{
	uint32_t eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	errno = ENOTSUP;
	if (!(ecx & CPUID_1_ECX_AVX) || !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		fail("AVX and FSGSBASE are needed");
}

static void make_segments(void)
{
	/* Descriptors have 32 bits for the base. */
	marker = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (marker == MAP_FAILED)
		fail("no memory");
	for (unsigned i = 0; i < SEGMENTS; i++) {
		struct user_desc descriptor = {
			.entry_number = FIRST_ENTRY + i, .base_addr = (uint32_t)(uintptr_t)&marker[i * 64],
			.limit = 0x3ff + 0x100 * i, .seg_32bit = 1, .useable = 1,
		};

		if (syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof(descriptor)) != 0)
			fail("no LDT");
	}
}

static int told_to_end(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM);
}

int main(int count, char **arguments)
{
	unsigned cpu = count > 1 ? (unsigned)atoi(arguments[1]) : 0, rounds = 0;
	cpu_set_t cpus;
	sigset_t end;

	/* Whatever RSP is, no signal may need a stack there. */
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, NULL);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
		fail("no such CPU");
	need_instructions();
	make_segments();
	for (; !told_to_end(); rounds++) {
		struct state expected = prepare(rounds);

		keep();
		look(&expected);
	}
	printf("{\"cpu\":%u,\"rounds\":%u,\"wrong\":%u", cpu, rounds, wrong);
	if (wrong)
		printf(",\"first\":\"%s\"", first);
	puts("}");
	return wrong > 0;
}
