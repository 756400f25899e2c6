// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "cow.h"
#include "pgwalk.h"
#include "ranges.h"

static struct {
	struct ld_range *range;
	int count;
	int room;
	unsigned long max_pfn;
	u64 pages;
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

/* The first page frame of RAM from @pfn on; ram.max_pfn past the last. */
static unsigned long next_pfn(unsigned long pfn)
{
	int i;

	for (i = 0; i < ram.count; i++)
		if (pfn < ram.range[i].end_pfn)
			return max(pfn, ram.range[i].start_pfn);
	return ram.max_pfn;
}

void ld_ranges_mark_unreadable(bool (*is_mapped)(unsigned long pfn))
{
	unsigned long pfn;

	for (pfn = next_pfn(0); pfn < ram.max_pfn; pfn = next_pfn(pfn + 1)) {
		struct page *page = pfn_to_online_page(pfn);

		if (!page || PageHWPoison(page) || PageOffline(page) ||
		    !is_mapped(pfn))
			ld_cow_mark(pfn, LD_SLOT_UNREADABLE);
		if (!(pfn & 0xffff))
			cond_resched();
	}
}

/* ---- inside the stop ---- */

struct saver {
	u64 saved;
	int error;
};

static void save_pfn(struct saver *saver, unsigned long pfn)
{
	if (pfn >= ram.max_pfn)
		return;
	switch (ld_cow_save(pfn)) {
	case LD_SAVED:
		saver->saved++;
		break;
	case LD_LOST:
		saver->error = -ENOSPC;
		break;
	case LD_ALREADY:
		break;
	}
}

/* Save the pages that hold [addr, addr + bytes) of the direct map. */
static void save_bytes(struct saver *saver, const void *addr, size_t bytes)
{
	unsigned long pfn = PHYS_PFN(__pa(addr));
	unsigned long last = PHYS_PFN(__pa(addr) + bytes - 1);

	for (; pfn <= last; pfn++)
		save_pfn(saver, pfn);
}

static void save_image(struct saver *saver)
{
	save_bytes(saver, (void *)ld_syms.text, ld_syms.end - ld_syms.text);
}

static void save_percpu(struct saver *saver)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		void *unit = (void *)ld_syms.pcpu_base +
			     ld_syms.pcpu_unit_offsets[cpu];

		save_bytes(saver, unit, ld_syms.pcpu_unit_size);
		/* IRET to a 16-bit stack writes here, past any fault handler */
		if (ld_syms.espfix_waddr) {
			void **waddr = (void **)(ld_syms.espfix_waddr +
						 per_cpu_offset(cpu));

			if (*waddr)
				save_bytes(saver, *waddr, 1);
		}
	}
}

static void save_task(struct saver *saver, struct task_struct *task)
{
	struct vm_struct *stack = task->stack_vm_area;
	int i;

	save_bytes(saver, task, ld_syms.task_struct_size);
	for (i = 0; stack && i < THREAD_SIZE / PAGE_SIZE; i++)
		save_pfn(saver, page_to_pfn(stack->pages[i]));
}

static void save_tasks(struct saver *saver, struct task_struct *const *idle)
{
	struct task_struct *group, *task;
	int cpu;

	for_each_possible_cpu(cpu)
		if (idle[cpu])
			save_task(saver, idle[cpu]);
	/*
	 * The list is whole: its writers hold a spinlock with interrupts off,
	 * so none of them is stopped half-way.
	 */
	for_each_process_thread(group, task)
		save_task(saver, task);
}

struct table_walk {
	struct ld_walk walk;
	struct saver *saver;
	unsigned long last[6];		/* table of each level, visited last */
};

static bool in_direct_map(unsigned long addr)
{
	return addr >= PAGE_OFFSET &&
	       addr < PAGE_OFFSET + PFN_PHYS(ram.max_pfn);
}

static bool save_table(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	struct table_walk *tw = container_of(walk, struct table_walk, walk);

	/* ESPFIX maps one table some thousand times, side by side. */
	if (tw->last[level] == pfn)
		return false;
	tw->last[level] = pfn;
	save_pfn(tw->saver, pfn);
	/* Its leaves are the memory itself, not a second mapping of it. */
	return level > 1 || !in_direct_map(addr);
}

static void note_live(struct ld_walk *walk, u64 entry, int level,
		      unsigned long addr)
{
	unsigned long pfn = ld_entry_pfn(entry, level);
	unsigned long pages = 1UL << (9 * (level - 1));

	if (in_direct_map(addr) || pfn >= ram.max_pfn)
		return;
	bitmap_set(ram.live, pfn, min(pages, ram.max_pfn - pfn));
}

static void save_tables(struct saver *saver)
{
	struct table_walk tw = {
		.walk = {
			.table = save_table,
			.leaf = note_live,
			.start = 0,
			.last = ULONG_MAX,
		},
		.saver = saver,
	};

	save_bytes(saver, ld_syms.init_mm->pgd, PAGE_SIZE);
	ld_walk_kernel(&tw.walk);
}

int ld_save_sensitive(struct task_struct *const *idle, u64 *saved)
{
	struct saver saver = {};

	bitmap_zero(ram.live, ram.max_pfn);
	save_image(&saver);
	save_percpu(&saver);
	save_tasks(&saver, idle);
	save_tables(&saver);
	*saved = saver.saved;
	return saver.error;
}

/* ---- counts for the receipt ---- */

/*
 * The stop's own copies come first in the pool, and are right whoever writes
 * the page; a copy made later may hold what an alias had changed already.
 */
static bool saved_in_stop(unsigned long pfn, u64 saved)
{
	u32 slot = ld_cow_slot(pfn);

	return slot >= LD_SLOT_SPECIAL || (slot && slot <= saved);
}

u64 ld_ranges_live(u64 saved)
{
	unsigned long pfn;
	u64 live = 0;

	for (pfn = next_pfn(0); pfn < ram.max_pfn; pfn = next_pfn(pfn + 1)) {
		live += test_bit(pfn, ram.live) && !saved_in_stop(pfn, saved);
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
		unguarded += !saved_in_stop(pfn, saved) && is_unguarded(pfn);
		if (!(pfn & 0xffff))
			cond_resched();
	}
	return unguarded;
}
