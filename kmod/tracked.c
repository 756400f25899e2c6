// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "cow.h"
#include "hooks.h"
#include "pgwalk.h"
#include "protect.h"
#include "ranges.h"
#include "sensitive.h"
#include "tables.h"
#include "test.h"
#include "tracked.h"

#define STACK_PAGES (THREAD_SIZE / PAGE_SIZE)

/* A page, and where the kernel writes it by. */
struct watched {
	unsigned long pfn, addr;
	const u64 *entry;		/* NULL: nothing maps it */
	bool was_dirty;
};

/*
 * The direct map's leaf of such pages: hardly ever written by, and protected
 * like all of it. If it was, all its pages count as written.
 */
struct data_alias {
	unsigned long pfn, pages;
	const u64 *entry;
	bool was_dirty;
};

/* What looks like a thread's stack in vmalloc space. */
struct stack {
	unsigned long addr;
	u64 *entries;			/* of its pages, in a row */
	unsigned long pfn[STACK_PAGES];
};

static struct {
	unsigned long *fixed;		/* bitmap: stay writable */
	unsigned long *copied;		/* bitmap: of them, copied in any case */
	unsigned long fixed_bits;
	struct watched *pages;
	unsigned long page_count, page_room;
	struct data_alias *aliases;
	unsigned long alias_count, alias_room;
	struct stack *stacks;
	unsigned long stack_count, stack_room;
	u64 saved;
	atomic_t recopied;
} tracked;

/* ---- what there is ---- */

static void mark_own(const void *area, unsigned long count, size_t size)
{
	ld_cow_mark_own(area, count * size);
}

static void mark(unsigned long pfn, void *bitmap)
{
	if (pfn < tracked.fixed_bits)
		__set_bit(pfn, bitmap);
}

static unsigned long *new_bitmap(void)
{
	size_t bytes = BITS_TO_LONGS(tracked.fixed_bits) * sizeof(long);
	unsigned long *bitmap = vzalloc(bytes);

	if (bitmap)
		ld_cow_mark_own(bitmap, bytes);
	return bitmap;
}

/* The first 2 MiB from @pfn on with a page that must stay writable. */
static unsigned long next_block(unsigned long pfn)
{
	pfn = find_next_bit(tracked.fixed, tracked.fixed_bits, pfn);
	return pfn < tracked.fixed_bits ? round_down(pfn, PTRS_PER_PTE) : pfn;
}

#define for_each_block(block)                                              \
	for (block = next_block(0); block < tracked.fixed_bits;            \
	     block = next_block(block + PTRS_PER_PTE))

static void mark_aliased(struct ld_walk *walk, u64 entry, int level,
			 unsigned long addr)
{
	unsigned long pfn = ld_entry_pfn(entry, level);

	if (level == LD_LEVEL_PTE && ld_tracked_is_fixed(pfn))
		__set_bit(pfn, tracked.copied);
}

/*
 * What of it has another mapping (CPU entry area, IRQ stacks in vmalloc space)
 * is copied in any case. Writes to the rest set a Dirty bit in the direct map.
 */
static void find_aliased(void)
{
	struct ld_walk walk = { .leaf = mark_aliased };

	walk.start = VMALLOC_START;
	walk.last = VMALLOC_END - 1;
	ld_walk_kernel(&walk);
	walk.start = CPU_ENTRY_AREA_BASE;
	walk.last = CPU_ENTRY_AREA_BASE + P4D_SIZE - 1;
	ld_walk_kernel(&walk);
}

static int find_fixed(void)
{
	int cpu;

	tracked.fixed_bits = ld_ranges_max_pfn();
	tracked.fixed = new_bitmap();
	tracked.copied = new_bitmap();
	if (!tracked.fixed || !tracked.copied)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		ld_each_cpu_page(cpu, mark, tracked.fixed);
		ld_each_espfix_page(cpu, mark, tracked.copied);
	}
	find_aliased();
	ld_each_stopper_page(mark, tracked.fixed);
	return 0;
}

/* ---- split what is looked at page by page ---- */

static unsigned long image_address(unsigned long pfn)
{
	return PFN_PHYS(pfn) - __pa(ld_syms.text) + ld_syms.text;
}

static void split_data(unsigned long pfn, void *arg)
{
	int *err = arg;

	/* Quick where it is split already. */
	if (!*err)
		*err = ld_split(image_address(pfn));
	tracked.alias_room++;
}

static int split_all(void)
{
	unsigned long block;
	int err = 0;

	for_each_block(block) {
		err = ld_split((unsigned long)__va(PFN_PHYS(block)));
		if (err)
			return err;
		tracked.page_room += PTRS_PER_PTE;
	}
	ld_each_data_page(split_data, &err);
	tracked.page_room += tracked.alias_room;
	return err;
}

/* ---- watch it ---- */

/*
 * Clear the Dirty bit of the leaf that maps an address, and return its place;
 * NULL where nothing maps it. One that is read-only keeps it.
 */
static u64 *watch_leaf(unsigned long addr, struct ld_where *where,
		       bool *was_dirty)
{
	u64 leaf, *entry = NULL;

	*was_dirty = false;
	/* The kernel's own changes read, change and write back. */
	spin_lock(ld_syms.cpa_lock);
	leaf = ld_walk_to(addr, where);
	if (leaf) {
		entry = ld_table_at(where->table) + where->index;
		if (leaf & _PAGE_RW)
			*was_dirty = test_and_clear_bit(
				_PAGE_BIT_DIRTY, (unsigned long *)entry);
	}
	spin_unlock(ld_syms.cpa_lock);
	return entry;
}

static void watch_page(unsigned long pfn, unsigned long addr)
{
	struct watched *page = &tracked.pages[tracked.page_count];
	struct ld_where where;

	if (tracked.page_count == tracked.page_room)
		return;
	page->pfn = pfn;
	page->addr = addr;
	page->entry = watch_leaf(addr, &where, &page->was_dirty);
	/* Nobody writes by a read-only one; what makes it writable is hooked. */
	if (page->entry && !(READ_ONCE(*page->entry) & _PAGE_RW))
		return;
	tracked.page_count++;
}

static void watch_alias(unsigned long pfn)
{
	struct data_alias *next = &tracked.aliases[tracked.alias_count];
	struct ld_where where;

	if (tracked.alias_count && pfn < next[-1].pfn + next[-1].pages)
		return;
	next->entry = watch_leaf((unsigned long)__va(PFN_PHYS(pfn)), &where,
				 &next->was_dirty);
	if (!next->entry || !(READ_ONCE(*next->entry) & _PAGE_RW))
		return;
	next->pages = ld_level_size(where.level) >> PAGE_SHIFT;
	next->pfn = round_down(pfn, next->pages);
	tracked.alias_count++;
}

static void watch_data(unsigned long pfn, void *unused)
{
	watch_page(pfn, image_address(pfn));
	watch_alias(pfn);
}

/*
 * The neighbours of a page that must stay writable are as well watched as
 * protected: looking at a Dirty bit in the stop costs less than changing an
 * entry.
 */
static void watch_block(unsigned long block)
{
	unsigned long pfn, end = min(block + PTRS_PER_PTE, tracked.fixed_bits);

	for (pfn = block; pfn < end; pfn++)
		if (!test_bit(pfn, tracked.copied) &&
		    ld_cow_slot(pfn) == LD_SLOT_NONE)
			watch_page(pfn, (unsigned long)__va(PFN_PHYS(pfn)));
}

static int watch_pages(void)
{
	unsigned long block;

	tracked.pages = vzalloc(array_size(tracked.page_room,
					   sizeof(*tracked.pages)));
	tracked.aliases = vzalloc(array_size(tracked.alias_room,
					     sizeof(*tracked.aliases)));
	if (!tracked.pages || !tracked.aliases)
		return -ENOMEM;
	mark_own(tracked.pages, tracked.page_room, sizeof(*tracked.pages));
	mark_own(tracked.aliases, tracked.alias_room,
		 sizeof(*tracked.aliases));
	ld_each_data_page(watch_data, NULL);
	for_each_block(block)
		watch_block(block);
	return 0;
}

/* ---- stacks: four pages in a row, aligned like a stack, then a hole ---- */

static bool is_stack_at(const u64 *table, int index)
{
	int i;

	for (i = 0; i < STACK_PAGES; i++)
		if (!(READ_ONCE(table[index + i]) & _PAGE_PRESENT))
			return false;
	/* At the end of the table we would have to look into the next. */
	return index + i == PTRS_PER_PTE ||
	       !(READ_ONCE(table[index + i]) & _PAGE_PRESENT);
}

static void watch_stack(u64 *table, int index, unsigned long addr)
{
	struct stack *stack = &tracked.stacks[tracked.stack_count];
	int i;

	if (tracked.stacks && tracked.stack_count < tracked.stack_room) {
		stack->addr = addr;
		stack->entries = &table[index];
		for (i = 0; i < STACK_PAGES; i++) {
			stack->pfn[i] = ld_table_pfn(table[index + i]);
			clear_bit(_PAGE_BIT_DIRTY,
				  (unsigned long *)&table[index + i]);
		}
	}
	tracked.stack_count++;
}

/*
 * The kernel frees such a table only after it has interrupted every CPU to
 * flush its TLB: with interrupts off it stays. It may be gone before.
 */
static bool each_stack(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	unsigned long flags;
	struct ld_where where;
	int i;

	if (level > LD_LEVEL_PTE)
		return true;
	local_irq_save(flags);
	ld_walk_to(addr, &where);
	if (where.level == LD_LEVEL_PTE && where.table == pfn) {
		u64 *table = ld_table_at(pfn);

		for (i = 0; i < PTRS_PER_PTE; i += STACK_PAGES)
			if (is_stack_at(table, i))
				watch_stack(table, i, addr + i * PAGE_SIZE);
	}
	local_irq_restore(flags);
	cond_resched();
	return false;
}

static void walk_stacks(void)
{
	struct ld_walk walk = {
		.table = each_stack,
		.start = VMALLOC_START,
		.last = VMALLOC_END - 1,
	};

	tracked.stack_count = 0;
	ld_walk_kernel(&walk);
}

static int watch_stacks(void)
{
	int err = 0;

	/* Those that come meanwhile are logged by a hook. */
	walk_stacks();
	tracked.stack_room = tracked.stack_count * 5 / 4 + 256;
	tracked.stacks = vzalloc(array_size(tracked.stack_room,
					    sizeof(*tracked.stacks)));
	if (!tracked.stacks)
		return -ENOMEM;
	mark_own(tracked.stacks, tracked.stack_room, sizeof(*tracked.stacks));
	ld_hooks_log_restart();
	walk_stacks();
	if (tracked.stack_count > tracked.stack_room) {
		tracked.stack_count = tracked.stack_room;
		err = -EAGAIN;
	}
	return err;
}

/* ---- copies ---- */

static int save(unsigned long pfn)
{
	switch (ld_cow_save(pfn)) {
	case LD_SAVED:
		tracked.saved++;
		return 0;
	case LD_LOST:
		return -ENOSPC;
	default:
		return 0;
	}
}

static int save_all(void)
{
	unsigned long i, j;
	int err = 0;

	for (i = find_first_bit(tracked.fixed, tracked.fixed_bits);
	     i < tracked.fixed_bits && !err;
	     i = find_next_bit(tracked.fixed, tracked.fixed_bits, i + 1))
		err = save(i);
	for (i = 0; i < tracked.page_count && !err; i++)
		err = save(tracked.pages[i].pfn);
	for (i = 0; i < tracked.stack_count && !err; i++)
		for (j = 0; j < STACK_PAGES && !err; j++)
			err = save(tracked.stacks[i].pfn[j]);
	return err;
}

int ld_tracked_prepare(void)
{
	int err = find_fixed() ?: split_all() ?: watch_pages() ?:
		  watch_stacks();

	if (err)
		return err;
	/* From here on every write sets a Dirty bit that we look at. */
	ld_flush_tlb_all();
	return save_all();
}

int ld_tracked_again(void)
{
	unsigned long i;
	int j, err;

	for (i = 0; i < tracked.stack_count; i++) {
		for (j = 0; j < STACK_PAGES; j++) {
			if (!tracked.stacks[i].pfn[j])
				continue;
			ld_cow_forget(tracked.stacks[i].pfn[j]);
			tracked.saved--;
		}
	}
	vfree(tracked.stacks);
	tracked.stacks = NULL;
	err = watch_stacks();
	if (err)
		return err;
	ld_flush_tlb_all();
	return save_all();
}

void ld_tracked_free(void)
{
	vfree(tracked.fixed);
	vfree(tracked.copied);
	vfree(tracked.pages);
	vfree(tracked.aliases);
	vfree(tracked.stacks);
	memset(&tracked, 0, sizeof(tracked));
}

bool ld_tracked_is_fixed(unsigned long pfn)
{
	return pfn < tracked.fixed_bits && test_bit(pfn, tracked.fixed);
}

unsigned long ld_tracked_next_fixed(unsigned long pfn, unsigned long end)
{
	return find_next_bit(tracked.fixed, min(end, tracked.fixed_bits), pfn);
}

/* ---- inside the stop ---- */

static bool is_mapped_at(const struct stack *stack, int i)
{
	u64 entry = READ_ONCE(stack->entries[i]);

	return (entry & _PAGE_PRESENT) && ld_table_pfn(entry) == stack->pfn[i];
}

static void forget_gone(void)
{
	unsigned long i;
	int j;

	for (i = 0; i < tracked.stack_count; i++) {
		for (j = 0; j < STACK_PAGES; j++) {
			struct stack *stack = &tracked.stacks[i];

			if (!stack->pfn[j] || is_mapped_at(stack, j))
				continue;
			ld_cow_forget(stack->pfn[j]);
			stack->pfn[j] = 0;
			tracked.saved--;
		}
	}
}

static int save_new(unsigned long addr)
{
	int i, err = 0;

	for (i = 0; i < STACK_PAGES && !err; i++) {
		struct ld_where where;
		u64 leaf = ld_walk_to(addr + i * PAGE_SIZE, &where);

		if (leaf && where.level == LD_LEVEL_PTE) {
			ld_cow_recopy_page(ld_table_pfn(leaf));
			err = save(ld_table_pfn(leaf));
		}
	}
	return err;
}

int ld_tracked_update(void)
{
	int i, err = 0, count = ld_hooks_log_count();

	/* Too many, or tables may have gone: watch anew, outside. */
	if (count < 0)
		return -EAGAIN;
	forget_gone();
	for (i = 0; i < count && !err; i++)
		err = save_new(ld_hooks_log_at(i));
	return err;
}

static void recopy_page(unsigned long pfn)
{
	ld_cow_recopy_page(pfn);
	atomic_inc(&tracked.recopied);
}

static void recopy_fixed(unsigned long pfn, void *unused)
{
	if (test_bit(pfn, tracked.copied))
		recopy_page(pfn);
}

static bool is_written(const u64 *entry)
{
	return READ_ONCE(*entry) & _PAGE_DIRTY;
}

/* What has other mappings, which no Dirty bit of ours tells of. */
void ld_tracked_recopy_cpu(int cpu)
{
	if (!ld_is_mutant(LD_MUTANT_RECOPY))
		ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

void ld_tracked_recopy_part(unsigned int part, unsigned int parts)
{
	unsigned long end = tracked.page_count * (part + 1) / parts;
	unsigned long i = tracked.page_count * part / parts;

	if (ld_is_mutant(LD_MUTANT_RECOPY))
		return;
	for (; i < end; i++) {
		const struct watched *page = &tracked.pages[i];

		if (!page->entry || is_written(page->entry))
			recopy_page(page->pfn);
	}
}

static void recopy_aliases(void)
{
	unsigned long i, j;

	for (i = 0; i < tracked.alias_count; i++) {
		const struct data_alias *alias = &tracked.aliases[i];
		u64 entry = READ_ONCE(*alias->entry);

		/* Protected by now: the tag remembers what Dirty was. */
		if (!(entry & (_PAGE_DIRTY | LD_TAG_DIRTY)))
			continue;
		for (j = 0; j < alias->pages; j++)
			ld_cow_recopy_page(alias->pfn + j);
	}
}

static void recopy_stacks(void)
{
	unsigned long i;
	int j;

	for (i = 0; i < tracked.stack_count; i++) {
		const struct stack *stack = &tracked.stacks[i];

		for (j = 0; j < STACK_PAGES; j++)
			if (stack->pfn[j] && is_written(&stack->entries[j]))
				recopy_page(stack->pfn[j]);
	}
	for (i = 0; i < ld_hooks_log_count(); i++)
		save_new(ld_hooks_log_at(i));
}

void ld_tracked_recopy(void)
{
	int cpu;

	if (ld_is_mutant(LD_MUTANT_RECOPY))
		return;
	recopy_aliases();
	recopy_stacks();
	for_each_possible_cpu(cpu)
		if (!cpu_online(cpu))
			ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

u64 ld_tracked_saved(void)
{
	return tracked.saved;
}

u64 ld_tracked_recopied(void)
{
	return atomic_read(&tracked.recopied);
}

/* ---- after release ---- */

/*
 * Set, never cleared: a Dirty bit too many is what the kernel starts with. The
 * tables have changed meanwhile, so the leaf is looked up again.
 */
static void dirty_again(unsigned long addr)
{
	struct ld_where where;
	unsigned long flags;
	u64 leaf;

	/* See each_stack(): what is found stays while interrupts are off. */
	local_irq_save(flags);
	leaf = ld_walk_to(addr, &where);
	if (leaf & _PAGE_RW)
		set_bit(_PAGE_BIT_DIRTY,
			(unsigned long *)(ld_table_at(where.table) +
					  where.index));
	local_irq_restore(flags);
}

void ld_tracked_restore(void)
{
	unsigned long i;
	int j;

	for (i = 0; i < tracked.page_count; i++)
		if (tracked.pages[i].was_dirty)
			dirty_again(tracked.pages[i].addr);
	for (i = 0; i < tracked.alias_count; i++)
		if (tracked.aliases[i].was_dirty)
			dirty_again((unsigned long)__va(
				PFN_PHYS(tracked.aliases[i].pfn)));
	for (i = 0; i < tracked.stack_count; i++) {
		for (j = 0; j < STACK_PAGES; j++)
			dirty_again(tracked.stacks[i].addr + j * PAGE_SIZE);
		cond_resched();
	}
}
