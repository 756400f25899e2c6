/* SPDX-License-Identifier: GPL-2.0 */
/* What RAM there is, and which of its pages may change under a reader. */
#ifndef _LIVEDUMP_RANGES_H
#define _LIVEDUMP_RANGES_H

#include <linux/types.h>

struct ld_range {
	unsigned long start_pfn;
	unsigned long end_pfn;		/* exclusive */
};

/**
 * ld_ranges_collect() - list the System RAM of this machine
 *
 * Return: 0, or -ENOMEM.
 */
int ld_ranges_collect(void);
void ld_ranges_free(void);

int ld_ranges_count(void);
const struct ld_range *ld_range_at(int i);
unsigned long ld_ranges_max_pfn(void);	/* one past the last */
u64 ld_ranges_pages(void);

/* Reserve the bitmap of `live` pages; 0 or -ENOMEM. */
int ld_ranges_prepare(void);

/* True when the direct map has the page, and as ordinary cached memory. */
bool ld_is_readable(unsigned long pfn);

/* Mark page frames that must not be read: offline, poisoned, not mapped. */
void ld_ranges_mark_unreadable(void);
u64 ld_ranges_unreadable(void);		/* of RAM */

/*
 * Pages that are mapped writable outside the direct map, or that user space
 * maps or pins now; but for those that were saved by the end of the stop, the
 * first @saved of the pool.
 */
u64 ld_ranges_live(u64 saved);
u64 ld_ranges_unguarded(u64 saved);

#endif
