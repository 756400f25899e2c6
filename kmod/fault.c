// SPDX-License-Identifier: GPL-2.0
/*
 * Runs inside page faults with interrupts off, entered from NMIs and from
 * itself: no lock, no allocation, no printk, and no write to memory that could
 * be protected. Its own data is module and per-CPU memory, which is not.
 */
#include <linux/kprobes.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/tracepoint.h>
#include <asm/trap_pf.h>
#include <asm/tsc.h>

#include "cow.h"
#include "fault.h"
#include "ranges.h"
#include "trace.h"

enum fault_mode {
	MODE_IDLE,
	MODE_HOLDING,
	MODE_RELEASING,
};

static const struct ld_strategy *strategy;
static enum fault_mode mode;
static struct tracepoint *fault_tracepoint;	/* that our probe is on */
static u64 tsc_mult;

static DEFINE_PER_CPU(struct ld_fault_stats, stats);
static DEFINE_PER_CPU(int, depth);

#define TSC_SHIFT 32

void ld_tsc_init(void)
{
	tsc_mult = div_u64(1000000ULL << TSC_SHIFT, tsc_khz);
}

/* Counters of two CPUs may differ: never a negative time. */
u64 notrace ld_tsc_to_ns(u64 cycles)
{
	if ((s64)cycles < 0)
		return 0;
	return mul_u64_u64_shr(cycles, tsc_mult, TSC_SHIFT);
}
NOKPROBE_SYMBOL(ld_tsc_to_ns);

static __always_inline u32 save(unsigned long pfn)
{
	switch (ld_cow_save(pfn)) {
	case LD_SAVED:
		this_cpu_inc(stats.saved);
		return LIVEDUMP_OUTCOME_SAVED;
	case LD_LOST:
		return LIVEDUMP_OUTCOME_LOST;
	default:
		this_cpu_inc(stats.already);
		return LIVEDUMP_OUTCOME_ALREADY;
	}
}

static __always_inline void account(u64 copied, u64 total)
{
	this_cpu_inc(stats.faults);
	this_cpu_add(stats.copy_tsc, copied);
	this_cpu_add(stats.total_tsc, total);
	if (total > this_cpu_read(stats.max_tsc))
		this_cpu_write(stats.max_tsc, total);
}

/* A write to a present page of the direct map, by the kernel. */
static __always_inline bool may_be_ours(unsigned long address,
					unsigned long error_code)
{
	const unsigned long mask = X86_PF_PROT | X86_PF_WRITE | X86_PF_USER |
				   X86_PF_RSVD | X86_PF_INSTR;

	return (error_code & mask) == (X86_PF_PROT | X86_PF_WRITE) &&
	       address >= PAGE_OFFSET &&
	       PHYS_PFN(address - PAGE_OFFSET) < ld_cow_max_pfn();
}

static void notrace handle(unsigned long address, struct pt_regs *regs)
{
	unsigned long pfn = PHYS_PFN(address - PAGE_OFFSET);
	u64 start = rdtsc(), copied = start, end;
	u32 outcome = LIVEDUMP_OUTCOME_RELEASING;

	if (!strategy->is_protected(pfn))
		return;
	if (READ_ONCE(mode) == MODE_HOLDING) {
		outcome = save(pfn);
		copied = rdtsc();
	}
	strategy->unprotect(pfn);
	end = rdtsc();
	account(copied - start, end - start);

	/* Tracing writes memory of its own: not from inside ourselves. */
	if (!trace_livedump_fault_enabled())
		return;
	if (this_cpu_read(depth) == 1 && !in_nmi())
		trace_livedump_fault(pfn, address, regs->ip, outcome,
				     ld_tsc_to_ns(copied - start),
				     ld_tsc_to_ns(end - start));
	else
		this_cpu_inc(stats.trace_skipped);
}
NOKPROBE_SYMBOL(handle);

static void notrace fault_probe(void *unused, unsigned long address,
				struct pt_regs *regs, unsigned long error_code)
{
	if (READ_ONCE(mode) == MODE_IDLE || !may_be_ours(address, error_code))
		return;
	this_cpu_inc(depth);
	handle(address, regs);
	this_cpu_dec(depth);
}
NOKPROBE_SYMBOL(fault_probe);

void notrace ld_fault_save_for_hook(unsigned long pfn)
{
	if (READ_ONCE(mode) == MODE_IDLE || pfn >= ld_cow_max_pfn() ||
	    !strategy->is_readable(pfn))
		return;
	if (READ_ONCE(mode) == MODE_HOLDING && ld_cow_save(pfn) == LD_SAVED)
		this_cpu_inc(stats.hook_saved);
	strategy->unprotect(pfn);
}
NOKPROBE_SYMBOL(ld_fault_save_for_hook);

void ld_fault_hold(void)
{
	WRITE_ONCE(mode, MODE_HOLDING);
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

int ld_fault_arm(const struct ld_strategy *with)
{
	int err;

	strategy = with;
	if (fault_tracepoint)
		return 0;
	for_each_kernel_tracepoint(find_tracepoint, NULL);
	if (!fault_tracepoint)
		return -ENOENT;
	/*
	 * Before every other probe on this event: theirs write buffers, and a
	 * fault on those must find ours done.
	 */
	err = tracepoint_probe_register_prio(fault_tracepoint, fault_probe,
					     NULL, INT_MAX);
	if (err)
		fault_tracepoint = NULL;
	return err;
}

void ld_fault_disarm(void)
{
	WRITE_ONCE(mode, MODE_IDLE);
	tracepoint_synchronize_unregister();
}

void ld_fault_exit(void)
{
	if (fault_tracepoint)
		tracepoint_probe_unregister(fault_tracepoint, fault_probe,
					    NULL);
	fault_tracepoint = NULL;
	tracepoint_synchronize_unregister();
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
		sum->copy_tsc += s->copy_tsc;
		sum->total_tsc += s->total_tsc;
		sum->max_tsc = max(sum->max_tsc, s->max_tsc);
		sum->trace_skipped += s->trace_skipped;
	}
}
