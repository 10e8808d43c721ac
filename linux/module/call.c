// SPDX-License-Identifier: MIT OR GPL-2.0
/* Hypercalls on behalf of the understudy command. */
#include "understudy.h"

#include <linux/cpu.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/uaccess.h>

#define MAX_BUFFER SZ_64K

int us_errno(u64 result)
{
	static const struct { int number; const char *text; } errors[] = {
		[US_OK] = { 0, "no error" },
		[US_E_UNKNOWN] = { -ENOSYS, "the VMM knows no such call" },
		[US_E_BUFFER] = { -EFAULT, "the VMM refused the buffer" },
		[US_E_INSTANCE] = { -EINVAL, "no such instance, or in the wrong state" },
		[US_E_BUSY] = { -EBUSY, "another instance still runs" },
		[US_E_MEMORY] = { -ERANGE, "the VMM refused a memory range" },
		[US_E_CPU] = { -EIO, "the VMM refused the CPU" },
		[US_E_ACPI] = { -EIO, "the VMM found no usable ACPI tables" },
		[US_E_PROCESSOR] = { -EIO, "the CPU did not take an instruction of VT-x or AMD-V" },
		[US_E_CAPABILITY] = { -ENODEV, "the CPU lacks something that the VMM needs" },
		[US_E_TABLES] = { -ENOMEM, "the VMM has no page tables left" },
		[US_E_FUNCTION] = { -EPERM, "a PCI function is not this instance's" },
		[US_E_DIRECT] = { -EALREADY, "nothing would be left trapped, or it is not any more" },
	};

	if (result >= ARRAY_SIZE(errors) || !errors[result].text) {
		pr_err("error %llu from the VMM\n", result);
		return -EIO;
	}
	pr_err("%s\n", errors[result].text);
	return errors[result].number;
}

/* ATTACH and the release calls are the module's own: they change what it must know. */
static bool for_users(u32 number)
{
	switch (number) {
	case US_HC_STATUS:
	case US_HC_EVENTS:
	case US_HC_CONSOLE_READ:
	case US_HC_CONSOLE_WRITE:
	case US_HC_BOOT:
	case US_HC_STOP:
	case US_HC_TAKE:
	case US_HC_GIVE_BACK:
	case US_HC_HIDE:
	case US_HC_EJECT:
	case US_HC_WEIGHT:
	case US_HC_PAUSE:
		return true;
	default:
		return false;
	}
}

/* User memory is not contiguous and may be paged out, so the VMM gets a buffer of our own. */
int us_call_for_user(struct us_call *call)
{
	void *buffer = NULL;
	struct us_result r;
	int error = 0;

	if (!for_users(call->number) || call->length > MAX_BUFFER)
		return -EINVAL;
	if (call->length) {
		buffer = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(call->length));
		if (!buffer)
			return -ENOMEM;
		if (copy_from_user(buffer, u64_to_user_ptr(call->buffer), call->length)) {
			error = -EFAULT;
			goto out;
		}
	}
	error = us_hypercall_guarded(call, buffer ? virt_to_phys(buffer) : 0, &r);
	if (error)
		goto out;
	call->result = r.result;
	call->value = r.value;
	if (buffer && copy_to_user(u64_to_user_ptr(call->buffer), buffer, call->length))
		error = -EFAULT;
out:
	if (buffer)
		free_pages((unsigned long)buffer, get_order(call->length));
	return error;
}
