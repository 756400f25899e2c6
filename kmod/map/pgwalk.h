/* SPDX-License-Identifier: GPL-2.0 */
/* Read-only walks of the kernel's page tables, 4 or 5 levels. */
#ifndef _LIVEDUMP_PGWALK_H
#define _LIVEDUMP_PGWALK_H

#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/types.h>

#include "compat.h"

/* Levels: 1 is a page-table entry, 2 PMD, 3 PUD, 4 P4D, 5 PGD. */
#define LD_LEVEL_PTE 1
#define LD_LEVEL_PMD 2
#define LD_LEVEL_PUD 3

struct ld_walk {
	/* Every table; return false to leave out what is below it. */
	bool (*table)(struct ld_walk *walk, unsigned long pfn, int level,
		      unsigned long addr);
	/* Every present leaf, of 1, 512 or 262144 pages. */
	void (*leaf)(struct ld_walk *walk, u64 entry, int level,
		     unsigned long addr);
	unsigned long start;	/* first address, inclusive */
	unsigned long last;	/* last address, inclusive */
};

/* Where an entry is: the page frame of its table, and its number in it. */
struct ld_where {
	unsigned long table;
	int index;
	int level;
};

/* Bytes that an entry of this level maps. */
static inline unsigned long ld_level_size(int level)
{
	return 1UL << (PAGE_SHIFT + 9 * (level - 1));
}

static inline int ld_index(unsigned long addr, int level)
{
	return (addr >> (PAGE_SHIFT + 9 * (level - 1))) & (PTRS_PER_PTE - 1);
}

static inline bool ld_is_leaf(u64 entry, int level)
{
	return level == LD_LEVEL_PTE ||
	       (level <= LD_LEVEL_PUD && (entry & _PAGE_PSE));
}

static inline unsigned long ld_table_pfn(u64 entry)
{
	return (entry & PTE_PFN_MASK) >> PAGE_SHIFT;
}

static inline unsigned long ld_entry_pfn(u64 entry, int level)
{
	/* Bit 12 of a large leaf is PAT, not part of its address. */
	return ld_table_pfn(entry) & ~((1UL << (9 * (level - 1))) - 1);
}

/* A table's entries by way of the direct map: for reading. */
static inline u64 *ld_table_at(unsigned long pfn)
{
	return __va(PFN_PHYS(pfn));
}

/**
 * ld_hold_tables() - keep the tables outside of our regions, in a task
 *
 * Whoever frees one in 7.3 takes this lock, or gives up if it cannot: large
 * vmalloc areas, and collapsed attributes of modules. Before, nobody does, and
 * a table that was found stays while interrupts are off: the kernel interrupts
 * every CPU before it frees it (7.3 no longer does on CPUs with INVLPGB).
 */
void ld_hold_tables(void);
void ld_let_go_tables(void);

struct ld_hold {
	unsigned long flags;
	bool shared;
};

/**
 * ld_try_hold_tables() - the same for who cannot wait: a hook
 *
 * While we hold them ourselves they stay as well: that is let go of only after
 * ld_end_hold_tables().
 *
 * Return: false when somebody else is about to change them, and in an NMI.
 */
bool ld_try_hold_tables(struct ld_hold *hold);
void ld_end_hold_tables(struct ld_hold *hold);

/**
 * ld_walk_kernel() - walk init_mm between walk->start and walk->last
 *
 * The caller keeps the tables from going away: memory hotplug is held off, and
 * outside of our regions ld_hold_tables(); or all CPUs are stopped.
 */
void ld_walk_kernel(struct ld_walk *walk);

/* The same for user space below @pgd; the caller holds the mmap lock. */
void ld_walk_user(struct ld_walk *walk, const pgd_t *pgd);

/* The top table of init_mm; sets where->table and where->level. */
static __always_inline void ld_walk_top(struct ld_where *where)
{
	where->table = PHYS_PFN(__pa(ld_syms.init_mm->pgd));
	where->level = pgtable_l5_enabled() ? 5 : 4;
}

/**
 * ld_lookup() - find the leaf that maps an address, any context
 * @where: its place, or that of the entry that maps nothing
 *
 * Return: the leaf's value; 0 when the address is not mapped.
 */
static __always_inline u64 ld_lookup(unsigned long addr,
				     struct ld_where *where)
{
	u64 entry;

	ld_walk_top(where);
	for (;; where->level--) {
		where->index = ld_index(addr, where->level);
		entry = READ_ONCE(ld_table_at(where->table)[where->index]);
		if (!(entry & _PAGE_PRESENT))
			return 0;
		if (ld_is_leaf(entry, where->level))
			return entry;
		where->table = ld_table_pfn(entry);
	}
}

/* The same, for who does not run in a fault. */
u64 ld_walk_to(unsigned long addr, struct ld_where *where);

#endif
