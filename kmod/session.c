// SPDX-License-Identifier: GPL-2.0
#include <linux/cpu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>
#include <asm/tsc.h>

#include "compat.h"
#include "fault/cow.h"
#include "fault/probe.h"
#include "fault/tables.h"
#include "genl.h"
#include "hooks/hooks.h"
#include "hooks/user.h"
#include "image.h"
#include "map/clock.h"
#include "map/ram.h"
#include "map/regions.h"
#include "map/tlb.h"
#include "session.h"
#include "stop/restore.h"
#include "stop/sensitive.h"
#include "stop/stop.h"
#include "stop/strategy.h"
#include "test.h"
#include "trace.h"

#define WATCH_INTERVAL (HZ / 4)
#define MIN_POOL_BYTES SZ_64M
#define MIN_FREE_BYTES SZ_64M
#define POOL_TOO_SMALL \
	"a pool of %llu MiB does not even hold what is saved before and in the stop"

static struct {
	struct mutex lock;		/* of everything here */
	u32 state;			/* enum livedump_state */
	const struct ld_strategy *strategy;
	const struct file *owner;
	struct ld_status status;	/* as of the last change */
	bool armed;			/* faults may be ours */
	bool asleep;			/* suspend or hibernation is under way */
	char why[LD_WHY_SIZE];		/* what fail() says */
	unsigned long deadline;		/* jiffies; 0 = none */
	bool told_low, told_lost;
	struct workqueue_struct *workqueue;
	struct delayed_work watch;
} session;

static void set_state(u32 state)
{
	session.status.report.state = state;
	WRITE_ONCE(session.state, state);
}

bool ld_session_busy(void)
{
	return READ_ONCE(session.state) != LIVEDUMP_STATE_IDLE;
}

static __printf(2, 3) int fail(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vscnprintf(session.why, sizeof(session.why), format, args);
	va_end(args);
	return err;
}

/* ---- the receipt ---- */

static u64 hooks_missed(void)
{
	return ld_hooks_missed() + ld_usermap_missed();
}

static void update_report(void)
{
	struct livedump_report *report = &session.status.report;
	struct ld_fault_stats stats;

	ld_fault_stats_read(&stats);
	report->faults = stats.faults;
	report->faults_already = stats.already;
	report->pages_saved_fault = stats.saved + ld_cow_tables_saved();
	report->demotions = ld_tables_used();
	report->pages_saved_hook = stats.hook_saved;
	report->fault_demote_ns = ld_tsc_to_ns(stats.demote_tsc);
	report->fault_copy_ns = ld_tsc_to_ns(stats.copy_tsc);
	report->fault_total_ns = ld_tsc_to_ns(stats.total_tsc);
	report->fault_max_ns = ld_tsc_to_ns(stats.max_tsc);
	report->trace_skipped = stats.trace_skipped;
	report->hooks_missed = hooks_missed();
	report->pages_lost = ld_cow_pages_lost();
	report->pool_used = ld_cow_pool_used();
	report->pages_in_place = report->pages_ram - report->pages_saved_stop -
				 report->pages_saved_fault -
				 report->pages_saved_hook -
				 report->pages_own - report->pages_unreadable -
				 report->pages_lost;
}

static u32 verdict(const struct livedump_report *report)
{
	if (report->pages_lost)
		return LIVEDUMP_VERDICT_LOST;
	if (report->hooks_missed || report->entries_late ||
	    report->nmis_late)
		return LIVEDUMP_VERDICT_UNPROVEN;
	return LIVEDUMP_VERDICT_COMPLETE;
}

/* ---- every way back ---- */

/* Nobody may fault on memory of ours any more when this returns. */
static void restore_entries(void)
{
	struct livedump_report *report = &session.status.report;
	u64 late;

	ld_fault_releasing();
	/* Interrupts every CPU: a fault that still saves has ended. */
	ld_flush_tlb_all();
	report->entries_restored = ld_restore_entries();
	ld_flush_tlb_all();
	while ((late = ld_restore_entries()) != 0) {
		report->entries_late += late;
		ld_flush_tlb_all();
	}
	update_report();
}

/*
 * Large leaves come back while hooks still wait: nobody changes a mapping by a
 * pointer into a table that goes.
 */
static void restore_tables(void)
{
	struct livedump_report *report = &session.status.report;

	report->tables_left = ld_tables_merge();
	if (session.strategy->restore)
		session.strategy->restore();
	ld_count_leaves(report->leaves_after);
}

/* The one teardown: from any step of preparation, from holding. */
static void teardown(void)
{
	if (session.state == LIVEDUMP_STATE_RELEASING)
		ld_hooks_canary();
	if (session.armed)
		restore_entries();
	restore_tables();
	session.status.report.hooks_missed = hooks_missed();
	ld_hooks_disarm();
	ld_fault_disarm();
	session.armed = false;
	session.strategy->finish();
	ld_image_free();
	ld_stop_free();
	ld_tables_free();
	ld_sensitive_free();
	ld_cow_exit();
	ld_ranges_free();
	session.strategy = NULL;
	session.owner = NULL;
	session.status.owner_pid = 0;
	set_state(LIVEDUMP_STATE_IDLE);
	module_put(THIS_MODULE);
}

static void release_locked(u32 reason)
{
	struct livedump_report *report = &session.status.report;
	u64 start = rdtsc_ordered();

	set_state(LIVEDUMP_STATE_RELEASING);
	cancel_delayed_work(&session.watch);
	ld_image_close();
	teardown();
	report->release_ns = ld_tsc_to_ns(rdtsc_ordered() - start);
	report->verdict = verdict(report);
	session.status.reason = reason;
	trace_livedump_release(reason, report);
	ld_genl_event(LIVEDUMP_EVENT_RELEASE, &session.status);
	pr_info("livedump: released after %llu faults, %llu pages lost, %llu entries restored in %llu us\n",
		report->faults, report->pages_lost, report->entries_restored,
		report->release_ns / 1000);
}

int ld_session_release(u32 reason)
{
	int err = -ENOENT;

	mutex_lock(&session.lock);
	if (session.state == LIVEDUMP_STATE_HOLDING) {
		release_locked(reason);
		err = 0;
	}
	mutex_unlock(&session.lock);
	return err;
}

void ld_session_sleep(bool asleep)
{
	mutex_lock(&session.lock);
	session.asleep = asleep;
	if (asleep && session.state == LIVEDUMP_STATE_HOLDING)
		release_locked(LIVEDUMP_REASON_SYSTEM);
	mutex_unlock(&session.lock);
}

void ld_session_file_closed(const struct file *file)
{
	mutex_lock(&session.lock);
	if (session.state == LIVEDUMP_STATE_HOLDING && session.owner == file)
		release_locked(LIVEDUMP_REASON_OWNER);
	mutex_unlock(&session.lock);
}

/* ---- limits while holding ---- */

static void watch_pool(void)
{
	struct livedump_report *report = &session.status.report;

	update_report();
	if (report->pages_lost && !session.told_lost) {
		session.told_lost = true;
		pr_warn("livedump: the pool is exhausted, pages are being lost\n");
		ld_genl_event(LIVEDUMP_EVENT_LOST, &session.status);
	} else if (!session.told_low &&
		   report->pool_used > report->pool_pages / 10 * 9) {
		session.told_low = true;
		ld_genl_event(LIVEDUMP_EVENT_POOL_LOW, &session.status);
	}
}

static void watch(struct work_struct *work)
{
	mutex_lock(&session.lock);
	if (session.state == LIVEDUMP_STATE_HOLDING) {
		watch_pool();
		if (session.deadline &&
		    time_after_eq(jiffies, session.deadline))
			release_locked(LIVEDUMP_REASON_TIMEOUT);
		else
			queue_delayed_work(session.workqueue, &session.watch,
					   WATCH_INTERVAL);
	}
	mutex_unlock(&session.lock);
}

/* ---- taking a snapshot ---- */

/*
 * Beside the pool: its page frame numbers, the index, two bitmaps' worth, and
 * the page tables of what is split.
 */
static u64 overhead(u64 pool_bytes)
{
	u64 max_pfn = ld_ranges_max_pfn();

	return max_pfn * sizeof(u32) + max_pfn / 4 +
	       pool_bytes / PTRS_PER_PTE +
	       PFN_PHYS(ld_ranges_pages()) / PTRS_PER_PTE;
}

static int reserve_pool(u64 bytes)
{
	u64 available = (u64)si_mem_available() << PAGE_SHIFT;
	u64 ram = PFN_PHYS(ld_ranges_pages());

	if (!bytes)
		bytes = max_t(u64, ram / 4, MIN_POOL_BYTES);
	if (bytes > ram ||
	    available < bytes + overhead(bytes) + MIN_FREE_BYTES)
		return fail(-ENOMEM,
			    "a pool of %llu MiB does not fit: %llu MiB are available",
			    bytes >> 20, available >> 20);
	if (ld_cow_init(ld_ranges_max_pfn(), PAGE_ALIGN(bytes)))
		return fail(-ENOMEM, "cannot allocate a pool of %llu MiB",
			    bytes >> 20);
	session.status.report.pool_pages = ld_cow_pool_pages();
	return 0;
}

static int reserve(const struct ld_request *request)
{
	int err;

	if (ld_ranges_collect())
		return fail(-ENOMEM, "cannot list the System RAM");
	ld_regions_init();
	err = reserve_pool(request->pool_bytes) ?: ld_test_step();
	if (err)
		return err;
	if (ld_ranges_prepare() || ld_test_step() || ld_stop_prepare() ||
	    ld_test_step() || ld_image_prepare() || ld_test_step() ||
	    ld_sensitive_prepare() || ld_test_step() || ld_tables_prepare())
		return fail(-ENOMEM, "cannot allocate tables");
	return 0;
}

static int prepare_entries(void)
{
	struct livedump_report *report = &session.status.report;
	int err;

	ld_count_leaves(report->leaves_before);
	ld_ranges_mark_unreadable();
	err = session.strategy->prepare();
	if (err == -ENOSPC)
		return fail(err, POOL_TOO_SMALL, report->pool_pages >> 8);
	if (err)
		return fail(err, "strategy %s cannot prepare the direct map (%d)",
			    session.strategy->name, err);
	ld_count_leaves(report->leaves_held);
	report->pages_ram = ld_ranges_pages();
	report->pages_own = ld_cow_count(LD_SLOT_OWN);
	report->pages_unreadable = ld_ranges_unreadable();
	return 0;
}

/* Before anything is planned: what changes from here on is seen. */
static int arm_hooks(void)
{
	int err = ld_hooks_arm() ?: ld_usermap_arm();

	return err ? fail(err, "cannot probe the kernel's mapping functions (%d)",
			  err) : 0;
}

static int arm(void)
{
	int err;

	ld_fault_stats_reset();
	err = ld_fault_arm();
	if (err)
		return fail(err, "no tracepoint exceptions:page_fault_kernel (%d)",
			    err);
	session.armed = true;
	return 0;
}

static int stop_and_protect(void)
{
	int err = ld_stop_run(session.strategy, &session.status.report);

	if (err == -ENOSPC)
		return fail(err, POOL_TOO_SMALL,
			    session.status.report.pool_pages >> 8);
	if (err == -EAGAIN)
		return fail(err, "the kernel was changing its mappings at every attempt to stop");
	if (err)
		return fail(err, "stop_machine failed (%d)", err);
	return 0;
}

static int take(const struct ld_request *request)
{
	struct livedump_report *report = &session.status.report;
	u64 start = rdtsc_ordered(), used;
	int err;

	err = reserve(request) ?: ld_test_step() ?: arm_hooks() ?:
	      ld_test_step() ?: prepare_entries() ?: ld_test_step() ?: arm() ?:
	      ld_test_step();
	if (err)
		return err;
	report->prepare_ns = ld_tsc_to_ns(rdtsc_ordered() - start);
	err = stop_and_protect() ?: ld_test_step();
	if (err)
		return err;
	used = ld_cow_pool_used();
	ld_tables_patch_copies();
	ld_hooks_canary();
	report->pages_live = ld_ranges_live(used);
	report->pages_unguarded = ld_ranges_unguarded(used);
	return 0;
}

static void hold(const struct ld_request *request)
{
	session.owner = request->owner;
	session.status.owner_pid = request->owner ? current->tgid : 0;
	session.deadline = 0;
	if (request->max_hold_ms)
		session.deadline = jiffies +
				   msecs_to_jiffies(request->max_hold_ms);
	session.told_low = false;
	session.told_lost = false;
	set_state(LIVEDUMP_STATE_HOLDING);
	update_report();
	ld_image_open(&session.status.report);
	queue_delayed_work(session.workqueue, &session.watch, WATCH_INTERVAL);
	trace_livedump_snapshot(&session.status.report);
	ld_genl_event(LIVEDUMP_EVENT_SNAPSHOT, &session.status);
	pr_info("livedump: snapshot by %s, stopped for %llu us, %llu entries\n",
		session.strategy->name, session.status.report.stop_ns / 1000,
		session.status.report.entries_protected);
}

static int check(const struct ld_request *request)
{
	const char *refusal = ld_machine_refusal();

	if (session.state != LIVEDUMP_STATE_IDLE)
		return fail(-EBUSY, "a snapshot is held already (owner: process %u; 0 = it persists)",
			    session.status.owner_pid);
	if (session.asleep)
		return fail(-EBUSY, "the machine is going to sleep or waking up");
	if (refusal)
		return fail(-EOPNOTSUPP, "%s", refusal);
	if (!ld_strategy_find(request->strategy))
		return fail(-EINVAL, "unknown strategy %u", request->strategy);
	if (!request->owner && !(request->flags & LIVEDUMP_F_PERSIST))
		return fail(-EINVAL, "an owner file or the persist flag is needed");
	if (!try_module_get(THIS_MODULE))
		return fail(-ENODEV, "the module is going away");
	return 0;
}

static void begin(const struct ld_request *request)
{
	struct livedump_report *report = &session.status.report;

	memset(&session.status, 0, sizeof(session.status));
	session.strategy = ld_strategy_find(request->strategy);
	report->abi = LIVEDUMP_ABI;
	report->size = sizeof(*report);
	report->strategy = session.strategy->id;
	report->flags = request->flags;
	/* What is coming or going has arrived; others find us busy. */
	cpus_read_lock();
	ld_get_online_mems();
	set_state(LIVEDUMP_STATE_PREPARED);
	ld_put_online_mems();
	cpus_read_unlock();
}

int ld_session_snapshot(const struct ld_request *request,
			char why[LD_WHY_SIZE])
{
	int err;

	why[0] = 0;
	if (mutex_lock_killable(&session.lock))
		return -EINTR;
	session.why[0] = 0;
	err = check(request);
	if (err)
		goto out;
	begin(request);
	err = take(request);
	if (err) {
		session.status.reason = LIVEDUMP_REASON_FAILED;
		strscpy(session.status.error, session.why, LD_WHY_SIZE);
		teardown();
		goto out;
	}
	hold(request);
out:
	if (err)
		strscpy(why, session.why, LD_WHY_SIZE);
	mutex_unlock(&session.lock);
	return err;
}

bool ld_session_next_lost(unsigned long *pfn)
{
	bool found = false;

	mutex_lock(&session.lock);
	while (*pfn < ld_cow_max_pfn()) {
		found = ld_cow_slot(*pfn) == LD_SLOT_LOST;
		if (found)
			break;
		++*pfn;
	}
	mutex_unlock(&session.lock);
	return found;
}

int ld_session_status(struct ld_status *status)
{
	if (mutex_lock_killable(&session.lock))
		return -EINTR;
	if (session.state == LIVEDUMP_STATE_HOLDING)
		update_report();
	*status = session.status;
	mutex_unlock(&session.lock);
	return 0;
}

int ld_session_init(void)
{
	mutex_init(&session.lock);
	INIT_DELAYED_WORK(&session.watch, watch);
	/* With a rescuer: a release must not wait for memory. */
	session.workqueue = alloc_workqueue("livedump",
					    WQ_UNBOUND | WQ_MEM_RECLAIM, 1);
	session.status.report.abi = LIVEDUMP_ABI;
	session.status.report.size = sizeof(session.status.report);
	return session.workqueue ? 0 : -ENOMEM;
}

void ld_session_exit(void)
{
	cancel_delayed_work_sync(&session.watch);
	destroy_workqueue(session.workqueue);
}
