// SPDX-License-Identifier: GPL-2.0
/*
 * Strategy `eager`, the 2012 algorithm: large pages are split beforehand, and
 * the stop clears RW in the entry of every 4 KiB page. Its downtime grows with
 * RAM. It stays as the baseline that others are compared with.
 */
#include <linux/kprobes.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nmi.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>
#include <asm/set_memory.h>

#include "compat.h"
#include "cow.h"
#include "protect.h"
#include "ranges.h"

/* The table of entries for each 2 MiB of memory; NULL where there is none. */
static pteval_t **tables;
static unsigned long nr_tables;

static pteval_t *notrace entry_of(unsigned long pfn)
{
	pteval_t *table = tables[pfn / PTRS_PER_PTE];

	return table ? &table[pfn % PTRS_PER_PTE] : NULL;
}
NOKPROBE_SYMBOL(entry_of);

/*
 * Split what holds the page until its entry is of 4 KiB. The kernel's own
 * function does it, under the kernel's own locks; it is permanent.
 */
static int find_table(unsigned long pfn)
{
	unsigned long addr = (unsigned long)__va(PFN_PHYS(pfn));
	unsigned int level;
	pte_t *entry = lookup_address(addr, &level);
	int err;

	/* A hole of a debugging feature maps nothing; its table is there. */
	if (entry && level != PG_LEVEL_4K) {
		err = ld_set_memory_4k(addr, 1);
		if (err)
			return err;
		entry = lookup_address(addr, &level);
	}
	if (!entry || level == PG_LEVEL_NONE)
		return 0;
	if (level != PG_LEVEL_4K)
		return -EIO;
	tables[pfn / PTRS_PER_PTE] =
		(pteval_t *)((unsigned long)entry & PAGE_MASK);
	return 0;
}

static int find_tables(const struct ld_range *range)
{
	unsigned long pfn = range->start_pfn;
	int err;

	while (pfn < range->end_pfn) {
		/* Tables of offline memory may go away while we hold. */
		if (!tables[pfn / PTRS_PER_PTE] && pfn_to_online_page(pfn)) {
			err = find_table(pfn);
			if (err)
				return err;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		pfn = round_down(pfn, PTRS_PER_PTE) + PTRS_PER_PTE;
	}
	return 0;
}

static int eager_prepare(void)
{
	int i, err = 0;

	nr_tables = DIV_ROUND_UP(ld_ranges_max_pfn(), PTRS_PER_PTE);
	tables = vzalloc(array_size(nr_tables, sizeof(*tables)));
	if (!tables)
		return -ENOMEM;
	ld_cow_mark_own(tables, nr_tables * sizeof(*tables));
	for (i = 0; i < ld_ranges_count() && !err; i++)
		err = find_tables(ld_range_at(i));
	return err;
}

static void eager_finish(void)
{
	vfree(tables);
	tables = NULL;
}

/*
 * Protect what nobody has saved; the others stay writable. The watchdog is
 * told once for each table: a large machine takes its time.
 */
static u64 protect_range(const struct ld_range *range)
{
	unsigned long pfn;
	u64 changed = 0;

	for (pfn = range->start_pfn; pfn < range->end_pfn; pfn++) {
		pteval_t *entry = entry_of(pfn);
		pteval_t old;

		if (!(pfn % PTRS_PER_PTE))
			touch_nmi_watchdog();
		if (!entry || ld_cow_slot(pfn) != LD_SLOT_NONE)
			continue;
		old = READ_ONCE(*entry);
		if (!(old & _PAGE_PRESENT) || !(old & _PAGE_RW))
			continue;
		/* The CPU may set Accessed meanwhile: retry is rare. */
		while (!try_cmpxchg(entry, &old, ld_protected(old)))
			;
		changed++;
	}
	return changed;
}

static u64 eager_protect(void)
{
	u64 changed = 0;
	int i;

	for (i = 0; i < ld_ranges_count(); i++)
		changed += protect_range(ld_range_at(i));
	return changed;
}

/* Make one entry of ours as it was; false when it is none of ours. */
static bool notrace restore_entry(pteval_t *entry)
{
	pteval_t old = READ_ONCE(*entry);

	do {
		if (!ld_is_tagged(old))
			return false;
	} while (!try_cmpxchg(entry, &old, ld_original(old)));
	return true;
}
NOKPROBE_SYMBOL(restore_entry);

static bool notrace eager_unprotect(unsigned long pfn)
{
	pteval_t *entry = entry_of(pfn);

	return entry && restore_entry(entry);
}
NOKPROBE_SYMBOL(eager_unprotect);

static bool notrace eager_is_protected(unsigned long pfn)
{
	pteval_t *entry = entry_of(pfn);

	return entry && ld_is_tagged(READ_ONCE(*entry));
}
NOKPROBE_SYMBOL(eager_is_protected);

static bool notrace eager_is_readable(unsigned long pfn)
{
	pteval_t *entry = entry_of(pfn);

	return entry && (READ_ONCE(*entry) & _PAGE_PRESENT);
}
NOKPROBE_SYMBOL(eager_is_readable);

static u64 eager_restore(void)
{
	u64 changed = 0;
	unsigned long i;
	int j;

	for (i = 0; tables && i < nr_tables; i++) {
		if (!tables[i])
			continue;
		for (j = 0; j < PTRS_PER_PTE; j++)
			changed += restore_entry(&tables[i][j]);
		cond_resched();
	}
	return changed;
}

const struct ld_strategy ld_eager = {
	.name = "eager",
	.id = LIVEDUMP_STRATEGY_EAGER,
	.prepare = eager_prepare,
	.protect = eager_protect,
	.unprotect = eager_unprotect,
	.is_protected = eager_is_protected,
	.is_readable = eager_is_readable,
	.restore = eager_restore,
	.finish = eager_finish,
};
