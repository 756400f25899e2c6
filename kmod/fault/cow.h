/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The page pool and the saved-page index. One u32 for each page frame says
 * what the image holds for it; its values below LD_SLOT_SPECIAL are
 * 1 + the number of a page in the pool. A slot leaves LD_SLOT_NONE once while
 * a snapshot is held.
 */
#ifndef _LIVEDUMP_COW_H
#define _LIVEDUMP_COW_H

#include <linux/types.h>

#define LD_SLOT_NONE 0u
#define LD_SLOT_SPECIAL 0xf0000000u	/* from here on: reads as zeros */
#define LD_SLOT_TABLE 0xf0000000u	/* + its number: a page table of ours */
#define LD_SLOT_LOST 0xfffffff0u	/* the pool was exhausted */
#define LD_SLOT_UNREADABLE 0xfffffff1u	/* offline, poisoned, not mapped */
#define LD_SLOT_OWN 0xfffffff2u		/* livedump's own memory */

enum ld_save {
	LD_SAVED,
	LD_ALREADY,
	LD_LOST,
};

/**
 * ld_cow_init() - reserve the pool and an index of @max_pfn page frames
 *
 * Return: 0; -ENOMEM, or -EINTR, with nothing reserved.
 */
int ld_cow_init(unsigned long max_pfn, u64 pool_bytes);
void ld_cow_exit(void);

/**
 * ld_cow_save() - save a page that is about to change
 * @pfn: a present page of the direct map, below the index's end
 *
 * Copies first, publishes second; the caller makes the page writable third.
 * Safe in any context, NMI included: it takes no lock and waits for nobody.
 */
enum ld_save ld_cow_save(unsigned long pfn);

/**
 * ld_cow_try_save() - the same outside the fault path
 *
 * A page that has left the direct map reads as zeros from here on, and counts
 * as vanished: ld_cow_vanish() says the same of one that was found so.
 */
enum ld_save ld_cow_try_save(unsigned long pfn);
void ld_cow_vanish(unsigned long pfn);

/**
 * ld_cow_keep() - the same, before the stop or in it
 * @saved: counts it, if it was not saved before
 *
 * A page that has left the direct map counts as gone, and is no error.
 * Return: 0, or -ENOSPC when the pool is too small.
 */
int ld_cow_keep(unsigned long pfn, u64 *saved);

/*
 * The same for a page table before we edit it: its copy is the last one that
 * shows nothing of us, so ld_cow_recopy_since() leaves it alone.
 */
void ld_cow_save_table(unsigned long pfn);

/*
 * Pages of the pool that CPUs have taken and not used are forgotten, so that what
 * is saved from here on is behind ld_cow_pool_head().
 */
void ld_cow_forget_taken(void);

/*
 * The stop is over: CPUs take pages of the pool by the batch. Until then, one by
 * one, pages are in the order in which they were saved.
 */
void ld_cow_take_batches(void);

/* A page is exposed without a copy: name it, unless it is saved already. */
void ld_cow_lose(unsigned long pfn);

/**
 * ld_cow_recopy_since() - copy pages of the pool again
 * @page: from this page of the pool on, but for those of page tables
 *
 * With all CPUs stopped: their instant moves to now.
 */
void ld_cow_recopy_since(u64 page);

/*
 * Copy one saved page again, before the stop or in it; others are left alone,
 * and page tables too that were set to be: those are copied before they are
 * edited. Any page frame will do, a device's too. Return: was it copied?
 */
bool ld_cow_recopy_page(unsigned long pfn);
void ld_cow_recopy_table(unsigned long pfn);
void ld_cow_set_table(unsigned long pfn);

/* The same before the stop, where the page may have left the direct map. */
void ld_cow_refresh_page(unsigned long pfn);

/*
 * Before anything is protected: the page need not be saved after all. Its page of
 * the pool is the next that ld_cow_keep() takes, or after the stop the last one of all.
 */
void ld_cow_forget(unsigned long pfn);

/* Set a special slot, unless the page frame has a slot already; or undo it. */
bool ld_cow_mark(unsigned long pfn, u32 slot);
void ld_cow_unmark(unsigned long pfn, u32 slot);

/* Mark the pages behind a vmalloc area of ours, so that they are left out. */
void ld_cow_mark_own(const void *area, unsigned long bytes);

u32 ld_cow_slot(unsigned long pfn);
const void *ld_cow_page(u32 slot);

/* Page frames that are ours, page tables among them. */
u64 ld_cow_pages_own(void);

/*
 * True when the page was saved before the pool's head was there; and of the last
 * few that an exhausted pool had.
 */
bool ld_cow_is_saved_before(unsigned long pfn, u64 page);

unsigned long ld_cow_max_pfn(void);
u64 ld_cow_pool_pages(void);
u64 ld_cow_pool_head(void);		/* what was ever taken is before it */
u64 ld_cow_pool_used(void);
u64 ld_cow_tables_saved(void);
u64 ld_cow_pages_lost(void);
u64 ld_cow_pages_gone(void);
/* They are looked at, and counted, once more. */
void ld_cow_forget_gone(void);
u64 ld_cow_pages_vanished(void);

#endif
