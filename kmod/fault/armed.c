// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/entry.h"
#include "map/pgwalk.h"
#include "test.h"

#define ROOM(each) (8192 + (each) * num_possible_cpus())
#define MAX_PAGES 16384		/* of what is mapped anew: 64 MiB */
#define SPARE 64		/* room for NMIs of the stop */
#define MAX_EXCLUDED 8
#define NOT_CACHED (_PAGE_PCD | _PAGE_PWT | _PAGE_PAT)

static struct {
	struct ld_span spaces[LD_ARMED_SPACES];
	struct ld_span excluded[MAX_EXCLUDED];
	int excluded_count;
	unsigned long *never;	/* bitmap: page frames that stay writable */
	unsigned long *tables;	/* bitmap: page tables that were edited */
	unsigned long bits;

	bool on;		/* there is a log */
	bool broken;		/* that does not tell all */
	unsigned long *opened;
	struct ld_span *ranges;
	int opened_room, range_room;
	atomic_t opened_count, range_count;
	atomic_long_t range_pages;
} armed;

/* ---- what is never protected ---- */

int ld_armed_exclude(const void *addr, unsigned long bytes)
{
	if (armed.excluded_count == MAX_EXCLUDED)
		return -ENOMEM;
	armed.excluded[armed.excluded_count++] = (struct ld_span){
		.start = (unsigned long)addr,
		.end = (unsigned long)addr + bytes,
	};
	return 0;
}

static void never(unsigned long pfn)
{
	if (pfn < armed.bits)
		__set_bit(pfn, armed.never);
}

static void never_at(unsigned long addr, unsigned long bytes)
{
	unsigned long last = addr + bytes - 1;
	struct ld_where where;

	for (addr &= PAGE_MASK; addr <= last; addr += PAGE_SIZE) {
		u64 leaf = ld_walk_to(addr, &where);

		if (leaf && where.level == LD_LEVEL_PTE)
			never(ld_table_pfn(leaf));
	}
}

/* The first chunk: IRQ stacks are in it, which vmalloc space maps, too. */
static void never_cpu(int cpu)
{
	unsigned long pfn = PHYS_PFN(__pa(ld_syms.pcpu_base) +
				     ld_syms.pcpu_unit_offsets[cpu]);
	unsigned long i;

	for (i = 0; i < PHYS_PFN(ld_syms.pcpu_unit_used); i++)
		never(pfn + i);
	never_at((unsigned long)per_cpu_ptr(THIS_MODULE->percpu, cpu),
		 THIS_MODULE->percpu_size);
}

static void find_never(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		never_cpu(cpu);
	ld_each_module_part(THIS_MODULE, never_at);
	if (ld_test_owner())
		ld_each_module_part(ld_test_owner(), never_at);
}

static bool is_excluded(unsigned long addr)
{
	int i;

	for (i = 0; i < armed.excluded_count; i++)
		if (addr >= armed.excluded[i].start && addr < armed.excluded[i].end)
			return true;
	return false;
}

bool ld_armed_may(u64 entry, unsigned long addr)
{
	unsigned long pfn = ld_table_pfn(entry);

	return ld_may_protect(entry) && !(entry & (NOT_CACHED | _PAGE_USER)) &&
	       pfn < armed.bits && !test_bit(pfn, armed.never) &&
	       ld_cow_slot(pfn) < LD_SLOT_SPECIAL && !is_excluded(addr);
}

void ld_armed_set_table(unsigned long pfn)
{
	__set_bit(pfn, armed.tables);
}

/* ---- reserve ---- */

int ld_armed_prepare(void)
{
	size_t bytes;

	armed.spaces[0] = (struct ld_span){ VMALLOC_START, VMALLOC_END };
	armed.spaces[1] = (struct ld_span){ MODULES_VADDR, MODULES_END };
	armed.bits = ld_cow_max_pfn();
	armed.opened_room = ROOM(4096);
	armed.range_room = ROOM(256);
	bytes = BITS_TO_LONGS(armed.bits) * sizeof(long);
	armed.never = vzalloc(bytes);
	armed.tables = vzalloc(bytes);
	armed.opened = vzalloc(array_size(armed.opened_room, sizeof(*armed.opened)));
	armed.ranges = vzalloc(array_size(armed.range_room, sizeof(*armed.ranges)));
	if (!armed.never || !armed.tables || !armed.opened || !armed.ranges)
		return -ENOMEM;
	ld_cow_mark_own(armed.never, bytes);
	ld_cow_mark_own(armed.tables, bytes);
	ld_cow_mark_own(armed.opened, armed.opened_room * sizeof(*armed.opened));
	ld_cow_mark_own(armed.ranges, armed.range_room * sizeof(*armed.ranges));
	find_never();
	/* Nothing is armed yet. */
	armed.broken = true;
	return 0;
}

void ld_armed_free(void)
{
	WRITE_ONCE(armed.on, false);
	vfree(armed.never);
	vfree(armed.tables);
	vfree(armed.opened);
	vfree(armed.ranges);
	memset(&armed, 0, sizeof(armed));
}

/* ---- the log ---- */

void ld_armed_restart_log(void)
{
	/* Some may be no tables any more; the others are found again. */
	bitmap_zero(armed.tables, armed.bits);
	WRITE_ONCE(armed.broken, false);
	atomic_set(&armed.opened_count, 0);
	atomic_set(&armed.range_count, 0);
	atomic_long_set(&armed.range_pages, 0);
	WRITE_ONCE(armed.on, true);
}

bool notrace ld_armed_is_space(unsigned long addr)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(armed.spaces); i++)
		if (addr >= armed.spaces[i].start && addr < armed.spaces[i].end)
			return true;
	return false;
}
NOKPROBE_SYMBOL(ld_armed_is_space);

void notrace ld_armed_log_opened(unsigned long addr)
{
	int i;

	if (!READ_ONCE(armed.on))
		return;
	i = atomic_fetch_add_unless(&armed.opened_count, 1, armed.opened_room);
	if (i < armed.opened_room)
		armed.opened[i] = addr;
	else
		WRITE_ONCE(armed.broken, true);
}
NOKPROBE_SYMBOL(ld_armed_log_opened);

void ld_armed_log_range(unsigned long addr, unsigned long end)
{
	int i;

	if (!READ_ONCE(armed.on) || !ld_armed_is_space(addr))
		return;
	i = atomic_fetch_add_unless(&armed.range_count, 1, armed.range_room);
	if (i < armed.range_room &&
	    atomic_long_add_return(PHYS_PFN(end - addr), &armed.range_pages) <=
		    MAX_PAGES)
		armed.ranges[i] = (struct ld_span){ addr & PAGE_MASK, end };
	else
		WRITE_ONCE(armed.broken, true);
}
NOKPROBE_SYMBOL(ld_armed_log_range);

void ld_armed_log_broken(void)
{
	WRITE_ONCE(armed.broken, true);
}
NOKPROBE_SYMBOL(ld_armed_log_broken);

void ld_armed_stop_log(void)
{
	WRITE_ONCE(armed.on, false);
}

bool ld_armed_is_broken(void)
{
	return READ_ONCE(armed.broken) ||
	       atomic_read(&armed.opened_count) > armed.opened_room - SPARE;
}

int ld_armed_opened(void)
{
	return atomic_read(&armed.opened_count);
}

unsigned long ld_armed_opened_at(int i)
{
	return armed.opened[i];
}

int ld_armed_ranges(void)
{
	return atomic_read(&armed.range_count);
}

const struct ld_span *ld_armed_range_at(int i)
{
	return &armed.ranges[i];
}

const struct ld_span *ld_armed_space_at(int i)
{
	return &armed.spaces[i];
}

/* ---- in the image ---- */

void ld_armed_clean_table(unsigned long pfn, u64 *entries)
{
	int i;

	if (pfn >= armed.bits || !test_bit(pfn, armed.tables))
		return;
	for (i = 0; i < PTRS_PER_PTE; i++)
		if (ld_is_tagged(entries[i]) || ld_is_opened(entries[i]))
			entries[i] = ld_original(entries[i]);
}
