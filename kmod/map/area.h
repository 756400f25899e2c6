/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of our own that is written while a snapshot is held: pages, and a
 * mapping of them in vmalloc space, since the direct map is protected.
 */
#ifndef _LIVEDUMP_AREA_H
#define _LIVEDUMP_AREA_H

#include <linux/types.h>

struct page;

struct ld_area {
	void *addr;			/* NULL: there is none */
	struct page **pages;		/* NULL: not there any more */
	unsigned long count;		/* of pages */
};

/**
 * ld_area_alloc() - pages of undefined content, allocated by several CPUs
 *
 * Ends early when nobody wants the snapshot any more.
 * Return: 0, -ENOMEM, -EINTR; in any case ld_area_free() is right.
 */
int ld_area_alloc(struct ld_area *area, unsigned long count);

/* Free the mapping and all pages that are in area->pages still. */
void ld_area_free(struct ld_area *area);

#endif
