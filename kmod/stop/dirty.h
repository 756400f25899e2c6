/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages that stay writable and are watched: the Dirty bit of the 4 KiB entry
 * that they are written by tells what was written since it was cleared.
 */
#ifndef _LIVEDUMP_DIRTY_H
#define _LIVEDUMP_DIRTY_H

#include <linux/types.h>

/* Room for so many pages, or addresses of pages. Return: 0 or -ENOMEM. */
int ld_dirty_reserve(unsigned long pages);
void ld_dirty_free(void);

/*
 * Clear the Dirty bit by which @addr, an address of the page, is written. The
 * caller flushes every TLB after the last one. Read-only ones are left out.
 */
void ld_dirty_add(unsigned long pfn, unsigned long addr);
/* Save them all. Return: 0, or -ENOSPC. */
int ld_dirty_save(u64 *saved);

/* Shortly before the stop: copy what was written, and watch it anew. */
void ld_dirty_refresh(void);

/*
 * Inside the stop: copy what was written, one part of @parts, by any CPU.
 * Return: pages.
 */
unsigned int ld_dirty_recopy_part(unsigned int part, unsigned int parts);

/* After release: Dirty bits as they were. */
void ld_dirty_restore(void);

/*
 * Set the Dirty bit of the leaf that maps an address. Never cleared again: one
 * too many is what the kernel starts with.
 */
void ld_set_dirty(unsigned long addr);

#endif
