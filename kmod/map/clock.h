/* SPDX-License-Identifier: GPL-2.0 */
/* The time stamp counter in ns: the one clock that may be read in a fault. */
#ifndef _LIVEDUMP_CLOCK_H
#define _LIVEDUMP_CLOCK_H

#include <linux/math64.h>
#include <linux/types.h>

#define LD_TSC_SHIFT 32

extern u64 ld_tsc_mult;

void ld_tsc_init(void);

/* Counters of two CPUs may differ: never a negative time. */
static __always_inline u64 ld_tsc_to_ns(u64 cycles)
{
	if ((s64)cycles < 0)
		return 0;
	return mul_u64_u64_shr(cycles, ld_tsc_mult, LD_TSC_SHIFT);
}

#endif
