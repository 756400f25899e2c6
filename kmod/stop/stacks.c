// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/bitmap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/tables.h"
#include "hooks/hooks.h"
#include "hooks/log.h"
#include "map/pgwalk.h"
#include "stop/dirty.h"
#include "stop/stacks.h"

/* Beyond so many that only look like one the rest is `live`. */
#define MAX_UNKNOWN 256
#define CACHED_STACKS 2		/* NR_CACHED_STACKS of kernel/fork.c */
/* What of an entry says that it still maps the same page. */
#define SAME (PTE_PFN_MASK | _PAGE_PRESENT)

/* What looks like a thread's stack. */
struct stack {
	unsigned long addr;
	u64 *entries;			/* of its pages, in a row */
	u64 saved[LD_STACK_PAGES];		/* the entries then; 0: its copy is not ours */
	/*
	 * A task's, or one kept for the next task: written by this mapping alone.
	 * What only looks like one is copied in the stop in any case.
	 */
	bool known;
};

static struct {
	struct stack *stacks;
	unsigned long count, room;
	unsigned long *known;		/* bitmap: first page frames; while we look */
	unsigned long unknown;		/* those that only look like one */
	bool saved;			/* there is a copy of each */
} stacks;

/* ---- which of them are stacks for sure ---- */

static void mark_known(const struct page *page)
{
	unsigned long pfn = page_to_pfn(page);

	if (pfn < ld_cow_max_pfn())
		__set_bit(pfn, stacks.known);
}

static void mark_task(const struct task_struct *task)
{
	struct vm_struct *area = READ_ONCE(task->stack_vm_area);

	if (area)
		mark_known(area->pages[0]);
}

static void mark_tasks(void)
{
	struct task_struct *group, *task;
	int cpu;

	/* A stack is freed after a grace period at the earliest. */
	rcu_read_lock();
	for_each_process_thread(group, task)
		mark_task(task);
	rcu_read_unlock();
	for_each_possible_cpu(cpu)
		if (ld_idle_task(cpu))
			mark_task(ld_idle_task(cpu));
}

/* Those that a CPU keeps for its next task; they may go while we look. */
static void mark_cached(int cpu)
{
	struct vm_struct **cached =
		(void *)(ld_syms.cached_stacks + per_cpu_offset(cpu));
	struct page **pages, *page;
	int i;

	for (i = 0; i < CACHED_STACKS; i++) {
		struct vm_struct *area = READ_ONCE(cached[i]);

		if (area && !get_kernel_nofault(pages, &area->pages) &&
		    !get_kernel_nofault(page, &pages[0]))
			mark_known(page);
	}
}

static int find_known(void)
{
	int cpu;

	stacks.known = vzalloc(BITS_TO_LONGS(ld_cow_max_pfn()) * sizeof(long));
	if (!stacks.known)
		return -ENOMEM;
	mark_tasks();
	if (ld_syms.cached_stacks)
		for_each_possible_cpu(cpu)
			mark_cached(cpu);
	return 0;
}

/* ---- what looks like one ---- */

/* Not a device's registers, nor memory of ours. */
static bool is_memory(u64 entry)
{
	unsigned long pfn = ld_table_pfn(entry);

	return (entry & _PAGE_PRESENT) && pfn < ld_cow_max_pfn() &&
	       ld_cow_slot(pfn) < LD_SLOT_SPECIAL;
}

static bool is_stack_at(const u64 *table, int index, unsigned long addr)
{
	int i;

	for (i = 0; i < LD_STACK_PAGES; i++)
		if (!is_memory(READ_ONCE(table[index + i])))
			return false;
	return ld_is_stack(addr);
}

static void watch_stack(u64 *table, int index, unsigned long addr)
{
	struct stack *stack = &stacks.stacks[stacks.count];
	bool known = test_bit(ld_table_pfn(READ_ONCE(table[index])),
			      stacks.known);
	int i;

	if (!known && stacks.unknown++ >= MAX_UNKNOWN)
		return;
	if (stacks.stacks && stacks.count < stacks.room) {
		stack->addr = addr;
		stack->entries = &table[index];
		stack->known = known;
		for (i = 0; i < LD_STACK_PAGES; i++) {
			stack->saved[i] = READ_ONCE(table[index + i]) & SAME;
			clear_bit(_PAGE_BIT_DIRTY,
				  (unsigned long *)&table[index + i]);
		}
	}
	stacks.count++;
}

/* Stays while interrupts are off: see ld_hold_tables(). It may be gone before. */
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

		for (i = 0; i < PTRS_PER_PTE; i += LD_STACK_PAGES, addr += THREAD_SIZE)
			if (is_stack_at(table, i, addr))
				watch_stack(table, i, addr);
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

	stacks.count = 0;
	stacks.unknown = 0;
	ld_hold_tables();
	ld_walk_kernel(&walk);
	ld_let_go_tables();
}

static int watch_all(void)
{
	/* Those that come meanwhile are logged by a hook. */
	walk_stacks();
	stacks.room = stacks.count * 5 / 4 + 256;
	stacks.stacks = vzalloc(array_size(stacks.room,
					    sizeof(*stacks.stacks)));
	if (!stacks.stacks)
		return -ENOMEM;
	ld_cow_mark_own(stacks.stacks,
			stacks.room * sizeof(*stacks.stacks));
	walk_stacks();
	if (stacks.count <= stacks.room)
		return 0;
	stacks.count = stacks.room;
	return -EAGAIN;
}

int ld_stacks_watch(void)
{
	int err;

	ld_stacks_free();
	/* Before anything is looked at: what comes from here on is logged. */
	ld_log_restart_stacks();
	if (!ld_hooks_wait())
		return -EAGAIN;
	err = find_known() ?: watch_all();
	vfree(stacks.known);
	stacks.known = NULL;
	/* Half of them are none. */
	if (err)
		ld_stacks_free();
	return err;
}

void ld_stacks_free(void)
{
	vfree(stacks.stacks);
	memset(&stacks, 0, sizeof(stacks));
}

/* ---- copies ---- */

/* What somebody else keeps a copy of (an IRQ stack) is none of ours. */
static int save_stack(struct stack *stack, u64 *saved)
{
	int i, err = 0;

	for (i = 0; i < LD_STACK_PAGES && !err; i++) {
		u64 before = *saved;

		err = ld_cow_keep(ld_table_pfn(stack->saved[i]), saved);
		if (*saved == before)
			stack->saved[i] = 0;
	}
	return err;
}

int ld_stacks_save(u64 *saved)
{
	unsigned long i;
	int err = 0;

	for (i = 0; i < stacks.count && !err; i++)
		err = save_stack(&stacks.stacks[i], saved);
	stacks.saved = !err;
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

static void forget_all(struct stack *stack, u64 *saved)
{
	int i;

	for (i = 0; i < LD_STACK_PAGES; i++)
		forget(stack, i, saved);
}

void ld_stacks_forget(u64 *saved)
{
	unsigned long i;

	for (i = 0; i < stacks.count; i++)
		forget_all(&stacks.stacks[i], saved);
}

/* ---- inside the stop ---- */

static u64 change(const struct stack *stack, int i)
{
	return (READ_ONCE(stack->entries[i]) ^ stack->saved[i]) & SAME;
}

static void forget_changed(struct stack *stack, u64 *saved)
{
	int i;

	for (i = 0; i < LD_STACK_PAGES; i++)
		if (change(stack, i))
			forget(stack, i, saved);
}

/* Nearly all are as they were: one test for a stack. */
static void forget_gone(u64 *saved)
{
	unsigned long i;
	u64 changed;
	int j;

	for (i = 0; i < stacks.count; i++) {
		struct stack *stack = &stacks.stacks[i];

		for (j = 0, changed = 0; j < LD_STACK_PAGES; j++)
			changed |= change(stack, j);
		if (changed)
			forget_changed(stack, saved);
	}
}

static int save_new(unsigned long addr, u64 *saved)
{
	int i, err = 0;

	for (i = 0; i < LD_STACK_PAGES && !err; i++) {
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
	int i, err = 0, count = ld_log_stacks();

	/* Too many, or tables may have gone: watch anew, outside. */
	if (count < 0 || !stacks.saved)
		return -EAGAIN;
	forget_gone(saved);
	for (i = 0; i < count && !err; i++)
		err = save_new(ld_log_stack_at(i), saved);
	return err;
}

static unsigned int recopy_stack(const struct stack *stack)
{
	unsigned int copied = 0;
	int i;

	for (i = 0; i < LD_STACK_PAGES; i++) {
		if (!stack->saved[i] ||
		    (stack->known &&
		     !(READ_ONCE(stack->entries[i]) & _PAGE_DIRTY)))
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

	for (i = 0; i < stacks.count; i++) {
		const struct stack *stack = &stacks.stacks[i];

		for (j = 0, any = 0; j < LD_STACK_PAGES; j++)
			any |= READ_ONCE(stack->entries[j]);
		if ((any & _PAGE_DIRTY) || !stack->known)
			copied += recopy_stack(stack);
	}
	/* All saved by ld_stacks_update(): only copied again here. */
	for (i = 0; i < ld_log_stacks(); i++)
		save_new(ld_log_stack_at(i), &none);
	return copied;
}

/* ---- after release ---- */

void ld_stacks_restore(void)
{
	unsigned long i;
	int j;

	ld_hold_tables();
	for (i = 0; i < stacks.count; i++) {
		for (j = 0; j < LD_STACK_PAGES; j++)
			ld_set_dirty(stacks.stacks[i].addr + j * PAGE_SIZE);
		cond_resched();
	}
	ld_let_go_tables();
}
