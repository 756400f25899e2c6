// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/sched.h>

#include "fault/entry.h"
#include "map/pgwalk.h"
#include "map/regions.h"
#include "stop/arm.h"
#include "stop/restore.h"

/*
 * By way of the direct map: a fault on a table that is read-only still is let
 * through by the probe, which only opens by now.
 */
static u64 restore_table(u64 *table, int level, unsigned long addr,
			 const struct ld_region *region, bool marks)
{
	unsigned long size = ld_level_size(level);
	u64 found = 0;
	int i;

	for (i = 0; i < PTRS_PER_PTE; i++, addr += size) {
		u64 old = READ_ONCE(table[i]);

		if (addr + (size - 1) < region->start || addr > region->last)
			continue;
		while (ld_is_tagged(old) || ld_is_opened(old)) {
			if (!try_cmpxchg(&table[i], &old, ld_original(old)))
				continue;
			found += marks || ld_is_tagged(old);
			break;
		}
		if ((old & _PAGE_PRESENT) && !ld_is_leaf(old, level))
			found += restore_table(ld_table_at(ld_table_pfn(old)),
					       level - 1, addr, region, marks);
	}
	cond_resched();
	return found;
}

struct restore_walk {
	struct ld_walk walk;
	const struct ld_region *region;
	bool marks;
	u64 found;
};

/* Marks are at the third level and below only. */
static bool restore_below(struct ld_walk *walk, unsigned long pfn, int level,
			  unsigned long addr)
{
	struct restore_walk *rw = container_of(walk, struct restore_walk, walk);

	if (level > LD_LEVEL_PUD)
		return true;
	rw->found += restore_table(ld_table_at(pfn), level, addr, rw->region,
				   rw->marks);
	return false;
}

static u64 restore(bool marks)
{
	struct restore_walk rw = {
		.walk = { .table = restore_below },
		.marks = marks,
	};
	int i;

	for (i = 0; i < LD_REGIONS; i++) {
		rw.region = ld_region_at(i);
		rw.walk.start = rw.region->start;
		rw.walk.last = rw.region->last;
		ld_walk_kernel(&rw.walk);
	}
	return rw.found + ld_arm_restore(marks);
}

u64 ld_restore_entries(void)
{
	return restore(false);
}

u64 ld_clear_marks(void)
{
	return restore(true);
}
