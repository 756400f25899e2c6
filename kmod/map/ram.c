// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "fault/cow.h"
#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/together.h"

#define PART (SZ_128M >> PAGE_SHIFT)	/* pages for one CPU to look at */

static struct {
	struct ld_range *range;
	int count;
	int room;
	unsigned long max_pfn;
	u64 pages;
	u64 unreadable;
} ram;

static int count_range(struct resource *res, void *arg)
{
	(*(int *)arg)++;
	return 0;
}

static int note_range(struct resource *res, void *arg)
{
	struct ld_range *range = &ram.range[ram.count];

	range->start_pfn = PFN_UP(res->start);
	range->end_pfn = PFN_DOWN(res->end + 1);
	if (range->start_pfn >= range->end_pfn || ram.count == ram.room)
		return 0;
	ram.count++;
	ram.pages += range->end_pfn - range->start_pfn;
	ram.max_pfn = max(ram.max_pfn, range->end_pfn);
	return 0;
}

static int walk_ram(void *arg, int (*fn)(struct resource *, void *))
{
	return walk_iomem_res_desc(IORES_DESC_NONE,
				   IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0,
				   -1, arg, fn);
}

int ld_ranges_collect(void)
{
	int room = 0;

	walk_ram(&room, count_range);
	ram.range = kvcalloc(room, sizeof(*ram.range), GFP_KERNEL);
	if (!ram.range)
		return -ENOMEM;
	ram.room = room;
	walk_ram(NULL, note_range);
	return ram.count ? 0 : -ENOMEM;
}

void ld_ranges_free(void)
{
	kvfree(ram.range);
	memset(&ram, 0, sizeof(ram));
}

int ld_ranges_count(void)
{
	return ram.count;
}

const struct ld_range *ld_range_at(int i)
{
	return &ram.range[i];
}

unsigned long ld_ranges_max_pfn(void)
{
	return ram.max_pfn;
}

u64 ld_ranges_pages(void)
{
	return ram.pages;
}

u64 ld_ranges_unreadable(void)
{
	return ram.unreadable;
}

static bool is_cached(u64 leaf, int level)
{
	u64 pat = level == LD_LEVEL_PTE ? _PAGE_PAT : _PAGE_PAT_LARGE;

	return !(leaf & (_PAGE_PCD | _PAGE_PWT | pat));
}

bool ld_is_readable(unsigned long pfn)
{
	struct ld_where where;
	u64 leaf = ld_walk_to((unsigned long)__va(PFN_PHYS(pfn)), &where);

	return leaf && is_cached(leaf, where.level);
}
unsigned long ld_ranges_next(unsigned long pfn)
{
	int i;

	for (i = 0; i < ram.count; i++)
		if (pfn < ram.range[i].end_pfn)
			return max(pfn, ram.range[i].start_pfn);
	return ram.max_pfn;
}

/* One past the last page frame of the range that @pfn is in. */
static unsigned long range_end(unsigned long pfn)
{
	int i;

	for (i = 0; i < ram.count; i++)
		if (pfn < ram.range[i].end_pfn)
			return ram.range[i].end_pfn;
	return pfn;
}

static void mark_unreadable(unsigned long pfn)
{
	ram.unreadable += ld_cow_mark(pfn, LD_SLOT_UNREADABLE);
}

/* What is not RAM is never read, whoever writes it. */
static void mark_holes(void)
{
	unsigned long hole = 0;
	int i;

	for (i = 0; i < ram.count; i++) {
		for (; hole < ram.range[i].start_pfn; hole++)
			ld_cow_mark(hole, LD_SLOT_UNREADABLE);
		hole = ram.range[i].end_pfn;
	}
}

struct readable_walk {
	struct ld_walk walk;
	unsigned long next;		/* readable up to here, or marked */
};

static void mark_up_to(struct readable_walk *rw, unsigned long end)
{
	unsigned long pfn = ld_ranges_next(rw->next);

	for (; pfn < end; pfn = ld_ranges_next(pfn + 1))
		mark_unreadable(pfn);
}

/* Leaves come in order: what is between two of them is not mapped. */
static void pass_leaf(struct ld_walk *walk, u64 leaf, int level,
		      unsigned long addr)
{
	struct readable_walk *rw =
		container_of(walk, struct readable_walk, walk);
	unsigned long pfn = PHYS_PFN(addr - PAGE_OFFSET);

	if (!is_cached(leaf, level))
		return;
	mark_up_to(rw, pfn);
	rw->next = pfn + (ld_level_size(level) >> PAGE_SHIFT);
}

static void mark_unmapped(void)
{
	struct readable_walk rw = {
		.walk = {
			.leaf = pass_leaf,
			.start = PAGE_OFFSET,
			.last = PAGE_OFFSET + PFN_PHYS(ram.max_pfn) - 1,
		},
	};

	ld_walk_kernel(&rw.walk);
	mark_up_to(&rw, ram.max_pfn);
}

static bool is_bad(struct page *page)
{
	return PageHWPoison(page) || PageOffline(page);
}

/* All of them online: a tight loop, over every page of RAM. */
static u64 mark_bad(unsigned long pfn, unsigned long end)
{
	struct page *page = pfn_to_page(pfn);
	u64 marked = 0;

	for (; pfn < end; pfn++, page++)
		if (unlikely(PageHWPoison(page) | PageOffline(page)))
			marked += ld_cow_mark(pfn, LD_SLOT_UNREADABLE);
	return marked;
}

static u64 mark_offline(unsigned long pfn, unsigned long end)
{
	u64 marked = 0;

	for (; pfn < end; pfn++)
		marked += ld_cow_mark(pfn, LD_SLOT_UNREADABLE);
	return marked;
}

/* Whether memory is online is the same for all of a subsection. */
static int mark_part(unsigned long start, unsigned long last, void *data)
{
	unsigned long pfn = ld_ranges_next(start), end;
	u64 marked = 0;

	for (; pfn < last; pfn = ld_ranges_next(end)) {
		end = min3(round_up(pfn + 1, PAGES_PER_SUBSECTION),
			   range_end(pfn), last);
		marked += pfn_to_online_page(pfn) ? mark_bad(pfn, end) :
						    mark_offline(pfn, end);
	}
	atomic64_add(marked, data);
	return 0;
}

/* The struct pages are 1/64 of RAM: several CPUs read them. */
static int mark_bad_pages(void)
{
	atomic64_t marked = ATOMIC64_INIT(0);
	int err = ld_together(ram.max_pfn, PART, mark_part, &marked);

	ram.unreadable += atomic64_read(&marked);
	return err;
}

int ld_ranges_mark_unreadable(void)
{
	mark_holes();
	mark_unmapped();
	return mark_bad_pages();
}

int ld_ranges_mark_again(void)
{
	unsigned long pfn = ld_ranges_next(0);

	for (; pfn < ram.max_pfn; pfn = ld_ranges_next(pfn + 1)) {
		ld_cow_unmark(pfn, LD_SLOT_UNREADABLE);
		if (!(pfn & 0xffff))
			cond_resched();
	}
	ram.unreadable = 0;
	ld_cow_forget_gone();
	mark_unmapped();
	return mark_bad_pages();
}

bool ld_ranges_is_there(unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && !is_bad(page) && ld_is_readable(pfn);
}

void ld_ranges_look_again(unsigned long pfn)
{
	u32 slot = ld_cow_slot(pfn);
	bool there;

	if (ld_ranges_next(pfn) != pfn)
		return;
	there = ld_ranges_is_there(pfn);
	if (there && slot == LD_SLOT_UNREADABLE) {
		ld_cow_unmark(pfn, LD_SLOT_UNREADABLE);
		ram.unreadable--;
	} else if (!there && slot == LD_SLOT_NONE) {
		mark_unreadable(pfn);
	}
}
