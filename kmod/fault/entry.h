/* SPDX-License-Identifier: GPL-2.0 */
/* What a page-table entry looks like that is ours, or was. */
#ifndef _LIVEDUMP_ENTRY_H
#define _LIVEDUMP_ENTRY_H

#include <linux/pgtable.h>

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

#endif
