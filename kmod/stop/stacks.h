/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel stacks in vmalloc space: never protected, watched by the Dirty bits of
 * their entries there. They come and go until the stop.
 */
#ifndef _LIVEDUMP_STACKS_H
#define _LIVEDUMP_STACKS_H

#include <linux/types.h>

/*
 * Find all there are, clear their Dirty bits; hooks log new ones from here on.
 * The caller flushes every TLB. Return: 0, -ENOMEM, -EAGAIN for too many.
 */
int ld_stacks_watch(void);
void ld_stacks_free(void);

/* Save them; forget the copies again. Return: 0, or -ENOSPC. */
int ld_stacks_save(u64 *saved);
void ld_stacks_forget(u64 *saved);

/*
 * Inside the stop, before anything is protected: forget those that are gone,
 * save those that have come. Return: 0, -ENOSPC; -EAGAIN for too many.
 */
int ld_stacks_update(u64 *saved);

/* Then, by one CPU: copy again what was written. Return: pages. */
unsigned int ld_stacks_recopy(void);

/* After release: Dirty bits as they were. */
void ld_stacks_restore(void);

#endif
