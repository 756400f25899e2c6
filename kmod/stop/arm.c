// SPDX-License-Identifier: GPL-2.0
/* What can be protected 4 KiB at a time only, before the stop: see fault/armed.h. */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "ending.h"
#include "fault/armed.h"
#include "fault/entry.h"
#include "fault/probe.h"
#include "hooks/hooks.h"
#include "map/pgwalk.h"
#include "map/tlb.h"
#include "stop/arm.h"
#include "test.h"

#define MAX_TRIES 100		/* that somebody is under way, in one space */

static u64 armed_entries;	/* after the last ld_arm() */

/* Modules have no stacks; @addr is of the first page that one would have. */
static bool may_be_stack(unsigned long addr)
{
	return addr < MODULES_VADDR && ld_is_stack(addr);
}

/* ---- before the stop ---- */

/*
 * Entries that are looked at together: a stack, if they are one. They are read
 * before the area is looked up, and nothing else is replaced.
 */
static void arm_some(u64 *entries, int first, unsigned long addr,
		     unsigned long *done)
{
	bool may[LD_STACK_PAGES], any = false;
	u64 old[LD_STACK_PAGES];
	int i;

	for (i = 0; i < LD_STACK_PAGES; i++) {
		old[i] = READ_ONCE(entries[first + i]);
		may[i] = ld_armed_may(old[i], addr + i * PAGE_SIZE);
		any |= may[i];
	}
	if (!any || may_be_stack(addr))
		return;
	for (i = 0; i < LD_STACK_PAGES; i++)
		if (may[i] && try_cmpxchg(&entries[first + i], &old[i],
					  ld_protected(old[i])))
			__set_bit(first + i, done);
}

static void arm_entries(u64 *entries, unsigned long addr, unsigned long *done)
{
	int i;

	for (i = 0; i < PTRS_PER_PTE; i += LD_STACK_PAGES)
		arm_some(entries, i, addr + i * PAGE_SIZE, done);
}

static void disarm_entries(u64 *entries, const unsigned long *done)
{
	int i;

	for_each_set_bit(i, done, PTRS_PER_PTE) {
		u64 old = READ_ONCE(entries[i]);

		while (ld_is_tagged(old) &&
		       !try_cmpxchg(&entries[i], &old, ld_original(old)))
			;
	}
}

/* With those of an earlier try that still are. */
static int count_armed(const u64 *entries)
{
	int i, count = 0;

	for (i = 0; i < PTRS_PER_PTE; i++)
		count += ld_is_tagged(READ_ONCE(entries[i]));
	return count;
}

/*
 * Who changes attributes reads an entry and writes it back, under this lock. A
 * call that began before was counted before it looks; one that begins after finds
 * the entry ours, and its hook opens it. So who is seen now may be in between.
 */
static bool try_table(unsigned long pfn, unsigned long addr)
{
	DECLARE_BITMAP(done, PTRS_PER_PTE) = {};
	struct ld_where where;
	unsigned long flags;
	bool ok = true;

	spin_lock(ld_syms.cpa_lock);
	local_irq_save(flags);
	ld_walk_to(addr, &where);
	if (where.level == LD_LEVEL_PTE && where.table == pfn) {
		arm_entries(ld_table_at(pfn), addr, done);
		if (!bitmap_empty(done, PTRS_PER_PTE))
			ld_armed_set_table(pfn);
		smp_mb();	/* pairs with the hook's counting */
		if (ld_hooks_busy()) {
			disarm_entries(ld_table_at(pfn), done);
			ok = false;
		} else {
			armed_entries += count_armed(ld_table_at(pfn));
		}
	}
	local_irq_restore(flags);
	spin_unlock(ld_syms.cpa_lock);
	return ok;
}

struct arm_walk {
	struct ld_walk walk;
	bool stuck;		/* at walk.start */
};

static bool arm_table(struct ld_walk *walk, unsigned long pfn, int level,
		      unsigned long addr)
{
	struct arm_walk *aw = container_of(walk, struct arm_walk, walk);

	if (aw->stuck || ld_is_ending())
		return false;
	if (level > LD_LEVEL_PTE)
		return true;
	if (!try_table(pfn, addr)) {
		walk->start = addr;
		aw->stuck = true;
	}
	cond_resched();
	return false;
}

/* Who is under way may wait for the lock that we hold. */
static int arm_space(const struct ld_span *space)
{
	struct arm_walk aw = {
		.walk = {
			.table = arm_table,
			.start = space->start,
			.last = space->end - 1,
		},
	};
	int tries = MAX_TRIES;

	do {
		if (aw.stuck)
			ld_hooks_wait();
		aw.stuck = false;
		ld_hold_tables();
		ld_walk_kernel(&aw.walk);
		ld_let_go_tables();
		if (ld_is_ending())
			return -EINTR;
	} while (aw.stuck && --tries);
	return aw.stuck ? -EAGAIN : 0;
}

static int arm_spaces(void)
{
	int i, err = 0;

	if (!ld_hooks_wait())
		return -EAGAIN;
	ld_fault_armed();
	/* A fault that has logged where the log was before has opened its entry. */
	ld_flush_tlb_all();
	for (i = 0; i < LD_ARMED_SPACES && !err; i++)
		err = arm_space(ld_armed_space_at(i));
	return err;
}

int ld_arm(void)
{
	int err;

	/* Stacks are known by their areas: so ours must be. */
	if (!ld_is_stack((unsigned long)task_stack_page(current)))
		return -EOPNOTSUPP;
	ld_armed_restart_log();
	armed_entries = 0;
	err = arm_spaces();
	/* What is not armed is in no log. */
	if (err)
		ld_armed_log_broken();
	return err;
}

u64 ld_arm_entries(void)
{
	return armed_entries;
}

/* ---- inside the stop ---- */

int ld_arm_check(void)
{
	return ld_armed_is_broken() ? -EAGAIN : 0;
}

/* Nobody else writes here. A stack may be where something else was before. */
static unsigned int close_entry(unsigned long addr)
{
	struct ld_where where;
	u64 leaf = ld_walk_to(addr, &where);

	if (!leaf || where.level != LD_LEVEL_PTE || !ld_armed_may(leaf, addr) ||
	    may_be_stack(round_down(addr, THREAD_SIZE)))
		return 0;
	ld_armed_set_table(where.table);
	ld_table_at(where.table)[where.index] = ld_protected(leaf);
	return 1;
}

unsigned int ld_arm_close(void)
{
	unsigned int closed = 0;
	unsigned long addr;
	int i;

	ld_armed_stop_log();
	if (ld_is_mutant(LD_MUTANT_ARMED))
		return 0;
	for (i = 0; i < ld_armed_opened(); i++)
		closed += close_entry(ld_armed_opened_at(i));
	for (i = 0; i < ld_armed_ranges(); i++) {
		const struct ld_span *range = ld_armed_range_at(i);

		for (addr = range->start; addr < range->end; addr += PAGE_SIZE)
			closed += close_entry(addr);
	}
	return closed;
}

/* ---- after all ---- */

struct restore_walk {
	struct ld_walk walk;
	bool marks;
	u64 found;
};

static u64 restore_entries(u64 *entries, bool marks)
{
	u64 found = 0;
	int i;

	for (i = 0; i < PTRS_PER_PTE; i++) {
		u64 old = READ_ONCE(entries[i]);

		while (ld_is_tagged(old) || ld_is_opened(old)) {
			if (!try_cmpxchg(&entries[i], &old, ld_original(old)))
				continue;
			found += marks || ld_is_tagged(old);
			break;
		}
	}
	return found;
}

static bool restore_table(struct ld_walk *walk, unsigned long pfn, int level,
			  unsigned long addr)
{
	struct restore_walk *rw = container_of(walk, struct restore_walk, walk);
	struct ld_where where;
	unsigned long flags;

	if (level > LD_LEVEL_PTE)
		return true;
	local_irq_save(flags);
	ld_walk_to(addr, &where);
	if (where.level == LD_LEVEL_PTE && where.table == pfn)
		rw->found += restore_entries(ld_table_at(pfn), rw->marks);
	local_irq_restore(flags);
	cond_resched();
	return false;
}

u64 ld_arm_restore(bool marks)
{
	struct restore_walk rw = {
		.walk = { .table = restore_table },
		.marks = marks,
	};
	int i;

	ld_hold_tables();
	for (i = 0; i < LD_ARMED_SPACES; i++) {
		rw.walk.start = ld_armed_space_at(i)->start;
		rw.walk.last = ld_armed_space_at(i)->end - 1;
		if (rw.walk.start)
			ld_walk_kernel(&rw.walk);
	}
	ld_let_go_tables();
	return rw.found;
}
