/* SPDX-License-Identifier: GPL-2.0 */
/* A read-only walk of the kernel's page tables, 4 or 5 levels. */
#ifndef _LIVEDUMP_PGWALK_H
#define _LIVEDUMP_PGWALK_H

#include <linux/types.h>

/* 1: a page-table entry, 2: PMD, 3: PUD, 4: P4D, 5: PGD */
struct ld_walk {
	/* Every table; return false to leave out what is below it. */
	bool (*table)(struct ld_walk *walk, unsigned long pfn, int level,
		      unsigned long addr);
	/* Every present leaf, of 1, 512 or 262144 pages. */
	void (*leaf)(struct ld_walk *walk, u64 entry, int level,
		     unsigned long addr);
	unsigned long start;	/* first address, inclusive */
	unsigned long last;	/* last address, inclusive */
};

/* Bytes that an entry of this level maps. */
static inline unsigned long ld_level_size(int level)
{
	return 1UL << (PAGE_SHIFT + 9 * (level - 1));
}

static inline unsigned long ld_entry_pfn(u64 entry, int level)
{
	unsigned long pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT;

	/* Bit 12 of a large leaf is PAT, not part of its address. */
	return pfn & ~((1UL << (9 * (level - 1))) - 1);
}

/**
 * ld_walk_kernel() - walk init_mm between walk->start and walk->last
 *
 * The caller keeps the tables from going away: memory hotplug is held off, or
 * all CPUs are stopped.
 */
void ld_walk_kernel(struct ld_walk *walk);

#endif
