// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <asm/tsc.h>

#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/entry.h"
#include "fault/open.h"
#include "fault/tables.h"
#include "map/pgwalk.h"

/* ---- make an entry ours ---- */

bool notrace ld_protect_entry(u64 *entry)
{
	u64 old = READ_ONCE(*entry);

	do {
		if (!ld_may_protect(old))
			return false;
		/* The CPU may set Accessed meanwhile: retry is rare. */
	} while (!try_cmpxchg(entry, &old, ld_protected(old)));
	return true;
}
NOKPROBE_SYMBOL(ld_protect_entry);

/* ---- let a write through ---- */

/*
 * Protection moves from a table's entry to its children, which is done before
 * the entry is opened. Several CPUs may do it at once, and late: a child that
 * somebody has opened carries the mark, so it stays open.
 */
static void notrace hand_down(unsigned long table, int depth)
{
	u64 kept, *children;
	int i;

	ld_cow_save_table(table);
	children = ld_table_map(table, depth, &kept);
	for (i = 0; i < PTRS_PER_PTE; i++)
		ld_protect_entry(&children[i]);
	ld_table_unmap(depth, kept);
}
NOKPROBE_SYMBOL(hand_down);

static void notrace open_entry(const struct ld_where *where, int depth)
{
	u64 kept, old, *table;

	table = ld_table_map(where->table, depth, &kept);
	old = READ_ONCE(table[where->index]);
	do {
		if (!ld_is_tagged(old))
			break;
	} while (!try_cmpxchg(&table[where->index], &old, ld_opened(old)));
	ld_table_unmap(depth, kept);
}
NOKPROBE_SYMBOL(open_entry);

/* What is below an entry is exposed without a copy: name every page. */
static void notrace lose_below(u64 entry, int level)
{
	unsigned long i, pfn;

	if (!ld_is_leaf(entry, level)) {
		const u64 *table = ld_table_at(ld_table_pfn(entry));

		for (i = 0; i < PTRS_PER_PTE; i++)
			if (ld_may_protect(READ_ONCE(table[i])))
				lose_below(READ_ONCE(table[i]), level - 1);
		return;
	}
	pfn = ld_entry_pfn(entry, level);
	for (i = 0; i < ld_level_size(level) >> PAGE_SHIFT; i++)
		ld_cow_lose(pfn + i);
}
NOKPROBE_SYMBOL(lose_below);

static u32 notrace save_page(struct ld_opening *o)
{
	switch (ld_cow_save(o->pfn)) {
	case LD_SAVED:
		return LIVEDUMP_OUTCOME_SAVED;
	case LD_LOST:
		return LIVEDUMP_OUTCOME_LOST;
	default:
		return LIVEDUMP_OUTCOME_ALREADY;
	}
}
NOKPROBE_SYMBOL(save_page);

/* Everything that must be before the entry is writable. */
static bool notrace save_below(const struct ld_where *where, u64 entry,
			       int depth, struct ld_opening *o)
{
	if (depth > LD_MAX_DEPTH) {
		lose_below(entry, where->level);
		o->lost = true;
	} else if (where->level == LD_LEVEL_PTE) {
		o->leaf_tsc = rdtsc();
		o->outcome = save_page(o);
		o->copied_tsc = rdtsc();
	} else if (!ld_is_leaf(entry, where->level)) {
		hand_down(ld_table_pfn(entry), depth);
	} else if (ld_demote(where, entry, LD_TAG_DIRTY, depth) == -ENOMEM) {
		lose_below(entry, where->level);
		o->lost = true;
	} else {
		return false;	/* a table stands there now, ours or another */
	}
	return true;
}
NOKPROBE_SYMBOL(save_below);

void notrace ld_open(unsigned long addr, bool saving, int depth,
		     struct ld_opening *o)
{
	struct ld_where where;
	u64 entry;

	ld_walk_top(&where);
	for (;;) {
		where.index = ld_index(addr, where.level);
		entry = READ_ONCE(ld_table_at(where.table)[where.index]);
		if (!(entry & _PAGE_PRESENT))
			return;
		if (ld_is_leaf(entry, where.level))
			o->pfn = ld_entry_pfn(entry, where.level) +
				 ((addr & (ld_level_size(where.level) - 1)) >>
				  PAGE_SHIFT);
		if (where.level <= LD_LEVEL_PUD && ld_is_tagged(entry)) {
			o->ours = true;
			o->upper |= where.level > LD_LEVEL_PTE;
			if (saving)
				ld_cow_save_table(where.table);
			if (!saving || save_below(&where, entry, depth, o))
				open_entry(&where, depth);
			continue;	/* look again */
		}
		if (ld_is_leaf(entry, where.level))
			return;
		where.table = ld_table_pfn(entry);
		where.level--;
	}
}
NOKPROBE_SYMBOL(ld_open);

/* No entry above is ours. Logged first: the stop is to protect it again. */
unsigned long notrace ld_open_armed(unsigned long addr, int depth)
{
	struct ld_where where;
	u64 kept, old, *table;

	old = ld_lookup(addr, &where);
	if (where.level != LD_LEVEL_PTE || !ld_is_tagged(old))
		return 0;
	ld_armed_log_opened(addr);
	table = ld_table_map(where.table, depth, &kept);
	while (ld_is_tagged(old) &&
	       !try_cmpxchg(&table[where.index], &old, ld_original(old)))
		;
	ld_table_unmap(depth, kept);
	return ld_table_pfn(old);
}
NOKPROBE_SYMBOL(ld_open_armed);
