// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/kfence.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/tables.h"
#include "hooks/hooks.h"
#include "hooks/log.h"
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
} precopy;

/* ---- what there is ---- */

static void mark(unsigned long pfn, void *bitmap)
{
	if (pfn < precopy.fixed_bits)
		__set_bit(pfn, bitmap);
}

static unsigned long *new_bitmap(void)
{
	size_t bytes = BITS_TO_LONGS(precopy.fixed_bits) * sizeof(long);
	unsigned long *bitmap = vzalloc(bytes);

	if (bitmap)
		ld_cow_mark_own(bitmap, bytes);
	return bitmap;
}

static void mark_aliased(struct ld_walk *walk, u64 entry, int level,
			 unsigned long addr)
{
	unsigned long pfn = ld_entry_pfn(entry, level);

	if (level == LD_LEVEL_PTE && ld_precopy_is_fixed(pfn))
		__set_bit(pfn, precopy.copied);
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
	ld_hold_tables();
	ld_walk_kernel(&walk);
	ld_let_go_tables();
	walk.start = CPU_ENTRY_AREA_BASE;
	walk.last = CPU_ENTRY_AREA_BASE + P4D_SIZE - 1;
	ld_walk_kernel(&walk);
}

static int find_fixed(void)
{
	int cpu;

	precopy.fixed_bits = ld_ranges_max_pfn();
	precopy.fixed = new_bitmap();
	precopy.copied = new_bitmap();
	if (!precopy.fixed || !precopy.copied)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		ld_each_cpu_page(cpu, mark, precopy.fixed);
		ld_each_espfix_page(cpu, mark, precopy.copied);
	}
	find_aliased();
	ld_each_stopper_page(mark, precopy.fixed);
	return 0;
}

/* ---- look at it by 4 KiB entries ---- */

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
	unsigned long pfn;

	for_each_set_bit(pfn, precopy.fixed, precopy.fixed_bits) {
		int err = ld_split(direct_address(pfn));

		if (err)
			return err;
		room->pages++;
	}
	ld_each_data_page(split_data, room);
	return room->err;
}

static void watch_image(unsigned long pfn, void *unused)
{
	ld_dirty_add(pfn, image_address(pfn));
}

/*
 * Kernel data is hardly ever written by the direct map. But pages beside it
 * that were freed after boot are, so a large leaf would tell nothing.
 */
static void watch_direct(unsigned long pfn, void *unused)
{
	ld_dirty_add(pfn, direct_address(pfn));
}

static void watch_fixed(void)
{
	unsigned long pfn;

	for_each_set_bit(pfn, precopy.fixed, precopy.fixed_bits)
		if (!test_bit(pfn, precopy.copied))
			ld_dirty_add(pfn, direct_address(pfn));
}

static int watch_pages(void)
{
	struct room room = {};
	int err = split_all(&room) ?:
		  ld_dirty_reserve(room.pages);

	if (err)
		return err;
	ld_each_data_page(watch_image, NULL);
	ld_each_data_page(watch_direct, NULL);
	watch_fixed();
	return 0;
}

/* ---- copies ---- */

static int save_fixed(void)
{
	unsigned long pfn;
	int err = 0;

	for_each_set_bit(pfn, precopy.fixed, precopy.fixed_bits) {
		err = ld_cow_keep(pfn, &precopy.saved);
		if (err)
			break;
	}
	return err;
}

int ld_precopy_prepare(void)
{
	int err = find_fixed() ?: watch_pages() ?: ld_stacks_watch();

	if (err)
		return err;
	/* From here on every write sets a Dirty bit that we look at. */
	ld_flush_tlb_all();
	return save_fixed() ?: ld_dirty_save(&precopy.saved) ?:
	       ld_stacks_save(&precopy.saved);
}

int ld_precopy_again(void)
{
	int err;

	err = ld_precopy_mark_again();
	if (err)
		return err;
	ld_stacks_forget(&precopy.saved);
	err = ld_stacks_watch();
	if (err)
		return err;
	ld_flush_tlb_all();
	return ld_stacks_save(&precopy.saved);
}

void ld_precopy_free(void)
{
	vfree(precopy.fixed);
	vfree(precopy.copied);
	memset(&precopy, 0, sizeof(precopy));
	ld_dirty_free();
	ld_stacks_free();
}

bool ld_precopy_is_fixed(unsigned long pfn)
{
	return pfn < precopy.fixed_bits && test_bit(pfn, precopy.fixed);
}

unsigned long ld_precopy_next_fixed(unsigned long pfn, unsigned long end)
{
	unsigned long limit = min(end, precopy.fixed_bits);
	unsigned long found = find_next_bit(precopy.fixed, limit, pfn);

	return found < limit ? found : end;
}

unsigned long ld_precopy_next_other(unsigned long pfn, unsigned long end)
{
	return find_next_zero_bit(precopy.fixed, min(end, precopy.fixed_bits),
				  pfn);
}

/* ---- inside the stop ---- */

static bool is_data(unsigned long pfn)
{
	unsigned long addr = image_address(pfn);

	return addr >= (ld_syms.data & PAGE_MASK) && addr < ld_syms.end;
}

/*
 * Its attributes have changed: it may have come, or gone. Kernel data that has
 * become writable is not protected in the image's own mapping.
 */
static int update_page(unsigned long pfn)
{
	ld_ranges_look_again(pfn);
	if (!ld_ranges_is_there(pfn) || ld_cow_recopy_page(pfn) ||
	    !is_data(pfn))
		return 0;
	return ld_cow_keep(pfn, &precopy.saved);
}

static int update_changed(void)
{
	int i, count = ld_log_changes(), err = 0;
	unsigned long j;

	if (count < 0)
		return -EAGAIN;
	if (ld_is_mutant(LD_MUTANT_CHANGES))
		return 0;
	for (i = 0; i < count && !err; i++) {
		const struct ld_changed *changed = ld_log_change_at(i);

		for (j = 0; j < changed->pages && !err; j++)
			err = update_page(changed->pfn + j);
	}
	return err;
}

/* KFENCE takes its pages out of the direct map and back, without any hook. */
static void update_kfence(void)
{
#ifdef CONFIG_KFENCE
	unsigned long i, pfn;

	if (!__kfence_pool)
		return;
	pfn = PHYS_PFN(__pa(__kfence_pool));
	for (i = 0; i < KFENCE_POOL_SIZE >> PAGE_SHIFT; i++)
		ld_ranges_look_again(pfn + i);
#endif
}

int ld_precopy_update_changed(void)
{
	if (ld_log_changes() < 0)
		return -EAGAIN;
	update_kfence();
	return update_changed();
}

int ld_precopy_mark_again(void)
{
	if (ld_log_changes() >= 0)
		return 0;
	ld_log_restart_pages();
	if (!ld_hooks_wait())
		return -EAGAIN;
	return ld_ranges_mark_again();
}

int ld_precopy_update(void)
{
	/* Nothing may be saved by an attempt that is void. */
	if (ld_log_stacks() < 0 || ld_log_changes() < 0)
		return -EAGAIN;
	/* Stacks that are gone first: their pages may be anybody's by now. */
	return ld_stacks_update(&precopy.saved) ?: ld_precopy_update_changed();
}

static void recopy_fixed(unsigned long pfn, void *unused)
{
	if (test_bit(pfn, precopy.copied) && ld_cow_recopy_page(pfn))
		atomic_inc(&precopy.recopied);
}

/* What has other mappings, which no Dirty bit of ours tells of. */
void ld_precopy_recopy_cpu(int cpu)
{
	if (!ld_is_mutant(LD_MUTANT_RECOPY))
		ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

void ld_precopy_recopy_part(unsigned int part, unsigned int parts)
{
	if (!ld_is_mutant(LD_MUTANT_RECOPY))
		atomic_add(ld_dirty_recopy_part(part, parts),
			   &precopy.recopied);
}

void ld_precopy_recopy(void)
{
	int cpu;

	if (ld_is_mutant(LD_MUTANT_RECOPY))
		return;
	atomic_add(ld_stacks_recopy(), &precopy.recopied);
	for_each_possible_cpu(cpu)
		if (!cpu_online(cpu))
			ld_each_cpu_page(cpu, recopy_fixed, NULL);
}

void ld_precopy_restore(void)
{
	ld_dirty_restore();
	ld_stacks_restore();
}

u64 ld_precopy_saved(void)
{
	return precopy.saved;
}

u64 ld_precopy_recopied(void)
{
	return atomic_read(&precopy.recopied);
}
