// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "ending.h"
#include "fault/cow.h"
#include "fault/entry.h"
#include "map/classes.h"
#include "map/pgwalk.h"
#include "map/ram.h"
#include "map/regions.h"

#define SLICE 262144		/* page frames that are looked at in a row */
#define LOCK_TRIES 40		/* for an address space, 5 ms apart */

static struct {
	unsigned long *live;		/* bitmaps over page frames */
	unsigned long *untracked;	/* user space has it, nobody counts */
	unsigned long next;		/* page frame to go on with */
	u64 saved;
	u64 unwalked;			/* address spaces */
	bool walked;
} classes;

static unsigned long *new_bitmap(void)
{
	size_t bytes = BITS_TO_LONGS(ld_ranges_max_pfn()) * sizeof(long);
	unsigned long *bitmap = vzalloc(bytes);

	if (bitmap)
		ld_cow_mark_own(bitmap, bytes);
	return bitmap;
}

int ld_classes_prepare(void)
{
	classes.live = new_bitmap();
	classes.untracked = new_bitmap();
	return classes.live && classes.untracked ? 0 : -ENOMEM;
}

void ld_classes_free(void)
{
	vfree(classes.live);
	vfree(classes.untracked);
	memset(&classes, 0, sizeof(classes));
}

static void mark(unsigned long *bitmap, u64 entry, int level)
{
	unsigned long pfn = ld_entry_pfn(entry, level);
	unsigned long pages = ld_level_size(level) >> PAGE_SHIFT;

	if (pfn < ld_ranges_max_pfn())
		bitmap_set(bitmap, pfn, min(pages, ld_ranges_max_pfn() - pfn));
}

/* ---- what the kernel maps beside the direct map ---- */

static void note_live(struct ld_walk *walk, u64 entry, int level,
		      unsigned long addr)
{
	if (!(entry & _PAGE_RW) || ld_in_regions(addr))
		return;
	/* What was armed and is opened by now was saved before. */
	if (!ld_is_opened(entry) || level > LD_LEVEL_PTE ||
	    ld_table_pfn(entry) >= ld_cow_max_pfn() ||
	    ld_cow_slot(ld_table_pfn(entry)) == LD_SLOT_NONE)
		mark(classes.live, entry, level);
}

/* Tables of the direct map and vmemmap are protected: they tell nothing. */
static bool is_outside(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	cond_resched();
	return level >= LD_LEVEL_PUD || !ld_in_regions(addr);
}

static void find_live(void)
{
	struct ld_walk walk = {
		.table = is_outside,
		.leaf = note_live,
		.start = 0,
		.last = ULONG_MAX,
	};

	ld_hold_tables();
	ld_walk_kernel(&walk);
	ld_let_go_tables();
}

/* ---- what user space maps without a count ---- */

static void note_untracked(struct ld_walk *walk, u64 entry, int level,
			   unsigned long addr)
{
	mark(classes.untracked, entry, level);
}

static bool rest_a_little(struct ld_walk *walk, unsigned long pfn, int level,
			  unsigned long addr)
{
	cond_resched();
	return true;
}

/* What may be written, now or after mprotect(): a private page is another one. */
static bool may_be_written(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) &&
	       (vma->vm_flags & VM_SHARED) && (vma->vm_flags & VM_MAYWRITE);
}

static void walk_areas(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	unsigned long addr = 0;

	for (; (vma = find_vma(mm, addr)); addr = vma->vm_end) {
		struct ld_walk walk = {
			.table = rest_a_little,
			.leaf = note_untracked,
			.start = vma->vm_start,
			.last = vma->vm_end - 1,
		};

		if (may_be_written(vma))
			ld_walk_user(&walk, mm->pgd);
		cond_resched();
	}
}

/* Whoever keeps the lock for long keeps us waiting: not for ever. */
static bool walk_mm(struct mm_struct *mm)
{
	int tries = LOCK_TRIES;

	while (!mmap_read_trylock(mm)) {
		if (!tries-- || ld_is_ending())
			return false;
		usleep_range(5000, 10000);
	}
	walk_areas(mm);
	mmap_read_unlock(mm);
	return true;
}

/* The leader may be gone while other threads of its process live. */
static struct mm_struct *grab_mm(struct task_struct *process)
{
	struct mm_struct *mm = NULL;
	struct task_struct *task;

	for_each_thread(process, task) {
		task_lock(task);
		if (task->mm && !(task->flags & PF_KTHREAD)) {
			mm = task->mm;
			mmgrab(mm);
		}
		task_unlock(task);
		if (mm)
			break;
	}
	return mm;
}

/* Those of one pass over the processes. Return: how many there are. */
static unsigned long grab_mms(struct mm_struct **mms, unsigned long room)
{
	struct task_struct *process;
	unsigned long count = 0;

	rcu_read_lock();
	for_each_process(process) {
		if (count < room)
			mms[count] = grab_mm(process);
		count++;
	}
	rcu_read_unlock();
	return count;
}

/* Return: it was looked at, or has ended. */
static bool walk_grabbed(struct mm_struct *mm)
{
	bool done = true;

	if (mmget_not_zero(mm)) {
		done = walk_mm(mm);
		mmput(mm);
	}
	mmdrop(mm);
	return done;
}

/* Return: address spaces that could not be looked at. */
static u64 find_untracked(void)
{
	unsigned long i, room = grab_mms(NULL, 0) + 64, count;
	struct mm_struct **mms = kvcalloc(room, sizeof(*mms), GFP_KERNEL);
	u64 unseen = 0;

	if (!mms)
		return 1;
	count = grab_mms(mms, room);
	if (count > room) {
		unseen = count - room;
		count = room;
	}
	for (i = 0; i < count; i++) {
		if (mms[i])
			unseen += !walk_grabbed(mms[i]);
		cond_resched();
	}
	kvfree(mms);
	return unseen;
}

/* ---- page by page ---- */

/* Without a reference, as /proc/kpagecount reads. */
static bool is_unguarded(unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;

	if (test_bit(pfn, classes.untracked))
		return true;
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

u64 ld_classes_unwalked(void)
{
	return classes.unwalked;
}

void ld_classes_begin(u64 saved)
{
	classes.saved = saved;
	classes.next = ld_ranges_next(0);
	classes.walked = false;
}

static void count_page(unsigned long pfn, struct livedump_report *report)
{
	report->pages_counted++;
	if (ld_cow_slot(pfn) >= LD_SLOT_SPECIAL ||
	    ld_cow_is_saved_before(pfn, classes.saved))
		return;
	report->pages_live += test_bit(pfn, classes.live);
	report->pages_unguarded += is_unguarded(pfn);
}

bool ld_classes_count(struct livedump_report *report)
{
	unsigned long end = classes.next + SLICE;
	unsigned long max_pfn = ld_ranges_max_pfn();

	if (!classes.walked) {
		find_live();
		classes.unwalked = find_untracked();
		classes.walked = true;
		return false;
	}
	while (classes.next < min(end, max_pfn)) {
		count_page(classes.next, report);
		classes.next = ld_ranges_next(classes.next + 1);
	}
	return classes.next >= max_pfn;
}
