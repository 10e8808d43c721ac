// SPDX-License-Identifier: MIT OR GPL-2.0
#include "attack.h"

/* ---- words and numbers ---------------------------------------------------------- */

static u64 parse_number(const char **text)
{
	const char *at = *text;
	unsigned base = 10;
	u64 value = 0;

	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (;; at++) {
		unsigned digit = *at >= 'a' ? (unsigned)(*at - 'a') + 10 : (unsigned)(*at - '0');

		if (digit >= base)
			break;
		value = value * base + digit;
	}
	while (*at && *at != ' ' && *at != '\n')
		at++;
	*text = at;
	return value;
}

struct request parse(const char *line)
{
	struct request request;
	unsigned i = 0;

	memset(&request, 0, sizeof(request));
	while (*line && *line != ' ' && *line != '\n' && i < sizeof(request.verb) - 1)
		request.verb[i++] = *line++;
	for (i = 0; i < MAX_NUMBERS && *line == ' '; i++) {
		line++;
		request.number[i] = parse_number(&line);
	}
	return request;
}

bool is(const struct request *request, const char *verb)
{
	const char *own = request->verb;

	while (*own && *own == *verb)
		own++, verb++;
	return *own == *verb;
}

void say(struct answer *answer, const char *text)
{
	while (*text && answer->length < sizeof(answer->text) - 1)
		answer->text[answer->length++] = *text++;
	answer->text[answer->length] = '\0';
}

void say_number(struct answer *answer, const char *name, u64 value)
{
	char digits[20];
	unsigned at = sizeof(digits) - 1;

	digits[at] = '\0';
	do
		digits[--at] = "0123456789abcdef"[value & 15];
	while (value >>= 4);
	digits[--at] = 'x';
	digits[--at] = '0';
	if (answer->length)
		say(answer, " ");
	say(answer, name);
	say(answer, "=");
	say(answer, digits + at);
}

/* ---- one instruction each ------------------------------------------------------- */

/* What an instruction gave: the vector of its fault or 0, a value, and where it is. */
struct outcome { u64 fault, value, rip; };

static void say_outcome(struct answer *answer, const struct outcome *outcome)
{
	say_number(answer, "fault", outcome->fault);
	say_number(answer, "value", outcome->value);
	say_number(answer, "rip", outcome->rip);
}

/*
 * An instruction that must leave RAX alone. It stands between two labels: on the way through RAX becomes 0, a fault
 * in it makes RAX the vector.
 */
#define GUARDED(instruction) \
	"lea 1f(%%rip), %[rip]\n" \
	"mov $0, %%eax\n" \
	"1: " instruction "\n" \
	"2:\n" ON_FAULT(1b, 2b)

/* The same for one that has RAX in and out: its result is saved, and then RAX tells of the fault. */
#define GUARDED_RAX(instruction, save) \
	"lea 1f(%%rip), %[rip]\n" \
	"1: " instruction "\n" \
	save "\n" \
	"xor %%eax, %%eax\n" \
	"2:\n" ON_FAULT(1b, 2b)

#define LOAD(instruction) \
	asm volatile(GUARDED(instruction) : "=&a" (o.fault), [rip] "=&r" (o.rip), [value] "+&r" (o.value) : [at] "r" (at) : "memory")
#define STORE(instruction) \
	asm volatile(GUARDED(instruction) : "=&a" (o.fault), [rip] "=&r" (o.rip) : [at] "r" (at), [value] "r" (value) : "memory")

static struct outcome load(void *at, u64 size)
{
	struct outcome o = { 0, 0, 0 };

	switch (size) {
	case 1: LOAD("movzbl (%[at]), %k[value]"); break;
	case 2: LOAD("movzwl (%[at]), %k[value]"); break;
	case 4: LOAD("movl (%[at]), %k[value]"); break;
	default: LOAD("movq (%[at]), %[value]");
	}
	return o;
}

static struct outcome store(void *at, u64 size, u64 value)
{
	struct outcome o = { 0, 0, 0 };

	switch (size) {
	case 1: STORE("movb %b[value], (%[at])"); break;
	case 2: STORE("movw %w[value], (%[at])"); break;
	case 4: STORE("movl %k[value], (%[at])"); break;
	default: STORE("movq %[value], (%[at])");
	}
	return o;
}

/* Instructions on memory that a VMM is unlikely to emulate. */
static struct outcome exchange(void *at, u64 value)
{
	struct outcome o = { 0, value, 0 };

	LOAD("xchgq %[value], (%[at])");
	return o;
}

static struct outcome add(void *at, u64 value)
{
	struct outcome o = { 0, 0, 0 };

	STORE("lock addq %[value], (%[at])");
	return o;
}

static struct outcome copy(void *to, const void *from, u64 size)
{
	struct outcome o = { 0, 0, 0 };

	asm volatile(GUARDED("rep movsb") : "=&a" (o.fault), [rip] "=&r" (o.rip), "+D" (to), "+S" (from), "+c" (size) : : "memory");
	o.value = size;
	return o;
}

static struct outcome read_msr(u32 msr)
{
	struct outcome o = { 0, 0, 0 };
	u32 low = 0, high = 0;

	asm volatile(GUARDED_RAX("rdmsr", "mov %%eax, %[low]")
		     : "=&a" (o.fault), [rip] "=&r" (o.rip), [low] "+&r" (low), "+d" (high) : "c" (msr));
	o.value = (u64)high << 32 | low;
	return o;
}

static struct outcome write_msr(u32 msr, u64 value)
{
	struct outcome o = { (u32)value, value, 0 };

	asm volatile(GUARDED_RAX("wrmsr", "") : "+&a" (o.fault), [rip] "=&r" (o.rip) : "c" (msr), "d" ((u32)(value >> 32)) : "memory");
	return o;
}

static struct outcome set_xcr(u32 index, u64 value)
{
	struct outcome o = { (u32)value, value, 0 };

	asm volatile(GUARDED_RAX("xsetbv", "") : "+&a" (o.fault), [rip] "=&r" (o.rip) : "c" (index), "d" ((u32)(value >> 32)) : "memory");
	return o;
}

static struct outcome port_in(u16 port, u64 size)
{
	struct outcome o = { 0, 0, 0 };

#define IN(instruction) \
	asm volatile(GUARDED_RAX(instruction, "mov %%eax, %k[value]") \
		     : "+&a" (o.fault), [rip] "=&r" (o.rip), [value] "+&r" (o.value) : "d" (port))
	switch (size) {
	case 1: IN("inb %%dx, %%al"); break;
	case 2: IN("inw %%dx, %%ax"); break;
	default: IN("inl %%dx, %%eax");
	}
	return o;
}

static struct outcome port_out(u16 port, u64 size, u32 value)
{
	struct outcome o = { value, value, 0 };

#define OUT(instruction) \
	asm volatile(GUARDED_RAX(instruction, "") : "+&a" (o.fault), [rip] "=&r" (o.rip) : "d" (port))
	switch (size) {
	case 1: OUT("outb %%al, %%dx"); break;
	case 2: OUT("outw %%ax, %%dx"); break;
	default: OUT("outl %%eax, %%dx");
	}
	return o;
}

/* Writes CR0 or CR4, reads it back, and restores it. */
#define SET_CR(cr) \
	asm volatile(GUARDED("mov %[new], %%" cr) : "=&a" (o.fault), [rip] "=&r" (o.rip) : [new] "r" (new) : "memory"); \
	asm volatile("mov %%" cr ", %0" : "=r" (o.value)); \
	if (!o.fault) \
		asm volatile("mov %0, %%" cr : : "r" (old) : "memory")

static struct outcome flip_cr0(u64 flip)
{
	struct outcome o = { 0, 0, 0 };
	u64 old, new;

	asm volatile("mov %%cr0, %0" : "=r" (old));
	new = old ^ flip;
	SET_CR("cr0");
	return o;
}

static struct outcome flip_cr4(u64 flip)
{
	struct outcome o = { 0, 0, 0 };
	u64 old, new;

	asm volatile("mov %%cr4, %0" : "=r" (old));
	new = old ^ flip;
	SET_CR("cr4");
	return o;
}

/* AMD-V, whose hypercall is another instruction. */
bool has_svm(void)
{
	u32 eax = 0x80000001, ebx, ecx = 0, edx;

	asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
	return ecx & 4;
}

static struct outcome hypercall(u64 number, u64 rdi, u64 rsi, u64 rdx)
{
	struct outcome o = { number, ~0ull, 0 };

	if (has_svm())
		asm volatile(GUARDED_RAX("vmmcall", "mov %%rax, %[value]")
			     : "+&a" (o.fault), [rip] "=&r" (o.rip), [value] "+&r" (o.value), "+d" (rdx) : "D" (rdi), "S" (rsi) : "memory", "cc");
	else
		asm volatile(GUARDED_RAX("vmcall", "mov %%rax, %[value]")
			     : "+&a" (o.fault), [rip] "=&r" (o.rip), [value] "+&r" (o.value), "+d" (rdx) : "D" (rdi), "S" (rsi) : "memory", "cc");
	return o;
}

/* ---- several -------------------------------------------------------------------- */

#define VMX(name, instruction) do { \
	u64 fault, rip; \
	asm volatile(GUARDED(instruction) : "=&a" (fault), [rip] "=&r" (rip) : [area] "m" (area), [descriptor] "m" (descriptor), \
		     [one] "r" (1ul) : "rbx", "rcx", "rdx", "memory", "cc"); \
	say_number(answer, name, fault); \
} while (0)

/* Each VMX instruction's fault; 0 for one that was executed. */
static void try_vmx(struct answer *answer)
{
	u64 area = physical(page());
	u64 descriptor[2] = { 0, 0 };

	*(u32 *)page() = (u32)read_msr(0x480).value;
	VMX("vmxon", "vmxon %[area]");
	VMX("vmclear", "vmclear %[area]");
	VMX("vmptrld", "vmptrld %[area]");
	VMX("vmptrst", "vmptrst %[area]");
	VMX("vmlaunch", "vmlaunch");
	VMX("vmresume", "vmresume");
	VMX("vmread", "vmread %[one], %%rcx");
	VMX("vmwrite", "vmwrite %[one], %[one]");
	VMX("vmxoff", "vmxoff");
	VMX("vmfunc", "vmfunc");
	VMX("invept", "invept %[descriptor], %[one]");
	VMX("invvpid", "invvpid %[descriptor], %[one]");
	VMX("getsec", "getsec");
}

/* The same for AMD-V. */
static void try_svm(struct answer *answer)
{
#define SVM(name, instruction) do { \
	u64 fault = physical(page()), rip; \
	asm volatile(GUARDED_RAX(instruction, "") : "+&a" (fault), [rip] "=&r" (rip) : "c" (0) : "rbx", "rdx", "memory", "cc"); \
	say_number(answer, name, fault); \
} while (0)
	SVM("vmrun", "vmrun");
	SVM("vmload", "vmload");
	SVM("vmsave", "vmsave");
	SVM("stgi", "stgi");
	SVM("clgi", "clgi");
	SVM("skinit", "skinit");
	SVM("invlpga", "invlpga");
	SVM("vmcall", "vmcall");
}

#define ICR_LOW 0x300
#define ICR_HIGH 0x310

static struct outcome send_ipi(u32 high, u32 low)
{
	unsigned long state;
	u8 *apic = claim_apic(&state);
	struct outcome o;

	store(apic + ICR_HIGH, 4, high);
	o = store(apic + ICR_LOW, 4, low);
	yield_apic(state);
	return o;
}

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc

static struct outcome read_config(u32 address)
{
	port_out(CONFIG_ADDRESS, 4, address);
	return port_in(CONFIG_DATA, 4);
}

static struct outcome write_config(u32 address, u32 value)
{
	port_out(CONFIG_ADDRESS, 4, address);
	return port_out(CONFIG_DATA, 4, value);
}

/* xorshift64* */
static u64 next_random(u64 *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 0x2545f4914f6cdd1dull;
}

static void fill(u64 seed)
{
	u64 *words = (u64 *)scratch(), i;

	for (i = 0; i < SCRATCH_SIZE / sizeof(*words); i++)
		words[i] = next_random(&seed);
}

/* How many words are not what fill() left. */
static u64 count_changed(u64 seed)
{
	const u64 *words = (const u64 *)scratch();
	u64 changed = 0, i;

	for (i = 0; i < SCRATCH_SIZE / sizeof(*words); i++)
		changed += words[i] != next_random(&seed);
	return changed;
}

/* ---- hypercalls with wild arguments --------------------------------------------- */

#define CALL(n) (0x55530000u + (n))
#define CONSOLE_READ CALL(6)
#define CONSOLE_WRITE CALL(7)
#define STOP CALL(9)
#define GIVE_BACK CALL(11)
#define LAST_CALL 11
#define LAST_ERROR 18

static u64 choose(u64 *seed, const u64 *from, unsigned count)
{
	u64 at = next_random(seed) % (count + 1);

	return at < count ? from[at] : next_random(seed);
}

/* What an instance may rightly ask of the other one is not what is tried here. */
static bool is_rightful(u64 number, u64 argument, u64 other)
{
	switch ((u32)number) {
	case CONSOLE_READ:
	case CONSOLE_WRITE:
	case STOP:
	case GIVE_BACK:
		return (u32)argument == other;
	default:
		return false;
	}
}

/* fuzz SEED COUNT FOREIGN REGION OTHER: two addresses that are not ours, and the other instance's number. */
static void fuzz(const struct request *request, struct answer *answer)
{
	u64 seed = request->number[0], foreign = request->number[2], region = request->number[3], own = physical(page()), i;
	const u64 numbers[] = { 0, CALL(0), CALL(LAST_CALL + 1), CALL(0xffff), 1ull << 32 | CALL(4) };
	const u64 addresses[] = { own, own + 8, own + 0x800, foreign, foreign + 8, region, 0xfee00000, 0xfec00000, 0xfffffffffffff000, 1ull << 63 };
	const u64 lengths[] = { 0, 1, 8, 16, 0xfff, 0x1000, 0x10000, 0x10001, 1ull << 32, 0xfffffffffffff000, ~0ull };
	const u64 arguments[] = { 0, 1, 2, 3, 255, ~0ull, 1ull << 32 | 1, 1ull << 63 };
	u64 accepted = 0, refused = 0, faults = 0, odd = 0;

	for (i = 0; i < request->number[1]; i++) {
		u64 number = next_random(&seed) % 4 ? CALL(1 + next_random(&seed) % LAST_CALL) : choose(&seed, numbers, 5);
		u64 address = choose(&seed, addresses, 10), length = choose(&seed, lengths, 11), argument = choose(&seed, arguments, 8), j;
		struct outcome o;

		for (j = 0; j < 512; j++)
			((u64 *)page())[j] = next_random(&seed);
		if (is_rightful(number, argument, request->number[4]))
			continue;
		o = hypercall(number, address, length, argument);
		if (o.fault)
			faults++;
		else if (o.value == 0)
			accepted++;
		else if (o.value <= LAST_ERROR)
			refused++;
		else
			odd++;
	}
	say_number(answer, "accepted", accepted);
	say_number(answer, "refused", refused);
	say_number(answer, "faults", faults);
	say_number(answer, "odd", odd);
}

/* ---- all of them ---------------------------------------------------------------- */

/* What touches a physical address. */
static bool touch(const struct request *request, struct answer *answer)
{
	u64 size = request->number[0], address = request->number[1], value = request->number[2];
	struct outcome o;
	u8 *at;

	if (!is(request, "read") && !is(request, "write") && !is(request, "exchange") && !is(request, "add") && !is(request, "copy"))
		return false;
	at = map(address);
	if (!at) {
		say(answer, "unmapped");
		return true;
	}
	if (is(request, "read"))
		o = load(at, size);
	else if (is(request, "write"))
		o = store(at, size, value);
	else if (is(request, "exchange"))
		o = exchange(at, value);
	else if (is(request, "add"))
		o = add(at, value);
	else
		o = copy(page(), at, size);
	unmap(at);
	say_outcome(answer, &o);
	return true;
}

static bool single(const struct request *request, struct answer *answer)
{
	const u64 *number = request->number;
	struct outcome o;

	if (is(request, "rdmsr"))
		o = read_msr((u32)number[0]);
	else if (is(request, "wrmsr"))
		o = write_msr((u32)number[0], number[1]);
	else if (is(request, "xsetbv"))
		o = set_xcr((u32)number[0], number[1]);
	else if (is(request, "in"))
		o = port_in((u16)number[1], number[0]);
	else if (is(request, "out"))
		o = port_out((u16)number[1], number[0], (u32)number[2]);
	else if (is(request, "cr0"))
		o = flip_cr0(number[0]);
	else if (is(request, "cr4"))
		o = flip_cr4(number[0]);
	else if (is(request, "call"))
		o = hypercall(number[0], number[1], number[2], number[3]);
	else if (is(request, "icr"))
		o = send_ipi((u32)number[0], (u32)number[1]);
	else if (is(request, "config"))
		o = read_config((u32)number[0]);
	else if (is(request, "configure"))
		o = write_config((u32)number[0], (u32)number[1]);
	else
		return false;
	say_outcome(answer, &o);
	return true;
}

bool attack(const struct request *request, struct answer *answer)
{
	if (touch(request, answer) || single(request, answer))
		return true;
	if (is(request, "svm")) {
		try_svm(answer);
	} else if (is(request, "vmx")) {
		try_vmx(answer);
	} else if (is(request, "fill")) {
		fill(request->number[0]);
		say_number(answer, "at", physical(scratch()));
	} else if (is(request, "verify")) {
		say_number(answer, "changed", count_changed(request->number[0]));
	} else if (is(request, "page")) {
		say_number(answer, "at", physical(page()));
	} else if (is(request, "fuzz")) {
		fuzz(request, answer);
	} else {
		return false;
	}
	return true;
}
