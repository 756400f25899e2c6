// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>
#include <asm/asm.h>

#include "fault/cow.h"
#include "map/area.h"
#include "test.h"

/* Beside the page frame number of a page of the pool: it is a table's copy. */
#define POOL_TABLE (1UL << 63)

/* So many for each CPU are in a pool, so that what they have left is little of it. */
#define MIN_BATCHES 64
#define MAX_BATCH 32

/*
 * All of it is vmalloc memory: the direct map, which we protect, is never
 * written here. The tail pages of the index and pool are ours alone.
 */
static struct {
	struct ld_area pool_area, index_area, pfn_area;
	u32 *index;
	void *pool;
	unsigned long *pfn_of;		/* by page of the pool */
	unsigned long max_pfn;
	int pool_pages;
	int batch;			/* what a CPU takes from the head */
	bool exhausted;			/* no CPU had any left */
	int returned;			/* 1 + the first; the next is in pfn_of; 0: none */
	bool share_returned;		/* with faults, too */
	atomic_t returned_pages;
	u64 own;			/* marked so, by the one worker */
	atomic_t head;
	atomic_t tables;
	atomic_t lost;
	atomic_t gone;			/* not there when they were to be kept */
	atomic_t vanished;		/* in place, and not there any more */
} cow;

static void mark_area(const struct ld_area *area)
{
	unsigned long i;

	for (i = 0; i < area->count; i++)
		ld_cow_mark(page_to_pfn(area->pages[i]), LD_SLOT_OWN);
	ld_cow_mark_own(area->pages, area->count * sizeof(*area->pages));
}

/* An area for so many things of a size. */
static int alloc_area(struct ld_area *area, unsigned long count, size_t size)
{
	return ld_area_alloc(area, PFN_UP(array_size(count, size)));
}

int ld_cow_init(unsigned long max_pfn, u64 pool_bytes)
{
	/* The head may run past the end, by a batch for each CPU. */
	u64 pages = min_t(u64, pool_bytes >> PAGE_SHIFT, INT_MAX / 2);
	int err;

	/* Pages of the pool are read only after they were written. */
	err = ld_area_alloc(&cow.pool_area, pages) ?:
	      alloc_area(&cow.index_area, max_pfn, sizeof(*cow.index)) ?:
	      alloc_area(&cow.pfn_area, pages, sizeof(*cow.pfn_of));
	if (err) {
		ld_cow_exit();
		return err;
	}
	cow.pool = cow.pool_area.addr;
	cow.index = cow.index_area.addr;
	cow.pfn_of = cow.pfn_area.addr;
	/* Zeroed when it was allocated, unless init_on_alloc is off. */
	if (!want_init_on_alloc(GFP_KERNEL)) {
		memset(cow.index, 0, cow.index_area.count << PAGE_SHIFT);
		memset(cow.pfn_of, 0, cow.pfn_area.count << PAGE_SHIFT);
	}
	cow.max_pfn = max_pfn;
	cow.pool_pages = pages;
	cow.batch = 1;
	mark_area(&cow.pool_area);
	mark_area(&cow.index_area);
	mark_area(&cow.pfn_area);
	return 0;
}

void ld_cow_exit(void)
{
	ld_area_free(&cow.pool_area);
	ld_area_free(&cow.index_area);
	ld_area_free(&cow.pfn_area);
	ld_cow_forget_taken();
	memset(&cow, 0, sizeof(cow));
}

static __always_inline void *pool_page(int page)
{
	return cow.pool + ((unsigned long)page << PAGE_SHIFT);
}

static __always_inline const void *direct(unsigned long pfn)
{
	return __va(PFN_PHYS(pfn & ~POOL_TABLE));
}

/* The kernel's copy_page() can be probed: who is in a fault calls nobody. */
static __always_inline void copy(void *to, const void *from)
{
	unsigned long words = PAGE_SIZE / sizeof(u64);

	asm volatile("rep movsq"
		     : "+D"(to), "+S"(from), "+c"(words)
		     :
		     : "memory");
}

static void notrace copy_to_pool(int page)
{
	copy(pool_page(page), direct(cow.pfn_of[page]));
}
NOKPROBE_SYMBOL(copy_to_pool);

/*
 * Where the page may be gone from the direct map. Not copy_from_kernel_nofault():
 * that takes seven times the instructions, by the word. Return: is it there?
 */
static bool try_copy_to_pool(int page)
{
	const void *from = direct(cow.pfn_of[page]);
	unsigned long words = PAGE_SIZE / sizeof(u64);
	void *to = pool_page(page);

	/* A fault leaves by the second label, with what is left to copy. */
	asm volatile("1:	rep movsq\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "+D"(to), "+S"(from), "+c"(words)
		     :
		     : "memory");
	return !words;
}

/*
 * Who loses a race for a page keeps what it took for the next one. An exchange,
 * as an NMI may come in between.
 */
static DEFINE_PER_CPU(int, kept);	/* 1 + its number; 0: none */

static void notrace keep_page(int page)
{
	this_cpu_xchg(kept, page + 1);
}
NOKPROBE_SYMBOL(keep_page);

/*
 * A CPU takes pages from the head by the batch: in the microseconds after a stop
 * all of them fault. What it has left is the numbers from the low half to below
 * the high half; one word never has a value twice.
 */
static DEFINE_PER_CPU(u64, batch);

static __always_inline u64 batch_of(int first, int end)
{
	return first | (u64)end << 32;
}

static __always_inline int take_from(u64 *from)
{
	u64 old = READ_ONCE(*from), seen;

	while ((u32)old < old >> 32) {
		seen = cmpxchg(from, old, old + 1);
		if (seen == old)
			return (u32)old;
		old = seen;
	}
	return -1;
}

/*
 * An NMI here may do the same: the batch that is overwritten is never used, and
 * counts as used.
 */
static __always_inline int take_batch(u64 *mine)
{
	int first, end;

	if (atomic_read(&cow.head) >= cow.pool_pages)
		return -1;
	first = atomic_fetch_add(cow.batch, &cow.head);
	end = min(first + cow.batch, cow.pool_pages);
	if (first >= end)
		return -1;
	if (first + 1 < end)
		WRITE_ONCE(*mine, batch_of(first + 1, end));
	return first;
}

/*
 * Pages of copies that were forgotten. Up to the snapshot's instant the worker alone
 * gives and takes them: what faults save in the stop is behind the head. Then nobody
 * gives any more, so that a first one that is taken never comes back.
 */
static int notrace take_returned(void)
{
	int first = READ_ONCE(cow.returned), seen;

	while (first) {
		seen = cmpxchg(&cow.returned, first,
			       (int)READ_ONCE(cow.pfn_of[first - 1]));
		if (seen == first) {
			atomic_dec(&cow.returned_pages);
			return first - 1;
		}
		first = seen;
	}
	return -1;
}
NOKPROBE_SYMBOL(take_returned);

static void return_page(int page)
{
	cow.pfn_of[page] = cow.returned;
	cow.returned = page + 1;
	atomic_inc(&cow.returned_pages);
}

/* The head is at the end: other CPUs may have some left. */
static int notrace take_from_others(void)
{
	unsigned int cpu;
	int page = -1;

	if (READ_ONCE(cow.exhausted))
		return -1;
	for (cpu = 0; page < 0 && cpu < nr_cpu_ids; cpu++)
		if (cpu_possible(cpu))
			page = take_from(per_cpu_ptr(&batch, cpu));
	if (page < 0 && READ_ONCE(cow.share_returned))
		page = take_returned();
	if (page < 0)
		WRITE_ONCE(cow.exhausted, true);
	return page;
}
NOKPROBE_SYMBOL(take_from_others);

static int notrace take_page(void)
{
	u64 *mine = raw_cpu_ptr(&batch);	/* any CPU's would do */
	int page = this_cpu_xchg(kept, 0);

	if (page)
		return page - 1;
	page = take_from(mine);
	if (page < 0)
		page = take_batch(mine);
	return page < 0 ? take_from_others() : page;
}
NOKPROBE_SYMBOL(take_page);

void ld_cow_forget_taken(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		per_cpu(kept, cpu) = 0;
		per_cpu(batch, cpu) = 0;
	}
}

void ld_cow_take_batches(void)
{
	int share = cow.pool_pages / num_possible_cpus() / MIN_BATCHES;

	WRITE_ONCE(cow.batch, clamp(share, 1, MAX_BATCH));
	WRITE_ONCE(cow.share_returned, true);
	WRITE_ONCE(cow.exhausted, false);
}

/* Pages that CPUs have taken from the head and have not used. */
static int count_left(void)
{
	int cpu, left = 0;

	for_each_possible_cpu(cpu) {
		u64 pages = READ_ONCE(per_cpu(batch, cpu));

		left += (pages >> 32) - (u32)pages;
	}
	return left;
}

static enum ld_save notrace lose(unsigned long pfn)
{
	u32 slot = cmpxchg(&cow.index[pfn], LD_SLOT_NONE, LD_SLOT_LOST);

	if (slot == LD_SLOT_NONE)
		atomic_inc(&cow.lost);
	return slot == LD_SLOT_NONE || slot == LD_SLOT_LOST ? LD_LOST :
							      LD_ALREADY;
}
NOKPROBE_SYMBOL(lose);

/*
 * A page of the pool for it, from those that were returned if there is one and who
 * asks may have it. Return: its number; -1, with what has become of it.
 */
static __always_inline int begin_save(unsigned long pfn, unsigned long kind,
				      bool returned, enum ld_save *outcome)
{
	u32 slot;
	int page = -1;

	*outcome = LD_ALREADY;
	/* Behind the end of RAM there is nothing to save. */
	if (pfn >= cow.max_pfn)
		return -1;
	slot = READ_ONCE(cow.index[pfn]);
	if (slot) {
		if (slot == LD_SLOT_LOST)
			*outcome = LD_LOST;
		return -1;
	}
	if (returned)
		page = take_returned();
	if (page < 0)
		page = take_page();
	if (page < 0)
		*outcome = lose(pfn);
	else
		cow.pfn_of[page] = pfn | kind;
	return page;
}

/* cmpxchg() is a full barrier: who sees the slot sees the copy. */
static __always_inline bool publish(unsigned long pfn, int page)
{
	return cmpxchg(&cow.index[pfn], LD_SLOT_NONE, page + 1) ==
	       LD_SLOT_NONE;
}

static enum ld_save notrace save(unsigned long pfn, unsigned long kind)
{
	enum ld_save outcome;
	int page = begin_save(pfn, kind, false, &outcome);
	bool published;

	if (page < 0)
		return outcome;
	if (!ld_is_mutant(LD_MUTANT_PUBLISH))
		copy_to_pool(page);
	ld_point(LD_POINT_COPIED, pfn);
	published = publish(pfn, page);
	ld_point(LD_POINT_PUBLISHED, pfn);
	if (ld_is_mutant(LD_MUTANT_PUBLISH))
		copy_to_pool(page);
	if (published)
		return LD_SAVED;
	keep_page(page);
	return LD_ALREADY;
}
NOKPROBE_SYMBOL(save);

enum ld_save notrace ld_cow_save(unsigned long pfn)
{
	return save(pfn, 0);
}
NOKPROBE_SYMBOL(ld_cow_save);

/* It is not there, so it reads as zeros. */
static void gone(unsigned long pfn, atomic_t *count)
{
	if (cmpxchg(&cow.index[pfn], LD_SLOT_NONE, LD_SLOT_UNREADABLE) ==
	    LD_SLOT_NONE)
		atomic_inc(count);
}

/* As save(), for who may find the page gone from the direct map. */
static enum ld_save try_save(unsigned long pfn, bool returned, atomic_t *missing)
{
	enum ld_save outcome;
	int page = begin_save(pfn, 0, returned, &outcome);

	if (page < 0)
		return outcome;
	if (!try_copy_to_pool(page))
		gone(pfn, missing);
	else if (publish(pfn, page))
		return LD_SAVED;
	if (returned)
		return_page(page);
	else
		keep_page(page);
	return LD_ALREADY;
}

enum ld_save ld_cow_try_save(unsigned long pfn)
{
	return try_save(pfn, false, &cow.vanished);
}

void ld_cow_vanish(unsigned long pfn)
{
	gone(pfn, &cow.vanished);
}

int ld_cow_keep(unsigned long pfn, u64 *saved)
{
	enum ld_save outcome = try_save(pfn, true, &cow.gone);

	*saved += outcome == LD_SAVED;
	return outcome == LD_LOST ? -ENOSPC : 0;
}

void notrace ld_cow_save_table(unsigned long pfn)
{
	if (save(pfn, POOL_TABLE) == LD_SAVED)
		atomic_inc(&cow.tables);
}
NOKPROBE_SYMBOL(ld_cow_save_table);

void notrace ld_cow_lose(unsigned long pfn)
{
	if (pfn < cow.max_pfn)
		lose(pfn);
}
NOKPROBE_SYMBOL(ld_cow_lose);

void ld_cow_recopy_since(u64 page)
{
	for (; page < ld_cow_pool_head(); page++) {
		unsigned long pfn = cow.pfn_of[page];

		/* One that was given back has no page's number there. */
		if (!(pfn & POOL_TABLE) && cow.index[pfn] == page + 1)
			copy_to_pool(page);
	}
}

static bool is_saved(u32 slot)
{
	return slot && slot < LD_SLOT_SPECIAL;
}

/* Its slot, if it is saved; else, and behind the end of RAM, LD_SLOT_NONE. */
static u32 saved_slot(unsigned long pfn)
{
	u32 slot = pfn < cow.max_pfn ? cow.index[pfn] : LD_SLOT_NONE;

	return is_saved(slot) ? slot : LD_SLOT_NONE;
}

bool ld_cow_recopy_page(unsigned long pfn)
{
	u32 slot = saved_slot(pfn);

	if (!slot || (cow.pfn_of[slot - 1] & POOL_TABLE))
		return false;
	copy_to_pool(slot - 1);
	return true;
}

void ld_cow_refresh_page(unsigned long pfn)
{
	u32 slot = saved_slot(pfn);

	/* One that is gone is looked at again in the stop. */
	if (slot)
		try_copy_to_pool(slot - 1);
}

void ld_cow_recopy_table(unsigned long pfn)
{
	u32 slot = saved_slot(pfn);

	if (slot)
		copy_to_pool(slot - 1);
}

void ld_cow_set_table(unsigned long pfn)
{
	u32 slot = saved_slot(pfn);

	if (slot)
		cow.pfn_of[slot - 1] |= POOL_TABLE;
}

void ld_cow_forget(unsigned long pfn)
{
	u32 slot = saved_slot(pfn);

	if (!slot)
		return;
	cow.index[pfn] = LD_SLOT_NONE;
	return_page(slot - 1);
}

void ld_cow_unmark(unsigned long pfn, u32 slot)
{
	if (pfn < cow.max_pfn)
		cmpxchg(&cow.index[pfn], slot, LD_SLOT_NONE);
}

bool ld_cow_mark(unsigned long pfn, u32 slot)
{
	if (pfn >= cow.max_pfn ||
	    cmpxchg(&cow.index[pfn], LD_SLOT_NONE, slot) != LD_SLOT_NONE)
		return false;
	if (slot == LD_SLOT_OWN || (slot >= LD_SLOT_TABLE && slot < LD_SLOT_LOST))
		cow.own++;
	return true;
}

void ld_cow_mark_own(const void *area, unsigned long bytes)
{
	unsigned long offset;

	for (offset = 0; offset < bytes; offset += PAGE_SIZE) {
		ld_cow_mark(vmalloc_to_pfn(area + offset), LD_SLOT_OWN);
		if (!(offset & (SZ_64M - 1)))
			cond_resched();
	}
}

u32 notrace ld_cow_slot(unsigned long pfn)
{
	return READ_ONCE(cow.index[pfn]);
}
NOKPROBE_SYMBOL(ld_cow_slot);

u64 ld_cow_pages_own(void)
{
	return cow.own;
}

bool ld_cow_is_saved_before(unsigned long pfn, u64 page)
{
	u32 slot = saved_slot(pfn);

	return slot && slot <= page;
}

const void *ld_cow_page(u32 slot)
{
	return cow.pool + ((unsigned long)(slot - 1) << PAGE_SHIFT);
}

unsigned long notrace ld_cow_max_pfn(void)
{
	return cow.max_pfn;
}
NOKPROBE_SYMBOL(ld_cow_max_pfn);

u64 ld_cow_pool_pages(void)
{
	return cow.pool_pages;
}

u64 ld_cow_pool_head(void)
{
	return min(atomic_read(&cow.head), cow.pool_pages);
}

u64 ld_cow_pool_used(void)
{
	/* Read before the head, which runs on meanwhile: they are behind it. */
	u64 left = count_left();

	return ld_cow_pool_head() - left - atomic_read(&cow.returned_pages);
}

u64 ld_cow_tables_saved(void)
{
	return atomic_read(&cow.tables);
}

u64 ld_cow_pages_lost(void)
{
	return atomic_read(&cow.lost);
}

u64 ld_cow_pages_gone(void)
{
	return atomic_read(&cow.gone);
}

u64 ld_cow_pages_vanished(void)
{
	return atomic_read(&cow.vanished);
}

void ld_cow_forget_gone(void)
{
	atomic_set(&cow.gone, 0);
}
