// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/entry.h"
#include "fault/tables.h"
#include "map/area.h"
#include "map/regions.h"
#include "map/tlb.h"
#include "test.h"

#define SLOTS_PER_CPU (LD_MAX_DEPTH + 1)	/* the last is for all deeper */
#define LOSERS 64	/* tables that lost a race wait for release */

/* What a table of ours stands for. */
struct origin {
	struct ld_where parent;
	u64 leaf;		/* as it was found; 0: not in use */
	bool before;		/* split before the stop */
};

static struct {
	struct ld_area area;
	struct origin *origins;
	u64 *alias;		/* all of them, one after the other */
	int count;
	atomic_t taken;
	atomic_t placed;
} own;

/* Who loses a race keeps its table for the next one, as cow.c does. */
static DEFINE_PER_CPU(int, kept_table);	/* 1 + its number; 0: none */

/* Temporary mappings: for each an address and, writable, its entry. */
static struct {
	void *area;
	u64 **entry;
	void *tables;		/* the tables that hold the entries */
	int table_count;
	struct page *dummy;
} slots;

/* ---- reserve ---- */

struct leaf_count {
	struct ld_walk walk;
	unsigned long tables;
};

static void count_large(struct ld_walk *walk, u64 entry, int level,
			unsigned long addr)
{
	struct leaf_count *lc = container_of(walk, struct leaf_count, walk);

	if (level == LD_LEVEL_PMD)
		lc->tables++;
	if (level == LD_LEVEL_PUD)
		lc->tables += 1 + PTRS_PER_PMD;
}

/* How many tables it takes to map all in 4 KiB that may be split. */
static unsigned long tables_wanted(void)
{
	struct leaf_count lc = { .walk = { .leaf = count_large } };
	int i;

	for (i = 0; i < LD_REGIONS; i++) {
		lc.walk.start = ld_region_at(i)->start;
		lc.walk.last = ld_region_at(i)->last;
		ld_walk_kernel(&lc.walk);
	}
	/* Not protected, but watched in 4 KiB. */
	lc.walk.start = ld_syms.text;
	lc.walk.last = ld_syms.end - 1;
	ld_walk_kernel(&lc.walk);
	return lc.tables + lc.tables / 16 + LOSERS;
}

static int reserve_own(void)
{
	unsigned int wanted = tables_wanted();
	int err;

	own.origins = vzalloc(array_size(wanted, sizeof(*own.origins)));
	if (!own.origins)
		return -ENOMEM;
	err = ld_area_alloc(&own.area, wanted);
	if (err)
		return err;
	for (; own.count < wanted; own.count++)
		ld_cow_mark(page_to_pfn(own.area.pages[own.count]),
			    LD_SLOT_TABLE + own.count);
	own.alias = own.area.addr;
	ld_cow_mark_own(own.origins, own.count * sizeof(*own.origins));
	ld_cow_mark_own(own.area.pages, own.count * sizeof(*own.area.pages));
	return 0;
}

/* Map the tables that hold the entries of the slots, and point into them. */
static int alias_entries(int count)
{
	struct page **tables = kvcalloc(count, sizeof(*tables), GFP_KERNEL);
	struct ld_where where;
	int i, last = -1;

	if (!tables)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		ld_walk_to((unsigned long)slots.area + i * PAGE_SIZE, &where);
		if (last < 0 || page_to_pfn(tables[last]) != where.table)
			tables[++last] = pfn_to_page(where.table);
		/* for now: which table, and where in it */
		slots.entry[i] = (u64 *)(last * PAGE_SIZE +
					 where.index * sizeof(u64));
	}
	slots.table_count = last + 1;
	slots.tables = vmap(tables, last + 1, VM_MAP, PAGE_KERNEL);
	kvfree(tables);
	if (!slots.tables)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		slots.entry[i] = slots.tables + (unsigned long)slots.entry[i];
		WRITE_ONCE(*slots.entry[i], 0);
	}
	return 0;
}

static int reserve_slots(void)
{
	int i, count = nr_cpu_ids * SLOTS_PER_CPU;
	struct page **pages = kvcalloc(count, sizeof(*pages), GFP_KERNEL);

	slots.dummy = alloc_page(GFP_KERNEL);
	slots.entry = vzalloc(array_size(count, sizeof(*slots.entry)));
	if (pages && slots.dummy && slots.entry) {
		for (i = 0; i < count; i++)
			pages[i] = slots.dummy;
		slots.area = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	}
	kvfree(pages);
	if (!slots.area || alias_entries(count))
		return -ENOMEM;
	ld_cow_mark_own(slots.entry, count * sizeof(*slots.entry));
	/* The dummy's mappings are gone from every TLB before the first use. */
	ld_flush_tlb_all();
	return ld_armed_exclude(slots.area, count * PAGE_SIZE) ?:
	       ld_armed_exclude(slots.tables, slots.table_count * PAGE_SIZE);
}

int ld_tables_prepare(void)
{
	return reserve_own() ?: reserve_slots();
}

static void free_slots(void)
{
	vunmap(slots.tables);
	vunmap(slots.area);
	vfree(slots.entry);
	if (slots.dummy)
		__free_page(slots.dummy);
	memset(&slots, 0, sizeof(slots));
}

u64 ld_tables_free(void)
{
	u64 left = 0;
	int i;

	free_slots();
	for (i = 0; i < own.count; i++) {
		/* One that maps memory is the kernel's from now on. */
		if (own.origins[i].leaf) {
			own.area.pages[i] = NULL;
			left++;
		}
	}
	ld_area_free(&own.area);
	vfree(own.origins);
	for_each_possible_cpu(i)
		per_cpu(kept_table, i) = 0;
	memset(&own, 0, sizeof(own));
	return left;
}

/* ---- writable pointers ---- */

static u64 *notrace own_table(unsigned long pfn)
{
	u32 number = ld_cow_slot(pfn) - LD_SLOT_TABLE;

	return number < own.count ? own.alias + (size_t)number * PTRS_PER_PTE : NULL;
}
NOKPROBE_SYMBOL(own_table);

u64 *ld_table_writable(unsigned long pfn)
{
	return own_table(pfn) ?: ld_table_at(pfn);
}

static int notrace slot_of(int depth)
{
	return smp_processor_id() * SLOTS_PER_CPU +
	       min(depth, SLOTS_PER_CPU) - 1;
}
NOKPROBE_SYMBOL(slot_of);

static void notrace set_slot(int slot, u64 entry)
{
	void *addr = slots.area + slot * PAGE_SIZE;

	WRITE_ONCE(*slots.entry[slot], entry);
	asm volatile("invlpg (%0)" : : "r"(addr) : "memory");
}
NOKPROBE_SYMBOL(set_slot);

/*
 * The mapping goes with its user, in the same address space: INVLPG drops it
 * for the current PCID only. Who is nested deeper than there are slots gives
 * the last one back as it was.
 */
u64 *notrace ld_table_map(unsigned long pfn, int depth, u64 *kept)
{
	u64 *table = own_table(pfn);
	int slot;

	*kept = U64_MAX;
	if (table)
		return table;
	slot = slot_of(depth);
	*kept = READ_ONCE(*slots.entry[slot]);
	set_slot(slot, PFN_PHYS(pfn) |
			       (pgprot_val(PAGE_KERNEL) & ~_PAGE_GLOBAL));
	return slots.area + slot * PAGE_SIZE;
}
NOKPROBE_SYMBOL(ld_table_map);

void notrace ld_table_unmap(int depth, u64 kept)
{
	if (kept != U64_MAX)
		set_slot(slot_of(depth), kept);
}
NOKPROBE_SYMBOL(ld_table_unmap);

/* ---- large leaf to table ---- */

/* The first child of a leaf; the others follow by step. */
static u64 notrace first_child(u64 leaf, int level, u64 *step)
{
	u64 child = PFN_PHYS(ld_entry_pfn(leaf, level)) |
		    (leaf & PTE_FLAGS_MASK);
	u64 pat = leaf & _PAGE_PAT_LARGE;

	*step = ld_level_size(level - 1);
	if (level - 1 > LD_LEVEL_PTE)
		return child | pat;
	/* The same bit is PSE there and PAT here. */
	return (child & ~(u64)_PAGE_PSE) | (pat ? _PAGE_PAT : 0);
}
NOKPROBE_SYMBOL(first_child);

static void notrace fill_children(u64 *children, u64 leaf, int level)
{
	u64 step, child = first_child(leaf, level, &step);
	int i;

	for (i = 0; i < PTRS_PER_PTE; i++, child += step)
		children[i] = child;
}
NOKPROBE_SYMBOL(fill_children);

static int notrace take_table(void)
{
	int number = this_cpu_xchg(kept_table, 0);

	if (number)
		return number - 1;
	number = atomic_fetch_add_unless(&own.taken, 1, own.count);
	return number < own.count ? number : -1;
}
NOKPROBE_SYMBOL(take_table);

int notrace ld_demote(const struct ld_where *where, u64 leaf, u64 opened,
		      int depth)
{
	int number = take_table();
	u64 kept, *table, *children;
	bool placed;

	if (number < 0)
		return -ENOMEM;
	children = own.alias + (size_t)number * PTRS_PER_PTE;
	fill_children(children, leaf, where->level);
	ld_point(LD_POINT_DEMOTE, ld_entry_pfn(leaf, where->level));

	table = ld_table_map(where->table, depth, &kept);
	/* A full barrier: who sees the table sees its entries. */
	placed = cmpxchg(&table[where->index], leaf,
			 PFN_PHYS(page_to_pfn(own.area.pages[number])) |
				 _KERNPG_TABLE | opened) == leaf;
	ld_table_unmap(depth, kept);
	if (!placed) {
		this_cpu_xchg(kept_table, number + 1);
		return -EAGAIN;
	}
	own.origins[number].parent = *where;
	own.origins[number].before = !opened;
	own.origins[number].leaf = leaf;
	atomic_inc(&own.placed);
	return 0;
}
NOKPROBE_SYMBOL(ld_demote);

int ld_split(unsigned long addr)
{
	struct ld_where where;
	unsigned long flags;
	u64 leaf;
	int err;

	do {
		/* The kernel's own changes read, change and write back. */
		spin_lock(ld_syms.cpa_lock);
		leaf = ld_walk_to(addr, &where);
		if (!leaf || where.level == LD_LEVEL_PTE) {
			spin_unlock(ld_syms.cpa_lock);
			return 0;
		}
		local_irq_save(flags);
		err = ld_demote(&where, leaf, 0, 1);
		local_irq_restore(flags);
		spin_unlock(ld_syms.cpa_lock);
	} while (!err || err == -EAGAIN);
	return err;
}

/* ---- table to large leaf ---- */

static bool says_the_same(const u64 *children, u64 leaf, int level)
{
	const u64 ignored = _PAGE_ACCESSED | _PAGE_DIRTY;
	u64 step, child = first_child(leaf, level, &step);
	int i;

	for (i = 0; i < PTRS_PER_PTE; i++, child += step)
		if ((READ_ONCE(children[i]) ^ child) & ~ignored)
			return false;
	return true;
}

/* True when the leaf is back; false when something else has become of it. */
static bool merge(unsigned int number)
{
	struct origin *origin = &own.origins[number];
	int level = origin->parent.level;
	u64 leaf = origin->leaf, old;
	u64 *entry = ld_table_at(origin->parent.table) + origin->parent.index;
	bool same;

	if (ld_is_tagged(leaf))
		leaf = ld_original(leaf);
	spin_lock(ld_syms.cpa_lock);
	old = READ_ONCE(*entry);
	do {
		same = (old & _PAGE_PRESENT) && !ld_is_leaf(old, level) &&
		       ld_table_pfn(old) == page_to_pfn(own.area.pages[number]) &&
		       says_the_same(own.alias + (size_t)number * PTRS_PER_PTE, leaf,
				     level);
	} while (same && !try_cmpxchg(entry, &old, leaf));
	spin_unlock(ld_syms.cpa_lock);
	return same;
}

/* Return: was any leaf put back? Counts those tables that were not. */
static bool merge_all(u64 *left)
{
	bool any = false;
	int i;

	*left = 0;
	for (i = atomic_read(&own.taken); i-- > 0;) {
		if (!own.origins[i].leaf)
			continue;
		if (merge(i)) {
			own.origins[i].leaf = 0;
			any = true;
		} else {
			++*left;
		}
		cond_resched();
	}
	return any;
}

u64 ld_tables_merge(void)
{
	u64 left;

	/* A table below another goes first, whatever its number. */
	while (merge_all(&left) && left)
		;
	/* No CPU walks them any more, nor has a pointer into them. */
	ld_flush_tlb_all();
	synchronize_rcu();
	return left;
}

int ld_tables_save_parents(u64 *saved)
{
	unsigned int i;
	int err;

	for (i = 0; i < atomic_read(&own.taken); i++) {
		if (!own.origins[i].leaf)
			continue;
		err = ld_cow_keep(own.origins[i].parent.table, saved);
		if (err)
			return err;
	}
	return 0;
}

void ld_tables_recopy_parents(void)
{
	unsigned long last = 0;
	unsigned int i;

	/* Neighbours have the same parent. */
	for (i = 0; i < atomic_read(&own.taken); i++) {
		unsigned long table = own.origins[i].parent.table;

		if (own.origins[i].leaf && table != last)
			ld_cow_recopy_table(table);
		last = table;
	}
}

void ld_tables_patch_copies(void)
{
	unsigned int i;

	for (i = 0; i < atomic_read(&own.taken); i++) {
		const struct origin *origin = &own.origins[i];
		u32 slot = ld_cow_slot(origin->parent.table);
		u64 *copy;

		if (!origin->leaf || !origin->before || !slot ||
		    slot >= LD_SLOT_SPECIAL)
			continue;
		copy = (u64 *)ld_cow_page(slot);
		copy[origin->parent.index] = origin->leaf;
	}
}

u64 ld_tables_used(void)
{
	return atomic_read(&own.placed);
}
