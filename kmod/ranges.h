/* SPDX-License-Identifier: GPL-2.0 */
/* What kernel memory there is, and what may never be protected. */
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

/* Mark page frames that must not be read: offline, poisoned, not mapped. */
void ld_ranges_mark_unreadable(bool (*is_mapped)(unsigned long pfn));

/**
 * ld_save_sensitive() - save what the fault path itself writes
 * @idle: the idle task of every possible CPU
 * @saved: pages that were saved
 *
 * Kernel image, per-CPU memory, stacks, task_structs, kernel page tables.
 * Runs with all CPUs stopped, before anything is protected; allocates nothing.
 * Notes which other pages have a second kernel mapping (class `live`).
 *
 * Return: 0, or -ENOSPC when the pool is too small.
 */
int ld_save_sensitive(struct task_struct *const *idle, u64 *saved);

/*
 * Pages that were mapped outside the direct map, or that user space maps or
 * pins now; but for those that the stop itself saved, @saved of them.
 */
u64 ld_ranges_live(u64 saved);
u64 ld_ranges_unguarded(u64 saved);

#endif
