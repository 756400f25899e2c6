// SPDX-License-Identifier: GPL-2.0
/*
 * Strategy `lazy`. Permissions are ANDed along the page walk, so one bit in an
 * upper entry protects all that is below it. The entries to change are planned
 * before the stop, the highest that have no page below them that must stay
 * writable; the stop replays the plan. The 2 MiB around such a page are watched
 * instead. So the stop's length depends on where those pages are, hardly on how
 * much memory there is. First writes do the rest.
 */
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "fault/cow.h"
#include "fault/entry.h"
#include "fault/open.h"
#include "fault/tables.h"
#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/regions.h"
#include "stop/dirty.h"
#include "stop/precopy.h"
#include "stop/strategy.h"
#include "test.h"

/* One entry to protect: its table's number in the plan, and its own in it. */
struct planned {
	u32 table;
	u16 index;
	u16 level;
};

static struct {
	struct planned *entries;
	unsigned long count, room;
	unsigned long *tables;		/* page frames */
	unsigned int table_count, table_room;
	u64 *alias;			/* the tables, writable */
	u64 saved;			/* of the tables */
} plan;

static void add_entry(unsigned long table, int index, int level)
{
	/* All entries of a table below another come in one row... */
	if (!plan.table_count || plan.tables[plan.table_count - 1] != table) {
		/* ...or in several, when some of them are descended into. */
		if (plan.table_count == plan.table_room) {
			plan.count++;
			return;
		}
		plan.tables[plan.table_count++] = table;
	}
	if (plan.count < plan.room)
		plan.entries[plan.count] = (struct planned){
			.table = plan.table_count - 1,
			.index = index,
			.level = level,
		};
	plan.count++;
}

/* Is there a page below that must stay writable? */
static bool has_fixed(unsigned long addr, unsigned long bytes)
{
	unsigned long pfn, end;

	if (addr < PAGE_OFFSET ||
	    addr > ld_region_at(LD_REGION_DIRECT)->last)
		return false;
	pfn = PHYS_PFN(addr - PAGE_OFFSET);
	end = min(pfn + PHYS_PFN(bytes), ld_ranges_max_pfn());
	return pfn < end && ld_tracked_next_fixed(pfn, end) < end;
}

/* Return: 0, or -EAGAIN when a leaf is still larger than what must be. */
static int plan_table(unsigned long table, int level, unsigned long addr,
		      const struct ld_region *region)
{
	unsigned long size = ld_level_size(level);
	int i, err = 0;

	for (i = 0; i < PTRS_PER_PTE && !err; i++, addr += size) {
		u64 entry = READ_ONCE(ld_table_at(table)[i]);

		if (addr < region->start || addr > region->last ||
		    !ld_may_protect(entry))
			continue;
		if (!has_fixed(addr, size))
			add_entry(table, i, level);
		else if (level == LD_LEVEL_PMD)
			continue;	/* all of it is watched instead */
		else if (!ld_is_leaf(entry, level))
			err = plan_table(ld_table_pfn(entry), level - 1, addr,
					 region);
		else
			err = -EAGAIN;
	}
	return err;
}

struct plan_walk {
	struct ld_walk walk;
	const struct ld_region *region;
	int err;
};

/* The third level is the highest that all address spaces share. */
static bool plan_below(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	struct plan_walk *pw = container_of(walk, struct plan_walk, walk);

	if (level > LD_LEVEL_PUD)
		return true;
	if (!pw->err)
		pw->err = plan_table(pfn, level, addr, pw->region);
	return false;
}

static int plan_regions(void)
{
	struct plan_walk pw = { .walk = { .table = plan_below } };
	int i;

	plan.count = 0;
	plan.table_count = 0;
	for (i = 0; i < LD_REGIONS; i++) {
		pw.region = ld_region_at(i);
		pw.walk.start = pw.region->start;
		pw.walk.last = pw.region->last;
		ld_walk_kernel(&pw.walk);
	}
	return pw.err;
}

/* Once to count, with room for nothing; once more to note. */
static int make_plan(void)
{
	int err = plan_regions();

	if (err)
		return err;
	plan.room = plan.count + 512;
	plan.table_room = plan.room;
	plan.entries = vzalloc(array_size(plan.room, sizeof(*plan.entries)));
	plan.tables = vzalloc(array_size(plan.table_room,
					 sizeof(*plan.tables)));
	if (!plan.entries || !plan.tables)
		return -ENOMEM;
	err = plan_regions();
	if (!err && plan.count > plan.room)
		err = -EAGAIN;
	ld_cow_mark_own(plan.entries, plan.room * sizeof(*plan.entries));
	ld_cow_mark_own(plan.tables, plan.table_room * sizeof(*plan.tables));
	return err;
}

/* A writable mapping of every table that the stop edits. */
static int map_tables(void)
{
	struct page **pages = kvcalloc(plan.table_count, sizeof(*pages),
				       GFP_KERNEL);
	unsigned int i;

	if (!pages)
		return -ENOMEM;
	for (i = 0; i < plan.table_count; i++)
		pages[i] = pfn_to_page(plan.tables[i]);
	plan.alias = vmap(pages, plan.table_count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return plan.alias ? 0 : -ENOMEM;
}

/* Room in the pool for the tables, and for those that were split before. */
static int save_tables(void)
{
	unsigned int i;

	for (i = 0; i < plan.table_count; i++) {
		int err = ld_cow_keep(plan.tables[i], &plan.saved);

		if (err)
			return err;
		ld_cow_set_table(plan.tables[i]);
	}
	return ld_tables_save_parents(&plan.saved);
}

static int lazy_prepare(void)
{
	return ld_tracked_prepare() ?: ld_test_step() ?: make_plan() ?:
	       ld_test_step() ?: map_tables() ?: ld_test_step() ?:
	       save_tables() ?: ld_test_step();
}

static int lazy_save(void)
{
	return ld_tracked_update();
}

/*
 * What an entry maps may have changed since it was planned: whatever it is
 * now, it is protected at this level, or was not writable.
 */
static void lazy_protect(u64 entries[__LIVEDUMP_LEAF_MAX])
{
	unsigned long i;

	/* As they were before the first edit. */
	for (i = 0; i < plan.table_count; i++)
		ld_cow_recopy_table(plan.tables[i]);
	ld_tables_recopy_parents();
	for (i = 0; i < plan.count; i++) {
		const struct planned *entry = &plan.entries[i];
		u64 *table = plan.alias + entry->table * PTRS_PER_PTE;

		if (ld_protect_entry(&table[entry->index]))
			entries[entry->level - 1]++;
	}
}

static void lazy_finish(void)
{
	vunmap(plan.alias);
	vfree(plan.entries);
	vfree(plan.tables);
	memset(&plan, 0, sizeof(plan));
	ld_tracked_free();
}

static u64 lazy_saved(void)
{
	return plan.saved + ld_tracked_saved();
}

const struct ld_strategy ld_lazy = {
	.name = "lazy",
	.id = LIVEDUMP_STRATEGY_LAZY,
	.prepare = lazy_prepare,
	.again = ld_tracked_again,
	.refresh = ld_watched_refresh,
	.save = lazy_save,
	.protect = lazy_protect,
	.recopy_cpu = ld_tracked_recopy_cpu,
	.recopy_part = ld_tracked_recopy_part,
	.recopy = ld_tracked_recopy,
	.restore = ld_tracked_restore,
	.finish = lazy_finish,
	.saved = lazy_saved,
	.recopied = ld_tracked_recopied,
};
