/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Write protection. A strategy decides which entries are made ours in the stop;
 * what such an entry looks like, how a write to it is let through and how it
 * is restored is the same for all of them.
 */
#ifndef _LIVEDUMP_PROTECT_H
#define _LIVEDUMP_PROTECT_H

#include <linux/pgtable.h>
#include "uapi/livedump.h"

struct ld_opening;

/*
 * The life of an entry while a snapshot is held: writable; then ours, which is
 * read-only and tagged; then opened, which is writable with a mark, and never
 * ours again. SOFTW1 says that an entry is ours; SOFTW2 that it was dirty
 * before, or, without SOFTW1, that it was opened. Dirty goes together with RW,
 * since read-only and dirty means "shadow stack" to a CPU that has them.
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

static inline bool ld_is_opened(u64 entry)
{
	return (entry & (LD_TAG_RW | LD_TAG_DIRTY)) == LD_TAG_DIRTY;
}

static inline bool ld_may_protect(u64 entry)
{
	return (entry & (_PAGE_PRESENT | _PAGE_RW)) ==
		       (_PAGE_PRESENT | _PAGE_RW) &&
	       !ld_is_opened(entry);
}

static inline u64 ld_protected(u64 entry)
{
	u64 tagged = entry | LD_TAG_RW;

	if (entry & _PAGE_DIRTY)
		tagged |= LD_TAG_DIRTY;
	return tagged & ~(u64)(_PAGE_RW | _PAGE_DIRTY);
}

/* As it was before it was ours, or opened. */
static inline u64 ld_original(u64 entry)
{
	u64 original = entry & ~(u64)(LD_TAG_RW | LD_TAG_DIRTY);

	if (!ld_is_tagged(entry))
		return original;
	if (entry & LD_TAG_DIRTY)
		original |= _PAGE_DIRTY;
	return original | _PAGE_RW;
}

static inline u64 ld_opened(u64 entry)
{
	return ld_original(entry) | LD_TAG_DIRTY;
}

/* What strategies protect: the direct map of all RAM, and vmemmap. */
enum ld_region_id {
	LD_REGION_DIRECT,
	LD_REGION_VMEMMAP,
	LD_REGIONS,
};

struct ld_region {
	unsigned long start;	/* first address, inclusive */
	unsigned long last;	/* last address, inclusive */
};

/* Set the regions; ld_ranges_collect() was called. */
void ld_regions_init(void);
const struct ld_region *ld_region_at(int i);

struct ld_strategy {
	const char *name;
	u32 id;				/* enum livedump_strategy */

	/*
	 * In the order in which they are called. In the stop nothing sleeps,
	 * and all is done by one CPU but for recopy_cpu and recopy_part.
	 */

	/* Before the stop. 0, -EINTR, -ENOMEM, -ENOSPC, -EAGAIN. */
	int (*prepare)(void);
	/* The stop said -EAGAIN: prepare anew what it could not use, or NULL. */
	int (*again)(void);
	/* Right before each stop: what makes it shorter, or NULL. */
	void (*refresh)(void);
	/* In the stop, nothing is protected yet. 0, -ENOSPC, -EAGAIN. */
	int (*save)(void);
	/* Then: protect; count the entries by enum livedump_leaf. */
	void (*protect)(u64 entries[__LIVEDUMP_LEAF_MAX]);
	/*
	 * Meanwhile and then, by every CPU: copy again what was written since;
	 * what is this CPU's own, and parts of what is nobody's.
	 */
	void (*recopy_cpu)(int cpu);
	void (*recopy_part)(unsigned int part, unsigned int parts);
	/* Then: the rest, stacks of the other CPUs among it. */
	void (*recopy)(void);
	/* After release: what else than entries of ours was changed. */
	void (*restore)(void);
	/* After anything: free what prepare() made, as far as it came. */
	void (*finish)(void);

	u64 (*saved)(void);	/* pages, before the stop and in it */
	u64 (*recopied)(void);	/* of them, copied again in it */
};

/* What ld_open() did. */
struct ld_opening {
	bool ours;		/* an entry of ours was met */
	bool upper;		/* one above the 4 KiB entry was */
	bool lost;		/* pages could not be saved */
	unsigned long pfn;	/* the page that is now writable */
	u32 outcome;		/* enum livedump_outcome */
	u64 leaf_tsc;		/* time when the 4 KiB entry was reached */
	u64 copied_tsc;		/* and when its page was saved */
};

/**
 * ld_open() - make one page writable, saving what has to be saved before
 * @addr: in a region
 * @saving: false once the snapshot is being released: only open
 * @depth: how deep the caller is nested, from 1; interrupts are off
 *
 * Large leaves on the way become tables, tables of entries that are ours hand
 * protection down to their children first and are opened last. Any context.
 */
void ld_open(unsigned long addr, bool saving, int depth, struct ld_opening *o);

/* Every entry as it was. Return: entries of ours that were found. */
u64 ld_restore_entries(void);

/* Make an entry ours if it is writable; it may change meanwhile. */
bool ld_protect_entry(u64 *entry);

/* True when the direct map has the page, and as ordinary cached memory. */
bool ld_is_readable(unsigned long pfn);

extern const struct ld_strategy ld_eager;
extern const struct ld_strategy ld_lazy;

const struct ld_strategy *ld_strategy_find(u32 id);

/* Count the leaves of the direct map by size, enum livedump_leaf. */
void ld_count_leaves(u64 leaves[__LIVEDUMP_LEAF_MAX]);

/* Flush this CPU's whole TLB, globals included. */
void ld_flush_tlb_local(void);
/* The same on every CPU, and wait: a fault under way elsewhere has ended. */
void ld_flush_tlb_all(void);

#endif
