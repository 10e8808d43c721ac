// SPDX-License-Identifier: MIT OR GPL-2.0
/* The attacks as a Linux module: a line written to /proc/hostile asks for one, reading the file gives the answer. */
#include "attack.h"

#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nmi.h>
#include <linux/pci.h>
#include <linux/proc_fs.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <asm/apic.h>
#include <asm/desc.h>
#include <asm/nmi.h>

static DEFINE_MUTEX(busy);
static struct answer answer;
static u8 *scratch_memory, *page_memory;

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
	return virt_to_phys((void *)memory);
}

/* RAM by the direct map, even where it is offline; all else as devices are mapped. */
void *map(u64 address)
{
	u64 start = address & PAGE_MASK;
	bool ram = region_intersects(start, PAGE_SIZE, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) == REGION_INTERSECTS;
	void *mapped = ram ? memremap(start, PAGE_SIZE, MEMREMAP_WB) : (void __force *)ioremap(start, PAGE_SIZE);

	return mapped ? mapped + offset_in_page(address) : NULL;
}

void unmap(void *mapped)
{
	if (is_vmalloc_addr(mapped))
		iounmap((void __iomem __force *)mapped);
}

u8 *claim_apic(unsigned long *state)
{
	local_irq_save(*state);
	return (u8 *)APIC_BASE;
}

void yield_apic(unsigned long state)
{
	local_irq_restore(state);
}

/* ---- NMIs ----------------------------------------------------------------------- */

/*
 * The HPET's first timer, which Linux needs only until its CPUs have their own, sends an NMI to the CPUs that the
 * IOAPIC is told, and each NMI arms the next one for a while later. So none can be taken for another, and when one is
 * lost, they end.
 */
#define HPET 0xfed00000
#define HPET_COUNTER 0xf0
#define TIMER_CONFIGURATION 0x100
#define TIMER_COMPARATOR 0x108
#define TIMER_ENABLE 4
#define TIMER_KIND 0x4a			/* level, periodic, settable */
#define IOAPIC 0xfec00000
#define TIMER_PIN 2
#define ENTRY_MASKED 0x10000
#define ENTRY_NMI 0x400

static struct {
	u8 __iomem *hpet, *ioapic;
	u32 entry[2];			/* as Linux had it */
	u64 seed;
	u32 each;			/* CPUs that each NMI goes to */
	atomic_t due;			/* of them, those that have not had the last one */
	atomic_t shots;
	bool on;
} nmis;

static DEFINE_PER_CPU(u32, nmi_count);

static u32 read_entry(unsigned half)
{
	writel(0x10 + 2 * TIMER_PIN + half, nmis.ioapic);
	return readl(nmis.ioapic + 0x10);
}

static void write_entry(u32 low, u32 high)
{
	unsigned long flags;

	local_irq_save(flags);
	writel(0x10 + 2 * TIMER_PIN, nmis.ioapic);
	writel(ENTRY_MASKED, nmis.ioapic + 0x10);
	writel(0x11 + 2 * TIMER_PIN, nmis.ioapic);
	writel(high, nmis.ioapic + 0x10);
	writel(0x10 + 2 * TIMER_PIN, nmis.ioapic);
	writel(low, nmis.ioapic + 0x10);
	local_irq_restore(flags);
}

static void set_timer(u32 ticks)
{
	writel(readl(nmis.hpet + HPET_COUNTER) + ticks, nmis.hpet + TIMER_COMPARATOR);
}

static void arm(void)
{
	atomic_set(&nmis.due, nmis.each);
	atomic_inc(&nmis.shots);
	nmis.seed = nmis.seed * 6364136223846793005ull + 1442695040888963407ull;
	set_timer(40000 + (nmis.seed >> 33) % 160000);
}

static int on_nmi(unsigned int type, struct pt_regs *registers)
{
	if (!nmis.on)
		return NMI_DONE;
	this_cpu_inc(nmi_count);
	if (atomic_dec_and_test(&nmis.due))
		arm();
	return NMI_HANDLED;
}

static int open_devices(void)
{
	nmis.hpet = ioremap(HPET, PAGE_SIZE);
	nmis.ioapic = ioremap(IOAPIC, PAGE_SIZE);
	return nmis.hpet && nmis.ioapic ? 0 : -ENOMEM;
}

static void close_devices(void)
{
	if (nmis.hpet)
		iounmap(nmis.hpet);
	if (nmis.ioapic)
		iounmap(nmis.ioapic);
}

static void enable_timer(bool enable)
{
	u32 configuration = readl(nmis.hpet + TIMER_CONFIGURATION) & ~(TIMER_KIND | TIMER_ENABLE);

	writel(configuration | (enable ? TIMER_ENABLE : 0), nmis.hpet + TIMER_CONFIGURATION);
}

/* start-nmis APIC-ID CPUS: an APIC id, or 0xff for all CPUs, and how many CPUs that is. */
static void start_nmis(const struct request *request)
{
	unsigned int cpu;

	if (nmis.on) {
		say(&answer, "running");
		return;
	}
	for_each_possible_cpu(cpu)
		per_cpu(nmi_count, cpu) = 0;
	nmis.entry[0] = read_entry(0);
	nmis.entry[1] = read_entry(1);
	nmis.each = (u32)request->number[1];
	nmis.seed = 1;
	atomic_set(&nmis.shots, 0);
	WRITE_ONCE(nmis.on, true);
	write_entry(ENTRY_NMI, (u32)request->number[0] << 24);
	enable_timer(true);
	arm();
	say_number(&answer, "each", nmis.each);
}

/* How many were sent to each of their CPUs, and how many came, all CPUs together. The last shot may still be due. */
static void stop_nmis(void)
{
	u32 shots = atomic_read(&nmis.shots), came = 0;
	unsigned int wait, cpu;
	bool alive;

	for (wait = 0; wait < 1000 && atomic_read(&nmis.shots) == shots; wait++)
		msleep(1);
	alive = atomic_read(&nmis.shots) != shots;
	/* After the masking no new one can come; what is on its way has arrived after a while. */
	write_entry(ENTRY_MASKED, 0);
	msleep(10);
	for_each_possible_cpu(cpu)
		came += per_cpu(nmi_count, cpu);
	say_number(&answer, "alive", alive);
	say_number(&answer, "sent", (atomic_read(&nmis.shots) - 1) * nmis.each);
	say_number(&answer, "came", came);
	enable_timer(false);
	WRITE_ONCE(nmis.on, false);
	write_entry(nmis.entry[0], nmis.entry[1]);
}

/* route HIGH LOW: what the IOAPIC makes of an interrupt of the timer, and such an interrupt. */
static void route_interrupt(const struct request *request)
{
	u32 entry[2] = { read_entry(0), read_entry(1) };

	write_entry((u32)request->number[1], (u32)request->number[0]);
	say_number(&answer, "low", read_entry(0));
	say_number(&answer, "high", read_entry(1));
	enable_timer(true);
	set_timer(10000);
	msleep(20);
	enable_timer(false);
	write_entry(entry[0], entry[1]);
}

/* ---- I/O page tables ------------------------------------------------------------ */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define map_page(domain, at, to) iommu_map(domain, at, to, PAGE_SIZE, IOMMU_READ | IOMMU_WRITE)
#else
#define map_page(domain, at, to) iommu_map(domain, at, to, PAGE_SIZE, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL)
#endif

/* map BDF IOVA ADDRESS: the kernel lets a function reach a page, whosesoever it is, at an address; unmap BDF IOVA takes it away. */
static void map_for_device(const struct request *request)
{
	u64 bdf = request->number[0], at = request->number[1];
	struct pci_dev *device = pci_get_domain_bus_and_slot(0, (unsigned int)bdf >> 8, (unsigned int)bdf & 0xff);
	struct iommu_domain *domain = device ? iommu_get_domain_for_dev(&device->dev) : NULL;

	if (!domain)
		say(&answer, "no domain");
	else if (is(request, "map"))
		say_number(&answer, "failed", (u64)-map_page(domain, at, request->number[2]));
	else
		say_number(&answer, "size", iommu_unmap(domain, at, PAGE_SIZE));
	pci_dev_put(device);
}

/* ---- the file ------------------------------------------------------------------- */

static void triple_fault(void)
{
	struct desc_ptr none = { .size = 0, .address = 0 };

	local_irq_disable();
	load_idt(&none);
	asm volatile("int3");
}

static void obey(const struct request *request)
{
	answer.length = 0;
	answer.text[0] = '\0';
	if (is(request, "start-nmis"))
		start_nmis(request);
	else if (is(request, "stop-nmis"))
		stop_nmis();
	else if (is(request, "route"))
		route_interrupt(request);
	else if (is(request, "map") || is(request, "unmap"))
		map_for_device(request);
	else if (is(request, "triple"))
		triple_fault();
	else if (!attack(request, &answer))
		say(&answer, "unknown");
}

static ssize_t write_file(struct file *file, const char __user *text, size_t length, loff_t *offset)
{
	char line[128];
	struct request request;

	if (length >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, length))
		return -EFAULT;
	line[length] = '\0';
	request = parse(line);
	mutex_lock(&busy);
	obey(&request);
	mutex_unlock(&busy);
	return length;
}

static ssize_t read_file(struct file *file, char __user *text, size_t length, loff_t *offset)
{
	ssize_t result;

	mutex_lock(&busy);
	result = simple_read_from_buffer(text, length, offset, answer.text, answer.length);
	mutex_unlock(&busy);
	return result;
}

static const struct proc_ops operations = { .proc_write = write_file, .proc_read = read_file, .proc_lseek = default_llseek };

static void free_all(void)
{
	close_devices();
	if (scratch_memory)
		free_pages((unsigned long)scratch_memory, get_order(SCRATCH_SIZE));
	if (page_memory)
		free_page((unsigned long)page_memory);
}

static int __init hostile_init(void)
{
	int error = open_devices();

	scratch_memory = (u8 *)__get_free_pages(GFP_KERNEL, get_order(SCRATCH_SIZE));
	page_memory = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (error || !scratch_memory || !page_memory) {
		free_all();
		return -ENOMEM;
	}
	error = register_nmi_handler(NMI_LOCAL, on_nmi, 0, "hostile");
	if (!error && !proc_create("hostile", 0600, NULL, &operations)) {
		unregister_nmi_handler(NMI_LOCAL, "hostile");
		error = -ENOMEM;
	}
	if (error)
		free_all();
	return error;
}

static void __exit hostile_exit(void)
{
	remove_proc_entry("hostile", NULL);
	unregister_nmi_handler(NMI_LOCAL, "hostile");
	free_all();
}

module_init(hostile_init);
module_exit(hostile_exit);
MODULE_DESCRIPTION("Attacks, for tests");
MODULE_LICENSE("Dual MIT/GPL");
