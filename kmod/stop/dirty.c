// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/tables.h"
#include "map/pgwalk.h"
#include "map/tlb.h"
#include "stop/dirty.h"
#include "test.h"

/* Entries that one test looks at: most are clean. */
#define TOGETHER 8

/* Pages in a row, and their entries, in a row in one table. */
struct run {
	unsigned long pfn, addr;
	u64 *entries;			/* NULL: nothing maps it */
	unsigned int first;		/* number of its first page */
	unsigned int pages;
};

static struct {
	struct run *runs;
	unsigned long run_count;
	unsigned long *was_dirty;	/* bitmap by page */
	unsigned long *again;		/* bitmap: to be copied once more */
	unsigned int pages, room;
} dirty;

static void *new_array(unsigned long count, size_t size)
{
	void *array = vzalloc(array_size(count, size));

	if (array)
		ld_cow_mark_own(array, count * size);
	return array;
}

int ld_dirty_reserve(unsigned long pages)
{
	unsigned long longs = BITS_TO_LONGS(pages);

	dirty.room = pages;
	dirty.runs = new_array(pages, sizeof(*dirty.runs));
	dirty.was_dirty = new_array(longs, sizeof(long));
	dirty.again = new_array(longs, sizeof(long));
	if (!dirty.runs || !dirty.was_dirty || !dirty.again)
		return -ENOMEM;
	return 0;
}

void ld_dirty_free(void)
{
	vfree(dirty.runs);
	vfree(dirty.was_dirty);
	vfree(dirty.again);
	memset(&dirty, 0, sizeof(dirty));
}

/* ---- watch ---- */

static bool is_writable(const u64 *entry)
{
	return READ_ONCE(*entry) & _PAGE_RW;
}

/* Clear it; was it set? A read-only entry keeps it: there it has a meaning. */
static bool clear_dirty(u64 *entry)
{
	return is_writable(entry) &&
	       test_and_clear_bit(_PAGE_BIT_DIRTY, (unsigned long *)entry);
}

/*
 * Clear the Dirty bit of the leaf that maps an address, and return its place;
 * NULL where nothing maps it.
 */
static u64 *watch_leaf(unsigned long addr, struct ld_where *where,
		       bool *was_dirty)
{
	u64 *entry = NULL;

	*was_dirty = false;
	/* The kernel's own changes read, change and write back. */
	spin_lock(ld_syms.cpa_lock);
	if (ld_walk_to(addr, where)) {
		entry = ld_table_at(where->table) + where->index;
		*was_dirty = clear_dirty(entry);
	}
	spin_unlock(ld_syms.cpa_lock);
	return entry;
}

/* Does a page follow the last one, with its entry, in the same table? */
static bool continues(const struct run *run, unsigned long pfn,
		      const u64 *entry)
{
	return dirty.run_count && entry && run->entries &&
	       pfn == run->pfn + run->pages &&
	       entry == run->entries + run->pages &&
	       !PAGE_ALIGNED((unsigned long)entry);
}

void ld_dirty_add(unsigned long pfn, unsigned long addr)
{
	struct run *run = &dirty.runs[dirty.run_count];
	struct ld_where where;
	bool was_dirty;
	u64 *entry;

	if (dirty.pages == dirty.room)
		return;
	entry = watch_leaf(addr, &where, &was_dirty);
	/* Nobody writes by a read-only one; what makes it writable is hooked. */
	if (entry && !is_writable(entry))
		return;
	if (was_dirty)
		__set_bit(dirty.pages, dirty.was_dirty);
	if (continues(run - 1, pfn, entry)) {
		run[-1].pages++;
	} else {
		*run = (struct run){
			.pfn = pfn,
			.addr = addr,
			.entries = entry,
			.first = dirty.pages,
			.pages = 1,
		};
		dirty.run_count++;
	}
	dirty.pages++;
}

int ld_dirty_save(u64 *saved)
{
	unsigned long i;
	unsigned int j;
	int err = 0;

	for (i = 0; i < dirty.run_count; i++)
		for (j = 0; j < dirty.runs[i].pages && !err; j++)
			err = ld_cow_keep(dirty.runs[i].pfn + j, saved);
	return err;
}

/* ---- once more, shortly before the stop ---- */

static void clear_run(const struct run *run)
{
	unsigned int i;

	if (!run->entries)
		return;
	spin_lock(ld_syms.cpa_lock);
	for (i = 0; i < run->pages; i++)
		if (clear_dirty(&run->entries[i]))
			__set_bit(run->first + i, dirty.again);
	spin_unlock(ld_syms.cpa_lock);
}

static void recopy_again(const struct run *run)
{
	unsigned int end = run->first + run->pages, i = run->first;

	for_each_set_bit_from(i, dirty.again, end) {
		__clear_bit(i, dirty.again);
		ld_cow_refresh_page(run->pfn + i - run->first);
	}
}

/*
 * What is written before the flush without setting the bit again is in the
 * copy; what is written later sets it.
 */
void ld_dirty_refresh(void)
{
	unsigned long i;

	/* A flush right before the stop hides that one in it is missing. */
	if (ld_is_mutant(LD_MUTANT_FLUSH))
		return;
	for (i = 0; i < dirty.run_count; i++)
		clear_run(&dirty.runs[i]);
	ld_flush_tlb_all();
	for (i = 0; i < dirty.run_count; i++)
		recopy_again(&dirty.runs[i]);
}

/* ---- inside the stop ---- */

static bool any_dirty(const u64 *entries)
{
	u64 any = 0;
	int i;

#pragma GCC unroll 8
	for (i = 0; i < TOGETHER; i++)
		any |= entries[i];	/* nobody writes now */
	return any & _PAGE_DIRTY;
}

/* A Dirty bit stays behind where the page has left the direct map. */
static bool was_written(u64 entry)
{
	const u64 both = _PAGE_DIRTY | _PAGE_PRESENT;

	return (entry & both) == both;
}

static unsigned int recopy_dirty(const struct run *run, unsigned int i,
				 unsigned int end)
{
	unsigned int copied = 0;

	for (; i < end; i++) {
		if (run->entries && !was_written(READ_ONCE(run->entries[i])))
			continue;
		copied += ld_cow_recopy_page(run->pfn + i);
	}
	return copied;
}

static unsigned int recopy_run(const struct run *run)
{
	unsigned int copied = 0, i = 0;

	if (run->entries)
		for (; i + TOGETHER <= run->pages; i += TOGETHER)
			if (any_dirty(&run->entries[i]))
				copied += recopy_dirty(run, i, i + TOGETHER);
	return copied + recopy_dirty(run, i, run->pages);
}

unsigned int ld_dirty_recopy_part(unsigned int part, unsigned int parts)
{
	unsigned long end = dirty.run_count * (part + 1) / parts;
	unsigned long i = dirty.run_count * part / parts;
	unsigned int copied = 0;

	for (; i < end; i++)
		copied += recopy_run(&dirty.runs[i]);
	return copied;
}

/* ---- after release ---- */

/*
 * The tables have changed meanwhile, so the leaf is looked up again: what is
 * found stays while interrupts are off, or ld_hold_tables() where that is not
 * enough. Tables of the kernel's image and of the direct map stay anyway.
 */
void ld_set_dirty(unsigned long addr)
{
	struct ld_where where;
	unsigned long flags;
	u64 leaf;

	local_irq_save(flags);
	leaf = ld_walk_to(addr, &where);
	if (leaf & _PAGE_RW)
		set_bit(_PAGE_BIT_DIRTY,
			(unsigned long *)(ld_table_at(where.table) +
					  where.index));
	local_irq_restore(flags);
}

void ld_dirty_restore(void)
{
	unsigned long i;
	unsigned int j;

	for (i = 0; i < dirty.run_count; i++) {
		const struct run *run = &dirty.runs[i];

		for (j = 0; j < run->pages; j++)
			if (test_bit(run->first + j, dirty.was_dirty))
				ld_set_dirty(run->addr + j * PAGE_SIZE);
	}
}
