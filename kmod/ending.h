/* SPDX-License-Identifier: GPL-2.0 */
/* Long work looks here whether anybody still wants it. */
#ifndef _LIVEDUMP_ENDING_H
#define _LIVEDUMP_ENDING_H

#include <linux/compiler.h>
#include <linux/types.h>

/* enum livedump_reason: why the snapshot is to end; 0 while it is not. */
extern u32 ld_ending;

static inline bool ld_is_ending(void)
{
	return READ_ONCE(ld_ending) != 0;
}

#endif
