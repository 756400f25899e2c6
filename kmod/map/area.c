// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "ending.h"
#include "map/area.h"

#define CHUNK 256		/* pages that one CPU takes at a time */
#define MAX_HELPERS 15

/* Zeroing is what takes time, and it is done wherever the page is allocated. */
struct filling {
	struct page **pages;
	unsigned long count;
	atomic_long_t next;
	atomic_t failed;
};

struct helper {
	struct work_struct work;
	struct filling *filling;
};

static void fill_chunk(struct filling *filling, unsigned long i)
{
	unsigned long end = min(i + CHUNK, filling->count);

	for (; i < end; i++) {
		filling->pages[i] = alloc_page(GFP_KERNEL | __GFP_NOWARN |
					       __GFP_NORETRY);
		if (!filling->pages[i]) {
			atomic_set(&filling->failed, -ENOMEM);
			return;
		}
	}
}

static void fill(struct filling *filling)
{
	unsigned long i;

	while (!atomic_read(&filling->failed)) {
		i = atomic_long_fetch_add(CHUNK, &filling->next);
		if (i >= filling->count)
			return;
		fill_chunk(filling, i);
		if (ld_is_ending())
			atomic_set(&filling->failed, -EINTR);
		cond_resched();
	}
}

static void help(struct work_struct *work)
{
	fill(container_of(work, struct helper, work)->filling);
}

static void fill_together(struct filling *filling)
{
	unsigned int i, count = min(num_online_cpus() - 1, MAX_HELPERS);
	struct helper *helpers = kcalloc(count, sizeof(*helpers), GFP_KERNEL);

	for (i = 0; helpers && i < count; i++) {
		helpers[i].filling = filling;
		INIT_WORK(&helpers[i].work, help);
		queue_work(system_unbound_wq, &helpers[i].work);
	}
	fill(filling);
	for (i = 0; helpers && i < count; i++)
		cancel_work_sync(&helpers[i].work);
	kfree(helpers);
}

int ld_area_alloc(struct ld_area *area, unsigned long count)
{
	struct filling filling = { .count = count };

	area->count = count;
	area->pages = vzalloc(array_size(count, sizeof(*area->pages)));
	if (!area->pages)
		return -ENOMEM;
	filling.pages = area->pages;
	fill_together(&filling);
	if (atomic_read(&filling.failed))
		return atomic_read(&filling.failed);
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
