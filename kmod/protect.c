// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <asm/tlbflush.h>
#include <asm/tsc.h>

#include "fault/cow.h"
#include "protect.h"
#include "map/ram.h"
#include "fault/tables.h"

static const struct ld_strategy *const strategies[] = { &ld_lazy, &ld_eager };

const struct ld_strategy *ld_strategy_find(u32 id)
{
	int i;

	if (id == LIVEDUMP_STRATEGY_DEFAULT)
		return strategies[0];
	for (i = 0; i < ARRAY_SIZE(strategies); i++)
		if (strategies[i]->id == id)
			return strategies[i];
	return NULL;
}

static struct ld_region regions[LD_REGIONS];

void ld_regions_init(void)
{
	unsigned long pages = ld_ranges_max_pfn();
	struct ld_region *direct = &regions[LD_REGION_DIRECT];
	struct ld_region *pages_of = &regions[LD_REGION_VMEMMAP];

	/* To the end of what the last upper entry may map. */
	direct->start = PAGE_OFFSET;
	direct->last = PAGE_OFFSET +
		       round_up(PFN_PHYS(pages), PUD_SIZE) - 1;
	pages_of->start = round_down((unsigned long)pfn_to_page(0), PUD_SIZE);
	pages_of->last = round_up((unsigned long)pfn_to_page(pages),
				 PUD_SIZE) - 1;
}

const struct ld_region *notrace ld_region_at(int i)
{
	return &regions[i];
}
NOKPROBE_SYMBOL(ld_region_at);

bool notrace ld_is_readable(unsigned long pfn)
{
	struct ld_where where;
	u64 leaf = ld_walk_to((unsigned long)__va(PFN_PHYS(pfn)), &where);
	u64 pat = where.level == LD_LEVEL_PTE ? _PAGE_PAT : _PAGE_PAT_LARGE;

	return leaf && !(leaf & (_PAGE_PCD | _PAGE_PWT | pat));
}
NOKPROBE_SYMBOL(ld_is_readable);

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

/* ---- every entry as it was ---- */

/*
 * By way of the direct map: a fault on a table that is read-only still is let
 * through by the probe, which only opens by now.
 */
static u64 restore_table(u64 *table, int level, unsigned long addr,
			 const struct ld_region *region)
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
			found += ld_is_tagged(old);
			break;
		}
		if ((old & _PAGE_PRESENT) && !ld_is_leaf(old, level))
			found += restore_table(ld_table_at(ld_table_pfn(old)),
					       level - 1, addr, region);
	}
	cond_resched();
	return found;
}

struct restore_walk {
	struct ld_walk walk;
	const struct ld_region *region;
	u64 found;
};

/* Marks are at the third level and below only. */
static bool restore_below(struct ld_walk *walk, unsigned long pfn, int level,
			  unsigned long addr)
{
	struct restore_walk *rw = container_of(walk, struct restore_walk, walk);

	if (level > LD_LEVEL_PUD)
		return true;
	rw->found += restore_table(ld_table_at(pfn), level, addr, rw->region);
	return false;
}

u64 ld_restore_entries(void)
{
	struct restore_walk rw = { .walk = { .table = restore_below } };
	int i;

	for (i = 0; i < LD_REGIONS; i++) {
		rw.region = &regions[i];
		rw.walk.start = rw.region->start;
		rw.walk.last = rw.region->last;
		ld_walk_kernel(&rw.walk);
	}
	return rw.found;
}

/* ---- leaves and TLBs ---- */

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

/* native_write_cr4() is exported only in kernels with the LKDTM module. */
static void write_cr4(unsigned long cr4)
{
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

/*
 * Toggling CR4.PGE drops every entry of every address space. The value ends
 * as it was, so the kernel's shadow of CR4 stays right.
 */
void ld_flush_tlb_local(void)
{
	unsigned long cr4, flags;

	raw_local_irq_save(flags);
	cr4 = native_read_cr4();
	write_cr4(cr4 ^ X86_CR4_PGE);
	write_cr4(cr4);
	raw_local_irq_restore(flags);
}

static void flush_ipi(void *unused)
{
	ld_flush_tlb_local();
}

void ld_flush_tlb_all(void)
{
	on_each_cpu(flush_ipi, NULL, 1);
}
