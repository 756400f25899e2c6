/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A strategy decides which entries are made ours in the stop; what such an entry
 * looks like, how a write to it is let through and how it is restored is the
 * same for all of them.
 */
#ifndef _LIVEDUMP_STRATEGY_H
#define _LIVEDUMP_STRATEGY_H

#include <linux/types.h>
#include "uapi/livedump.h"

struct ld_strategy {
	const char *name;
	u32 id;				/* enum livedump_strategy */

	/*
	 * In the order in which they are called. In the stop nothing sleeps,
	 * and all is done by one CPU but for protect_part, recopy_cpu and
	 * recopy_part.
	 */

	/* Before the stop. 0, -EINTR, -ENOMEM, -ENOSPC, -EAGAIN. */
	int (*prepare)(void);
	/* The stop said -EAGAIN: prepare anew what it could not use, or NULL. */
	int (*again)(void);
	/* Right before each stop: what makes it shorter, or NULL. */
	void (*refresh)(void);
	/* In the stop, nothing is protected yet. 0, -ENOSPC, -EAGAIN. */
	int (*save)(void);
	/* Then: protect; count the entries by enum livedump_leaf. */
	void (*protect)(u64 entries[__LIVEDUMP_LEAF_MAX]);
	/* Meanwhile, by every CPU: parts of what is left of that, or NULL. */
	void (*protect_part)(unsigned int part, unsigned int parts);
	/*
	 * Then, by every CPU: copy again what was written since;
	 * what is this CPU's own, and parts of what is nobody's.
	 */
	void (*recopy_cpu)(int cpu);
	void (*recopy_part)(unsigned int part, unsigned int parts);
	/* Then: the rest, stacks of the other CPUs among it. */
	void (*recopy)(void);
	/* After release: what else than entries of ours was changed. */
	void (*restore)(void);
	/* After anything: free what prepare() made, as far as it came. */
	void (*finish)(void);

	u64 (*protected_parts)(void);	/* 4 KiB entries by protect_part() */
	u64 (*saved)(void);	/* pages, before the stop and in it */
	u64 (*recopied)(void);	/* of them, copied again in it */
};

extern const struct ld_strategy ld_eager;
extern const struct ld_strategy ld_lazy;

const struct ld_strategy *ld_strategy_find(u32 id);

#endif
