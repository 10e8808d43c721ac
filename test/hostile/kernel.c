// SPDX-License-Identifier: MIT
/*
 * A kernel that an attacker boots as the second instance. It takes a line at its console, the first serial port, does
 * what it says, answers with a line, and shows its prompt again.
 */
#include "attack.h"

#define KERNEL 0xffffffff80000000ull
#define APIC 0xfee00000ull
#define IOAPIC 0xfec00000ull
#define COM1 0x3f8
#define COM1_PIN 4
#define COM1_VECTOR 0x24
#define SPURIOUS 0xff
#define NMI 2

static u8 scratch_memory[SCRATCH_SIZE] __attribute__((aligned(4096)));
static u8 page_memory[4096] __attribute__((aligned(4096)));
static u64 loaded_at;

void *memset(void *to, int value, size_t size)
{
	u8 *byte = to;

	while (size--)
		*byte++ = (u8)value;
	return to;
}

/* ---- what attack.c wants -------------------------------------------------------- */

u8 *scratch(void)
{
	return scratch_memory;
}

u8 *page(void)
{
	return page_memory;
}

u64 physical(const void *memory)
{
	return (u64)memory - KERNEL + loaded_at;
}

/* The first 512 GiB are mapped one to one. */
void *map(u64 address)
{
	return address < 1ull << 39 ? (void *)address : NULL;
}

void unmap(void *mapped)
{
	(void)mapped;
}

u8 *claim_apic(unsigned long *state)
{
	*state = 0;
	return (u8 *)APIC;
}

void yield_apic(unsigned long state)
{
	(void)state;
}

/* ---- the serial port ------------------------------------------------------------ */

static inline u8 inb(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a" (value) : "Nd" (port));
	return value;
}

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a" (value), "Nd" (port));
}

static void print(const char *text)
{
	for (; *text; text++) {
		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, (u8)*text);
	}
}

static void print_answer(struct answer *answer)
{
	print(answer->text);
	print("\n> ");
}

static char line[256];
static volatile unsigned line_length;
static volatile bool line_complete;

/* The port's interrupt is an edge: everything that is there must be read. */
static void receive(void)
{
	while (inb(COM1 + 2), inb(COM1 + 5) & 1) {
		char byte = (char)inb(COM1);

		if (byte == '\r' || line_complete)
			continue;
		if (byte == '\n')
			line_complete = true;
		else if (line_length < sizeof(line) - 1)
			line[line_length++] = byte;
	}
}

/* ---- interrupts ----------------------------------------------------------------- */

/* As kernel.asm pushes it. */
struct frame {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

extern const u8 interrupt_stubs[256][16];
extern u64 recover;
extern struct { u16 limit; u64 base; } __attribute__((packed)) idt_register;
extern const u64 guards_start[][2], guards_end[][2];
void recovered(void);
u64 execute(u64 address);
u64 in_real_mode(u32 msr);

static u64 idt[256][2] __attribute__((aligned(16)));
static volatile u32 counts[256];

/* The address in a register: MOV has a form for RAX and a constant address that few VMMs know. */
static void write_register(u64 address, u32 value)
{
	asm volatile("movl %0, (%1)" : : "r" (value), "r" (address) : "memory");
}

static void write_apic(u32 offset, u32 value)
{
	write_register(APIC + offset, value);
}

static bool resume_after(struct frame *frame)
{
	const u64 (*guard)[2];

	for (guard = guards_start; guard < guards_end; guard++) {
		if ((*guard)[0] != frame->rip)
			continue;
		frame->rip = (*guard)[1];
		frame->rax = frame->vector;
		return true;
	}
	if (!recover)
		return false;
	frame->rip = (u64)recovered;
	frame->rax = frame->vector;
	return true;
}

static void die(const struct frame *frame)
{
	struct answer answer = { .length = 0 };

	say(&answer, "died");
	say_number(&answer, "vector", frame->vector);
	say_number(&answer, "error", frame->error);
	say_number(&answer, "rip", frame->rip);
	print_answer(&answer);
	for (;;)
		asm volatile("cli; hlt");
}

void interrupt(struct frame *frame)
{
	counts[frame->vector]++;
	if (frame->vector == NMI)
		return;
	if (frame->vector < 32) {
		if (!resume_after(frame))
			die(frame);
		return;
	}
	if (frame->vector == COM1_VECTOR)
		receive();
	if (frame->vector != SPURIOUS)
		write_apic(0xb0, 0);
}

static void set_up_interrupts(void)
{
	u32 id = *(volatile u32 *)(APIC + 0x20);
	unsigned vector;

	for (vector = 0; vector < 256; vector++) {
		u64 stub = (u64)interrupt_stubs[vector];

		idt[vector][0] = (stub & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 | (stub >> 16 & 0xffff) << 48;
		idt[vector][1] = stub >> 32;
	}
	idt_register.base = (u64)idt;
	asm volatile("lidt %0" : : "m" (idt_register));
	write_apic(0x80, 0);
	/* The logical id that the first instance's first CPU has too. */
	write_apic(0xe0, ~0u);
	write_apic(0xd0, 1u << 24);
	write_apic(0xf0, 0x100 | SPURIOUS);
	write_register(IOAPIC, 0x11 + 2 * COM1_PIN);
	write_register(IOAPIC + 0x10, id);
	write_register(IOAPIC, 0x10 + 2 * COM1_PIN);
	write_register(IOAPIC + 0x10, COM1_VECTOR);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 7);
	outb(COM1 + 4, 0xb);
	outb(COM1 + 1, 1);
	asm volatile("sti");
}

/* ---- what only a whole kernel can try --------------------------------------------- */

static void say_counts(struct answer *answer)
{
	char name[] = "v00";

	for (unsigned vector = 0; vector < 256; vector++) {
		if (!counts[vector] || vector == COM1_VECTOR)
			continue;
		name[1] = "0123456789abcdef"[vector >> 4];
		name[2] = "0123456789abcdef"[vector & 15];
		say_number(answer, name, counts[vector]);
		counts[vector] = 0;
	}
	if (!answer->length)
		say(answer, "none");
}

/* A page-table walk that goes by way of a foreign page. */
static void walk(u64 table, struct answer *answer)
{
	u64 root, value = 0, fault;

	asm volatile("mov %%cr3, %0" : "=r" (root));
	((volatile u64 *)root)[1] = table | 3;
	asm volatile("mov $0, %%eax\n1: movq (%[at]), %[value]\n2:\n" ON_FAULT(1b, 2b)
		     : "=&a" (fault), [value] "+&r" (value) : [at] "r" (1ull << 39) : "memory");
	((volatile u64 *)root)[1] = 0;
	asm volatile("mov %0, %%cr3" : : "r" (root) : "memory");
	say_number(answer, "fault", fault);
	say_number(answer, "value", value);
}

static void use_idt(u64 base)
{
	struct { u16 limit; u64 base; } __attribute__((packed)) table = { base ? 4095 : 0, base };

	asm volatile("cli; lidt %0; ud2" : : "m" (table));
}

/* False when there is no such attack. Those that do not come back say so before they go. */
static bool desperate(const struct request *request, struct answer *answer)
{
	if (is(request, "counts")) {
		say_counts(answer);
	} else if (is(request, "execute")) {
		say_number(answer, "fault", execute(request->number[0]));
	} else if (is(request, "walk")) {
		walk(request->number[0], answer);
	} else if (is(request, "real")) {
		say_number(answer, "fault", in_real_mode((u32)request->number[0]));
	} else if (is(request, "triple")) {
		print("gone\n> ");
		use_idt(0);
	} else if (is(request, "idt")) {
		print("gone\n> ");
		use_idt(request->number[0]);
	} else if (is(request, "spin")) {
		print("gone\n> ");
		for (;;)
			asm volatile("cli; pause");
	} else if (is(request, "storm")) {
		/* Hypercalls and breaches without end. */
		print("gone\n> ");
		while (has_svm())
			asm volatile("cli; vmmcall; movl (%1), %%ecx" : : "a" (0x55530004), "r" (request->number[0]), "D" (0), "S" (0) : "rcx");
		for (;;)
			asm volatile("cli; vmcall; movl (%1), %%ecx" : : "a" (0x55530004), "r" (request->number[0]), "D" (0), "S" (0) : "rcx");
	} else {
		return false;
	}
	return true;
}

static void obey(void)
{
	struct request request = parse(line);
	struct answer answer = { .length = 0 };

	if (!desperate(&request, &answer) && !attack(&request, &answer))
		say(&answer, "unknown");
	print_answer(&answer);
}

void main(u64 physical_start)
{
	u64 cr4;

	loaded_at = physical_start;
	asm volatile("mov %%cr4, %0; or $0x40000, %0; mov %0, %%cr4" : "=&r" (cr4));	/* OSXSAVE */
	set_up_interrupts();
	print("hostile kernel\n> ");
	for (;;) {
		asm volatile("cli");
		if (!line_complete) {
			asm volatile("sti; hlt");
			continue;
		}
		asm volatile("sti");
		line[line_length] = '\0';
		obey();
		line_length = 0;
		line_complete = false;
	}
}
