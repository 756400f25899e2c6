/* SPDX-License-Identifier: GPL-2.0 */
/* Make an entry ours; let a write through, saving what has to be saved before. */
#ifndef _LIVEDUMP_OPEN_H
#define _LIVEDUMP_OPEN_H

#include <linux/types.h>
#include "uapi/livedump.h"

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

/*
 * The same before the stop: what is armed becomes as it was, and is logged. Return: its
 * page frame, or 0.
 */
unsigned long ld_open_armed(unsigned long addr, int depth);

/* Make an entry ours if it is writable; it may change meanwhile. */
bool ld_protect_entry(u64 *entry);

#endif
