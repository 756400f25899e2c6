// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "ending.h"
#include "map/area.h"
#include "map/together.h"

#define PART 256		/* pages that one CPU takes at a time */

/*
 * As hard as is possible without killing anybody: what is "available" is page
 * cache for the most part, and a single try at that may lose to another CPU's.
 */
#define HOW (GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

/* Zeroing is what takes time, and it is done wherever the page is allocated. */
static int fill(unsigned long start, unsigned long end, void *data)
{
	struct page **pages = data;

	for (; start < end && !ld_is_ending(); start++) {
		pages[start] = alloc_page(HOW);
		if (!pages[start])
			return -ENOMEM;
	}
	return 0;
}

int ld_area_alloc(struct ld_area *area, unsigned long count)
{
	int err;

	area->count = count;
	area->pages = vzalloc(array_size(count, sizeof(*area->pages)));
	if (!area->pages)
		return -ENOMEM;
	err = ld_together(count, PART, fill, area->pages);
	if (err)
		return err;
	area->addr = vmap(area->pages, count, VM_MAP, PAGE_KERNEL);
	return area->addr ? 0 : -ENOMEM;
}

void ld_area_free(struct ld_area *area)
{
	unsigned long i;

	vunmap(area->addr);
	for (i = 0; area->pages && i < area->count; i++) {
		if (area->pages[i])
			__free_page(area->pages[i]);
		if (!(i % 4096))
			cond_resched();
	}
	vfree(area->pages);
	memset(area, 0, sizeof(*area));
}
