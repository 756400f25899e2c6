/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The page pool and the saved-page index. One u32 for each page frame says
 * what the image holds for it; its values below LD_SLOT_SPECIAL are
 * 1 + the number of a page in the pool. A slot leaves LD_SLOT_NONE once.
 */
#ifndef _LIVEDUMP_COW_H
#define _LIVEDUMP_COW_H

#include <linux/types.h>

#define LD_SLOT_NONE 0u
#define LD_SLOT_SPECIAL 0xfffffff0u
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
 * Return: 0, or -ENOMEM with nothing reserved.
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
 * ld_cow_recopy() - copy every page of the pool again
 *
 * With all CPUs stopped: the instant moves to now.
 */
void ld_cow_recopy(void);

/* Set a special slot, unless the page frame has a slot already. */
void ld_cow_mark(unsigned long pfn, u32 slot);

/* Mark the pages behind a vmalloc area of ours, so that they are left out. */
void ld_cow_mark_own(const void *area, unsigned long bytes);

u32 ld_cow_slot(unsigned long pfn);
const void *ld_cow_page(u32 slot);

/* Page frames whose slot is @slot. */
u64 ld_cow_count(u32 slot);

unsigned long ld_cow_max_pfn(void);
u64 ld_cow_pool_pages(void);
u64 ld_cow_pool_used(void);
u64 ld_cow_pages_lost(void);

#endif
