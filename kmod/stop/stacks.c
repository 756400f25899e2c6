// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/vmalloc.h>

#include "fault/cow.h"
#include "fault/tables.h"
#include "hooks/hooks.h"
#include "map/pgwalk.h"
#include "stop/dirty.h"
#include "stop/stacks.h"

#define STACK_PAGES (THREAD_SIZE / PAGE_SIZE)
/* What of an entry says that it still maps the same page. */
#define SAME (PTE_PFN_MASK | _PAGE_PRESENT)

/* What looks like a thread's stack. */
struct stack {
	unsigned long addr;
	u64 *entries;			/* of its pages, in a row */
	u64 saved[STACK_PAGES];		/* the entries then; 0 = forgotten */
};

static struct {
	struct stack *stacks;
	unsigned long count, room;
} watched;

/* ---- four pages in a row, aligned like a stack, then a hole ---- */

/* Not a device's registers, nor memory of ours. */
static bool is_memory(u64 entry)
{
	unsigned long pfn = ld_table_pfn(entry);

	return (entry & _PAGE_PRESENT) && pfn < ld_cow_max_pfn() &&
	       ld_cow_slot(pfn) < LD_SLOT_SPECIAL;
}

static bool is_stack_at(const u64 *table, int index)
{
	int i;

	for (i = 0; i < STACK_PAGES; i++)
		if (!is_memory(READ_ONCE(table[index + i])))
			return false;
	/* At the end of the table we would have to look into the next. */
	return index + i == PTRS_PER_PTE ||
	       !(READ_ONCE(table[index + i]) & _PAGE_PRESENT);
}

static void watch_stack(u64 *table, int index, unsigned long addr)
{
	struct stack *stack = &watched.stacks[watched.count];
	int i;

	if (watched.stacks && watched.count < watched.room) {
		stack->addr = addr;
		stack->entries = &table[index];
		for (i = 0; i < STACK_PAGES; i++) {
			stack->saved[i] = READ_ONCE(table[index + i]) & SAME;
			clear_bit(_PAGE_BIT_DIRTY,
				  (unsigned long *)&table[index + i]);
		}
	}
	watched.count++;
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

	watched.count = 0;
	ld_walk_kernel(&walk);
}

int ld_stacks_watch(void)
{
	ld_stacks_free();
	/* Those that come meanwhile are logged by a hook. */
	walk_stacks();
	watched.room = watched.count * 5 / 4 + 256;
	watched.stacks = vzalloc(array_size(watched.room,
					    sizeof(*watched.stacks)));
	if (!watched.stacks)
		return -ENOMEM;
	ld_cow_mark_own(watched.stacks,
			watched.room * sizeof(*watched.stacks));
	ld_hooks_log_restart();
	walk_stacks();
	if (watched.count <= watched.room)
		return 0;
	watched.count = watched.room;
	return -EAGAIN;
}

void ld_stacks_free(void)
{
	vfree(watched.stacks);
	memset(&watched, 0, sizeof(watched));
}

/* ---- copies ---- */

int ld_stacks_save(u64 *saved)
{
	unsigned long i;
	int j, err = 0;

	for (i = 0; i < watched.count; i++)
		for (j = 0; j < STACK_PAGES && !err; j++)
			err = ld_cow_keep(
				ld_table_pfn(watched.stacks[i].saved[j]),
				saved);
	return err;
}

static void forget(struct stack *stack, int i, u64 *saved)
{
	if (!stack->saved[i])
		return;
	ld_cow_forget(ld_table_pfn(stack->saved[i]));
	stack->saved[i] = 0;
	--*saved;
}

void ld_stacks_forget(u64 *saved)
{
	unsigned long i;
	int j;

	for (i = 0; i < watched.count; i++)
		for (j = 0; j < STACK_PAGES; j++)
			forget(&watched.stacks[i], j, saved);
}

/* ---- inside the stop ---- */

static u64 change(const struct stack *stack, int i)
{
	return (READ_ONCE(stack->entries[i]) ^ stack->saved[i]) & SAME;
}

static void forget_changed(struct stack *stack, u64 *saved)
{
	int i;

	for (i = 0; i < STACK_PAGES; i++)
		if (change(stack, i))
			forget(stack, i, saved);
}

/* Nearly all are as they were: one test for a stack. */
static void forget_gone(u64 *saved)
{
	unsigned long i;
	u64 changed;
	int j;

	for (i = 0; i < watched.count; i++) {
		struct stack *stack = &watched.stacks[i];

		for (j = 0, changed = 0; j < STACK_PAGES; j++)
			changed |= change(stack, j);
		if (changed)
			forget_changed(stack, saved);
	}
}

static int save_new(unsigned long addr, u64 *saved)
{
	int i, err = 0;

	for (i = 0; i < STACK_PAGES && !err; i++) {
		struct ld_where where;
		u64 leaf = ld_walk_to(addr + i * PAGE_SIZE, &where);

		if (leaf && where.level == LD_LEVEL_PTE) {
			ld_cow_recopy_page(ld_table_pfn(leaf));
			err = ld_cow_keep(ld_table_pfn(leaf), saved);
		}
	}
	return err;
}

int ld_stacks_update(u64 *saved)
{
	int i, err = 0, count = ld_hooks_log_count();

	/* Too many, or tables may have gone: watch anew, outside. */
	if (count < 0)
		return -EAGAIN;
	forget_gone(saved);
	for (i = 0; i < count && !err; i++)
		err = save_new(ld_hooks_log_at(i), saved);
	return err;
}

static unsigned int recopy_dirty(const struct stack *stack)
{
	unsigned int copied = 0;
	int i;

	for (i = 0; i < STACK_PAGES; i++) {
		if (!stack->saved[i] ||
		    !(READ_ONCE(stack->entries[i]) & _PAGE_DIRTY))
			continue;
		copied += ld_cow_recopy_page(ld_table_pfn(stack->saved[i]));
	}
	return copied;
}

unsigned int ld_stacks_recopy(void)
{
	unsigned int copied = 0;
	unsigned long i;
	u64 any, none = 0;
	int j;

	for (i = 0; i < watched.count; i++) {
		const struct stack *stack = &watched.stacks[i];

		for (j = 0, any = 0; j < STACK_PAGES; j++)
			any |= READ_ONCE(stack->entries[j]);
		if (any & _PAGE_DIRTY)
			copied += recopy_dirty(stack);
	}
	/* All saved by ld_stacks_update(): only copied again here. */
	for (i = 0; i < ld_hooks_log_count(); i++)
		save_new(ld_hooks_log_at(i), &none);
	return copied;
}

/* ---- after release ---- */

void ld_stacks_restore(void)
{
	unsigned long i;
	int j;

	for (i = 0; i < watched.count; i++) {
		for (j = 0; j < STACK_PAGES; j++)
			ld_dirty_again(watched.stacks[i].addr + j * PAGE_SIZE);
		cond_resched();
	}
}
