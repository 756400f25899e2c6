// SPDX-License-Identifier: GPL-2.0
/*
 * Runs inside page faults with interrupts off, entered from NMIs and from
 * itself: no lock, no allocation, no printk, and no write to memory that could
 * be protected. Its own data is module and per-CPU memory, which is not.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/irqflags.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/tracepoint.h>
#include <asm/trap_pf.h>
#include <asm/tsc.h>

#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/iterator.h"
#include "fault/open.h"
#include "fault/probe.h"
#include "map/clock.h"
#include "map/pgwalk.h"
#include "map/regions.h"
#include "trace.h"

enum fault_mode {
	MODE_IDLE,
	MODE_ARMED,		/* before the stop: see fault/armed.h */
	MODE_HOLDING,
	MODE_RELEASING,
};

static enum fault_mode mode;
static struct tracepoint *fault_tracepoint;	/* that our probe is on */

static DEFINE_PER_CPU(struct ld_fault_stats, stats);
static DEFINE_PER_CPU(int, depth);

static __always_inline void count(u32 outcome)
{
	if (outcome == LIVEDUMP_OUTCOME_SAVED)
		this_cpu_inc(stats.saved);
	else if (outcome == LIVEDUMP_OUTCOME_ALREADY)
		this_cpu_inc(stats.already);
}

static __always_inline void account(u64 demoted, u64 copied, u64 total)
{
	this_cpu_inc(stats.faults);
	this_cpu_add(stats.demote_tsc, demoted);
	this_cpu_add(stats.copy_tsc, copied);
	this_cpu_add(stats.total_tsc, total);
	if (total > this_cpu_read(stats.max_tsc))
		this_cpu_write(stats.max_tsc, total);
}

static __always_inline bool may_be_ours(unsigned long address,
					unsigned long error_code)
{
	const unsigned long mask = X86_PF_PROT | X86_PF_WRITE | X86_PF_USER |
				   X86_PF_RSVD | X86_PF_INSTR;

	return (error_code & mask) == (X86_PF_PROT | X86_PF_WRITE) &&
	       (ld_in_regions(address) || ld_armed_is_space(address));
}

static void notrace handle(unsigned long address, struct pt_regs *regs)
{
	bool saving = READ_ONCE(mode) == MODE_HOLDING;
	u64 start = rdtsc(), end, demoted = 0;
	struct ld_opening o = {
		.outcome = saving ? LIVEDUMP_OUTCOME_ALREADY :
				    LIVEDUMP_OUTCOME_RELEASING,
		.leaf_tsc = start,
		.copied_tsc = start,
	};

	ld_open(address, saving, this_cpu_read(depth), &o);
	if (!o.ours)
		return;
	if (o.lost)
		o.outcome = LIVEDUMP_OUTCOME_LOST;
	end = rdtsc();
	if (o.upper)
		demoted = o.leaf_tsc - start;
	count(o.outcome);
	account(demoted, o.copied_tsc - o.leaf_tsc, end - start);

	/* Tracing writes memory of its own: not from inside ourselves. */
	if (!trace_livedump_fault_enabled())
		return;
	if (this_cpu_read(depth) == 1 && !in_nmi())
		trace_livedump_fault(o.pfn, address, regs->ip, o.outcome,
				     ld_tsc_to_ns(demoted),
				     ld_tsc_to_ns(o.copied_tsc - o.leaf_tsc),
				     ld_tsc_to_ns(end - start));
	else
		this_cpu_inc(stats.trace_skipped);
}
NOKPROBE_SYMBOL(handle);

/*
 * In an NMI the stop may get ahead of us: what it did not find in the log has not
 * been written yet, and is saved here.
 */
static void notrace open_armed(unsigned long address)
{
	unsigned long pfn = ld_open_armed(address, this_cpu_read(depth));

	/* pairs with ld_fault_hold(): one of us sees the other */
	smp_mb();
	if (pfn && READ_ONCE(mode) == MODE_HOLDING)
		ld_cow_save(pfn);
}
NOKPROBE_SYMBOL(open_armed);

void notrace ld_fault_probe(void *unused, unsigned long address,
			    struct pt_regs *regs, unsigned long error_code)
{
	if (READ_ONCE(mode) == MODE_IDLE || !may_be_ours(address, error_code))
		return;
	this_cpu_inc(depth);
	if (READ_ONCE(mode) == MODE_ARMED)
		open_armed(address);
	else
		handle(address, regs);
	this_cpu_dec(depth);
}
NOKPROBE_SYMBOL(ld_fault_probe);

static bool notrace is_mapped(unsigned long pfn)
{
	struct ld_where where;

	return ld_lookup((unsigned long)__va(PFN_PHYS(pfn)), &where) != 0;
}
NOKPROBE_SYMBOL(is_mapped);

void notrace ld_fault_save_pages(unsigned long pfn, unsigned long count)
{
	unsigned long end = pfn + count;

	/* Probes that stay come here while nothing is held, too. */
	if (READ_ONCE(mode) != MODE_HOLDING)
		return;
	for (; pfn < end && pfn < ld_cow_max_pfn(); pfn++)
		if (ld_cow_slot(pfn) == LD_SLOT_NONE && is_mapped(pfn) &&
		    ld_cow_try_save(pfn) == LD_SAVED)
			this_cpu_inc(stats.hook_saved);
}
NOKPROBE_SYMBOL(ld_fault_save_pages);

void notrace ld_fault_save_for_hook(unsigned long pfn)
{
	struct ld_opening o = {};
	unsigned long flags;

	if (READ_ONCE(mode) <= MODE_ARMED || pfn >= ld_cow_max_pfn())
		return;
	local_irq_save(flags);
	this_cpu_inc(depth);
	/* Also what is read-only in the direct map, as kernel text is. */
	ld_fault_save_pages(pfn, 1);
	ld_open((unsigned long)__va(PFN_PHYS(pfn)),
		READ_ONCE(mode) == MODE_HOLDING, this_cpu_read(depth), &o);
	this_cpu_dec(depth);
	local_irq_restore(flags);
}
NOKPROBE_SYMBOL(ld_fault_save_for_hook);

void notrace ld_fault_open_for_hook(unsigned long addr)
{
	struct ld_opening o = {};
	unsigned long flags;

	if (READ_ONCE(mode) == MODE_IDLE || !ld_armed_is_space(addr))
		return;
	local_irq_save(flags);
	this_cpu_inc(depth);
	if (READ_ONCE(mode) == MODE_ARMED)
		open_armed(addr);
	else
		ld_open(addr, READ_ONCE(mode) == MODE_HOLDING,
			this_cpu_read(depth), &o);
	this_cpu_dec(depth);
	local_irq_restore(flags);
}
NOKPROBE_SYMBOL(ld_fault_open_for_hook);

bool notrace ld_fault_is_holding(void)
{
	return READ_ONCE(mode) == MODE_HOLDING;
}
NOKPROBE_SYMBOL(ld_fault_is_holding);

void ld_fault_armed(void)
{
	WRITE_ONCE(mode, MODE_ARMED);
}

void ld_fault_hold(void)
{
	WRITE_ONCE(mode, MODE_HOLDING);
	/* before the log of what is armed is read; pairs with open_armed() */
	smp_mb();
}

void ld_fault_releasing(void)
{
	WRITE_ONCE(mode, MODE_RELEASING);
}

static void find_tracepoint(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "page_fault_kernel"))
		fault_tracepoint = tp;
}

static int register_probe(void)
{
	int err = ld_iterator_set(fault_tracepoint);

	if (err)
		return err;
	err = tracepoint_probe_register_prio(fault_tracepoint, ld_fault_probe,
					     NULL, INT_MAX);
	if (err)
		ld_iterator_reset();
	else
		ld_iterator_confirm();
	return err;
}

int ld_fault_arm(void)
{
	int err = 0;

	if (!fault_tracepoint) {
		for_each_kernel_tracepoint(find_tracepoint, NULL);
		if (!fault_tracepoint)
			return -ENOENT;
		err = register_probe();
		if (err)
			fault_tracepoint = NULL;
	}
	if (!err && !ld_iterator_is_set())
		err = -EBUSY;
	return err;
}

bool ld_fault_is_armed(void)
{
	return ld_iterator_is_set();
}

void ld_fault_disarm(void)
{
	WRITE_ONCE(mode, MODE_IDLE);
	tracepoint_synchronize_unregister();
}

void ld_fault_exit(void)
{
	if (!fault_tracepoint)
		return;
	ld_iterator_leave();
	tracepoint_probe_unregister(fault_tracepoint, ld_fault_probe, NULL);
	ld_iterator_reset();
	fault_tracepoint = NULL;
}

void ld_fault_stats_reset(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		memset(per_cpu_ptr(&stats, cpu), 0, sizeof(stats));
}

void ld_fault_stats_read(struct ld_fault_stats *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		const struct ld_fault_stats *s = per_cpu_ptr(&stats, cpu);

		sum->faults += s->faults;
		sum->already += s->already;
		sum->saved += s->saved;
		sum->hook_saved += s->hook_saved;
		sum->demote_tsc += s->demote_tsc;
		sum->copy_tsc += s->copy_tsc;
		sum->total_tsc += s->total_tsc;
		sum->max_tsc = max(sum->max_tsc, s->max_tsc);
		sum->trace_skipped += s->trace_skipped;
	}
}
