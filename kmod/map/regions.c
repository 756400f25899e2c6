// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/string.h>

#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/regions.h"

struct ld_region ld_regions[LD_REGIONS];

void ld_regions_init(void)
{
	unsigned long pages = ld_ranges_max_pfn();
	struct ld_region *direct = &ld_regions[LD_REGION_DIRECT];
	struct ld_region *pages_of = &ld_regions[LD_REGION_VMEMMAP];

	/* To the end of what the last upper entry may map. */
	direct->start = PAGE_OFFSET;
	direct->last = PAGE_OFFSET +
		       round_up(PFN_PHYS(pages), PUD_SIZE) - 1;
	pages_of->start = round_down((unsigned long)pfn_to_page(0), PUD_SIZE);
	pages_of->last = round_up((unsigned long)pfn_to_page(pages),
				 PUD_SIZE) - 1;
}

struct leaf_walk {
	struct ld_walk walk;
	u64 *leaves;
};

static void count_leaf(struct ld_walk *walk, u64 entry, int level,
		       unsigned long addr)
{
	container_of(walk, struct leaf_walk, walk)->leaves[level - 1]++;
}

void ld_count_leaves(u64 leaves[__LIVEDUMP_LEAF_MAX])
{
	struct leaf_walk lw = {
		.walk = {
			.leaf = count_leaf,
			.start = PAGE_OFFSET,
			.last = PAGE_OFFSET +
				PFN_PHYS(ld_ranges_max_pfn()) - 1,
		},
		.leaves = leaves,
	};

	memset(leaves, 0, sizeof(*leaves) * __LIVEDUMP_LEAF_MAX);
	ld_walk_kernel(&lw.walk);
}
