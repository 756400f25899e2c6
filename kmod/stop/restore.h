/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LIVEDUMP_RESTORE_H
#define _LIVEDUMP_RESTORE_H

#include <linux/types.h>

/* Every entry as it was. Return: entries of ours that were found. */
u64 ld_restore_entries(void);

/*
 * Before a snapshot: what an earlier one has left behind, written back by a change
 * under way at its release. A page with such a mark would never be protected.
 * Return: entries that were ours or opened.
 */
u64 ld_clear_marks(void);

#endif
