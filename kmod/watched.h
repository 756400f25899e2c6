/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages that stay writable and are watched: the Dirty bit of the 4 KiB entry
 * that they are written by tells what was written since it was cleared.
 */
#ifndef _LIVEDUMP_WATCHED_H
#define _LIVEDUMP_WATCHED_H

#include <linux/types.h>

/**
 * ld_watched_reserve() - room for so many pages and other leaves
 *
 * Return: 0 or -ENOMEM.
 */
int ld_watched_reserve(unsigned long pages, unsigned long leaves);
void ld_watched_free(void);

/*
 * Clear the Dirty bit by which @addr, an address of the page, is written. The
 * caller flushes every TLB after the last one. Read-only ones are left out.
 */
void ld_watched_add(unsigned long pfn, unsigned long addr);
/* The same for the leaf of the direct map, of any size, that maps @pfn, too. */
void ld_watched_add_direct(unsigned long pfn);

/* Save all but the direct map's. Return: 0, or -ENOSPC. */
int ld_watched_save(u64 *saved);

/* Shortly before the stop: copy what was written, and watch it anew. */
void ld_watched_refresh(void);

/*
 * Inside the stop: copy what was written, one part of @parts, by any CPU; the
 * leaves of the direct map by one. Return: pages.
 */
unsigned int ld_watched_recopy_part(unsigned int part, unsigned int parts);
void ld_watched_recopy_direct(void);

/* After release: Dirty bits as they were. */
void ld_watched_restore(void);

/*
 * Set the Dirty bit of the leaf that maps an address. Never cleared again: one
 * too many is what the kernel starts with.
 */
void ld_dirty_again(unsigned long addr);

#endif
