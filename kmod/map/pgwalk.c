// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pgtable.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "map/pgwalk.h"

/* Whether it is us who has init_mm's lock for writing, and does not let go. */
static struct {
	raw_spinlock_t lock;
	bool ours;
} held = { .lock = __RAW_SPIN_LOCK_UNLOCKED(held.lock) };

static void set_ours(bool ours)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&held.lock, flags);
	held.ours = ours;
	raw_spin_unlock_irqrestore(&held.lock, flags);
}

void ld_hold_tables(void)
{
	mmap_write_lock(ld_syms.init_mm);
	set_ours(true);
}

void ld_let_go_tables(void)
{
	set_ours(false);
	mmap_write_unlock(ld_syms.init_mm);
}

bool ld_try_hold_tables(struct ld_hold *hold)
{
	if (in_nmi())
		return false;
	hold->shared = mmap_read_trylock(ld_syms.init_mm);
	if (hold->shared)
		return true;
	raw_spin_lock_irqsave(&held.lock, hold->flags);
	if (held.ours) {
		/* For sparse, as below: kept until ld_end_hold_tables(). */
		__release(&held.lock);
		return true;
	}
	raw_spin_unlock_irqrestore(&held.lock, hold->flags);
	return false;
}
NOKPROBE_SYMBOL(ld_try_hold_tables);

void ld_end_hold_tables(struct ld_hold *hold)
{
	if (hold->shared) {
		mmap_read_unlock(ld_syms.init_mm);
	} else {
		__acquire(&held.lock);
		raw_spin_unlock_irqrestore(&held.lock, hold->flags);
	}
}
NOKPROBE_SYMBOL(ld_end_hold_tables);

static void walk_entries(struct ld_walk *walk, const u64 *table, int level,
			 unsigned long addr, int count)
{
	unsigned long size = ld_level_size(level);
	int i;

	for (i = 0; i < count; i++, addr += size) {
		u64 entry = READ_ONCE(table[i]);
		unsigned long pfn;

		if (addr + (size - 1) < walk->start || addr > walk->last)
			continue;
		if (!(entry & _PAGE_PRESENT))
			continue;
		if (ld_is_leaf(entry, level)) {
			if (walk->leaf)
				walk->leaf(walk, entry, level, addr);
			continue;
		}
		pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT;
		if (walk->table && !walk->table(walk, pfn, level - 1, addr))
			continue;
		/* At most four deep: one call for each level. */
		walk_entries(walk, __va(PFN_PHYS(pfn)), level - 1, addr,
			     PTRS_PER_PTE);
	}
}

void ld_walk_kernel(struct ld_walk *walk)
{
	int levels = pgtable_l5_enabled() ? 5 : 4;
	const u64 *top = (const u64 *)ld_syms.init_mm->pgd;
	unsigned long size = ld_level_size(levels);
	int i;

	/* The upper half of the top table is the kernel's. */
	for (i = PTRS_PER_PGD / 2; i < PTRS_PER_PGD; i++) {
		unsigned long addr = (unsigned long)i * size;
		u64 entry = READ_ONCE(top[i]);
		unsigned long pfn;

		if (levels == 4)
			addr |= 0xffffUL << 48;
		else
			addr |= 0xfeUL << 56;
		if (addr + (size - 1) < walk->start || addr > walk->last)
			continue;
		if (!(entry & _PAGE_PRESENT))
			continue;
		pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT;
		if (walk->table && !walk->table(walk, pfn, levels - 1, addr))
			continue;
		walk_entries(walk, __va(PFN_PHYS(pfn)), levels - 1, addr,
			     PTRS_PER_PTE);
	}
}

void ld_walk_user(struct ld_walk *walk, const pgd_t *pgd)
{
	int levels = pgtable_l5_enabled() ? 5 : 4;

	walk_entries(walk, (const u64 *)pgd, levels, 0, PTRS_PER_PGD / 2);
}

u64 ld_walk_to(unsigned long addr, struct ld_where *where)
{
	return ld_lookup(addr, where);
}
