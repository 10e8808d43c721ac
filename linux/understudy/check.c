// SPDX-License-Identifier: MIT OR GPL-2.0
/* check: can this machine be captured, and if not, why? */
#include "check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "args.h"
#include "iommu.h"
#include "say.h"
#include "verbs.h"

#define CR4_VMXE (1ull << 13)
#define EFER_SVME (1ull << 12)
#define VM_CR_SVMDIS (1ull << 4)
#define VM_CR_LOCK (1ull << 3)
#define FEATURE_LOCKED 1ull
#define FEATURE_VMX_OUTSIDE_SMX 4ull

static void miss(struct verdict *verdict, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void miss(struct verdict *verdict, const char *code, const char *format, ...)
{
	struct missing *missing = &verdict->missing[verdict->count];
	va_list arguments;

	if (verdict->count == MAX_MISSING)
		return;
	missing->code = code;
	va_start(arguments, format);
	vsnprintf(missing->text, sizeof(missing->text), format, arguments);
	va_end(arguments);
	verdict->count++;
}

static bool bit(const struct capabilities *machine, const char *key, unsigned number)
{
	return capability(machine, "%s", key) >> number & 1;
}

static bool has_svm(const struct capabilities *machine)
{
	return bit(machine, "cpuid.80000001.ecx", 2);
}

/* ---- what VT-x must offer ------------------------------------------------------- */

/*
 * One bit of a VMX capability MSR each (Intel SDM volume 3, appendix A). In the control MSRs the high half says
 * which controls may be 1.
 */
static const struct need {
	unsigned msr, bit;
	const char *code, *text;
} needs[] = {
	{ 0x480, 55, "true-controls", "the true VMX controls" },
	{ 0x48d, 32 + 6, "preemption-timer", "the VMX-preemption timer" },
	{ 0x48e, 32 + 25, "io-bitmaps", "I/O bitmaps" },
	{ 0x48e, 32 + 27, "monitor-trap-flag", "the monitor trap flag" },
	{ 0x48e, 32 + 28, "msr-bitmaps", "MSR bitmaps" },
	{ 0x48e, 32 + 31, "secondary-controls", "secondary controls" },
	{ 0x48b, 32 + 1, "ept", "EPT" },
	{ 0x48b, 32 + 5, "vpid", "VPID" },
	{ 0x48b, 32 + 7, "unrestricted-guest", "unrestricted guest" },
	{ 0x48f, 32 + 2, "exit-debug", "saving debug controls on exit" },
	{ 0x48f, 32 + 9, "exit-64-bit", "a 64-bit host" },
	{ 0x48f, 32 + 20, "exit-save-efer", "saving EFER on exit" },
	{ 0x48f, 32 + 21, "exit-load-efer", "loading EFER on exit" },
	{ 0x490, 32 + 2, "entry-debug", "loading debug controls on entry" },
	{ 0x490, 32 + 9, "entry-64-bit", "a 64-bit guest" },
	{ 0x490, 32 + 15, "entry-load-efer", "loading EFER on entry" },
	{ 0x485, 6, "activity-hlt", "the HLT activity state" },
	{ 0x485, 8, "activity-sipi", "the wait-for-SIPI activity state" },
	{ 0x48c, 6, "ept-4-levels", "EPT of 4 levels" },
	{ 0x48c, 14, "ept-write-back", "write-back EPT tables" },
	{ 0x48c, 16, "ept-2m", "EPT pages of 2 MiB" },
	{ 0x48c, 17, "ept-1g", "EPT pages of 1 GiB" },
	{ 0x48c, 20, "invept", "INVEPT" },
	{ 0x48c, 25, "invept-single", "INVEPT for a single context" },
	{ 0x48c, 32, "invvpid", "INVVPID" },
	{ 0x48c, 41, "invvpid-single", "INVVPID for a single context" },
};

/* Instructions that the kernel uses because CPUID shows them; as a guest it needs the control as well. */
static const struct { const char *leaf; unsigned leaf_bit; struct need need; } instructions[] = {
	{ "cpuid.80000001.edx", 27, { 0x48b, 32 + 3, "rdtscp", "RDTSCP for guests" } },
	{ "cpuid.7.ebx", 10, { 0x48b, 32 + 12, "invpcid", "INVPCID for guests" } },
	{ "cpuid.d.1.eax", 3, { 0x48b, 32 + 20, "xsaves", "XSAVES for guests" } },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Some of the MSRs are only there with a capability of another one, whose lack is enough to say. */
static bool msr_exists(const struct capabilities *machine, unsigned cpu, unsigned msr)
{
	switch (msr) {
	case 0x48b:
		return capability(machine, "cpu%u.msr.48e", cpu) >> 63 & 1;
	case 0x48c:
		return msr_exists(machine, cpu, 0x48b) && capability(machine, "cpu%u.msr.48b", cpu) >> 33 & 1;
	case 0x48d ... 0x490:
		return capability(machine, "cpu%u.msr.480", cpu) >> 55 & 1;
	default:
		return true;
	}
}

/* The first CPU that lacks it; US_MAX_CPUS when none does. */
static unsigned cpu_without(const struct capabilities *machine, const struct need *need)
{
	for (unsigned cpu = 0; cpu < US_MAX_CPUS; cpu++) {
		if (!capability_text(machine, "cpu%u.msr.480", cpu) || !msr_exists(machine, cpu, need->msr))
			continue;
		if (!(capability(machine, "cpu%u.msr.%x", cpu, need->msr) >> need->bit & 1))
			return cpu;
	}
	return US_MAX_CPUS;
}

static void judge_need(const struct capabilities *machine, const struct need *need, struct verdict *verdict)
{
	unsigned cpu = cpu_without(machine, need);

	if (cpu < US_MAX_CPUS)
		miss(verdict, need->code, "VT-x without %s (CPU %u): this CPU can't be captured", need->text, cpu);
}

static void judge_vmx(const struct capabilities *machine, struct verdict *verdict)
{
	const char *source = capability_text(machine, "msr.source");

	if (!source || strcmp(source, "none") == 0) {
		miss(verdict, "no-msr", "VT-x's details can't be read: run as root with understudy.ko or the msr module at hand");
		return;
	}
	for (unsigned cpu = 0; cpu < US_MAX_CPUS; cpu++) {
		uint64_t control = capability(machine, "cpu%u.msr.3a", cpu);

		if (!capability_text(machine, "cpu%u.msr.480", cpu))
			continue;
		if (!(control & FEATURE_VMX_OUTSIDE_SMX) && control & FEATURE_LOCKED) {
			miss(verdict, "vmx-locked", "VT-x is locked off in IA32_FEATURE_CONTROL (CPU %u): turn it on in the firmware's setup", cpu);
			return;
		}
		if (!(control & FEATURE_LOCKED)) {
			miss(verdict, "vmx-unlocked", "IA32_FEATURE_CONTROL is not locked (CPU %u): the firmware or kernel must turn VT-x on and lock it", cpu);
			return;
		}
	}
	for (unsigned i = 0; i < COUNT(needs); i++)
		judge_need(machine, &needs[i], verdict);
	for (unsigned i = 0; i < COUNT(instructions); i++)
		if (bit(machine, instructions[i].leaf, instructions[i].leaf_bit))
			judge_need(machine, &instructions[i].need, verdict);
}

/* ---- what AMD-V must offer ------------------------------------------------------ */

static void judge_svm(const struct capabilities *machine, struct verdict *verdict)
{
	const char *source = capability_text(machine, "msr.source");

	/* AMD APM volume 2, 15.4 */
	if (!bit(machine, "cpuid.8000000a.edx", 0))
		miss(verdict, "npt", "AMD-V without nested paging: this CPU can't be captured");
	if (capability(machine, "cpuid.8000000a.ebx") < 3)
		miss(verdict, "asids", "AMD-V with fewer than 3 address space identifiers: this CPU can't be captured");
	if (!source || strcmp(source, "none") == 0) {
		miss(verdict, "no-msr", "AMD-V's details can't be read: run as root with understudy.ko or the msr module at hand");
		return;
	}
	for (unsigned cpu = 0; cpu < US_MAX_CPUS; cpu++) {
		uint64_t control = capability(machine, "cpu%u.msr.c0010114", cpu);

		if (!(control & VM_CR_SVMDIS))
			continue;
		miss(verdict, "svm-locked", "AMD-V is %s in VM_CR (CPU %u): turn it on in the firmware's setup",
		     control & VM_CR_LOCK ? "locked off" : "off", cpu);
		return;
	}
}

/* ---- everything ----------------------------------------------------------------- */

static void judge_kvm(const struct capabilities *machine, struct verdict *verdict)
{
	uint64_t users = capability(machine, "kvm.users");
	const char *module = has_svm(machine) ? "kvm_amd" : "kvm_intel";

	for (unsigned cpu = 0; cpu < US_MAX_CPUS; cpu++) {
		if (capability(machine, "cpu%u.cr4", cpu) & CR4_VMXE) {
			miss(verdict, "kvm-in-use", "VT-x is in use (CR4.VMXE is set on CPU %u): stop its guests and unload kvm_intel", cpu);
			return;
		}
		if (capability(machine, "cpu%u.msr.c0000080", cpu) & EFER_SVME) {
			miss(verdict, "kvm-in-use", "AMD-V is in use (EFER.SVME is set on CPU %u): stop its guests and unload kvm_amd", cpu);
			return;
		}
	}
	if (users)
		miss(verdict, "kvm-in-use", "KVM is in use (%llu users of %s): stop its guests", (unsigned long long)users, module);
}

struct verdict judge(const struct capabilities *machine)
{
	struct verdict verdict = { 0 };
	const char *hypervisor = capability_text(machine, "hypervisor");
	const char *vendor = capability_text(machine, "cpuid.vendor");

	if (hypervisor && strcmp(hypervisor, "Understudy") == 0) {
		miss(&verdict, "captured", "captured already: an Understudy VMM is beneath this kernel: see understudy status");
		return verdict;
	}
	if (has_svm(machine)) {
		judge_svm(machine, &verdict);
		judge_kvm(machine, &verdict);
	} else if (!bit(machine, "cpuid.1.ecx", 5)) {
		if (hypervisor || bit(machine, "cpuid.1.ecx", 31))
			miss(&verdict, "no-nesting", "beneath a hypervisor (%s) that shows neither VT-x nor AMD-V: turn nesting on there",
			     hypervisor ? hypervisor : "unnamed");
		else if (vendor && strcmp(vendor, "AuthenticAMD") == 0)
			miss(&verdict, "no-svm", "no AMD-V: CPUID does not show SVM");
		else if (vendor && strcmp(vendor, "GenuineIntel") != 0)
			miss(&verdict, "no-vmx", "no VT-x: an Intel or AMD CPU is needed, this one is %s", vendor);
		else
			miss(&verdict, "no-vmx", "no VT-x: CPUID does not show VMX");
	} else {
		judge_vmx(machine, &verdict);
		judge_kvm(machine, &verdict);
	}
	if (capability(machine, "cpu0.encrypts"))
		miss(&verdict, "memory-encryption", "the kernel encrypts its memory: boot with mem_encrypt=off");
	if (!bit(machine, "cpuid.80000001.edx", 26))
		miss(&verdict, "no-1g-pages", "no 1 GiB pages (pdpe1gb): this CPU can't be captured");
	if (capability(machine, "cpu.count") > US_MAX_CPUS)
		miss(&verdict, "too-many-cpus", "%llu CPUs are more than %u: boot with maxcpus=%u",
		     (unsigned long long)capability(machine, "cpu.count"), US_MAX_CPUS, US_MAX_CPUS);
	return verdict;
}

void require_ready(void)
{
	struct verdict verdict = judge(read_machine(true));

	for (unsigned i = 0; i < verdict.count; i++)
		complain("%s", verdict.missing[i].text);
	if (verdict.count)
		exit(1);
}

/* What confines devices. A dump of before they were looked at says nothing. */
static void print_iommu(const struct capabilities *machine)
{
	const char *iommu = capability_text(machine, "iommu");
	const char *limit = capability_text(machine, "iommu.limit");
	const char *name;

	if (!iommu)
		return;
	name = strcmp(iommu, "vt-d") == 0 ? "VT-d" : "AMD-Vi";
	if (strcmp(iommu, "none") == 0) {
		printf("no IOMMU: not enforced is what a device reaches by DMA, which is all memory, whoever holds it\n");
		return;
	}
	if (limit) {
		printf("IOMMU %s is left to this kernel, since %s; not enforced is what devices reach by DMA, and by interrupts\n", name,
		       limit_text(limit) ? limit_text(limit) : limit);
		return;
	}
	printf("IOMMU %s: devices reach only the memory of the instance that holds them\n", name);
	if (strcmp(iommu, "vt-d") == 0)
		printf("interrupts: devices reach only CPUs of the instance that holds them, where this kernel remaps interrupts\n");
	else
		printf("interrupts: devices of a second instance reach only its CPUs; this kernel may have its own reach any\n");
}

static void print_json(const struct verdict *verdict, const struct capabilities *machine)
{
	json_open(NULL, '{');
	json_bool("ready", verdict->count == 0);
	json_number("cpus", capability(machine, "cpu.count"));
	if (capability_text(machine, "iommu"))
		json_text("iommu", capability_text(machine, "iommu"));
	if (capability_text(machine, "iommu.limit"))
		json_text("iommu_limit", capability_text(machine, "iommu.limit"));
	json_open("missing", '[');
	for (unsigned i = 0; i < verdict->count; i++) {
		json_open(NULL, '{');
		json_text("code", verdict->missing[i].code);
		json_text("text", verdict->missing[i].text);
		json_close();
	}
	json_close();
	json_close();
}

int verb_check(char **arguments)
{
	bool json = false, dump = false;
	const char *from = NULL;
	const struct option options[] = {
		{ "--json", NULL, &json }, { "--dump", NULL, &dump }, { "--from", &from, NULL }, { NULL, NULL, NULL },
	};
	struct capabilities *machine;
	struct verdict verdict;

	parse_arguments("check", arguments, options, NULL);
	machine = from ? read_dump(from) : read_machine(false);
	if (dump) {
		print_dump(machine);
		return 0;
	}
	verdict = judge(machine);
	if (json) {
		print_json(&verdict, machine);
	} else if (verdict.count) {
		for (unsigned i = 0; i < verdict.count; i++)
			complain("%s", verdict.missing[i].text);
	} else {
		uint64_t cpus = capability(machine, "cpu.count");

		printf("ready: %llu CPU%s with %s\n", (unsigned long long)cpus, cpus == 1 ? "" : "s",
		       has_svm(machine) ? "AMD-V and nested paging" : "VT-x, EPT and unrestricted guest");
		print_iommu(machine);
	}
	return verdict.count ? 1 : 0;
}
