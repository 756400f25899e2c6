// SPDX-License-Identifier: GPL-2.0
/*
 * The one snapshot there can be. All of its work runs in one worker, one piece
 * after the other: prepare and stop, watch the limits, count, release. So none
 * of it holds a lock; session.lock is of the few words that others leave for the
 * worker and read from it, and is held for moments.
 */
#include <linux/cpu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/tsc.h>

#include "compat.h"
#include "ending.h"
#include "fault/armed.h"
#include "fault/cow.h"
#include "fault/probe.h"
#include "fault/tables.h"
#include "hooks/hooks.h"
#include "hooks/log.h"
#include "image.h"
#include "map/classes.h"
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
/* Who must see the end of a snapshot waits no longer for a worker that died. */
#define PATIENCE (60 * HZ)

static struct {
	struct mutex lock;		/* of everything here but what is said */
	u32 state;			/* enum livedump_state */
	const struct ld_strategy *strategy;	/* the worker's */
	struct ld_request request;	/* the worker's, once state is not idle */
	const struct file *owner;
	struct ld_status status;	/* as of the last change */
	bool armed;			/* faults may be ours; the worker's */
	bool counted;			/* classes are; the worker's */
	bool asleep;			/* suspend or hibernation is under way */
	unsigned long deadline;		/* jiffies; 0 = none */
	bool told_low, told_lost;
	struct workqueue_struct *workqueue;
	struct delayed_work work;
	unsigned int round;		/* number of the snapshot; lockless */
	wait_queue_head_t idle;
	ld_event_fn on_event;
} session;

u32 ld_ending;

static void set_state(u32 state)
{
	session.status.report.state = state;
	WRITE_ONCE(session.state, state);
}

bool ld_session_busy(void)
{
	return READ_ONCE(session.state) != LIVEDUMP_STATE_IDLE;
}

void ld_session_on_event(ld_event_fn fn)
{
	WRITE_ONCE(session.on_event, fn);
}

static void tell(u32 event, const struct ld_status *status)
{
	ld_event_fn fn = READ_ONCE(session.on_event);

	if (fn)
		fn(event, status);
}

static __printf(3, 0) void set_refusal(struct ld_status *status, u32 refusal,
				       const char *format, va_list args)
{
	status->refusal = refusal;
	vscnprintf(status->error, sizeof(status->error), format, args);
}

/* Why the worker cannot go on. Return: @err. */
static __printf(3, 4) int fail(int err, u32 refusal, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_refusal(&session.status, refusal, format, args);
	va_end(args);
	return err;
}

static int no_memory(const char *what)
{
	return fail(-ENOMEM, LIVEDUMP_REFUSAL_MEMORY, "cannot allocate %s",
		    what);
}

/* ---- the receipt ---- */

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
	report->hooks_missed = ld_hooks_missed();
	report->mappings_unseen = ld_classes_unwalked() +
				  ld_hooks_unseen();
	report->pages_lost = ld_cow_pages_lost();
	report->pages_vanished = ld_cow_pages_vanished();
	report->pool_used = ld_cow_pool_used();
	report->pages_in_place = report->pages_ram - report->pages_saved_stop -
				 report->pages_saved_fault -
				 report->pages_saved_hook -
				 report->pages_own - report->pages_unreadable -
				 report->pages_lost - report->pages_vanished;
}

static u32 verdict(const struct livedump_report *report)
{
	if (report->pages_lost || report->pages_vanished)
		return LIVEDUMP_VERDICT_LOST;
	if (report->hooks_missed || report->mappings_unseen ||
	    report->entries_late || report->nmis_late || report->nmis_running)
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
	struct livedump_report *report = &session.status.report;
	u64 late;

	if (session.armed) {
		ld_hooks_canary();
		restore_entries();
	}
	restore_tables();
	report->hooks_missed = ld_hooks_missed();
	report->mappings_unseen = ld_classes_unwalked() +
				  ld_hooks_unseen();
	ld_hooks_stand_down();
	/* What a change under way has written back since. */
	late = session.armed ? ld_restore_entries() : 0;
	if (late) {
		report->entries_late += late;
		ld_flush_tlb_all();
	}
	ld_fault_disarm();
	session.armed = false;
	session.strategy->finish();
	ld_image_free();
	ld_stop_free();
	ld_tables_free();
	ld_armed_free();
	ld_sensitive_free();
	ld_classes_free();
	ld_cow_exit();
	ld_ranges_free();
}

/* The last thing the worker does for a snapshot: another may begin at once. */
static void become_idle(u32 event)
{
	static struct ld_status last;

	mutex_lock(&session.lock);
	session.owner = NULL;
	session.status.owner_pid = 0;
	session.status.step = LIVEDUMP_STEP_NONE;
	WRITE_ONCE(ld_ending, LIVEDUMP_REASON_NONE);
	set_state(LIVEDUMP_STATE_IDLE);
	last = session.status;
	mutex_unlock(&session.lock);
	tell(event, &last);
	wake_up_all(&session.idle);
	module_put(THIS_MODULE);
}

static void release(u32 reason)
{
	struct livedump_report *report = &session.status.report;
	u64 start = rdtsc_ordered();

	/* From here on nobody reads what teardown() frees. */
	mutex_lock(&session.lock);
	set_state(LIVEDUMP_STATE_RELEASING);
	mutex_unlock(&session.lock);
	ld_image_close();
	teardown();
	report->release_ns = ld_tsc_to_ns(rdtsc_ordered() - start);
	report->verdict = verdict(report);
	session.status.reason = reason;
	trace_livedump_release(reason, report);
	pr_info("livedump: released after %llu faults, %llu pages lost, %llu entries restored in %llu us\n",
		report->faults, report->pages_lost, report->entries_restored,
		report->release_ns / 1000);
	become_idle(LIVEDUMP_EVENT_RELEASE);
}

/* ---- limits while holding ---- */

static void watch_pool(void)
{
	struct livedump_report *report = &session.status.report;

	update_report();
	if (report->pages_lost && !session.told_lost) {
		session.told_lost = true;
		pr_warn("livedump: the pool is exhausted, pages are being lost\n");
		tell(LIVEDUMP_EVENT_LOST, &session.status);
	} else if (!session.told_low &&
		   report->pool_used > report->pool_pages / 10 * 9) {
		session.told_low = true;
		tell(LIVEDUMP_EVENT_POOL_LOW, &session.status);
	}
}

/* Classes of pages are counted a slice at a time, between looks at the limits. */
static void count_some(void)
{
	session.counted = ld_classes_count(&session.status.report);
	if (session.counted)
		ld_image_update(&session.status.report);
}

static void watch(void)
{
	mutex_lock(&session.lock);
	watch_pool();
	mutex_unlock(&session.lock);
	if (!session.counted)
		count_some();
	if (ld_is_ending())
		release(READ_ONCE(ld_ending));
	else if (session.deadline && time_after_eq(jiffies, session.deadline))
		release(LIVEDUMP_REASON_TIMEOUT);
	else
		queue_delayed_work(session.workqueue, &session.work,
				   session.counted ? WATCH_INTERVAL : 0);
}

/* ---- taking a snapshot ---- */

/*
 * Beside the pool: its page frame numbers, vmalloc's arrays and page tables of
 * them, the index, two bitmaps' worth, and the page tables of what is split.
 */
static u64 overhead(u64 pool_bytes)
{
	u64 max_pfn = ld_ranges_max_pfn();

	return max_pfn * sizeof(u32) + max_pfn / 4 +
	       pool_bytes / PTRS_PER_PTE * 3 +
	       PFN_PHYS(ld_ranges_pages()) / PTRS_PER_PTE;
}

static u64 default_pool(u64 ram_bytes)
{
	return max_t(u64, ram_bytes / 4, MIN_POOL_BYTES);
}

static int reserve_pool(u64 bytes)
{
	u64 available = (u64)si_mem_available() << PAGE_SHIFT;
	u64 ram = PFN_PHYS(ld_ranges_pages());
	int err;

	if (!bytes)
		bytes = default_pool(ram);
	if (bytes > ram ||
	    available < bytes + overhead(bytes) + MIN_FREE_BYTES)
		return fail(-ENOMEM, LIVEDUMP_REFUSAL_POOL_TOO_LARGE,
			    "a pool of %llu MiB does not fit: %llu MiB are available",
			    bytes >> 20, available >> 20);
	err = ld_cow_init(ld_ranges_max_pfn(), PAGE_ALIGN(bytes));
	if (err == -EINTR)
		return err;
	if (err)
		return fail(-ENOMEM, LIVEDUMP_REFUSAL_MEMORY,
			    "cannot allocate a pool of %llu MiB", bytes >> 20);
	session.status.report.pool_pages = ld_cow_pool_pages();
	return 0;
}

/* A step of which a test can let each part fail. */
static int done(int err, const char *what)
{
	return err || ld_test_step() ? no_memory(what) : 0;
}

static int reserve(void)
{
	int err;

	if (ld_ranges_collect())
		return fail(-ENOMEM, LIVEDUMP_REFUSAL_RAM,
			    "cannot list the System RAM");
	ld_regions_init();
	err = reserve_pool(session.request.pool_bytes);
	return err ?: done(0, "the pool") ?:
	       done(ld_classes_prepare(), "a bitmap of pages") ?:
	       done(ld_stop_prepare(), "the stop's state") ?:
	       done(ld_image_prepare(), "the image's headers") ?:
	       done(ld_sensitive_prepare(), "a list of idle tasks") ?:
	       done(ld_armed_prepare(), "the log of what is armed") ?:
	       done(ld_tables_prepare(), "page tables");
}

static int arm_hooks(void)
{
	const char *name = "";
	int err = ld_hooks_arm(&name);

	if (err == -ENOMEM)
		return no_memory("the hooks");
	if (err == -EINTR)
		return err;
	if (err == -EBUSY)
		return fail(-EAGAIN, LIVEDUMP_REFUSAL_CHANGING,
			    "somebody is in %s(), since before it was probed",
			    name);
	if (err)
		return fail(err, LIVEDUMP_REFUSAL_HOOK,
			    "cannot probe the kernel's %s() (%d)", name, err);
	ld_fault_stats_reset();
	err = ld_fault_arm();
	if (err == -ENOENT)
		return fail(err, LIVEDUMP_REFUSAL_TRACEPOINT,
			    "the kernel has no tracepoint exceptions:page_fault_kernel");
	if (err)
		return fail(err, LIVEDUMP_REFUSAL_TRACED,
			    "the way to the fault probe cannot be kept untraced (%d)",
			    err);
	return done(0, "the hooks");
}

static int survey_ram(void)
{
	struct livedump_report *report = &session.status.report;
	const char *why;
	u32 refusal;

	report->marks_cleared = ld_clear_marks();
	ld_count_leaves(report->leaves_before);
	/* What changes while it is looked at is looked at again in the stop. */
	ld_log_restart_pages();
	if (!ld_hooks_wait())
		return fail(-EAGAIN, LIVEDUMP_REFUSAL_CHANGING,
			    "a call that changes mappings does not return");
	/* Hooks look by now: what makes it so later is kept from it. */
	refusal = ld_machine_refusal(&why);
	if (refusal)
		return fail(-EOPNOTSUPP, refusal, "%s", why);
	return ld_ranges_mark_unreadable() ?: done(0, "the survey");
}

static int too_small(int err)
{
	return fail(err, LIVEDUMP_REFUSAL_POOL_TOO_SMALL,
		    "a pool of %llu MiB does not even hold what is saved before and in the stop",
		    session.status.report.pool_pages >> 8);
}

static int make_plan(void)
{
	struct livedump_report *report = &session.status.report;
	int err = session.strategy->prepare();

	if (err == -ENOSPC)
		return too_small(err);
	if (err == -EAGAIN)
		return fail(err, LIVEDUMP_REFUSAL_CHANGING,
			    "the kernel was changing its mappings all the time");
	if (err)
		return no_memory("the plan of the stop");
	ld_count_leaves(report->leaves_held);
	report->pages_ram = ld_ranges_pages();
	report->pages_own = ld_cow_pages_own();
	return done(0, "the plan of the stop");
}

static int run_stop(void)
{
	struct livedump_report *report = &session.status.report;
	int err;

	if (ld_is_ending())
		return -EINTR;
	session.armed = true;
	err = ld_stop_run(session.strategy, report);
	report->pages_unreadable = ld_ranges_unreadable() + ld_cow_pages_gone();
	if (err == -EINTR)
		return err;
	if (err == -ENOSPC)
		return too_small(err);
	if (err == -EAGAIN || err == -ESTALE)
		return fail(err, LIVEDUMP_REFUSAL_CHANGING,
			    "the kernel was changing its mappings at each of %llu attempts to stop",
			    report->attempts);
	if (err == -EOPNOTSUPP)
		return fail(err, LIVEDUMP_REFUSAL_STOP,
			    "this kernel's stacks are not known by their areas of vmalloc space");
	if (err)
		return fail(err, LIVEDUMP_REFUSAL_STOP,
			    "stop_machine failed (%d)", err);
	return done(0, "the stop");
}

static const struct {
	u32 step;			/* enum livedump_step */
	int (*fn)(void);
	size_t took;			/* its time in the receipt; 0: it has its own */
} steps[] = {
#define STEP(name, fn, field)                                                \
	{ LIVEDUMP_STEP_##name, fn, offsetof(struct livedump_report, field) }
	STEP(RESERVE, reserve, reserve_ns),
	STEP(HOOKS, arm_hooks, hooks_ns),
	STEP(SURVEY, survey_ram, survey_ns),
	STEP(PLAN, make_plan, plan_ns),
	{ LIVEDUMP_STEP_STOP, run_stop },
};

/* Hotplug under way ends; what comes later finds us busy. */
static void wait_for_hotplug(void)
{
	cpus_read_lock();
	ld_get_online_mems();
	ld_put_online_mems();
	cpus_read_unlock();
}

static int take(void)
{
	struct livedump_report *report = &session.status.report;
	int i, err = 0;

	wait_for_hotplug();
	for (i = 0; i < ARRAY_SIZE(steps) && !err; i++) {
		u64 start = rdtsc_ordered(), took;

		WRITE_ONCE(session.status.step, steps[i].step);
		err = steps[i].fn();
		took = ld_tsc_to_ns(rdtsc_ordered() - start);
		if (steps[i].took) {
			*(u64 *)((void *)report + steps[i].took) = took;
			report->prepare_ns += took;
		}
		if (ld_is_ending())
			err = -EINTR;
	}
	return err;
}

static void hold(void)
{
	struct livedump_report *report = &session.status.report;

	ld_tables_patch_copies();
	session.deadline = 0;
	if (session.request.max_hold_ms)
		session.deadline = jiffies +
				   msecs_to_jiffies(session.request.max_hold_ms);
	session.told_low = false;
	session.told_lost = false;
	session.counted = false;
	ld_classes_begin(ld_stop_saved());
	update_report();
	ld_image_open(report);
	mutex_lock(&session.lock);
	set_state(LIVEDUMP_STATE_HOLDING);
	session.status.step = LIVEDUMP_STEP_NONE;
	mutex_unlock(&session.lock);
	ld_hooks_canary();
	trace_livedump_snapshot(report);
	tell(LIVEDUMP_EVENT_SNAPSHOT, &session.status);
	pr_info("livedump: snapshot by %s, stopped for %llu us, %llu entries\n",
		session.strategy->name, report->stop_ns / 1000,
		report->entries_protected);
}

static void prepare(void)
{
	int err = take();

	if (!err) {
		hold();
		queue_delayed_work(session.workqueue, &session.work, 0);
		return;
	}
	if (err == -EINTR)
		fail(err, LIVEDUMP_REFUSAL_CANCELLED,
		     "ended before there was a snapshot");
	session.status.reason = LIVEDUMP_REASON_FAILED;
	teardown();
	become_idle(LIVEDUMP_EVENT_FAILED);
}

static void work(struct work_struct *unused)
{
	if (session.state == LIVEDUMP_STATE_PREPARED)
		prepare();
	else if (session.state == LIVEDUMP_STATE_HOLDING)
		watch();
}

/* ---- what others ask of it ---- */

static __printf(4, 5) int refuse(struct ld_status *answer, int err,
				 u32 refusal, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_refusal(answer, refusal, format, args);
	va_end(args);
	return err;
}

/* What is not kept. A search for symbols is not for who polls a snapshot. */
static void complete_answer(struct ld_status *answer)
{
	const char *why;

	if (answer->report.state == LIVEDUMP_STATE_IDLE)
		answer->machine = ld_machine_refusal(&why);
	answer->default_pool = default_pool((u64)totalram_pages() << PAGE_SHIFT);
}

static int check(const struct ld_request *request, struct ld_status *answer)
{
	const char *why = "";
	u32 refusal = ld_machine_refusal(&why);

	if (session.state != LIVEDUMP_STATE_IDLE)
		return refuse(answer, -EBUSY, LIVEDUMP_REFUSAL_BUSY,
			      "a snapshot is held or being prepared already (owner: process %u; 0 = it persists)",
			      session.status.owner_pid);
	if (session.asleep)
		return refuse(answer, -EBUSY, LIVEDUMP_REFUSAL_SLEEPING,
			      "the machine is going to sleep, waking up or going down");
	if (refusal)
		return refuse(answer, -EOPNOTSUPP, refusal, "%s", why);
	if (!ld_strategy_find(request->strategy))
		return refuse(answer, -EINVAL, LIVEDUMP_REFUSAL_STRATEGY,
			      "unknown strategy %u", request->strategy);
	if (!request->owner && !(request->flags & LIVEDUMP_F_PERSIST))
		return refuse(answer, -EINVAL, LIVEDUMP_REFUSAL_OWNER,
			      "an owner file or the persist flag is needed");
	if (!try_module_get(THIS_MODULE))
		return refuse(answer, -ENODEV, LIVEDUMP_REFUSAL_UNLOADING,
			      "the module is going away");
	return 0;
}

static void begin(const struct ld_request *request)
{
	struct livedump_report *report = &session.status.report;

	memset(&session.status, 0, sizeof(session.status));
	session.request = *request;
	session.owner = request->owner;
	session.status.owner_pid = request->owner ? current->tgid : 0;
	session.strategy = ld_strategy_find(request->strategy);
	report->abi = LIVEDUMP_ABI;
	report->size = sizeof(*report);
	report->strategy = session.strategy->id;
	report->flags = request->flags;
	if (!want_init_on_alloc(GFP_KERNEL))
		report->flags |= LIVEDUMP_F_NOT_ZEROED;
	WRITE_ONCE(session.round, session.round + 1);
	set_state(LIVEDUMP_STATE_PREPARED);
	mod_delayed_work(session.workqueue, &session.work, 0);
}

int ld_session_snapshot(const struct ld_request *request,
			struct ld_status *answer)
{
	int err;

	if (mutex_lock_killable(&session.lock))
		return -EINTR;
	*answer = session.status;
	err = check(request, answer);
	if (!err) {
		begin(request);
		*answer = session.status;
	}
	mutex_unlock(&session.lock);
	complete_answer(answer);
	return err;
}

/* With the lock held: let the worker end what there is. */
static bool end(u32 reason)
{
	if (session.state != LIVEDUMP_STATE_PREPARED &&
	    session.state != LIVEDUMP_STATE_HOLDING)
		return false;
	if (!ld_is_ending())
		WRITE_ONCE(ld_ending, reason);
	/* One that runs is looked at by it, or runs once more. */
	mod_delayed_work(session.workqueue, &session.work, 0);
	return true;
}

/* Another may have begun since. */
static void wait_for_end_of(unsigned int round)
{
	if (!wait_event_timeout(session.idle,
				!ld_session_busy() ||
					READ_ONCE(session.round) != round,
				PATIENCE))
		pr_err("livedump: the snapshot does not end\n");
}

int ld_session_release(u32 reason)
{
	bool ending;

	if (mutex_lock_killable(&session.lock))
		return -EINTR;
	ending = end(reason);
	mutex_unlock(&session.lock);
	return ending ? 0 : -ENOENT;
}

void ld_session_sleep(bool asleep)
{
	unsigned int round;

	mutex_lock(&session.lock);
	round = session.round;
	session.asleep = asleep;
	if (asleep)
		end(LIVEDUMP_REASON_SYSTEM);
	mutex_unlock(&session.lock);
	if (asleep)
		wait_for_end_of(round);
}

static void file_closed(const struct file *file)
{
	unsigned int round;
	bool ours;

	mutex_lock(&session.lock);
	round = session.round;
	ours = session.owner == file && end(LIVEDUMP_REASON_OWNER);
	/* Another file may get this address. */
	if (ours)
		session.owner = NULL;
	mutex_unlock(&session.lock);
	if (ours)
		wait_for_end_of(round);
}

/* So many page frames are looked at with the lock held. */
#define LOST_SLICE 65536

static bool next_lost(unsigned long *pfn, bool *end)
{
	unsigned long stop = *pfn + LOST_SLICE;

	for (; *pfn < min(stop, ld_cow_max_pfn()); ++*pfn)
		if (ld_cow_slot(*pfn) == LD_SLOT_LOST)
			return true;
	*end = *pfn >= ld_cow_max_pfn();
	return false;
}

bool ld_session_next_lost(unsigned long *pfn)
{
	bool found = false, end = false;

	while (!found && !end) {
		mutex_lock(&session.lock);
		if (session.state == LIVEDUMP_STATE_HOLDING)
			found = next_lost(pfn, &end);
		else
			end = true;
		mutex_unlock(&session.lock);
		cond_resched();
	}
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
	complete_answer(status);
	return 0;
}

int ld_session_init(void)
{
	mutex_init(&session.lock);
	init_waitqueue_head(&session.idle);
	INIT_DELAYED_WORK(&session.work, work);
	/* Ordered: one piece of work after the other. With a rescuer. */
	session.workqueue = alloc_ordered_workqueue("livedump", WQ_MEM_RECLAIM);
	session.status.report.abi = LIVEDUMP_ABI;
	session.status.report.size = sizeof(session.status.report);
	ld_image_on_close(file_closed);
	return session.workqueue ? 0 : -ENOMEM;
}

void ld_session_exit(void)
{
	cancel_delayed_work_sync(&session.work);
	destroy_workqueue(session.workqueue);
}
