// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * launch: boots a second kernel on memory that this one gives up, and on CPUs that it gives up, shares of those that
 * it keeps, or both. All or nothing: until the VMM has taken the request, every step that fails puts back what the
 * steps before it took.
 *
 *   base        + 16 MiB                                                  base + size
 *   | the VMM's   | kernel as loaded, and room to unpack itself | free ... | initrd |
 *                 ^ also entered here, at its 64-bit entry + 0x200
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "args.h"
#include "cpuid.h"
#include "device.h"
#include "file.h"
#include "functions.h"
#include "given.h"
#include "kernel.h"
#include "say.h"
#include "verbs.h"

#define SECOND 2u
#define KERNEL_OFFSET (16ull << 20)
#define PAGE 4096ull

struct request {
	struct kernel kernel;
	struct file initrd;
	const char *append;
	uint64_t memory;
	unsigned cpus;			/* whole ones */
	uint64_t shares;		/* of CPUs that this kernel keeps; mask of its numbers */
	unsigned weight;		/* of its turns there; this kernel's is 1 unless changed */
	struct functions devices;	/* of this kernel, for the second one */
	struct functions hidden;	/* not for it, though shielded from this one */
};

static unsigned count_cpus(uint64_t mask)
{
	return (unsigned)__builtin_popcountll(mask);
}

/* ---- what was asked ------------------------------------------------------------- */

/* Whether a kernel command line sets an option, written with its "=". */
static bool has_option(const char *line, const char *option)
{
	const char *at = strstr(line, option);

	while (at && at != line && at[-1] != ' ')
		at = strstr(at + 1, option);
	return at != NULL;
}

/*
 * maxcpus: the second kernel sees all CPUs of the machine, so that it can take them over later, but may start
 * only its own.
 */
static void complete_command_line(char *line, size_t size, const struct request *request)
{
	const char *append = request->append;
	size_t most = request->kernel.command_line_size < size - 1 ? request->kernel.command_line_size : size - 1;
	char maxcpus[32] = "";
	size_t length;

	if (!has_option(append, "maxcpus="))
		snprintf(maxcpus, sizeof(maxcpus), " maxcpus=%u", request->cpus + count_cpus(request->shares));
	length = (size_t)snprintf(line, size, "%s%s", append, maxcpus);
	if (length > most)
		fail("--append: the command line would have %zu characters: at most %zu fit", length, most);
}

/* With the kernel's own needs and the initrd, but no room to run in. */
static void check_fit(const struct request *request)
{
	uint64_t initrd = (request->initrd.size + PAGE - 1) & ~(PAGE - 1);
	uint64_t need = KERNEL_OFFSET + request->kernel.init_size + initrd;

	if (need > request->memory) {
		char wanted[32];

		snprintf(wanted, sizeof(wanted), "%s", size_text(need));
		fail("--memory: %s is too small: kernel and initrd alone need %s", size_text(request->memory), wanted);
	}
}

/* Whole CPUs, shares or both: of CPU 0 unless it says of which, and by default where there is no other CPU. */
static void choose_cpus(struct request *request, const char *cpus, bool share, const char *shares)
{
	bool alone = count_cpus(online_cpus()) == 1;

	if (!cpus && !share && !alone)
		misused("launch: --cpus is missing, or --share: see understudy launch --help");
	request->cpus = cpus ? parse_number("--cpus", cpus, 0, US_MAX_CPUS - 1) : 0;
	request->shares = 0;
	if (share || request->cpus == 0)
		request->shares = shares ? parse_cpus("--share", shares) : 1;
}

static struct request parse(char **arguments, bool *json)
{
	const char *kernel = NULL, *initrd = NULL, *append = NULL, *memory = NULL, *cpus = NULL, *shares = NULL, *weight = NULL, *devices = NULL, *hidden = NULL;
	/* Those up to --memory must be there. */
	const unsigned needed = 4;
	bool share = false;
	const struct option options[] = {
		{ "--kernel", &kernel, NULL }, { "--initrd", &initrd, NULL }, { "--append", &append, NULL },
		{ "--memory", &memory, NULL }, { "--cpus", &cpus, NULL }, { "--share", &shares, &share },
		{ "--weight", &weight, NULL }, { "--device", &devices, NULL },
		{ "--hide", &hidden, NULL }, { "--json", NULL, json }, { NULL, NULL, NULL },
	};
	struct request request;

	parse_arguments("launch", arguments, options, NULL);
	for (const struct option *option = options; option < options + needed; option++)
		if (!*option->text)
			misused("launch: %s is missing: see understudy launch --help", option->name);
	request.memory = parse_size("--memory", memory);
	choose_cpus(&request, cpus, share, shares);
	request.weight = weight ? parse_number("--weight", weight, 1, US_MAX_WEIGHT) : 1;
	if (weight && !request.shares)
		misused("launch: --weight is of a share: give --share, too");
	if (devices && request.shares)
		misused("launch: --device: not with a share: its interrupts would come to this kernel; give whole CPUs alone");
	request.devices = parse_functions("--device", devices);
	request.hidden = parse_functions("--hide", hidden);
	request.append = append;
	request.kernel = read_kernel(kernel);
	request.initrd = read_file("--initrd", initrd);
	if (request.initrd.size == 0)
		fail("--initrd %s: empty", initrd);
	return request;
}

static void check_machine(int device, const struct request *request)
{
	struct us_status *status = get_status(device);
	struct us_instance_status *second = &status->instance[SECOND - 1];
	uint64_t online = online_cpus(), kept = request->shares | 1;

	if (status->own_instance == SECOND)
		fail("this is instance %u: only instance 1 can launch another", SECOND);
	if (second->state == US_INSTANCE_RUNNING)
		fail("instance %u runs already: understudy stop %u first", SECOND, SECOND);
	if (second->state == US_INSTANCE_STOPPED)
		fail("instance %u has ended but still holds CPUs and memory: understudy stop %u first", SECOND, SECOND);
	if (request->shares & ~online)
		fail("--share: CPU %s is not online", list_text(request->shares & ~online));
	if (request->cpus > count_cpus(online & ~kept))
		fail("--cpus %u: this kernel has %u and must keep CPU %s", request->cpus, count_cpus(online), list_text(kept));
}

/* ---- what is done --------------------------------------------------------------- */

/* CPUs in the VMM's numbers, which are the first kernel's; asked for while they are still online. */
static uint64_t vmm_cpus(uint64_t online)
{
	static uint8_t number[64];
	uint64_t mask = 0;
	static bool asked;

	for (unsigned cpu = 0; cpu < 64; cpu++) {
		if (!(online >> cpu & 1))
			continue;
		if (!asked && run_on(cpu))
			number[cpu] = (uint8_t)cpuid(US_CPUID_SIGNATURE + 1, 0).ecx;
		mask |= 1ull << (number[cpu] & 63);
	}
	if (!asked)
		run_anywhere();
	asked = true;
	return mask;
}

static bool stage(int device, const char *what, uint64_t address, const struct file *file)
{
	struct us_stage stage = { .address = address & ~(PAGE - 1), .source = (uintptr_t)file->data, .length = file->size };
	uint8_t *shifted = NULL;
	size_t lead = address & (PAGE - 1);
	bool done;

	/* The module copies whole pages; a kernel's file begins before its page. */
	if (lead) {
		shifted = calloc(1, file->size + lead);
		if (!shifted) {
			complain("no memory to stage the %s", what);
			return false;
		}
		memcpy(shifted + lead, file->data, file->size);
		stage.source = (uintptr_t)shifted;
		stage.length += lead;
	}
	done = !interrupted && ioctl(device, US_IOC_STAGE, &stage) == 0;
	if (!done)
		complain("the %s can't be copied to %#llx: %s", what, (unsigned long long)address,
			 interrupted ? "interrupted" : strerror(errno));
	free(shifted);
	return done;
}

/*
 * What the second kernel gets: the devices that were asked for, and what is shielded and not to stay so. With a share
 * of a CPU there is none before the hand-over: interrupts of devices come to the local APIC, which is this kernel's.
 */
static void list_functions(int device, const struct request *request, struct us_boot_request *to_vmm)
{
	const struct us_status *status = get_status(device);
	struct functions all = request->devices;

	for (unsigned i = 0; !request->shares && i < status->function_count && i < US_MAX_FUNCTIONS; i++)
		if (status->function[i].instance == US_SHIELDED && !has_function(&request->hidden, status->function[i].bdf))
			add_function("launch", &all, status->function[i].bdf);
	to_vmm->function_count = all.count;
	memcpy(to_vmm->bdf, all.bdf, sizeof(all.bdf));
}

static bool give_devices(struct given *given, const struct request *request)
{
	given->devices = remove_functions(&request->devices) ? request->devices.count : 0;
	return given->devices == request->devices.count;
}

static bool boot(int device, const struct request *request, const struct given *given, struct us_boot_request *to_vmm)
{
	enum us_error error;

	to_vmm->memory_base = given->first_block * block_size();
	to_vmm->memory_size = given->blocks * block_size();
	to_vmm->kernel_address = to_vmm->memory_base + KERNEL_OFFSET - request->kernel.setup_size;
	to_vmm->kernel_size = request->kernel.file.size;
	to_vmm->initrd_address = (to_vmm->memory_base + to_vmm->memory_size - request->initrd.size) & ~(PAGE - 1);
	to_vmm->initrd_size = request->initrd.size;
	to_vmm->cpu_mask = vmm_cpus(given->cpus);
	to_vmm->share_mask = vmm_cpus(request->shares);
	to_vmm->weight = request->weight;
	list_functions(device, request, to_vmm);
	if (!stage(device, "kernel", to_vmm->kernel_address, &request->kernel.file) ||
	    !stage(device, "initrd", to_vmm->initrd_address, &request->initrd))
		return false;
	error = call(device, US_HC_BOOT, 0, to_vmm, sizeof(*to_vmm));
	if (error)
		complain("not booted: %s", error_text(error));
	return error == US_OK;
}

/* "CPU 1", "a share of CPU 0", "CPU 3 and a share of CPU 0,2". */
static void print_cpus(uint64_t whole, uint64_t shares)
{
	if (whole)
		printf("CPU %s%s", list_text(whole), shares ? " and " : "");
	if (shares)
		printf("a share of CPU %s", list_text(shares));
}

static void report(const struct request *request, const struct given *given, const struct us_boot_request *boot, bool json)
{
	if (json) {
		json_open(NULL, '{');
		json_number("instance", SECOND);
		json_text("cpus", list_text(given->cpus));
		json_text("shared_cpus", list_text(request->shares));
		json_address("memory_base", boot->memory_base);
		json_number("memory_size", boot->memory_size);
		json_text("append", boot->command_line);
		json_close();
	} else {
		printf("launched: instance %u on ", SECOND);
		print_cpus(given->cpus, request->shares);
		printf(" with %s at %#llx; understudy console %u shows what it says\n", size_text(boot->memory_size),
		       (unsigned long long)boot->memory_base, SECOND);
	}
}

int verb_launch(char **arguments)
{
	static struct us_boot_request to_vmm;
	bool json = false;
	struct request request = parse(arguments, &json);
	struct given given = { 0 };
	int device;

	complete_command_line(to_vmm.command_line, sizeof(to_vmm.command_line), &request);
	check_fit(&request);
	device = open_captured();
	check_machine(device, &request);
	block_size();
	vmm_cpus(online_cpus());
	interrupts_wait();
	if (give_memory(&given, request.memory) && give_cpus(&given, request.cpus, request.shares) && give_devices(&given, &request) && note_given(SECOND, &given) &&
	    boot(device, &request, &given, &to_vmm)) {
		report(&request, &given, &to_vmm, json);
		return 0;
	}
	if (take_back(&given))
		forget_given(SECOND);
	return 1;
}
