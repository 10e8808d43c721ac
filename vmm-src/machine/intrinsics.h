/* SPDX-License-Identifier: MIT */
/* C twin of intrinsics.ts: hardware intrinsics and the assembly the compiled VMM calls. */
#ifndef UNDERSTUDY_INTRINSICS_H
#define UNDERSTUDY_INTRINSICS_H

#include <stdbool.h>
#include <stdint.h>

#define US_INLINE static inline __attribute__((always_inline, unused))

struct CpuidResult;
struct TableRegister;

US_INLINE void cpuid(uint32_t leaf, uint32_t subleaf, struct CpuidResult *out)
{
	uint32_t *r = (uint32_t *)(void *)out;
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(subleaf));
}

US_INLINE uint64_t readTsc(void)
{
	uint32_t a, d;
	__asm__ volatile("rdtsc" : "=a"(a), "=d"(d) : : "memory");
	return a | (uint64_t)d << 32;
}

US_INLINE uint64_t readMsr(uint32_t index)
{
	uint32_t a, d;
	__asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(index) : "memory");
	return a | (uint64_t)d << 32;
}

US_INLINE void writeMsr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

US_INLINE void xsetbv(uint32_t index, uint64_t value)
{
	__asm__ volatile("xsetbv" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

US_INLINE uint64_t xgetbv(uint32_t index)
{
	uint32_t a, d;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(index));
	return a | (uint64_t)d << 32;
}

US_INLINE void xsave(uint64_t area, uint64_t components, bool supervisor)
{
	uint32_t a = (uint32_t)components, d = (uint32_t)(components >> 32);
	if (supervisor)
		__asm__ volatile("xsaves64 (%0)" : : "r"(area), "a"(a), "d"(d) : "memory");
	else
		__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(a), "d"(d) : "memory");
}

US_INLINE void xrstor(uint64_t area, uint64_t components, bool supervisor)
{
	uint32_t a = (uint32_t)components, d = (uint32_t)(components >> 32);
	if (supervisor)
		__asm__ volatile("xrstors64 (%0)" : : "r"(area), "a"(a), "d"(d) : "memory");
	else
		__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(a), "d"(d) : "memory");
}

#define US_CONTROL_REGISTER(name, reg) \
	US_INLINE uint64_t read##name(void) { uint64_t v; __asm__ volatile("mov %%" reg ", %0" : "=r"(v) : : "memory"); return v; } \
	US_INLINE void write##name(uint64_t v) { __asm__ volatile("mov %0, %%" reg : : "r"(v) : "memory"); }
US_CONTROL_REGISTER(Cr0, "cr0")
US_CONTROL_REGISTER(Cr3, "cr3")
US_CONTROL_REGISTER(Cr4, "cr4")
US_CONTROL_REGISTER(Cr2, "cr2")
US_CONTROL_REGISTER(Dr6, "db6")
US_CONTROL_REGISTER(Dr7, "db7")
US_CONTROL_REGISTER(Dr0, "db0")
US_CONTROL_REGISTER(Dr1, "db1")
US_CONTROL_REGISTER(Dr2, "db2")
US_CONTROL_REGISTER(Dr3, "db3")

US_INLINE uint64_t readBreakpoint(uint32_t number)
{
	return number == 0 ? readDr0() : number == 1 ? readDr1() : number == 2 ? readDr2() : readDr3();
}

US_INLINE void writeBreakpoint(uint32_t number, uint64_t value)
{
	if (number == 0)
		writeDr0(value);
	else if (number == 1)
		writeDr1(value);
	else if (number == 2)
		writeDr2(value);
	else
		writeDr3(value);
}

US_INLINE void storeGdt(struct TableRegister *out) { __asm__ volatile("sgdt %0" : "=m"(*(uint8_t(*)[10])(void *)out)); }
US_INLINE void storeIdt(struct TableRegister *out) { __asm__ volatile("sidt %0" : "=m"(*(uint8_t(*)[10])(void *)out)); }

#define US_SELECTOR(name, instruction) \
	US_INLINE uint16_t name(void) { uint16_t v; __asm__ volatile(instruction : "=r"(v)); return v; }
US_SELECTOR(readEs, "mov %%es, %0")
US_SELECTOR(readCs, "mov %%cs, %0")
US_SELECTOR(readSs, "mov %%ss, %0")
US_SELECTOR(readDs, "mov %%ds, %0")
US_SELECTOR(readFs, "mov %%fs, %0")
US_SELECTOR(readGs, "mov %%gs, %0")
US_SELECTOR(readLdtr, "sldt %0")
US_SELECTOR(readTr, "str %0")

US_INLINE uint32_t loadAccessRights(uint16_t selector)
{
	uint32_t rights = 0;
	__asm__("lar %1, %0" : "+r"(rights) : "r"((uint32_t)selector) : "cc");
	return rights;
}

US_INLINE uint32_t loadSegmentLimit(uint16_t selector)
{
	uint32_t limit = 0;
	__asm__("lsl %1, %0" : "+r"(limit) : "r"((uint32_t)selector) : "cc");
	return limit;
}

#define US_PORT(bits, type, suffix, reg) \
	US_INLINE type portIn##bits(uint16_t port) { type v; __asm__ volatile("in" suffix " %1, %" reg "0" : "=a"(v) : "Nd"(port) : "memory"); return v; } \
	US_INLINE void portOut##bits(uint16_t port, type v) { __asm__ volatile("out" suffix " %" reg "0, %1" : : "a"(v), "Nd"(port) : "memory"); }
US_PORT(8, uint8_t, "b", "b")
US_PORT(16, uint16_t, "w", "w")
US_PORT(32, uint32_t, "l", "k")

#define US_VMX_ON_ADDRESS(name, instruction) \
	US_INLINE bool name(uint64_t address) \
	{ \
		bool ok; \
		__asm__ volatile(instruction " %1" : "=@cca"(ok) : "m"(address) : "memory"); \
		return ok; \
	}
US_VMX_ON_ADDRESS(vmxon, "vmxon")
US_VMX_ON_ADDRESS(vmclear, "vmclear")
US_VMX_ON_ADDRESS(vmptrld, "vmptrld")

US_INLINE void vmxoff(void) { __asm__ volatile("vmxoff" : : : "cc", "memory"); }

US_INLINE uint64_t vmread(uint32_t field)
{
	uint64_t value;
	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)field) : "cc");
	return value;
}

_Noreturn void vmwriteFailed(void);
US_INLINE void vmwrite(uint32_t field, uint64_t value)
{
	__asm__ goto("vmwrite %0, %1; jbe %l2" : : "r"(value), "r"((uint64_t)field) : "cc", "memory" : failed);
	return;
failed:
	vmwriteFailed();
}

US_INLINE void invept(uint64_t eptPointer)
{
	uint64_t descriptor[2] = { eptPointer, 0 };
	__asm__ volatile("invept %0, %1" : : "m"(descriptor), "r"(1ul) : "cc", "memory");
}

US_INLINE void invvpid(uint16_t vpid)
{
	uint64_t descriptor[2] = { vpid, 0 };
	__asm__ volatile("invvpid %0, %1" : : "m"(descriptor), "r"(1ul) : "cc", "memory");
}

/* The interrupt flag is set where the global one is clear, and clear where that is set. */
US_INLINE void stgi(void) { __asm__ volatile("cli; stgi" : : : "memory"); }
US_INLINE void clgi(void) { __asm__ volatile("clgi; sti" : : : "memory"); }
US_INLINE void vmsave(uint64_t vmcb) { __asm__ volatile("vmsave" : : "a"(vmcb) : "memory"); }
US_INLINE void vmload(uint64_t vmcb) { __asm__ volatile("vmload" : : "a"(vmcb) : "memory"); }

US_INLINE void writebackInvalidate(void) { __asm__ volatile("wbinvd" : : : "memory"); }
US_INLINE void writeBackLine(uint64_t address) { __asm__ volatile("clflush (%0)" : : "r"(address) : "memory"); }
US_INLINE void pause(void) { __asm__ volatile("pause" : : : "memory"); }
US_INLINE void acceptInterrupts(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }

US_INLINE void clearVectorState(void)
{
	uint64_t cr0, ts = 8;
	uint32_t a = 1, b, c = 0, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	__asm__ volatile("mov %%cr0, %0; clts; fninit" : "=r"(cr0));
	if (c & 1u << 27 && c & 1u << 28) {	/* OSXSAVE and AVX: cleared whatever was enabled, then x87 only, as after RESET */
		xsetbv(0, 7);
		__asm__ volatile("vzeroall" : : : "memory");
		xsetbv(0, 1);
	}
	if (cr0 & ts)
		__asm__ volatile("mov %0, %%cr0" : : "r"(cr0));
}

_Noreturn US_INLINE void haltForever(void)
{
	for (;;)
		__asm__ volatile("cli; hlt" : : : "memory");
}

/* In boot/. */
struct ReleaseState;
_Noreturn void leaveVmm(struct ReleaseState *state);
uint64_t exitStub(void);
void waitForNmi(void);
uint64_t exceptionStubs(void);
uint64_t nmiStub(void);
uint64_t releaseNmiStub(void);
uint64_t interruptStub(void);
uint64_t imageBase(void);
uint64_t imageTextEnd(void);

#endif
