// SPDX-License-Identifier: GPL-2.0
/*
 * Strategy `eager`, the 2012 algorithm: everything is split into 4 KiB entries
 * beforehand, and the stop saves what is sensitive and clears RW in every
 * entry. Its downtime grows with RAM. It stays as the baseline that others are
 * compared with; it covers the same memory.
 */
#include <linux/mm.h>
#include <linux/nmi.h>
#include <linux/vmalloc.h>

#include "ending.h"
#include "fault/cow.h"
#include "fault/open.h"
#include "fault/tables.h"
#include "map/pgwalk.h"
#include "map/regions.h"
#include "map/tlb.h"
#include "stop/precopy.h"
#include "stop/sensitive.h"
#include "stop/strategy.h"

/* For each 2 MiB of a region its table of entries; NULL where there is none. */
static struct {
	u64 **tables;
	unsigned long count;
} eager[LD_REGIONS];

static u64 saved;

static int find_tables(int region)
{
	unsigned long start = ld_region_at(region)->start, i;
	struct ld_where where;
	int err;

	for (i = 0; i < eager[region].count; i++) {
		err = ld_split(start + i * PMD_SIZE);
		if (err)
			return err;
		ld_walk_to(start + i * PMD_SIZE, &where);
		/* A page that is not mapped in a table that is there counts. */
		if (where.level == LD_LEVEL_PTE)
			eager[region].tables[i] = ld_table_writable(where.table);
		if (ld_is_ending())
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int eager_prepare(void)
{
	int i, err = 0;

	saved = 0;
	for (i = 0; i < LD_REGIONS && !err; i++) {
		const struct ld_region *region = ld_region_at(i);
		unsigned long count = (region->last + 1 - region->start) >>
				      PMD_SHIFT;

		eager[i].tables = vzalloc(array_size(count, sizeof(u64 *)));
		if (!eager[i].tables)
			return -ENOMEM;
		eager[i].count = count;
		ld_cow_mark_own(eager[i].tables, count * sizeof(u64 *));
		err = find_tables(i);
	}
	/* As CPUs may hold what was split: with other sizes, the same rights. */
	ld_flush_tlb_all();
	return err;
}

static int eager_save(void)
{
	return ld_precopy_update_changed() ?: ld_save_sensitive(&saved);
}

/*
 * Protect what nobody has saved; the others stay writable, kernel page tables
 * among them, so that this loop can edit them.
 */
static u64 protect_table(u64 *table)
{
	u64 changed = 0;
	int i;

	for (i = 0; i < PTRS_PER_PTE; i++) {
		unsigned long pfn = ld_table_pfn(READ_ONCE(table[i]));

		if (pfn >= ld_cow_max_pfn() || ld_cow_slot(pfn) == LD_SLOT_NONE)
			changed += ld_protect_entry(&table[i]);
	}
	return changed;
}

static void eager_protect(u64 entries[__LIVEDUMP_LEAF_MAX])
{
	unsigned long i;
	int region;

	for (region = 0; region < LD_REGIONS; region++) {
		for (i = 0; i < eager[region].count; i++) {
			/* A large machine takes its time. */
			touch_nmi_watchdog();
			if (eager[region].tables[i])
				entries[LIVEDUMP_LEAF_4K] +=
					protect_table(eager[region].tables[i]);
		}
	}
}

static void eager_finish(void)
{
	int i;

	for (i = 0; i < LD_REGIONS; i++) {
		vfree(eager[i].tables);
		eager[i].tables = NULL;
		eager[i].count = 0;
	}
}

static u64 eager_saved(void)
{
	return saved;
}

const struct ld_strategy ld_eager = {
	.name = "eager",
	.id = LIVEDUMP_STRATEGY_EAGER,
	.prepare = eager_prepare,
	.again = ld_precopy_mark_again,
	.save = eager_save,
	.protect = eager_protect,
	.finish = eager_finish,
	.saved = eager_saved,
};
