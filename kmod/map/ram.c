// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/regions.h"

static struct {
	struct ld_range *range;
	int count;
	int room;
	unsigned long max_pfn;
	u64 pages;
	u64 unreadable;
	unsigned long *live;		/* bitmap over page frames */
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

int ld_ranges_prepare(void)
{
	size_t bytes = BITS_TO_LONGS(ram.max_pfn) * sizeof(long);

	ram.live = vzalloc(bytes);
	if (!ram.live)
		return -ENOMEM;
	ld_cow_mark_own(ram.live, bytes);
	return 0;
}

void ld_ranges_free(void)
{
	kvfree(ram.range);
	vfree(ram.live);
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

bool ld_is_readable(unsigned long pfn)
{
	struct ld_where where;
	u64 leaf = ld_walk_to((unsigned long)__va(PFN_PHYS(pfn)), &where);
	u64 pat = where.level == LD_LEVEL_PTE ? _PAGE_PAT : _PAGE_PAT_LARGE;

	return leaf && !(leaf & (_PAGE_PCD | _PAGE_PWT | pat));
}
/* The first page frame of RAM from @pfn on; ram.max_pfn past the last. */
static unsigned long next_pfn(unsigned long pfn)
{
	int i;

	for (i = 0; i < ram.count; i++)
		if (pfn < ram.range[i].end_pfn)
			return max(pfn, ram.range[i].start_pfn);
	return ram.max_pfn;
}

void ld_ranges_mark_unreadable(void)
{
	unsigned long pfn, hole = 0;
	int i;

	/* What is not RAM is never read, whoever writes it. */
	for (i = 0; i < ram.count; i++) {
		for (; hole < ram.range[i].start_pfn; hole++)
			ld_cow_mark(hole, LD_SLOT_UNREADABLE);
		hole = ram.range[i].end_pfn;
	}
	for (pfn = next_pfn(0); pfn < ram.max_pfn; pfn = next_pfn(pfn + 1)) {
		struct page *page = pfn_to_online_page(pfn);

		if (!page || PageHWPoison(page) || PageOffline(page) ||
		    !ld_is_readable(pfn)) {
			ld_cow_mark(pfn, LD_SLOT_UNREADABLE);
			ram.unreadable += ld_cow_slot(pfn) ==
					  LD_SLOT_UNREADABLE;
		}
		if (!(pfn & 0xffff))
			cond_resched();
	}
}

/* ---- counts for the receipt ---- */

static void note_live(struct ld_walk *walk, u64 entry, int level,
		      unsigned long addr)
{
	unsigned long pfn = ld_entry_pfn(entry, level);
	unsigned long pages = ld_level_size(level) >> PAGE_SHIFT;

	if ((entry & _PAGE_RW) && pfn < ram.max_pfn && !ld_in_regions(addr))
		bitmap_set(ram.live, pfn, min(pages, ram.max_pfn - pfn));
}

/* Tables of the direct map and vmemmap are protected: they tell nothing. */
static bool is_outside(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	cond_resched();
	return level >= LD_LEVEL_PUD || !ld_in_regions(addr);
}

/* Who is mapped writable elsewhere, but for copies made in the stop. */
u64 ld_ranges_live(u64 saved)
{
	struct ld_walk walk = {
		.table = is_outside,
		.leaf = note_live,
		.start = 0,
		.last = ULONG_MAX,
	};
	unsigned long pfn;
	u64 live = 0;

	bitmap_zero(ram.live, ram.max_pfn);
	ld_walk_kernel(&walk);
	for (pfn = next_pfn(0); pfn < ram.max_pfn; pfn = next_pfn(pfn + 1)) {
		u32 slot = ld_cow_slot(pfn);

		live += test_bit(pfn, ram.live) && slot < LD_SLOT_SPECIAL &&
			!ld_cow_is_saved_before(pfn, saved);
		if (!(pfn & 0xffff))
			cond_resched();
	}
	return live;
}

/* Without a reference, as /proc/kpagecount reads: a count, not a promise. */
static bool is_unguarded(unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;

	if (!page)
		return false;
	folio = page_folio(page);
	/* Mapped now or any time later: nothing tells us of it. */
	if (folio_test_hugetlb(folio))
		return true;
	if (!folio_ref_count(folio) || folio_test_slab(folio) ||
	    ld_page_has_type(page))
		return false;
	return folio_mapped(folio) || folio_maybe_dma_pinned(folio);
}

u64 ld_ranges_unguarded(u64 saved)
{
	unsigned long pfn;
	u64 unguarded = 0;

	for (pfn = next_pfn(0); pfn < ram.max_pfn; pfn = next_pfn(pfn + 1)) {
		unguarded += !ld_cow_is_saved_before(pfn, saved) &&
			     ld_cow_slot(pfn) < LD_SLOT_SPECIAL &&
			     is_unguarded(pfn);
		if (!(pfn & 0xffff))
			cond_resched();
	}
	return unguarded;
}
