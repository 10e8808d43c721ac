// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * /dev/understudy: the running Linux's end of the verbs start, vanish, call and stage. All that decides
 * anything is in the VMM or in the understudy command; this is the way between them.
 */
#include "understudy.h"

#include <linux/capability.h>
#include <linux/cpu.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/suspend.h>
#include <linux/uaccess.h>

/*
 * Who may change or rely on the state: whoever changes it holds the CPU hot-plug lock for reading and then
 * this one for writing; a hypercall holds both for reading, since a VMCALL on a bare CPU is an invalid
 * instruction. The hot-plug callback holds the hot-plug lock for writing and so needs nothing more.
 */
static DECLARE_RWSEM(state_lock);
static enum us_module_state state = US_BARE;
static struct us_region region;		/* ours while US_CAPTURED */
static bool in_parts;			/* some part of this kernel is trapped no more */
static enum cpuhp_state hotplug_state;

/* ---- capture and release -------------------------------------------------------- */

static int capture(void)
{
	int error = us_capture_all(&region);

	if (!error || us_release_all()) {
		/* From here on CPUs run in our code and memory: unloading must wait for the way back. */
		__module_get(THIS_MODULE);
		state = US_CAPTURED;
		return error;
	}
	us_region_free(&region);
	return error;
}

static int release(void)
{
	int error;

	if (state == US_BARE)
		return -ENODEV;
	error = us_release_all();
	if (error)
		return error;
	if (state == US_CAPTURED)
		us_region_free(&region);
	if (state == US_CAPTURED || in_parts)
		module_put(THIS_MODULE);
	state = US_BARE;
	in_parts = false;
	return 0;
}

static int devirtualize(u32 parts)
{
	int error = state == US_BARE ? -ENODEV : us_devirtualize(parts);

	if (error)
		return error;
	/* CPUs that go offline need us from here on. */
	if (state == US_ATTACHED && !in_parts)
		__module_get(THIS_MODULE);
	in_parts = true;
	return 0;
}

/* A CPU that was offline at the start comes up natively, and would not be bound by what the VMM guards. */
static int cpu_online_callback(unsigned int cpu)
{
	int error;

	if (in_parts)
		us_note_bare();
	if (state != US_CAPTURED || in_parts)
		return 0;
	error = cpu < US_MAX_CPUS ? us_capture_this(&region) : -E2BIG;
	if (error)
		pr_err("CPU %u stays offline: it could not be captured\n", cpu);
	return error;
}

/* Where only parts are trapped the VMM does not follow INIT and SIPI: the CPU leaves before, for good. */
static int cpu_offline_callback(unsigned int cpu)
{
	int error;

	if (us_shared()) {
		pr_err("CPU %u stays online: it is shared with another instance\n", cpu);
		return -EBUSY;
	}
	error = in_parts ? us_release_this() : 0;
	if (error)
		pr_err("CPU %u stays online: it could not be released\n", cpu);
	return error;
}

/* What the VMM would take for the machine's end, or would not survive. */
static int power_callback(struct notifier_block *block, unsigned long event, void *unused)
{
	if (state == US_BARE || (event != PM_SUSPEND_PREPARE && event != PM_HIBERNATION_PREPARE))
		return NOTIFY_DONE;
	pr_err("no suspend while the VMM is beneath: understudy vanish first\n");
	return NOTIFY_BAD;
}

static struct notifier_block power_notifier = { .notifier_call = power_callback };

int us_hypercall_guarded(const struct us_call *call, u64 buffer, struct us_result *result)
{
	int error = -ENODEV;

	cpus_read_lock();
	down_read(&state_lock);
	if (in_parts) {
		error = us_call_beneath(call, buffer, result);
	} else if (state != US_BARE) {
		*result = us_hypercall(call->number, buffer, call->length, call->argument);
		error = 0;
	}
	up_read(&state_lock);
	cpus_read_unlock();
	return error;
}

static int vanish(void)
{
	int error;

	cpus_read_lock();
	down_write(&state_lock);
	error = release();
	up_write(&state_lock);
	cpus_read_unlock();
	return error;
}

/*
 * A kernel that kexec starts takes all memory for its own, the VMM's too: it gets a bare machine. With another
 * instance beside this one it can't have that, and lives with what the VMM withholds or ends there.
 */
static int reboot_callback(struct notifier_block *block, unsigned long event, void *command)
{
	if (event != SYS_RESTART || !command || strcmp(command, "kexec reboot") != 0 || READ_ONCE(state) == US_BARE)
		return NOTIFY_DONE;
	if (vanish())
		pr_err("the VMM stays beneath the next kernel, which has only this instance's memory\n");
	return NOTIFY_OK;
}

static struct notifier_block reboot_notifier = { .notifier_call = reboot_callback };

/* ---- the device ----------------------------------------------------------------- */

static long start_ioctl(void __user *argument)
{
	struct us_start start;
	struct us_region made = {};
	int error;

	if (copy_from_user(&start, argument, sizeof(start)))
		return -EFAULT;
	error = READ_ONCE(state) == US_BARE ? us_region_make(&made, &start) : 0;
	if (error)
		return error;
	cpus_read_lock();
	down_write(&state_lock);
	if (state != US_BARE || !made.size) {
		pr_err("a VMM is beneath this kernel already\n");
		error = -EALREADY;
		us_region_free(&made);
	} else {
		region = made;
		error = capture();
	}
	up_write(&state_lock);
	cpus_read_unlock();
	return error;
}

static long devirtualize_ioctl(u32 parts)
{
	int error;

	cpus_read_lock();
	down_write(&state_lock);
	error = devirtualize(parts);
	up_write(&state_lock);
	cpus_read_unlock();
	return error;
}

static long call_ioctl(void __user *argument)
{
	struct us_call call;
	int error;

	if (copy_from_user(&call, argument, sizeof(call)))
		return -EFAULT;
	error = us_call_for_user(&call);
	if (!error && copy_to_user(argument, &call, sizeof(call)))
		error = -EFAULT;
	return error;
}

static long stage_ioctl(void __user *argument)
{
	struct us_stage stage;
	int error;

	if (copy_from_user(&stage, argument, sizeof(stage)))
		return -EFAULT;
	down_read(&state_lock);
	error = state == US_BARE ? -ENODEV : us_stage(&stage);
	up_read(&state_lock);
	return error;
}

static long join_ioctl(void __user *argument)
{
	struct us_memory memory;

	if (copy_from_user(&memory, argument, sizeof(memory)))
		return -EFAULT;
	/* Without state_lock, which CPU hot-plug takes: adding memory may wait for it. */
	return READ_ONCE(state) == US_BARE ? -ENODEV : us_join_memory(&memory);
}

static long pauses_ioctl(void __user *argument)
{
	struct us_pauses pauses = {};

	down_read(&state_lock);
	pauses.state = state;
	pauses.region_base = region.base;
	pauses.region_size = region.size;
	pauses.annex_base = region.annex_base;
	pauses.annex_size = region.annex_size;
	us_pauses(&pauses);
	up_read(&state_lock);
	return copy_to_user(argument, &pauses, sizeof(pauses)) ? -EFAULT : 0;
}

static long capabilities_ioctl(void __user *argument)
{
	struct us_capabilities *capabilities = kzalloc(sizeof(*capabilities), GFP_KERNEL);
	long error = 0;

	if (!capabilities)
		return -ENOMEM;
	cpus_read_lock();
	capabilities->state = state;
	us_capabilities(capabilities);
	cpus_read_unlock();
	if (copy_to_user(argument, capabilities, sizeof(*capabilities)))
		error = -EFAULT;
	kfree(capabilities);
	return error;
}

static long device_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	void __user *user = (void __user *)argument;

	switch (number) {
	case US_IOC_START:
		return start_ioctl(user);
	case US_IOC_VANISH:
		return vanish();
	case US_IOC_DEVIRTUALIZE:
		return devirtualize_ioctl(argument);
	case US_IOC_CALL:
		return call_ioctl(user);
	case US_IOC_STAGE:
		return stage_ioctl(user);
	case US_IOC_JOIN:
		return join_ioctl(user);
	case US_IOC_PAUSES:
		return pauses_ioctl(user);
	case US_IOC_CAPABILITIES:
		return capabilities_ioctl(user);
	default:
		return -ENOTTY;
	}
}

static int device_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = device_open,
	.unlocked_ioctl = device_ioctl,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "understudy",
	.fops = &operations,
	.mode = 0600,
};

/* ---- coming and going ----------------------------------------------------------- */

/* In a kernel that was booted or left on top of the VMM, the module finds it there. */
static int attach(void)
{
	struct us_result r;

	if (!us_beneath())
		return 0;
	r = us_hypercall(US_HC_ATTACH, 0, 0, 0);
	if (r.result != US_OK)
		return us_errno(r.result);
	state = US_ATTACHED;
	return 0;
}

static int __init understudy_init(void)
{
	int error = attach();

	if (error)
		return error;
	hotplug_state = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "understudy:online", cpu_online_callback, cpu_offline_callback);
	if (hotplug_state < 0)
		return hotplug_state;
	error = register_pm_notifier(&power_notifier);
	if (error)
		goto no_notifier;
	error = register_reboot_notifier(&reboot_notifier);
	if (error)
		goto no_reboot_notifier;
	error = misc_register(&device);
	if (error)
		goto no_device;
	return 0;

no_device:
	unregister_reboot_notifier(&reboot_notifier);
no_reboot_notifier:
	unregister_pm_notifier(&power_notifier);
no_notifier:
	cpuhp_remove_state_nocalls(hotplug_state);
	return error;
}

static void __exit understudy_exit(void)
{
	misc_deregister(&device);
	unregister_reboot_notifier(&reboot_notifier);
	unregister_pm_notifier(&power_notifier);
	cpuhp_remove_state_nocalls(hotplug_state);
}

module_init(understudy_init);
module_exit(understudy_exit);
MODULE_DESCRIPTION("Slips the Understudy VMM beneath this kernel, and lets it out again");
MODULE_LICENSE("Dual MIT/GPL");
