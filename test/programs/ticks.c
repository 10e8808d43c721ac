// SPDX-License-Identifier: MIT
/* ticks [UNTIL]: prints the processor's time-stamp counter, which all systems on a machine share; after it has reached UNTIL. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tsc.h"

int main(int count, char **arguments)
{
	uint64_t until = count > 1 ? strtoull(arguments[1], NULL, 10) : 0;

	while (ticks() < until)
		usleep(1000);
	printf("%llu\n", (unsigned long long)ticks());
	return 0;
}
