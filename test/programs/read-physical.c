// SPDX-License-Identifier: MIT
/* read-physical ADDRESS: eight bytes of RAM as the kernel reads them at its own mapping of all memory (/proc/kcore), as a hexadecimal number. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "read-physical: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int count, char **arguments)
{
	uint64_t address = count == 2 ? strtoull(arguments[1], NULL, 0) : 0, value;
	int core = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr header;

	if (core < 0 || read(core, &header, sizeof(header)) != sizeof(header))
		return fail("/proc/kcore");
	for (unsigned i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr range;

		if (pread(core, &range, sizeof(range), (off_t)(header.e_phoff + i * sizeof(range))) != sizeof(range))
			return fail("/proc/kcore");
		if (range.p_type != PT_LOAD || address < range.p_paddr || address - range.p_paddr >= range.p_memsz)
			continue;
		if (pread(core, &value, sizeof(value), (off_t)(range.p_offset + (address - range.p_paddr))) != sizeof(value))
			return fail(arguments[1]);
		printf("%016" PRIx64 "\n", value);
		return 0;
	}
	errno = ENXIO;
	return fail("no RAM there");
}
