// SPDX-License-Identifier: MIT
/* ticks: what time it is, in TSC ticks. */
#include <stdio.h>

#include "tsc.h"

int main(void)
{
	printf("%llu\n", (unsigned long long)ticks());
	return 0;
}
