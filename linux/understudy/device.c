// SPDX-License-Identifier: MIT OR GPL-2.0
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpuid.h"
#include "file.h"
#include "say.h"

#define DEVICE "/dev/understudy"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- modules -------------------------------------------------------------------- */

bool module_loaded(const char *name)
{
	return exists("/sys/module/%s", name);
}

static int insert(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return errno;
	if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
		error = errno;
	close(fd);
	return error;
}

static int run_modprobe(const char *name)
{
	static const char *const places[] = { "/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe" };
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return errno;
	if (child == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		for (unsigned i = 0; i < COUNT(places); i++)
			execl(places[i], "modprobe", name, (char *)NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return ENOENT;
	return 0;
}

/* Where a module can lie: ours, an initramfs's, the kernel's own tree. */
static const char *const plain_places[] = { "/lib/understudy", "/mods" };
static const char *const kernel_places[] = {	/* below /lib/modules/RELEASE */
	"updates/dkms", "updates", "extra", "kernel/arch/x86/kernel",
};

static int insert_from(const char *directory, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.ko", directory, name);
	return insert(path);
}

/*
 * modprobe knows compressed files and dependencies, so it comes first where its index lists the module; in an
 * initramfs it may be missing or have no index.
 */
int load_module(const char *name)
{
	struct utsname system;
	char directory[256];
	int error = ENOENT, failed;

	if (module_loaded(name) || run_modprobe(name) == 0)
		return 0;
	uname(&system);
	for (unsigned i = 0; i < COUNT(plain_places) + COUNT(kernel_places); i++) {
		if (i < COUNT(plain_places))
			failed = insert_from(plain_places[i], name);
		else {
			snprintf(directory, sizeof(directory), "/lib/modules/%s/%s", system.release,
				 kernel_places[i - COUNT(plain_places)]);
			failed = insert_from(directory, name);
		}
		if (!failed)
			return 0;
		if (failed != ENOENT)
			error = failed;
	}
	return error;
}

/* ---- the device ----------------------------------------------------------------- */

/* Without devtmpfs nobody makes the node. */
static void make_node(void)
{
	char text[32];
	unsigned major, minor;

	if (!exists(DEVICE) && read_line(text, sizeof(text), "/sys/class/misc/understudy/dev") &&
	    sscanf(text, "%u:%u", &major, &minor) == 2)
		mknod(DEVICE, S_IFCHR | 0600, makedev(major, minor));
}

int try_device(void)
{
	make_node();
	return open(DEVICE, O_RDWR | O_CLOEXEC);
}

int open_device(void)
{
	int device = try_device(), error;

	if (device >= 0)
		return device;
	if (geteuid() != 0)
		fail("only root may do this");
	error = load_module("understudy");
	switch (error) {
	case 0:
		break;
	case ENOENT:
		fail("no understudy.ko for this kernel: install it in /lib/understudy or with DKMS");
	case EKEYREJECTED:
		fail("understudy.ko has no signature that this kernel trusts: Secure Boot asks for one");
	case ENOEXEC:
		fail("understudy.ko was built for another kernel: rebuild it");
	default:
		fail("understudy.ko does not load: %s; the kernel log says why", strerror(error));
	}
	device = try_device();
	if (device < 0)
		fail("%s: %s", DEVICE, strerror(errno));
	return device;
}

bool captured(void)
{
	bool beneath = understudy_beneath();
	int device = beneath ? -1 : try_device();

	if (device < 0)
		return beneath;
	beneath = get_pauses(device)->state != US_BARE;
	close(device);
	return beneath;
}

int open_captured(void)
{
	int device;

	if (!captured())
		fail("bare: no VMM is beneath this kernel: understudy start first");
	device = open_device();
	if (get_pauses(device)->state == US_BARE)
		fail("the module does not know of the VMM beneath: reload it");
	return device;
}

enum us_error call(int device, uint32_t number, uint64_t argument, void *buffer, size_t length)
{
	struct us_call call = { .number = number, .argument = argument, .buffer = (uintptr_t)buffer, .length = length };

	if (ioctl(device, US_IOC_CALL, &call) != 0)
		fail("the module does not make call %#x: %s", number, strerror(errno));
	return (enum us_error)call.result;
}

const char *error_text(enum us_error error)
{
	static const char *const texts[] = {
		[US_OK] = "no error",
		[US_E_UNKNOWN] = "the VMM knows no such call: module and VMM differ in version",
		[US_E_BUFFER] = "the VMM refused the buffer",
		[US_E_INSTANCE] = "no such instance, or in the wrong state: see understudy status",
		[US_E_BUSY] = "another instance still runs",
		[US_E_MEMORY] = "the memory range is not this instance's to give",
		[US_E_TOO_SMALL] = "kernel and initrd do not fit: give more --memory",
		[US_E_KERNEL] = "not a bzImage with a 64-bit entry",
		[US_E_CPU] = "a CPU is not this instance's, or still online",
		[US_E_ACPI] = "the machine's ACPI tables are unusable",
		[US_E_PROCESSOR] = "the CPU did not take an instruction of VT-x or AMD-V",
		[US_E_CAPABILITY] = "the CPU lacks something that the VMM needs: see understudy check",
		[US_E_TABLES] = "the VMM has no page tables left: use a larger or better aligned range",
		[US_E_COMMAND_LINE] = "the command line is too long",
		[US_E_FUNCTION] = "a PCI function can't be given: it needs a port above it, all of whose functions are given",
		[US_E_X2APIC] = "this kernel remaps interrupts in x2APIC mode, which a second one can't, and no other mode can be had: boot this one with nox2apic, or unlock xAPIC mode in firmware",
		[US_E_DIRECT] = "part of this kernel is trapped no more: understudy vanish, and start again",
		[US_E_SLOT] = "the port above has no slot that can be switched off",
	};
	static char unknown[32];

	if ((unsigned)error < COUNT(texts) && texts[error])
		return texts[error];
	snprintf(unknown, sizeof(unknown), "error %d from the VMM", (int)error);
	return unknown;
}

struct us_pauses *get_pauses(int device)
{
	static struct us_pauses pauses;

	if (ioctl(device, US_IOC_PAUSES, &pauses) != 0)
		fail("%s: %s: module and command differ in version", DEVICE, strerror(errno));
	return &pauses;
}

struct us_status *get_status(int device)
{
	static struct us_status status;
	enum us_error error = call(device, US_HC_STATUS, 0, &status, sizeof(status));

	if (error)
		fail("no status: %s", error_text(error));
	if (status.abi_version != US_ABI_VERSION)
		fail("the VMM speaks ABI %u, this command %u: install matching versions", status.abi_version, US_ABI_VERSION);
	return &status;
}
