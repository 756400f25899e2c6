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
#include "cow.h"
#include "fault.h"
#include "hooks.h"
#include "ranges.h"
#include "stop.h"
#include "test.h"

#define MAX_ATTEMPTS 20
#define MAX_RECOPIES 3

enum phase {
	PHASE_WAIT,
	PHASE_FLUSH,		/* protected: every CPU drops its TLB */
	PHASE_ABORT,		/* nothing changed */
};

/* One attempt. Lives in vmalloc memory, which is not protected. */
struct attempt {
	const struct ld_strategy *strategy;
	struct livedump_report *report;
	atomic_t leader;
	atomic_t flushed;
	enum phase phase;
	int error;
	u64 called, begun, saved, protected, flush_done, settled;
};

static struct ld_stop_cpu *cpus;
static struct task_struct **idle;
static struct attempt *attempt;

int ld_stop_prepare(void)
{
	int cpu;

	cpus = vzalloc(array_size(nr_cpu_ids, sizeof(*cpus)));
	idle = vzalloc(array_size(nr_cpu_ids, sizeof(*idle)));
	attempt = vzalloc(sizeof(*attempt));
	if (!cpus || !idle || !attempt)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		idle[cpu] = ld_idle_task(cpu);
	ld_cow_mark_own(cpus, nr_cpu_ids * sizeof(*cpus));
	ld_cow_mark_own(idle, nr_cpu_ids * sizeof(*idle));
	ld_cow_mark_own(attempt, sizeof(*attempt));
	return 0;
}

void ld_stop_free(void)
{
	vfree(cpus);
	vfree(idle);
	vfree(attempt);
	cpus = NULL;
	idle = NULL;
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

static void flush(struct attempt *a)
{
	ld_flush_tlb_local();
	atomic_inc(&a->flushed);
}

static void flush_everywhere(struct attempt *a)
{
	/* Our entries before the others' flush. */
	smp_store_release(&a->phase, PHASE_FLUSH);
	flush(a);
	while (atomic_read(&a->flushed) < num_online_cpus())
		wait_a_little();
	a->flush_done = rdtsc_ordered();
}

/*
 * An NMI that came since the copies were made may have changed what they are
 * of, or saved a page too early: copy all again, until none came meanwhile.
 */
static void settle(struct attempt *a, u64 nmis)
{
	struct livedump_report *report = a->report;
	u64 settled = nmis, now;

	while ((now = count_nmis()) != settled) {
		if (report->recopies == MAX_RECOPIES) {
			report->nmis_late = now - settled;
			break;
		}
		settled = now;
		ld_cow_recopy();
		report->recopies++;
	}
	report->nmis = now - nmis;
	a->settled = rdtsc_ordered();
}

/* All other CPUs are here too or on their way, with interrupts off. */
static int lead(struct attempt *a)
{
	struct livedump_report *report = a->report;
	u64 nmis = count_nmis();
	int err;

	a->begun = rdtsc_ordered();
	if (ld_hooks_busy())
		return -EAGAIN;
	err = ld_save_sensitive(idle, &report->pages_saved_stop);
	a->saved = rdtsc_ordered();
	if (err)
		return err;
	ld_fault_hold();
	report->entries_protected = a->strategy->protect();
	a->protected = rdtsc_ordered();
	flush_everywhere(a);
	settle(a, nmis);
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
	if (phase == PHASE_FLUSH && !ld_is_mutant(LD_MUTANT_FLUSH))
		flush(a);
	else
		atomic_inc(&a->flushed);
}

/* stop_machine() lets no CPU go before all have returned from here. */
static int stop_fn(void *data)
{
	struct attempt *a = data;

	save_registers();
	if (atomic_xchg(&a->leader, 1)) {
		follow(a);
		return 0;
	}
	a->error = lead(a);
	if (a->error)
		WRITE_ONCE(a->phase, PHASE_ABORT);
	return 0;
}

static void fill_phases(const struct attempt *a, u64 end)
{
	struct livedump_report *report = a->report;

	report->rendezvous_ns = ld_tsc_to_ns(a->begun - a->called);
	report->save_ns = ld_tsc_to_ns(a->saved - a->begun);
	report->protect_ns = ld_tsc_to_ns(a->protected - a->saved);
	report->flush_ns = ld_tsc_to_ns(a->flush_done - a->protected);
	report->recopy_ns = ld_tsc_to_ns(a->settled - a->flush_done);
	report->stop_ns = ld_tsc_to_ns(end - a->called);
}

int ld_stop_run(const struct ld_strategy *strategy,
		struct livedump_report *report)
{
	int err;

	for (;;) {
		memset(attempt, 0, sizeof(*attempt));
		attempt->strategy = strategy;
		attempt->report = report;
		report->attempts++;
		attempt->called = rdtsc_ordered();
		err = stop_machine(stop_fn, attempt, cpu_online_mask);
		if (!err)
			err = attempt->error;
		if (err != -EAGAIN || report->attempts == MAX_ATTEMPTS)
			break;
		msleep(20);
	}
	if (!err)
		fill_phases(attempt, rdtsc_ordered());
	return err;
}
