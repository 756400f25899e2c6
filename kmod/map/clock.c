// SPDX-License-Identifier: GPL-2.0
#include <asm/tsc.h>

#include "map/clock.h"

u64 ld_tsc_mult;

void ld_tsc_init(void)
{
	ld_tsc_mult = div_u64(1000000ULL << LD_TSC_SHIFT, tsc_khz);
}
