// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
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
#include "ending.h"
#include "hooks/hooks.h"
#include "hooks/log.h"
#include "map/clock.h"
#include "map/tlb.h"
#include "stop/arm.h"
#include "stop/stop.h"
#include "stop/strategy.h"
#include "test.h"

/* So long may all attempts together stop the machine, but for the first few. */
#define MAX_STOPPED_NS (200 * NSEC_PER_MSEC)
#define MIN_ATTEMPTS 3
#define MAX_ATTEMPTS 20
#define MAX_RECOPIES 3
#define MAX_NMI_MS 50
#define PARTS 32	/* small enough that CPUs end at the same time */

enum phase {
	PHASE_WAIT,
	PHASE_PROTECT,		/* there will be a snapshot: all join in */
	PHASE_ABORT,		/* nothing changed */
};

/* One attempt. Lives in memory of ours, which is not protected. */
struct attempt {
	const struct ld_strategy *strategy;
	struct livedump_report *report;
	int error;
	/* Each on its own cache line: all CPUs change or watch them. */
	atomic_t arrived ____cacheline_aligned;	/* the first one leads */
	enum phase phase ____cacheline_aligned;
	atomic_t protecting ____cacheline_aligned;	/* parts, taken */
	atomic_t protected_by ____cacheline_aligned;	/* CPUs that are done */
	atomic_t copying ____cacheline_aligned;
	atomic_t ready ____cacheline_aligned;	/* flushed, copied */
	u64 called, begun, saved, protected, flushed, settled, ended;
};

static u64 saved_by_now;	/* pages of the pool, at the last stop's end */
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

u64 ld_stop_saved(void)
{
	return saved_by_now;
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
	/* As drgn reads it from a dump of a running kernel, and QEMU writes it. */
	cpu->status.common.pr_pid = smp_processor_id() + 1;
}

static u64 count_nmis(void)
{
	u64 nmis = 0;
	int cpu;

	for_each_online_cpu(cpu)
		nmis += ld_nmis(cpu);
	return nmis;
}

/* NMIs that have begun and not ended: their number was counted before. */
static u64 running_nmis(void)
{
	u64 running = 0;
	int cpu;

	if (!ld_syms.nmi_state)
		return 0;
	for_each_online_cpu(cpu)
		running += READ_ONCE(*(int *)(ld_syms.nmi_state +
					      per_cpu_offset(cpu))) != 0;
	return running;
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

/* Parts are taken by whoever is free. */
static void protect_parts(struct attempt *a)
{
	unsigned int part;

	if (a->strategy->protect_part)
		while ((part = atomic_fetch_inc(&a->protecting)) < PARTS)
			a->strategy->protect_part(part, PARTS);
	atomic_inc(&a->protected_by);
}

/* Each CPU from the last edit on, so that it sees all of them. */
static void flush(struct attempt *a)
{
	wait_for_all(&a->protected_by);
	ld_flush_tlb_local();
}

static void recopy_parts(struct attempt *a)
{
	unsigned int part;

	if (a->strategy->recopy_part) {
		a->strategy->recopy_cpu(smp_processor_id());
		while ((part = atomic_fetch_inc(&a->copying)) < PARTS)
			a->strategy->recopy_part(part, PARTS);
	}
	atomic_inc(&a->ready);
}

static void recopy_rest(struct attempt *a, u64 used)
{
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
 * The stop does not end before an NMI that runs does: to wait for it costs nothing.
 * Not for ever, should the state be what we do not know. Return: those left.
 */
static u64 wait_for_nmis(void)
{
	u64 end = rdtsc() + (u64)tsc_khz * MAX_NMI_MS, running;

	while ((running = running_nmis()) != 0 && rdtsc() < end)
		wait_a_little();
	return running;
}

/*
 * An NMI that came since the copies were made may have changed what they are
 * of, or saved a page too early: copy all again, until none came meanwhile.
 */
static void settle(struct attempt *a, u64 nmis, u64 used)
{
	struct livedump_report *report = a->report;
	u64 settled = nmis, now, running;

	ld_point(LD_POINT_SETTLE, 0);
	for (;;) {
		running = wait_for_nmis();
		now = count_nmis();
		if (now == settled && !running)
			break;
		if (report->recopies == MAX_RECOPIES) {
			report->nmis_late = now - settled;
			report->nmis_running = running;
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
	err = ld_arm_check() ?: a->strategy->save();
	a->saved = rdtsc_ordered();
	if (err)
		return err;
	ld_cow_forget_taken();
	used = ld_cow_pool_head();
	ld_log_stop();
	report->changes_logged = max(ld_log_stacks(), 0) +
				 max(ld_log_changes(), 0);
	ld_fault_hold();
	/* While tables may be written by the direct map. */
	report->entries_closed = ld_arm_close();
	report->entries_by_level[LIVEDUMP_LEAF_4K] += report->entries_closed;
	/* What was saved, and that faults are ours, before the others begin. */
	smp_store_release(&a->phase, PHASE_PROTECT);
	a->strategy->protect(report->entries_by_level);
	protect_parts(a);
	a->protected = rdtsc_ordered();
	flush(a);
	a->flushed = rdtsc_ordered();
	recopy_parts(a);
	recopy_rest(a, used);
	settle(a, nmis, used);
	ld_cow_forget_taken();
	saved_by_now = ld_cow_pool_head();
	ld_cow_take_batches();
	report->instant_realtime_ns = ktime_get_real_fast_ns();
	report->instant_boottime_ns = ktime_get_boot_fast_ns();
	report->instant_monotonic_ns = ktime_get_mono_fast_ns();
	livedump_instant();
	return 0;
}

static void follow(struct attempt *a)
{
	enum phase phase;

	/* pairs with the leader's release */
	while ((phase = smp_load_acquire(&a->phase)) == PHASE_WAIT)
		wait_a_little();
	if (phase == PHASE_ABORT)
		return;
	protect_parts(a);
	if (!ld_is_mutant(LD_MUTANT_FLUSH))
		flush(a);
	recopy_parts(a);
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
	report->flush_ns = ld_tsc_to_ns(a->flushed - a->protected);
	report->recopy_ns = ld_tsc_to_ns(a->settled - a->flushed);
	report->stop_ns = ld_tsc_to_ns(a->ended - a->called);
	if (a->strategy->protected_parts)
		report->entries_by_level[LIVEDUMP_LEAF_4K] +=
			a->strategy->protected_parts();
	for (i = 0; i < __LIVEDUMP_LEAF_MAX; i++)
		report->entries_protected += report->entries_by_level[i];
	report->entries_armed = ld_arm_entries();
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
	report->stops_ns += ld_tsc_to_ns(attempt->ended - attempt->called);
	return err ?: attempt->error;
}

static bool may_try_again(const struct livedump_report *report)
{
	if (ld_is_ending() || report->attempts >= MAX_ATTEMPTS)
		return false;
	return report->attempts < MIN_ATTEMPTS ||
	       report->stops_ns < MAX_STOPPED_NS;
}

int ld_stop_run(const struct ld_strategy *strategy,
		struct livedump_report *report)
{
	int err, arms = MAX_ATTEMPTS;

	do {
		ld_point(LD_POINT_PLANNED, 0);
		err = ld_arm_check() ? ld_arm() : 0;
		if (err)
			continue;
		/* Else the stop would be in vain, most likely. */
		ld_hooks_wait();
		err = try_stop(strategy, report);
		if (err == -EAGAIN && strategy->again)
			err = strategy->again() ?: -EAGAIN;
	} while ((err == -EAGAIN || err == -EBUSY) && --arms &&
		 may_try_again(report));
	if (!err)
		fill_phases(attempt);
	return err == -EBUSY ? -EAGAIN : err;
}
