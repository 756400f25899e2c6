/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LIVEDUMP_RESTORE_H
#define _LIVEDUMP_RESTORE_H

#include <linux/types.h>

/* Every entry as it was. Return: entries of ours that were found. */
u64 ld_restore_entries(void);

#endif
