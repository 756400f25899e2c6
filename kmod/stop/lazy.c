// SPDX-License-Identifier: GPL-2.0
/*
 * Strategy `lazy`. Permissions are ANDed along the page walk, so one bit in an
 * upper entry protects all that is below it. The entries to change are planned
 * before the stop, the highest that have no page below them that must stay
 * writable; the stop replays the plan. In the 2 MiB around such a page it changes
 * the other pages' entries one by one. So its length depends on where those pages
 * are, hardly on how much memory there is. First writes do the rest.
 */
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/entry.h"
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

/*
 * 2 MiB of the direct map with pages that must stay writable: its other entries
 * are protected one by one, by all CPUs together.
 */
struct block {
	unsigned long table;		/* page frame */
	unsigned long pfn;		/* of its first page */
};

static struct {
	struct planned *entries;
	unsigned long count, room;
	unsigned long *tables;		/* page frames */
	unsigned int table_count, table_room;
	u64 *alias;			/* the tables, writable */
	u64 saved;			/* of the tables */
	struct block *blocks;
	unsigned int block_count, block_room;
	atomic_t block_entries;		/* protected */
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

static void add_block(unsigned long table, unsigned long pfn)
{
	if (plan.block_count < plan.block_room)
		plan.blocks[plan.block_count] = (struct block){
			.table = table,
			.pfn = pfn,
		};
	plan.block_count++;
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
	return pfn < end && ld_precopy_next_fixed(pfn, end) < end;
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
		else if (ld_is_leaf(entry, level))
			err = -EAGAIN;
		else if (level == LD_LEVEL_PMD)
			add_block(ld_table_pfn(entry),
				  PHYS_PFN(addr - PAGE_OFFSET));
		else
			err = plan_table(ld_table_pfn(entry), level - 1, addr,
					 region);
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
	plan.block_count = 0;
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
	plan.block_room = plan.block_count + 16;
	plan.table_room = plan.room;
	plan.entries = vzalloc(array_size(plan.room, sizeof(*plan.entries)));
	plan.tables = vzalloc(array_size(plan.table_room,
					 sizeof(*plan.tables)));
	plan.blocks = vzalloc(array_size(plan.block_room,
					 sizeof(*plan.blocks)));
	if (!plan.entries || !plan.tables || !plan.blocks)
		return -ENOMEM;
	err = plan_regions();
	if (!err && (plan.count > plan.room ||
		     plan.block_count > plan.block_room))
		err = -EAGAIN;
	ld_cow_mark_own(plan.entries, plan.room * sizeof(*plan.entries));
	ld_cow_mark_own(plan.tables, plan.table_room * sizeof(*plan.tables));
	ld_cow_mark_own(plan.blocks, plan.block_room * sizeof(*plan.blocks));
	return err;
}

/* Tables that the stop edits: of entries first, then of blocks. */
static unsigned int edited_tables(void)
{
	return plan.table_count + plan.block_count;
}

static unsigned long edited_table(unsigned int i)
{
	return i < plan.table_count ? plan.tables[i] :
				      plan.blocks[i - plan.table_count].table;
}

/* Their writable mapping, one after the other. */
static u64 *table_of(unsigned int i)
{
	return plan.alias + i * PTRS_PER_PTE;
}

static int map_tables(void)
{
	unsigned int i, count = edited_tables();
	struct page **pages = kvcalloc(count, sizeof(*pages), GFP_KERNEL);

	if (!pages)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		pages[i] = pfn_to_page(edited_table(i));
	plan.alias = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	if (!plan.alias)
		return -ENOMEM;
	return ld_armed_exclude(plan.alias, count * PAGE_SIZE);
}

/* Room in the pool for the tables, and for those that were split before. */
static int save_tables(void)
{
	unsigned int i;

	for (i = 0; i < edited_tables(); i++) {
		int err = ld_cow_keep(edited_table(i), &plan.saved);

		if (err)
			return err;
		ld_cow_set_table(edited_table(i));
	}
	return ld_tables_save_parents(&plan.saved);
}

static int lazy_prepare(void)
{
	return ld_precopy_prepare() ?: ld_test_step() ?: make_plan() ?:
	       ld_test_step() ?: map_tables() ?: ld_test_step() ?:
	       save_tables() ?: ld_test_step();
}

/* ---- inside the stop ---- */

/* The kernel may have put another table there. */
static bool blocks_are_there(void)
{
	unsigned int i;

	for (i = 0; i < plan.block_count; i++) {
		const struct block *block = &plan.blocks[i];
		struct ld_where where;

		ld_walk_to((unsigned long)__va(PFN_PHYS(block->pfn)), &where);
		if (where.level != LD_LEVEL_PTE || where.table != block->table)
			return false;
	}
	return true;
}

/* Nothing is protected yet: the tables as they were before the first edit. */
static int lazy_save(void)
{
	int err = blocks_are_there() ? ld_precopy_update() : -ESTALE;
	unsigned int i;

	for (i = 0; i < edited_tables() && !err; i++)
		ld_cow_recopy_table(edited_table(i));
	if (!err)
		ld_tables_recopy_parents();
	return err;
}

/* The usual entry of RAM, and what makes it ours. */
#define USUAL ((u64)(_PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY))
#define TAGS ((u64)(LD_TAG_RW | LD_TAG_DIRTY))
#define FLIP ((u64)(_PAGE_RW | _PAGE_DIRTY) | TAGS)

/*
 * Nobody else writes here: all CPUs are in the stop, and a fault of an NMI changes
 * no entry that is not ours yet. So plain stores will do. That the CPU sets an
 * Accessed bit meanwhile, and it is lost, does no harm.
 */
static bool protect_still(u64 *entry)
{
	u64 old = *entry;

	if (likely((old & (USUAL | TAGS)) == USUAL))
		*entry = old ^ FLIP;
	else if (ld_may_protect(old))
		*entry = ld_protected(old);
	else
		return false;
	return true;
}

/*
 * What an entry maps may have changed since it was planned: whatever it is
 * now, it is protected at this level, or was not writable.
 */
static void lazy_protect(u64 entries[__LIVEDUMP_LEAF_MAX])
{
	unsigned long i;

	for (i = 0; i < plan.count; i++) {
		const struct planned *entry = &plan.entries[i];

		if (protect_still(&table_of(entry->table)[entry->index]))
			entries[entry->level - 1]++;
	}
}

#define TOGETHER 8		/* entries that one test looks at */

static bool are_usual(const u64 *entries)
{
	u64 all = ~0ULL, any = 0;
	int i;

#pragma GCC unroll 8
	for (i = 0; i < TOGETHER; i++) {
		all &= entries[i];
		any |= entries[i];
	}
	return (all & USUAL) == USUAL && !(any & TAGS);
}

static unsigned int protect_together(u64 *entries)
{
	unsigned int done = 0;
	int i;

	if (are_usual(entries)) {
#pragma GCC unroll 8
		for (i = 0; i < TOGETHER; i++)
			entries[i] ^= FLIP;
		return TOGETHER;
	}
	for (i = 0; i < TOGETHER; i++)
		done += protect_still(&entries[i]);
	return done;
}

static unsigned int protect_row(u64 *entries, unsigned int count)
{
	unsigned int i = 0, done = 0;

	for (; i + TOGETHER <= count; i += TOGETHER)
		done += protect_together(&entries[i]);
	for (; i < count; i++)
		done += protect_still(&entries[i]);
	return done;
}

static unsigned int protect_block(unsigned int number)
{
	const struct block *block = &plan.blocks[number];
	unsigned long end = min(block->pfn + PTRS_PER_PTE, ld_ranges_max_pfn());
	unsigned long pfn = block->pfn;
	u64 *entries = table_of(plan.table_count + number);
	unsigned int done = 0;

	/* Fixed pages come in rows, too. */
	while ((pfn = ld_precopy_next_other(pfn, end)) < end) {
		unsigned long fixed = ld_precopy_next_fixed(pfn, end);

		done += protect_row(&entries[pfn - block->pfn], fixed - pfn);
		pfn = fixed;
	}
	return done;
}

static void lazy_protect_part(unsigned int part, unsigned int parts)
{
	unsigned int end = plan.block_count * (part + 1) / parts;
	unsigned int i = plan.block_count * part / parts;
	unsigned int done = 0;

	if (ld_is_mutant(LD_MUTANT_NEIGHBOURS))
		return;
	for (; i < end; i++)
		done += protect_block(i);
	if (done)
		atomic_add(done, &plan.block_entries);
}

static u64 lazy_protected_parts(void)
{
	return atomic_read(&plan.block_entries);
}

static void lazy_finish(void)
{
	vunmap(plan.alias);
	vfree(plan.entries);
	vfree(plan.tables);
	vfree(plan.blocks);
	memset(&plan, 0, sizeof(plan));
	ld_precopy_free();
}

static u64 lazy_saved(void)
{
	return plan.saved + ld_precopy_saved();
}

const struct ld_strategy ld_lazy = {
	.name = "lazy",
	.id = LIVEDUMP_STRATEGY_LAZY,
	.prepare = lazy_prepare,
	.again = ld_precopy_again,
	.refresh = ld_dirty_refresh,
	.save = lazy_save,
	.protect = lazy_protect,
	.protect_part = lazy_protect_part,
	.protected_parts = lazy_protected_parts,
	.recopy_cpu = ld_precopy_recopy_cpu,
	.recopy_part = ld_precopy_recopy_part,
	.recopy = ld_precopy_recopy,
	.restore = ld_precopy_restore,
	.finish = lazy_finish,
	.saved = lazy_saved,
	.recopied = ld_precopy_recopied,
};
