// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The CPUs' way beneath the VMM and back: all or none. Callers hold cpus_read_lock() (or are the hot-plug
 * callback), so no CPU comes or goes meanwhile.
 */
#include "understudy.h"

#include <linux/cpumask.h>
#include <linux/nmi.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <asm/apic.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/smp.h>
#include <asm/tsc.h>

struct processor {
	u64 result;			/* of its last capture or release: enum us_error */
	bool in_use;			/* VT-x or AMD-V, by somebody else */
	u64 capture_ticks, release_ticks;
	u32 number;			/* the VMM's for it: another kernel may count otherwise */
	bool beneath;
};
static DEFINE_PER_CPU(struct processor, processor);
/* CPUID does not show the VMM any more: what is known of `beneath` is kept by hand. */
static bool cpuid_direct;

#define MSR_VM_CR 0xc0010114

bool us_has_vmx(void)
{
	return cpuid_ecx(1) & BIT(5);
}

bool us_has_svm(void)
{
	return cpuid_eax(0x80000000) >= 0x8000000a && cpuid_ecx(0x80000001) & BIT(2);
}

/* AMD's memory encryption: the kernel's own CR3 has the bit that means "encrypted" (APM volume 2, 7.10). */
bool us_encrypts_memory(void)
{
	u32 eax, ebx, ecx, edx;

	if (cpuid_eax(0x80000000) < 0x8000001f)
		return false;
	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	return eax & 3 && __read_cr3() >> (ebx & 63) & 1;
}

bool us_beneath(void)
{
	u32 eax, ebx, ecx, edx;

	cpuid(US_CPUID_SIGNATURE, &eax, &ebx, &ecx, &edx);
	return ebx == US_SIGNATURE_EBX && ecx == US_SIGNATURE_ECX && edx == US_SIGNATURE_EDX;
}

static bool has_processor(unsigned int cpu)
{
	return cpu_possible(cpu) && per_cpu(x86_cpu_to_apicid, cpu) != BAD_APICID;
}

u32 us_cpu_count(void)
{
	u32 count = nr_cpu_ids;

	while (count > 1 && !has_processor(count - 1))
		count--;
	return count;
}

static u64 read_msr(u32 msr)
{
	u32 low, high;

	return rdmsr_safe(msr, &low, &high) ? 0 : (u64)high << 32 | low;
}

static bool virtualization_in_use(void)
{
	return us_has_svm() ? read_msr(MSR_EFER) & EFER_SVME : __read_cr4() & X86_CR4_VMXE;
}

/* Runs on each CPU: where is it? */
static void look(void *unused)
{
	struct processor *p = this_cpu_ptr(&processor);

	if (cpuid_direct)
		return;
	p->beneath = us_beneath();
	p->in_use = !p->beneath && virtualization_in_use();
	p->number = p->beneath ? cpuid_ecx(US_CPUID_SIGNATURE + 1) : 0;
}

/* ---- capture -------------------------------------------------------------------- */

/* Runs with interrupts off on the CPU. */
static void capture(void *argument)
{
	const struct us_region *region = argument;
	struct processor *p = this_cpu_ptr(&processor);
	u64 start = rdtsc();

	p->result = us_enter(region->launch_cr3, region->entry, smp_processor_id());
	p->capture_ticks = rdtsc() - start;
}

/* The VMM sets itself up in slices, so that interrupts are never off for long. */
static int prepare(const struct us_region *region)
{
	unsigned long flags;
	u32 step = 0;
	u64 result;

	do {
		local_irq_save(flags);
		result = us_enter(region->launch_cr3, region->entry, US_PREPARE | step++);
		local_irq_restore(flags);
		cond_resched();
	} while (result == US_E_AGAIN);
	if (result == US_OK)
		return 0;
	pr_err("the VMM can't start on this machine\n");
	return us_errno(result);
}

int us_capture_all(const struct us_region *region)
{
	unsigned int cpu;
	int error;

	on_each_cpu(look, NULL, 1);
	for_each_online_cpu(cpu) {
		if (per_cpu(processor, cpu).in_use) {
			pr_err("CPU %u uses VT-x or AMD-V already: unload KVM's module\n", cpu);
			return -EBUSY;
		}
	}
	error = prepare(region);
	if (error)
		return error;
	on_each_cpu(capture, (void *)region, 1);
	for_each_online_cpu(cpu) {
		u64 result = per_cpu(processor, cpu).result;

		if (result != US_OK && !error) {
			pr_err("CPU %u was not captured\n", cpu);
			error = us_errno(result);
		}
	}
	return error;
}

/* For the hot-plug callback: a CPU that was offline at the start comes up outside the VMM. */
int us_capture_this(const struct us_region *region)
{
	unsigned long flags;
	u64 result;

	local_irq_save(flags);
	if (us_beneath()) {
		result = US_OK;
	} else {
		capture((void *)region);
		result = this_cpu_read(processor.result);
	}
	local_irq_restore(flags);
	return result == US_OK ? 0 : us_errno(result);
}

/* ---- release -------------------------------------------------------------------- */

/* What a hypercall is told that is made on a CPU beneath which the VMM is, and what came of it. */
struct errand {
	u64 number, buffer, length, argument;
	struct us_result answer;
};

static void run_errand(void *argument)
{
	struct errand *errand = argument;

	errand->answer = us_hypercall(errand->number, errand->buffer, errand->length, errand->argument);
}

/* The CPUs that the VMM is beneath, in its own numbers; the first of them in Linux's, nr_cpu_ids for none. */
static unsigned int find_beneath(u64 *mask)
{
	unsigned int cpu, first = nr_cpu_ids;

	on_each_cpu(look, NULL, 1);
	*mask = 0;
	for_each_online_cpu(cpu) {
		if (per_cpu(processor, cpu).beneath) {
			first = min(first, cpu);
			*mask |= BIT_ULL(per_cpu(processor, cpu).number);
		}
	}
	return first;
}

int us_call_beneath(const struct us_call *call, u64 buffer, struct us_result *result)
{
	struct errand errand = { .number = call->number, .buffer = buffer, .length = call->length, .argument = call->argument };
	u64 beneath;
	unsigned int cpu = find_beneath(&beneath);

	if (cpu == nr_cpu_ids)
		return -ENODEV;
	smp_call_function_single(cpu, run_errand, &errand, 1);
	*result = errand.answer;
	return 0;
}

int us_devirtualize(u32 parts)
{
	struct errand errand = { .number = US_HC_DEVIRTUALIZE, .length = parts };
	unsigned int cpu = find_beneath(&errand.argument);

	if (cpu == nr_cpu_ids)
		return -ENODEV;
	smp_call_function_single(cpu, run_errand, &errand, 1);
	if (errand.answer.result != US_OK)
		return us_errno(errand.answer.result);
	if (parts & US_TRAPPED_PROCESSOR)
		cpuid_direct = true;
	return 0;
}

/* Whether another instance has a share of the CPU that this runs on. */
bool us_shared(void)
{
	return us_beneath() && cpuid_edx(US_CPUID_SIGNATURE + 1) & US_CPUID_SHARED;
}

/* Runs with interrupts off on each CPU. */
static void release(void *unused)
{
	struct processor *p = this_cpu_ptr(&processor);
	struct us_result r;
	u64 start;

	if (!p->beneath)
		return;
	start = rdtsc();
	r = us_leave(US_HC_RELEASE);
	p->release_ticks = rdtsc() - start;
	p->result = r.result;
	p->beneath = r.result != US_OK;
	/* NMIs that came while the VMM was busy leaving; NMIs don't queue, so one stands for all. */
	if (r.result == US_OK && r.value)
		apic->send_IPI(smp_processor_id(), NMI_VECTOR);
}

/* For the hot-plug callback, on a CPU that goes offline. */
int us_release_this(void)
{
	unsigned long flags;
	bool beneath;

	local_irq_save(flags);
	look(NULL);
	release(NULL);
	beneath = this_cpu_read(processor.beneath);
	local_irq_restore(flags);
	return beneath ? -EBUSY : 0;
}

void us_note_bare(void)
{
	this_cpu_write(processor.beneath, false);
}

/*
 * Returns 0 when no CPU is left beneath the VMM; then the VMM's memory is nobody's. Captured CPUs that are
 * offline here are let go by the VMM itself.
 */
int us_release_all(void)
{
	struct errand errand = { .number = US_HC_RELEASE_BEGIN };
	unsigned int cpu, first = find_beneath(&errand.argument);
	int error = 0;

	if (first < nr_cpu_ids) {
		smp_call_function_single(first, run_errand, &errand, 1);
		if (errand.answer.result != US_OK)
			return us_errno(errand.answer.result);
		on_each_cpu(release, NULL, 1);
	}
	on_each_cpu(look, NULL, 1);
	for_each_online_cpu(cpu) {
		if (per_cpu(processor, cpu).beneath) {
			pr_err("CPU %u was not released: error %llu\n", cpu, per_cpu(processor, cpu).result);
			error = -EIO;
		}
	}
	if (!error)
		cpuid_direct = false;
	return error;
}

/* ---- reports -------------------------------------------------------------------- */

void us_pauses(struct us_pauses *pauses)
{
	unsigned int cpu;

	pauses->cpu_count = min_t(u32, us_cpu_count(), US_MAX_CPUS);
	pauses->tsc_khz = tsc_khz;
	for (cpu = 0; cpu < pauses->cpu_count; cpu++) {
		if (!cpu_possible(cpu))
			continue;
		pauses->capture_ticks[cpu] = per_cpu(processor, cpu).capture_ticks;
		pauses->release_ticks[cpu] = per_cpu(processor, cpu).release_ticks;
	}
}

/* Runs on each CPU. */
static void read_capability(void *argument)
{
	struct us_capabilities *all = argument;
	unsigned int cpu = smp_processor_id(), i;
	struct us_cpu_capability *mine = &all->cpu[cpu];

	if (cpu >= US_MAX_CPUS)
		return;
	mine->online = 1;
	mine->cr4 = __read_cr4();
	mine->encrypts = us_encrypts_memory();
	if (us_has_svm()) {
		mine->efer = read_msr(MSR_EFER);
		mine->vm_cr = read_msr(MSR_VM_CR);
	}
	if (!us_has_vmx())
		return;
	mine->feature_control = read_msr(MSR_IA32_FEAT_CTL);
	for (i = 0; i < US_VMX_MSR_COUNT; i++)
		mine->vmx[i] = read_msr(MSR_IA32_VMX_BASIC + i);
}

void us_capabilities(struct us_capabilities *capabilities)
{
	capabilities->cpu_count = min_t(u32, us_cpu_count(), US_MAX_CPUS);
	on_each_cpu(read_capability, capabilities, 1);
}
