// SPDX-License-Identifier: MIT OR GPL-2.0
#include "names.h"

#include <stdio.h>

#include "file.h"
#include "parts.h"
#include "say.h"

#define NAME_OF(array, index) ((index) < sizeof(array) / sizeof((array)[0]) && (array)[index] ? (array)[index] : NULL)

/* Basic exit reasons: Intel SDM volume 3, appendix C. On AMD-V those of the same meaning, and those from 70 on. */
const char *exit_reason_name(unsigned reason)
{
	static const char *const names[] = {
		[0] = "exception or NMI", [1] = "external interrupt", [2] = "triple fault", [3] = "INIT", [4] = "SIPI",
		[5] = "I/O SMI", [6] = "other SMI", [7] = "interrupt window", [8] = "NMI window", [9] = "task switch",
		[10] = "CPUID", [11] = "GETSEC", [12] = "HLT", [13] = "INVD", [14] = "INVLPG", [15] = "RDPMC", [16] = "RDTSC",
		[17] = "RSM", [18] = "VMCALL", [19] = "VMCLEAR", [20] = "VMLAUNCH", [21] = "VMPTRLD", [22] = "VMPTRST",
		[23] = "VMREAD", [24] = "VMRESUME", [25] = "VMWRITE", [26] = "VMXOFF", [27] = "VMXON",
		[28] = "control register", [29] = "debug register", [30] = "I/O", [31] = "RDMSR", [32] = "WRMSR",
		[33] = "entry failure: guest state", [34] = "entry failure: MSR loading", [36] = "MWAIT",
		[37] = "monitor trap flag", [39] = "MONITOR", [40] = "PAUSE", [41] = "entry failure: machine check",
		[43] = "TPR below threshold", [44] = "APIC access", [45] = "virtualized EOI", [46] = "GDTR or IDTR",
		[47] = "LDTR or TR", [48] = "EPT violation", [49] = "EPT misconfiguration", [50] = "INVEPT", [51] = "RDTSCP",
		[52] = "preemption timer", [53] = "INVVPID", [54] = "WBINVD", [55] = "XSETBV", [56] = "APIC write",
		[57] = "RDRAND", [58] = "INVPCID", [59] = "VMFUNC", [60] = "ENCLS", [61] = "RDSEED", [62] = "page log full",
		[63] = "XSAVES", [64] = "XRSTORS", [67] = "UMWAIT", [68] = "TPAUSE", [70] = "instruction of AMD-V", [72] = "end of an NMI", [74] = "unknown exit",
		[75] = "CR8", [76] = "machine check",
	};
	static char unknown[32];

	if (NAME_OF(names, reason))
		return names[reason];
	snprintf(unknown, sizeof(unknown), "reason %u", reason);
	return unknown;
}

const char *instance_state_name(unsigned state)
{
	static const char *const names[] = { "none", "running", "stopped" };
	const char *name = NAME_OF(names, state);

	return name ? name : "unknown";
}

const char *cpu_state_name(unsigned state)
{
	static const char *const names[] = { "bare", "running", "waiting", "parked", "failed" };
	const char *name = NAME_OF(names, state);

	return name ? name : "unknown";
}

const char *event_name(unsigned type)
{
	static const char *const names[] = {
		[US_EVENT_CAPTURED] = "captured", [US_EVENT_LAUNCHED] = "launched", [US_EVENT_USERSPACE] = "userspace",
		[US_EVENT_STOPPED] = "stopped", [US_EVENT_GRANTED] = "granted", [US_EVENT_RELEASED] = "released",
		[US_EVENT_MEMORY_VIOLATION] = "memory-violation", [US_EVENT_IPI_VIOLATION] = "ipi-violation",
		[US_EVENT_MSR_VIOLATION] = "msr-violation", [US_EVENT_CPU_WAITING] = "cpu-waiting",
		[US_EVENT_CPU_STARTED] = "cpu-started", [US_EVENT_REVOKED] = "revoked",
		[US_EVENT_DISCOVERED] = "discovered", [US_EVENT_DMA_VIOLATION] = "dma-violation",
		[US_EVENT_HIDDEN] = "hidden", [US_EVENT_REMOVED] = "removed", [US_EVENT_DEVIRTUALIZED] = "devirtualized",
		[US_EVENT_INTERRUPT_VIOLATION] = "interrupt-violation",
		[US_EVENT_IO_TABLES] = "io-tables",
	};
	const char *name = NAME_OF(names, type);

	return name ? name : "unknown";
}

const char *function_name(unsigned bdf)
{
	static char text[16];

	snprintf(text, sizeof(text), "%02x:%02x.%x", bdf >> 8 & 0xff, bdf >> 3 & 31, bdf & 7);
	return text;
}

static const char *stop_reason(uint64_t reason)
{
	static const char *const names[] = {
		[US_STOP_POWEROFF] = "it powered off", [US_STOP_RESET] = "it reset", [US_STOP_KILLED] = "understudy stop",
		[US_STOP_TRIPLE_FAULT] = "triple fault", [US_STOP_UNHANDLED] = "an exit that the VMM does not handle",
	};
	const char *name = NAME_OF(names, reason);

	return name ? name : "unknown reason";
}

static void resource_text(char *text, size_t size, const struct us_event *event)
{
	switch (event->a) {
	case US_RESOURCE_CPU: snprintf(text, size, "CPU %llu", (unsigned long long)event->b); break;
	case US_RESOURCE_SHARE: snprintf(text, size, "a share of CPU %llu", (unsigned long long)event->b); break;
	case US_RESOURCE_MEMORY: snprintf(text, size, "%s of memory", size_text(event->b)); break;
	case US_RESOURCE_FUNCTION: snprintf(text, size, "device %s", function_name((unsigned)event->b)); break;
	case US_RESOURCE_PLATFORM: snprintf(text, size, "the platform's devices"); break;
	default: snprintf(text, size, "something (%llu)", (unsigned long long)event->a);
	}
}

const char *event_text(const struct us_event *event)
{
	static char text[160];
	char resource[48];
	unsigned long long a = event->a, b = event->b;

	resource_text(resource, sizeof(resource), event);
	switch (event->type) {
	case US_EVENT_CAPTURED:
		snprintf(text, sizeof(text), "CPU captured%s", a ? " as it came online" : "");
		break;
	case US_EVENT_LAUNCHED:
		snprintf(text, sizeof(text), "launched at %#llx", a);
		break;
	case US_EVENT_USERSPACE:
		snprintf(text, sizeof(text), "is in user space");
		break;
	case US_EVENT_STOPPED:
		snprintf(text, sizeof(text), "stopped: %s", stop_reason(a));
		break;
	case US_EVENT_GRANTED:
		snprintf(text, sizeof(text), "was granted %s", resource);
		break;
	case US_EVENT_REVOKED:
		snprintf(text, sizeof(text), "gave up %s", resource);
		break;
	case US_EVENT_RELEASED:
		snprintf(text, sizeof(text), "CPU released");
		break;
	case US_EVENT_MEMORY_VIOLATION:
		snprintf(text, sizeof(text), "was kept from memory at %#llx (RIP %#llx)", a, b);
		break;
	case US_EVENT_IPI_VIOLATION:
		snprintf(text, sizeof(text), "was kept from an interrupt to another CPU (ICR %#llx, RIP %#llx)", a, b);
		break;
	case US_EVENT_MSR_VIOLATION:
		snprintf(text, sizeof(text), "was kept from %s MSR %#x (RIP %#llx)", a >> 32 ? "writing" : "reading", (unsigned)a, b);
		break;
	case US_EVENT_CPU_WAITING:
		snprintf(text, sizeof(text), "CPU waits to be started");
		break;
	case US_EVENT_CPU_STARTED:
		snprintf(text, sizeof(text), "CPU started (vector %#llx)", a);
		break;
	case US_EVENT_DISCOVERED:
		snprintf(text, sizeof(text), "device %s (%04llx:%04llx) was plugged in, and is shielded", function_name((unsigned)a),
			 b & 0xffff, b >> 16);
		break;
	case US_EVENT_DMA_VIOLATION:
		snprintf(text, sizeof(text), "device %s was kept from %s memory at %#llx", function_name(b & 0xffff),
			 b >> 16 & 1 ? "writing" : "reading", a);
		break;
	case US_EVENT_INTERRUPT_VIOLATION:
		snprintf(text, sizeof(text), "device %s was kept from %s (remapping entry %llu)", function_name(b & 0xffff),
			 a >> 32 ? "an interrupt to a CPU of another instance" : "an interrupt that is not its own", a & 0xffff);
		break;
	case US_EVENT_HIDDEN:
		snprintf(text, sizeof(text), "device %s (%04llx:%04llx) is to be taken out, and nobody's", function_name((unsigned)a),
			 b & 0xffff, b >> 16);
		break;
	case US_EVENT_REMOVED:
		snprintf(text, sizeof(text), "device %s (%04llx:%04llx) was taken out", function_name((unsigned)a), b & 0xffff, b >> 16);
		break;
	case US_EVENT_DEVIRTUALIZED:
		snprintf(text, sizeof(text), "is trapped no more: %s", parts_text((uint32_t)a));
		break;
	case US_EVENT_IO_TABLES:
		snprintf(text, sizeof(text), b ? "has too many I/O page tables to check (room for %llu, half of it at the start): its devices reach what they map"
					       : "has more I/O page tables than there is room to check (%llu): its devices are kept from what is in the others", a);
		break;
	default:
		snprintf(text, sizeof(text), "event %u (%#llx, %#llx)", event->type, a, b);
	}
	return text;
}
