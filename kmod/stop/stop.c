// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/hardirq.h>
#include <linux/kexec.h>
#include <linux/nmi.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/probe.h"
#include "hooks/hooks.h"
#include "map/clock.h"
#include "map/tlb.h"
#include "stop/stop.h"
#include "stop/strategy.h"
#include "test.h"

#define MAX_ATTEMPTS 20
#define MAX_RECOPIES 3
#define PARTS 32	/* small enough that CPUs end at the same time */

enum phase {
	PHASE_WAIT,
	PHASE_FLUSH,		/* protected: every CPU drops its TLB */
	PHASE_ABORT,		/* nothing changed */
};

/* One attempt. Lives in vmalloc memory, which is not protected. */
struct attempt {
	const struct ld_strategy *strategy;
	struct livedump_report *report;
	atomic_t arrived;		/* the first one leads */
	atomic_t parts;			/* of what is watched, taken */
	atomic_t ready;			/* flushed, nothing more to copy */
	enum phase phase;
	int error;
	u64 called, begun, saved, protected, flush_done, settled, ended;
};

static struct ld_stop_cpu *cpus;
static struct attempt *attempt;

int ld_stop_prepare(void)
{
	cpus = vzalloc(array_size(nr_cpu_ids, sizeof(*cpus)));
	attempt = vzalloc(sizeof(*attempt));
	if (!cpus || !attempt)
		return -ENOMEM;
	ld_cow_mark_own(cpus, nr_cpu_ids * sizeof(*cpus));
	ld_cow_mark_own(attempt, sizeof(*attempt));
	return 0;
}

void ld_stop_free(void)
{
	vfree(cpus);
	vfree(attempt);
	cpus = NULL;
	attempt = NULL;
}

const struct ld_stop_cpu *ld_stop_cpu(int cpu)
{
	return &cpus[cpu];
}

noinline void livedump_instant(void)
{
	barrier();
}

static void save_registers(void)
{
	struct ld_stop_cpu *cpu = &cpus[smp_processor_id()];

	crash_setup_regs(&cpu->regs, NULL);
	/* Both begin with the same 21 registers; the segment bases stay 0. */
	memcpy(&cpu->status.pr_reg, &cpu->regs, sizeof(cpu->regs));
	cpu->status.common.pr_pid = current->pid;
}

static u64 count_nmis(void)
{
	u64 nmis = 0;
	int cpu;

	for_each_online_cpu(cpu)
		nmis += per_cpu(irq_stat.__nmi_count, cpu);
	return nmis;
}

static void wait_a_little(void)
{
	touch_nmi_watchdog();
	cpu_relax();
}

/* Until nobody is on the way here any more: from then on CPUs write nothing. */
static void wait_for_all(atomic_t *here)
{
	while (atomic_read(here) < num_online_cpus())
		wait_a_little();
}

/*
 * What is watched does not change while all CPUs are here, protected or not.
 * So those who wait for the leader begin, and it takes what is left.
 */
static void recopy_parts(struct attempt *a)
{
	unsigned int part;

	if (!a->strategy->recopy_part)
		return;
	wait_for_all(&a->arrived);
	a->strategy->recopy_cpu(smp_processor_id());
	while ((part = atomic_fetch_inc(&a->parts)) < PARTS)
		a->strategy->recopy_part(part, PARTS);
}

static void flush_everywhere(struct attempt *a, u64 used)
{
	/* Our entries before the others' flush. */
	smp_store_release(&a->phase, PHASE_FLUSH);
	ld_flush_tlb_local();
	a->flush_done = rdtsc_ordered();
	recopy_parts(a);
	atomic_inc(&a->ready);
	wait_for_all(&a->ready);
	/* The others' stacks are still now. */
	if (a->strategy->recopy)
		a->strategy->recopy();
	/* Saved by a fault in the stop: the page has changed since. */
	ld_cow_recopy_since(used);
}

static void recopy_all(struct attempt *a, u64 used)
{
	unsigned int part;
	int cpu;

	if (!a->strategy->recopy) {
		ld_cow_recopy_since(0);
		return;
	}
	for_each_online_cpu(cpu)
		a->strategy->recopy_cpu(cpu);
	for (part = 0; part < PARTS; part++)
		a->strategy->recopy_part(part, PARTS);
	a->strategy->recopy();
	ld_cow_recopy_since(used);
}

/*
 * An NMI that came since the copies were made may have changed what they are
 * of, or saved a page too early: copy all again, until none came meanwhile.
 */
static void settle(struct attempt *a, u64 nmis, u64 used)
{
	struct livedump_report *report = a->report;
	u64 settled = nmis, now;

	while ((now = count_nmis()) != settled) {
		if (report->recopies == MAX_RECOPIES) {
			report->nmis_late = now - settled;
			break;
		}
		settled = now;
		recopy_all(a, used);
		report->recopies++;
	}
	report->nmis = now - nmis;
	a->settled = rdtsc_ordered();
}

/* All other CPUs are here too or on their way, with interrupts off. */
static int lead(struct attempt *a)
{
	struct livedump_report *report = a->report;
	u64 nmis = count_nmis(), used;
	int err;

	a->begun = rdtsc_ordered();
	if (ld_hooks_busy())
		return -EBUSY;
	err = a->strategy->save();
	a->saved = rdtsc_ordered();
	if (err)
		return err;
	used = ld_cow_pool_used();
	ld_fault_hold();
	a->strategy->protect(report->entries_by_level);
	a->protected = rdtsc_ordered();
	flush_everywhere(a, used);
	settle(a, nmis, used);
	report->instant_realtime_ns = ktime_get_real_fast_ns();
	report->instant_boottime_ns = ktime_get_boot_fast_ns();
	report->instant_monotonic_ns = ktime_get_mono_fast_ns();
	livedump_instant();
	return 0;
}

static void follow(struct attempt *a)
{
	enum phase phase;

	recopy_parts(a);
	/* pairs with the leader's release */
	while ((phase = smp_load_acquire(&a->phase)) == PHASE_WAIT)
		wait_a_little();
	if (phase == PHASE_ABORT)
		return;
	if (!ld_is_mutant(LD_MUTANT_FLUSH))
		ld_flush_tlb_local();
	atomic_inc(&a->ready);
}

/* stop_machine() lets no CPU go before all have returned from here. */
static int stop_fn(void *data)
{
	struct attempt *a = data;

	save_registers();
	if (atomic_fetch_inc(&a->arrived)) {
		follow(a);
		return 0;
	}
	a->error = lead(a);
	if (a->error)
		WRITE_ONCE(a->phase, PHASE_ABORT);
	return 0;
}

static void fill_phases(const struct attempt *a)
{
	struct livedump_report *report = a->report;
	int i;

	report->rendezvous_ns = ld_tsc_to_ns(a->begun - a->called);
	report->save_ns = ld_tsc_to_ns(a->saved - a->begun);
	report->protect_ns = ld_tsc_to_ns(a->protected - a->saved);
	report->flush_ns = ld_tsc_to_ns(a->flush_done - a->protected);
	report->recopy_ns = ld_tsc_to_ns(a->settled - a->flush_done);
	report->stop_ns = ld_tsc_to_ns(a->ended - a->called);
	for (i = 0; i < __LIVEDUMP_LEAF_MAX; i++)
		report->entries_protected += report->entries_by_level[i];
	report->pages_saved_stop = a->strategy->saved();
	if (a->strategy->recopied)
		report->recopied = a->strategy->recopied();
}

static int try_stop(const struct ld_strategy *strategy,
		    struct livedump_report *report)
{
	int err;

	memset(attempt, 0, sizeof(*attempt));
	attempt->strategy = strategy;
	attempt->report = report;
	report->attempts++;
	if (strategy->refresh)
		strategy->refresh();
	attempt->called = rdtsc_ordered();
	err = stop_machine(stop_fn, attempt, cpu_online_mask);
	attempt->ended = rdtsc_ordered();
	return err ?: attempt->error;
}

/* What made the stop impossible may have passed. 0: try once more. */
static int recover(const struct ld_strategy *strategy, int err)
{
	if (err == -EAGAIN)
		return strategy->again();
	if (err == -EBUSY) {		/* a hooked call is under way */
		msleep(20);
		return 0;
	}
	return err;
}

int ld_stop_run(const struct ld_strategy *strategy,
		struct livedump_report *report)
{
	int err = try_stop(strategy, report);

	while (err && report->attempts < MAX_ATTEMPTS) {
		err = recover(strategy, err);
		if (err)
			return err;
		err = try_stop(strategy, report);
	}
	if (!err)
		fill_phases(attempt);
	return err == -EBUSY ? -EAGAIN : err;
}
