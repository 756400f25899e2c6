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

/* A page of kernel data, and the entry that the kernel writes it by. */
struct data_page {
	unsigned long pfn;
	const u64 *entry;
};

/*
 * The direct map's leaf of such pages: hardly ever written by, and protected
 * like all of it. If it was, all its pages count as written.
 */
struct data_alias {
	unsigned long pfn, pages;
	const u64 *entry;
};

/* What looks like a thread's stack in vmalloc space. */
struct stack {
	unsigned long addr;
	u64 *entries;			/* of its pages, in a row */
	unsigned long pfn[STACK_PAGES];
};

static struct {
	unsigned long *fixed;		/* bitmap over page frames */
	unsigned long fixed_bits;
	struct data_page *data;
	struct data_alias *aliases;
	unsigned long data_count, alias_count, data_room;
	struct stack *stacks;
	unsigned long stack_count, stack_room;
	u64 saved;
	atomic_t recopied;
} tracked;

/* ---- what there is ---- */

static void mark_fixed(unsigned long pfn, void *unused)
{
	if (pfn < tracked.fixed_bits)
		__set_bit(pfn, tracked.fixed);
}

static void count_data(unsigned long pfn, void *unused)
{
	tracked.data_room++;
}

static unsigned long image_address(unsigned long pfn)
{
	return PFN_PHYS(pfn) - __pa(ld_syms.text) + ld_syms.text;
}

/*
 * Clear the Dirty bit of the leaf that maps an address, and return its place;
 * NULL where nothing maps it.
 */
static u64 *watch_leaf(unsigned long addr, struct ld_where *where)
{
	u64 *entry = NULL;

	/* The kernel's own changes read, change and write back. */
	spin_lock(ld_syms.cpa_lock);
	if (ld_walk_to(addr, where)) {
		entry = ld_table_at(where->table) + where->index;
		clear_bit(_PAGE_BIT_DIRTY, (unsigned long *)entry);
	}
	spin_unlock(ld_syms.cpa_lock);
	return entry;
}

static void watch_alias(unsigned long pfn)
{
	struct data_alias *last = &tracked.aliases[tracked.alias_count - 1];
	struct ld_where where;
	u64 *entry;

	if (tracked.alias_count && pfn < last->pfn + last->pages)
		return;
	entry = watch_leaf((unsigned long)__va(PFN_PHYS(pfn)), &where);
	if (!entry)
		return;
	last = &tracked.aliases[tracked.alias_count++];
	last->entry = entry;
	last->pages = ld_level_size(where.level) >> PAGE_SHIFT;
	last->pfn = round_down(pfn, last->pages);
}

static void watch_data(unsigned long pfn, void *unused)
{
	struct data_page *page = &tracked.data[tracked.data_count];
	struct ld_where where;

	if (tracked.data_count == tracked.data_room)
		return;
	page->pfn = pfn;
	page->entry = watch_leaf(image_address(pfn), &where);
	watch_alias(pfn);
	tracked.data_count++;
}

static int split_fixed(void)
{
	unsigned long pfn, end = tracked.fixed_bits;
	int err = 0;

	for (pfn = find_first_bit(tracked.fixed, end); pfn < end && !err;
	     pfn = find_next_bit(tracked.fixed, end,
				 round_up(pfn + 1, PTRS_PER_PTE)))
		err = ld_split((unsigned long)__va(PFN_PHYS(pfn)));
	return err;
}

struct splitting {
	unsigned long done;	/* the 2 MiB that are split already */
	int err;
};

static void split_image(unsigned long pfn, void *arg)
{
	struct splitting *s = arg;
	unsigned long addr = image_address(pfn);

	if (s->err || (addr & PMD_MASK) == s->done)
		return;
	s->err = ld_split(addr);
	s->done = addr & PMD_MASK;
}

static int find_fixed(void)
{
	int cpu;

	tracked.fixed_bits = ld_ranges_max_pfn();
	tracked.fixed = vzalloc(BITS_TO_LONGS(tracked.fixed_bits) *
				sizeof(long));
	if (!tracked.fixed)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		ld_each_cpu_page(cpu, mark_fixed, NULL);
	return split_fixed();
}

static int watch_image(void)
{
	struct splitting splitting = {};

	ld_each_data_page(split_image, &splitting);
	if (splitting.err)
		return splitting.err;
	ld_each_data_page(count_data, NULL);
	tracked.data = vzalloc(array_size(tracked.data_room,
					  sizeof(*tracked.data)));
	tracked.aliases = vzalloc(array_size(tracked.data_room,
					     sizeof(*tracked.aliases)));
	if (!tracked.data || !tracked.aliases)
		return -ENOMEM;
	ld_each_data_page(watch_data, NULL);
	return 0;
}

static void mark_own(const void *area, unsigned long count, size_t size)
{
	ld_cow_mark_own(area, count * size);
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
	for (i = 0; i < tracked.data_count && !err; i++)
		err = save(tracked.data[i].pfn);
	for (i = 0; i < tracked.stack_count && !err; i++)
		for (j = 0; j < STACK_PAGES && !err; j++)
			err = save(tracked.stacks[i].pfn[j]);
	return err;
}

int ld_tracked_prepare(void)
{
	int err = find_fixed() ?: watch_image() ?: watch_stacks();

	if (err)
		return err;
	mark_own(tracked.fixed, BITS_TO_LONGS(tracked.fixed_bits),
		 sizeof(long));
	mark_own(tracked.data, tracked.data_room, sizeof(*tracked.data));
	mark_own(tracked.aliases, tracked.data_room, sizeof(*tracked.aliases));
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
	vfree(tracked.data);
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
	recopy_page(pfn);
}

static bool is_written(const u64 *entry)
{
	return READ_ONCE(*entry) & _PAGE_DIRTY;
}

static void recopy_data(unsigned int part, unsigned int parts)
{
	unsigned long end = tracked.data_count * (part + 1) / parts;
	unsigned long i = tracked.data_count * part / parts;

	for (; i < end; i++) {
		const struct data_page *page = &tracked.data[i];

		if (!page->entry || is_written(page->entry))
			recopy_page(page->pfn);
	}
}

/*
 * Nearly all of what is a CPU's own has been written. Kernel data is nobody's:
 * with all CPUs here none of it changes, and each looks at a part.
 */
void ld_tracked_recopy_part(int cpu, unsigned int part, unsigned int parts)
{
	if (ld_is_mutant(LD_MUTANT_RECOPY))
		return;
	ld_each_cpu_page(cpu, recopy_fixed, NULL);
	recopy_data(part, parts);
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

	for (i = 0; i < tracked.data_count; i++)
		dirty_again(image_address(tracked.data[i].pfn));
	for (i = 0; i < tracked.alias_count; i++)
		dirty_again((unsigned long)__va(
			PFN_PHYS(tracked.aliases[i].pfn)));
	for (i = 0; i < tracked.stack_count; i++) {
		for (j = 0; j < STACK_PAGES; j++)
			dirty_again(tracked.stacks[i].addr + j * PAGE_SIZE);
		cond_resched();
	}
}
