/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Write protection of the direct map. A strategy decides at which level and
 * when; what an entry of ours looks like is the same for all of them.
 */
#ifndef _LIVEDUMP_PROTECT_H
#define _LIVEDUMP_PROTECT_H

#include <linux/pgtable.h>
#include "uapi/livedump.h"

/*
 * An entry of ours is read-only and tagged: SOFTW1 says that it was writable,
 * SOFTW2 that it was dirty. Dirty goes together with RW, since read-only and
 * dirty means "shadow stack" to a CPU that has them.
 */
#define LD_TAG_RW _PAGE_SOFTW1
#define LD_TAG_DIRTY _PAGE_SOFTW2

/*
 * Present or not: KFENCE clears Present of a page of ours and sets it again,
 * perhaps long after release. A tag must never survive.
 */
static inline bool ld_is_tagged(u64 entry)
{
	return entry & LD_TAG_RW;
}

static inline u64 ld_protected(u64 entry)
{
	u64 tagged = entry | LD_TAG_RW;

	if (entry & _PAGE_DIRTY)
		tagged |= LD_TAG_DIRTY;
	return tagged & ~(u64)(_PAGE_RW | _PAGE_DIRTY);
}

static inline u64 ld_original(u64 entry)
{
	u64 original = entry | _PAGE_RW;

	if (entry & LD_TAG_DIRTY)
		original |= _PAGE_DIRTY;
	return original & ~(u64)(LD_TAG_RW | LD_TAG_DIRTY);
}

struct ld_strategy {
	const char *name;
	u32 id;				/* enum livedump_strategy */

	/**
	 * @prepare: before the stop; may sleep. On failure, finish() is called.
	 * Return: 0, -EINTR, -ENOMEM or what the kernel said of a split.
	 */
	int (*prepare)(void);
	/* @protect: in the stop, by one CPU. Return: entries changed. */
	u64 (*protect)(void);
	/*
	 * @unprotect: make the page writable again, any context.
	 * Return: false when its entry was none of ours.
	 */
	bool (*unprotect)(unsigned long pfn);
	/* @is_protected: would a write to the page reach us? Any context. */
	bool (*is_protected)(unsigned long pfn);
	/* @is_readable: does the direct map have the page? */
	bool (*is_readable)(unsigned long pfn);
	/* @restore: every entry as it was. Return: entries changed. */
	u64 (*restore)(void);
	/* @finish: free what prepare() made; nothing is protected any more. */
	void (*finish)(void);
};

extern const struct ld_strategy ld_eager;

const struct ld_strategy *ld_strategy_find(u32 id);

/* Count the leaves of the direct map by size, enum livedump_leaf. */
void ld_count_leaves(u64 leaves[__LIVEDUMP_LEAF_MAX]);

/* Flush this CPU's whole TLB, globals included. */
void ld_flush_tlb_local(void);
/* The same on every CPU, and wait: a fault under way elsewhere has ended. */
void ld_flush_tlb_all(void);

#endif
