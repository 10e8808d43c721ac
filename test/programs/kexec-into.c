// SPDX-License-Identifier: MIT
/* kexec-into KERNEL INITRD COMMANDLINE: this kernel gives way to another, without the firmware. */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "kexec-into: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int count, char **arguments)
{
	int kernel, initrd;

	if (count != 4) {
		fputs("usage: kexec-into KERNEL INITRD COMMANDLINE\n", stderr);
		return 2;
	}
	kernel = open(arguments[1], O_RDONLY);
	if (kernel < 0)
		return fail(arguments[1]);
	initrd = open(arguments[2], O_RDONLY);
	if (initrd < 0)
		return fail(arguments[2]);
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(arguments[3]) + 1, arguments[3], 0l) != 0)
		return fail("kexec_file_load");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return fail("reboot");
}
