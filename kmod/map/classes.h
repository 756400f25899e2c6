/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages that the image holds but does not guard, counted while a snapshot is
 * held: mapped writable by vmalloc or modules (`live`), mapped or pinned by user
 * space at the instant (`unguarded`). A count, not a promise.
 */
#ifndef _LIVEDUMP_CLASSES_H
#define _LIVEDUMP_CLASSES_H

#include <linux/types.h>
#include "uapi/livedump.h"

/* Reserve the bitmaps. Return: 0 or -ENOMEM. */
int ld_classes_prepare(void);
void ld_classes_free(void);

/* After the stop. @saved: so many pages of the pool were saved by its end. */
void ld_classes_begin(u64 saved);

/*
 * A slice more; adds to the report. Areas whose mappings nobody counts (VM_PFNMAP,
 * VM_MIXEDMAP) are walked in every address space first. Return: all pages are
 * counted.
 */
bool ld_classes_count(struct livedump_report *report);

/* Address spaces that could not be looked at. */
u64 ld_classes_unwalked(void);

#endif
