/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that is never protected, copied before the stop; inside it only what
 * was written since is copied again. The Dirty bit of 4 KiB entries tells, in
 * every mapping that the memory is written by.
 */
#ifndef _LIVEDUMP_PRECOPY_H
#define _LIVEDUMP_PRECOPY_H

#include <linux/types.h>

/**
 * ld_precopy_prepare() - find it, clear its Dirty bits, copy it
 *
 * Hooks log new stacks from before this is called. Splits large leaves.
 * Return: 0, -ENOMEM, -ENOSPC when the pool is too small.
 */
int ld_precopy_prepare(void);
void ld_precopy_free(void);

/* Find the stacks anew, when they have changed too much. Return: as above. */
int ld_precopy_again(void);

/* True for a page that stays writable in the direct map. */
bool ld_precopy_is_fixed(unsigned long pfn);
/* The next such page in [pfn, end), or @end. */
unsigned long ld_precopy_next_fixed(unsigned long pfn, unsigned long end);
/* The next other one of RAM in [pfn, end), or @end. */
unsigned long ld_precopy_next_other(unsigned long pfn, unsigned long end);

/*
 * Inside the stop, before anything is protected: forget what is a stack no
 * more, save what has become one.
 * Return: 0; -ENOSPC; -EAGAIN when too much has changed.
 */
int ld_precopy_update(void);

/*
 * What every strategy does: inside the stop, look again at pages whose attributes
 * changed since the survey; outside, at all of them, when too many did.
 * Return: 0, -ENOSPC, -EAGAIN.
 */
int ld_precopy_update_changed(void);
int ld_precopy_mark_again(void);

/*
 * Inside the stop: what one CPU alone writes and what nobody writes now, by all
 * CPUs; then, by one, all else that was written.
 */
void ld_precopy_recopy_cpu(int cpu);
void ld_precopy_recopy_part(unsigned int part, unsigned int parts);
void ld_precopy_recopy(void);

/* After release: Dirty bits as they were. */
void ld_precopy_restore(void);

u64 ld_precopy_saved(void);	/* pages, before the stop and in it */
u64 ld_precopy_recopied(void);	/* of them, again inside it */

#endif
