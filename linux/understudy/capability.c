// SPDX-License-Identifier: MIT OR GPL-2.0
#include "capability.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi.h"
#include "cpuid.h"
#include "device.h"
#include "file.h"
#include "iommu.h"
#include "say.h"

#define MAX_ENTRIES 1024
#define CPUID_1_ECX_VMX (1u << 5)
#define MSR_FEATURE_CONTROL 0x3au
#define MSR_VMX_BASIC 0x480u
#define MSR_EFER 0xc0000080u
#define MSR_VM_CR 0xc0010114u

struct capabilities {
	unsigned count;
	struct { char key[24], value[40]; } entry[MAX_ENTRIES];
};

static void add(struct capabilities *all, const char *key, const char *value)
{
	if (all->count == MAX_ENTRIES)
		fail("more than %d capabilities", MAX_ENTRIES);
	snprintf(all->entry[all->count].key, sizeof(all->entry[0].key), "%s", key);
	snprintf(all->entry[all->count].value, sizeof(all->entry[0].value), "%s", value);
	all->count++;
}

static void add_number(struct capabilities *all, uint64_t value, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add_number(struct capabilities *all, uint64_t value, const char *format, ...)
{
	char key[24], text[24];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(key, sizeof(key), format, arguments);
	va_end(arguments);
	snprintf(text, sizeof(text), value < 10 ? "%llu" : "%#llx", (unsigned long long)value);
	add(all, key, text);
}

static const char *find(const struct capabilities *all, const char *key)
{
	for (unsigned i = 0; i < all->count; i++)
		if (strcmp(all->entry[i].key, key) == 0)
			return all->entry[i].value;
	return NULL;
}

const char *capability_text(const struct capabilities *all, const char *format, ...)
{
	char key[24];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(key, sizeof(key), format, arguments);
	va_end(arguments);
	return find(all, key);
}

uint64_t capability(const struct capabilities *all, const char *format, ...)
{
	char key[24];
	const char *text;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(key, sizeof(key), format, arguments);
	va_end(arguments);
	text = find(all, key);
	return text ? strtoull(text, NULL, 0) : 0;
}

/* ---- this machine --------------------------------------------------------------- */

static void read_cpuid(struct capabilities *all)
{
	struct cpuid leaf = cpuid(0, 0);
	uint32_t name[3] = { leaf.ebx, leaf.edx, leaf.ecx };
	char text[13] = "";

	memcpy(text, name, 12);
	add(all, "cpuid.vendor", text);
	add_number(all, cpuid(1, 0).ecx, "cpuid.1.ecx");
	add_number(all, leaf.eax >= 7 ? cpuid(7, 0).ebx : 0, "cpuid.7.ebx");
	add_number(all, leaf.eax >= 0xd ? cpuid(0xd, 1).eax : 0, "cpuid.d.1.eax");
	add_number(all, cpuid(0x80000001, 0).ecx, "cpuid.80000001.ecx");
	add_number(all, cpuid(0x80000001, 0).edx, "cpuid.80000001.edx");
	if (shows_svm()) {
		add_number(all, cpuid(0x8000000a, 0).ebx, "cpuid.8000000a.ebx");
		add_number(all, cpuid(0x8000000a, 0).edx, "cpuid.8000000a.edx");
	}
	hypervisor_name(text);
	/* It may be there although CPUID does not show it any more. */
	if (captured())
		snprintf(text, sizeof(text), "Understudy");
	if (*text)
		add(all, "hypervisor", text);
}

static void read_kernel(struct capabilities *all)
{
	char online[256];
	uint64_t users;

	if (read_line(online, sizeof(online), "/sys/devices/system/cpu/online"))
		add_number(all, (uint64_t)__builtin_popcountll(parse_list(online)), "cpu.count");
	if (read_number(&users, 10, "/sys/module/%s/refcnt", shows_svm() ? "kvm_amd" : "kvm_intel"))
		add_number(all, users, "kvm.users");
	add(all, "iommu", iommu_kind());
	/* The tables are root's to read. */
	if (geteuid() == 0 && iommu_limit())
		add(all, "iommu.limit", iommu_limit());
}

static bool read_by_module(struct capabilities *all, bool keep_module)
{
	static struct us_capabilities capabilities;
	bool was_loaded = module_loaded("understudy");
	int device;

	if (!was_loaded && (geteuid() != 0 || load_module("understudy") != 0))
		return false;
	device = try_device();
	if (device < 0 || ioctl(device, US_IOC_CAPABILITIES, &capabilities) != 0)
		capabilities.cpu_count = 0;
	if (device >= 0)
		close(device);
	if (!was_loaded && !keep_module)
		syscall(SYS_delete_module, "understudy", O_NONBLOCK);
	for (unsigned cpu = 0; cpu < capabilities.cpu_count; cpu++) {
		const struct us_cpu_capability *its = &capabilities.cpu[cpu];

		if (!its->online)
			continue;
		add_number(all, its->cr4, "cpu%u.cr4", cpu);
		if (its->encrypts)
			add_number(all, its->encrypts, "cpu%u.encrypts", cpu);
		if (shows_svm()) {
			add_number(all, its->efer, "cpu%u.msr.%x", cpu, MSR_EFER);
			add_number(all, its->vm_cr, "cpu%u.msr.%x", cpu, MSR_VM_CR);
			continue;
		}
		add_number(all, its->feature_control, "cpu%u.msr.%x", cpu, MSR_FEATURE_CONTROL);
		for (unsigned i = 0; i < US_VMX_MSR_COUNT; i++)
			add_number(all, its->vmx[i], "cpu%u.msr.%x", cpu, MSR_VMX_BASIC + i);
	}
	return capabilities.cpu_count > 0;
}

static bool read_by_msr_driver(struct capabilities *all)
{
	char online[256];
	uint64_t mask;

	if (geteuid() == 0)
		load_module("msr");
	if (!read_line(online, sizeof(online), "/sys/devices/system/cpu/online"))
		return false;
	mask = parse_list(online);
	for (unsigned cpu = 0; cpu < US_MAX_CPUS; cpu++) {
		char path[64];
		uint64_t value;
		int fd;

		if (!(mask >> cpu & 1))
			continue;
		snprintf(path, sizeof(path), "/dev/cpu/%u/msr", cpu);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
		if (shows_svm()) {
			if (pread(fd, &value, sizeof(value), MSR_EFER) == sizeof(value))
				add_number(all, value, "cpu%u.msr.%x", cpu, MSR_EFER);
			if (pread(fd, &value, sizeof(value), MSR_VM_CR) == sizeof(value))
				add_number(all, value, "cpu%u.msr.%x", cpu, MSR_VM_CR);
			close(fd);
			continue;
		}
		if (pread(fd, &value, sizeof(value), MSR_FEATURE_CONTROL) == sizeof(value))
			add_number(all, value, "cpu%u.msr.%x", cpu, MSR_FEATURE_CONTROL);
		for (unsigned i = 0; i < US_VMX_MSR_COUNT; i++)
			if (pread(fd, &value, sizeof(value), MSR_VMX_BASIC + i) == sizeof(value))
				add_number(all, value, "cpu%u.msr.%x", cpu, MSR_VMX_BASIC + i);
		close(fd);
	}
	return true;
}

struct capabilities *read_machine(bool keep_module)
{
	static struct capabilities all;

	all.count = 0;
	read_cpuid(&all);
	read_kernel(&all);
	if ((!(cpuid(1, 0).ecx & CPUID_1_ECX_VMX) && !shows_svm()) || captured())
		add(&all, "msr.source", "none");
	else if (read_by_module(&all, keep_module))
		add(&all, "msr.source", "module");
	else if (read_by_msr_driver(&all))
		add(&all, "msr.source", "msr");
	else
		add(&all, "msr.source", "none");
	return &all;
}

/* ---- dumps ---------------------------------------------------------------------- */

struct capabilities *read_dump(const char *path)
{
	static struct capabilities all;
	char line[256];
	unsigned number = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		fail("--from %s: %s", path, strerror(errno));
	all.count = 0;
	while (fgets(line, sizeof(line), file)) {
		char key[24], value[40];

		number++;
		line[strcspn(line, "#\n")] = '\0';
		if (line[strspn(line, " \t")] == '\0')
			continue;
		if (sscanf(line, "%23s %39[^\n]", key, value) != 2)
			fail("--from %s: line %u is not `key value`", path, number);
		add(&all, key, value);
	}
	fclose(file);
	if (!find(&all, "cpuid.1.ecx"))
		fail("--from %s: not a dump: it says nothing of cpuid.1.ecx", path);
	return &all;
}

void print_dump(const struct capabilities *all)
{
	for (unsigned i = 0; i < all->count; i++)
		printf("%s %s\n", all->entry[i].key, all->entry[i].value);
}
