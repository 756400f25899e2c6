/* SPDX-License-Identifier: GPL-2.0 */
/* The addresses that strategies protect. */
#ifndef _LIVEDUMP_REGIONS_H
#define _LIVEDUMP_REGIONS_H

#include <linux/types.h>
#include "uapi/livedump.h"

/* What strategies protect: the direct map of all RAM, and vmemmap. */
enum ld_region_id {
	LD_REGION_DIRECT,
	LD_REGION_VMEMMAP,
	LD_REGIONS,
};

struct ld_region {
	unsigned long start;	/* first address, inclusive */
	unsigned long last;	/* last address, inclusive */
};

/* Set the regions; ld_ranges_collect() was called. */
void ld_regions_init(void);

extern struct ld_region ld_regions[LD_REGIONS];

static inline const struct ld_region *ld_region_at(int i)
{
	return &ld_regions[i];
}

static __always_inline bool ld_in_regions(unsigned long addr)
{
	int i;

	for (i = 0; i < LD_REGIONS; i++)
		if (addr >= ld_regions[i].start && addr <= ld_regions[i].last)
			return true;
	return false;
}

/* Count the leaves of the direct map by size, enum livedump_leaf. */
void ld_count_leaves(u64 leaves[__LIVEDUMP_LEAF_MAX]);

#endif
