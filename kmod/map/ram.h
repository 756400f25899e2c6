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

/* The first page frame of RAM from @pfn on; ld_ranges_max_pfn() past the last. */
unsigned long ld_ranges_next(unsigned long pfn);

/* True when the direct map has the page, and as ordinary cached memory. */
bool ld_is_readable(unsigned long pfn);

/**
 * ld_ranges_mark_unreadable() - mark what must not be read: offline, poisoned,
 * not mapped
 *
 * Return: 0; -EINTR when nobody wants the snapshot any more: some are not marked.
 */
int ld_ranges_mark_unreadable(void);
/* The same once more, for what may have changed since. */
int ld_ranges_mark_again(void);
/* The same for one page frame, in the stop. */
void ld_ranges_look_again(unsigned long pfn);
/* May it be read now? */
bool ld_ranges_is_there(unsigned long pfn);
u64 ld_ranges_unreadable(void);		/* of RAM */

#endif
