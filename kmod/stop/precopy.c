// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/tables.h"
#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/tlb.h"
#include "stop/dirty.h"
#include "stop/precopy.h"
#include "stop/sensitive.h"
#include "stop/stacks.h"
#include "test.h"

static struct {
	unsigned long *fixed;		/* bitmap: stay writable */
	unsigned long *copied;		/* bitmap: of them, copied in any case */
	unsigned long fixed_bits;
	u64 saved;
	atomic_t recopied;
} tracked;

/* ---- what there is ---- */

static void mark(unsigned long pfn, void *bitmap)
{
	if (pfn < tracked.fixed_bits)
		__set_bit(pfn, bitmap);
}

static unsigned long *new_bitmap(void)
{
	size_t bytes = BITS_TO_LONGS(tracked.fixed_bits) * sizeof(long);
	unsigned long *bitmap = vzalloc(bytes);

	if (bitmap)
		ld_cow_mark_own(bitmap, bytes);
	return bitmap;
}

/* The first 2 MiB from @pfn on with a page that must stay writable. */
static unsigned long next_block(unsigned long pfn)
{
	pfn = find_next_bit(tracked.fixed, tracked.fixed_bits, pfn);
	return pfn < tracked.fixed_bits ? round_down(pfn, PTRS_PER_PTE) : pfn;
}

#define for_each_block(block)                                              \
	for (block = next_block(0); block < tracked.fixed_bits;            \
	     block = next_block(block + PTRS_PER_PTE))

static void mark_aliased(struct ld_walk *walk, u64 entry, int level,
			 unsigned long addr)
{
	unsigned long pfn = ld_entry_pfn(entry, level);

	if (level == LD_LEVEL_PTE && ld_tracked_is_fixed(pfn))
		__set_bit(pfn, tracked.copied);
}

/*
 * What of it has another mapping (CPU entry area, IRQ stacks in vmalloc space)
 * is copied in any case. Writes to the rest set a Dirty bit in the direct map.
 */
static void find_aliased(void)
{
	struct ld_walk walk = { .leaf = mark_aliased };

	walk.start = VMALLOC_START;
	walk.last = VMALLOC_END - 1;
	ld_walk_kernel(&walk);
	walk.start = CPU_ENTRY_AREA_BASE;
	walk.last = CPU_ENTRY_AREA_BASE + P4D_SIZE - 1;
	ld_walk_kernel(&walk);
}

static int find_fixed(void)
{
	int cpu;

	tracked.fixed_bits = ld_ranges_max_pfn();
	tracked.fixed = new_bitmap();
	tracked.copied = new_bitmap();
	if (!tracked.fixed || !tracked.copied)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		ld_each_cpu_page(cpu, mark, tracked.fixed);
		ld_each_espfix_page(cpu, mark, tracked.copied);
	}
	find_aliased();
	ld_each_stopper_page(mark, tracked.fixed);
	return 0;
}

/* ---- split what is looked at page by page, and watch it ---- */

struct room {
	unsigned long pages;
	int err;
};

static unsigned long direct_address(unsigned long pfn)
{
	return (unsigned long)__va(PFN_PHYS(pfn));
}

static unsigned long image_address(unsigned long pfn)
{
	return PFN_PHYS(pfn) - __pa(ld_syms.text) + ld_syms.text;
}

static void split_data(unsigned long pfn, void *arg)
{
	struct room *room = arg;

	/* Quick where it is split already. */
	if (!room->err)
		room->err = ld_split(image_address(pfn)) ?:
			    ld_split(direct_address(pfn));
	room->pages += 2;
}

static int split_all(struct room *room)
{
	unsigned long block;

	for_each_block(block) {
		int err = ld_split(direct_address(block));

		if (err)
			return err;
		room->pages += PTRS_PER_PTE;
	}
	ld_each_data_page(split_data, room);
	return room->err;
}

static void watch_image(unsigned long pfn, void *unused)
{
	ld_watched_add(pfn, image_address(pfn));
}

/*
 * Kernel data is hardly ever written by the direct map. But pages beside it
 * that were freed after boot are, so a large leaf would tell nothing.
 */
static void watch_direct(unsigned long pfn, void *unused)
{
	ld_watched_add(pfn, direct_address(pfn));
}

/*
 * The neighbours of a page that must stay writable are as well watched as
 * protected: looking at a Dirty bit in the stop costs less than changing an
 * entry.
 */
static void watch_block(unsigned long block)
{
	unsigned long pfn, end = min(block + PTRS_PER_PTE, tracked.fixed_bits);

	for (pfn = block; pfn < end; pfn++)
		if (!test_bit(pfn, tracked.copied) &&
		    ld_cow_slot(pfn) == LD_SLOT_NONE)
			ld_watched_add(pfn, direct_address(pfn));
}

static int watch_pages(void)
{
	struct room room = {};
	unsigned long block;
	int err = split_all(&room) ?:
		  ld_watched_reserve(room.pages);

	if (err)
		return err;
	ld_each_data_page(watch_image, NULL);
	ld_each_data_page(watch_direct, NULL);
	for_each_block(block)
		watch_block(block);
	return 0;
}

/* ---- copies ---- */

static int save_fixed(void)
{
	unsigned long pfn;
	int err = 0;

	for_each_set_bit(pfn, tracked.fixed, tracked.fixed_bits) {
		err = ld_cow_keep(pfn, &tracked.saved);
		if (err)
			break;
	}
	return err;
}

int ld_tracked_prepare(void)
{
	int err = find_fixed() ?: watch_pages() ?: ld_stacks_watch();

	if (err)
		return err;
	/* From here on every write sets a Dirty bit that we look at. */
	ld_flush_tlb_all();
	return save_fixed() ?: ld_watched_save(&tracked.saved) ?:
	       ld_stacks_save(&tracked.saved);
}

int ld_tracked_again(void)
{
	int err;

	ld_stacks_forget(&tracked.saved);
	err = ld_stacks_watch();
	if (err)
		return err;
	ld_flush_tlb_all();
	return ld_stacks_save(&tracked.saved);
}

void ld_tracked_free(void)
{
	vfree(tracked.fixed);
	vfree(tracked.copied);
	memset(&tracked, 0, sizeof(tracked));
	ld_watched_free();
	ld_stacks_free();
}

bool ld_tracked_is_fixed(unsigned long pfn)
{
	return pfn < tracked.fixed_bits && test_bit(pfn, tracked.fixed);
}

unsigned long ld_tracked_next_fixed(unsigned long pfn, unsigned long end)
{
	return find_next_bit(tracked.fixed, min(end, tracked.fixed_bits), pfn);
}

/* ---- inside the stop ---- */

int ld_tracked_update(void)
{
	return ld_stacks_update(&tracked.saved);
}

static void recopy_fixed(unsigned long pfn, void *unused)
{
	if (test_bit(pfn, tracked.copied) && ld_cow_recopy_page(pfn))
		atomic_inc(&tracked.recopied);
}

/* What has other mappings, which no Dirty bit of ours tells of. */
void ld_tracked_recopy_cpu(int cpu)
{
	if (!ld_is_mutant(LD_MUTANT_RECOPY))
		ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

void ld_tracked_recopy_part(unsigned int part, unsigned int parts)
{
	if (!ld_is_mutant(LD_MUTANT_RECOPY))
		atomic_add(ld_watched_recopy_part(part, parts),
			   &tracked.recopied);
}

void ld_tracked_recopy(void)
{
	int cpu;

	if (ld_is_mutant(LD_MUTANT_RECOPY))
		return;
	atomic_add(ld_stacks_recopy(), &tracked.recopied);
	for_each_possible_cpu(cpu)
		if (!cpu_online(cpu))
			ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

void ld_tracked_restore(void)
{
	ld_watched_restore();
	ld_stacks_restore();
}

u64 ld_tracked_saved(void)
{
	return tracked.saved;
}

u64 ld_tracked_recopied(void)
{
	return atomic_read(&tracked.recopied);
}
