/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every program of livedump-trace shares: histograms, stacks, tasks and
 * counted losses, all aggregated here. Totals are read when recording ends;
 * what is kept by time slice (`cells`, `folds`) is taken out while it goes on.
 *
 * Programs may run inside a page fault: every map is preallocated, and only
 * attach types that bpf_prog_active guards are used (kprobe, kretprobe,
 * TRACEPOINT_PROBE), but for page_fault_user, which cannot nest. What the guard
 * skips is counted by the kernel for each program and read by the recorder.
 *
 * The enums below are mirrored by livedump/recording/layout.py; a test compares.
 */
#include <linux/errno.h>
#include <uapi/linux/ptrace.h>
#include "kernel.h"
#include "loglinear.h"

#ifndef LD_MAX_STACKS
#define LD_MAX_STACKS 16384
#endif
#ifndef LD_MAX_SPILLED
#define LD_MAX_SPILLED 4096
#endif
#ifndef LD_MAX_FOLDS
#define LD_MAX_FOLDS 16384
#endif
#ifndef LD_MAX_TASKS
#define LD_MAX_TASKS 8192
#endif
#ifndef LD_MAX_INFLIGHT
#define LD_MAX_INFLIGHT 8192
#endif
#ifndef LD_MAX_CROWDED
#define LD_MAX_CROWDED 4096
#endif
#ifndef LD_MAX_PAGES
#define LD_MAX_PAGES 65536
#endif
#ifndef LD_MAX_EVENTS
#define LD_MAX_EVENTS 4096
#endif
#ifndef LD_MAX_CELLS
#define LD_MAX_CELLS 65536
#endif
#ifndef LD_RING_PAGES
#define LD_RING_PAGES 4096	/* a power of two */
#endif
/*
 * So many events of a kind a CPU hands over at once, a power of two; fewer when
 * one comes so long after it did so last.
 */
#define LD_BATCH 64
#define LD_BATCH_NS 100000000
#ifndef LD_SLICE_NS
#define LD_SLICE_NS 100000000
#endif

/* Of which events the stack is taken. */
#define LD_STACKS_NONE 0
#define LD_STACKS_SAMPLED 1
#define LD_STACKS_ALL 2
#ifndef LD_STACKS
#define LD_STACKS LD_STACKS_SAMPLED
#endif
/*
 * Sampled: of a kind, on a CPU, so many in 2^LD_PERIOD_BITS ns (0.13 s), and
 * from then on half as often after every half as many; each period begins with
 * twice as often as the last one has ended. To take one costs some microseconds,
 * a fault less than one.
 */
#define LD_BURST 32
#define LD_PERIOD_BITS 27
#define LD_RAREST (1 << 20)

#define LD_COMM 16

/*
 * What the program of a kernel's tracepoint returns: 0 would hide the event from
 * everybody else who has it in perf (perf_trace_run_bpf_submit() in the kernel).
 * Not those of livedump's own: what perf writes then might be protected, and a
 * fault in there is seen by nobody.
 */
#define LD_PASS_ON 1

/* What a number is about. */
enum ld_kind {
	LD_KIND_USER,		/* fault from user mode */
	LD_KIND_USER_MAJOR,	/* of these, those that had to wait for a disk */
	LD_KIND_UACCESS,	/* kernel touches user memory for a task */
	LD_KIND_GUP,		/* pages faulted in without an exception */
	LD_KIND_KERNEL,		/* any fault in kernel mode */
	LD_KIND_COW,		/* livedump's own: probe entry to writable */
	LD_KIND_COW_DEMOTE,	/* of that, until the 4 KiB entry is reached */
	LD_KIND_COW_COPY,	/* of that, the copy */
	LD_KIND_STOP,		/* stop_machine(), call to return */
	LD_KINDS,
};

/* What can get lost, counted for each kind. */
enum ld_loss {
	LD_LOSS_STACK,		/* counted, but without a stack */
	LD_LOSS_STACKS_FULL,	/* counted, but not under its stack */
	LD_LOSS_TASKS_FULL,	/* counted, but not under its task */
	LD_LOSS_PAGES_FULL,	/* counted, but not under its page */
	LD_LOSS_INFLIGHT_FULL,	/* entry not remembered: no latency */
	LD_LOSS_NO_EXIT,	/* entry without exit: no latency */
	LD_LOSS_NO_ENTRY,	/* exit without entry: no latency */
	LD_LOSS_EVENTS_FULL,	/* stop, snapshot or release not kept */
	LD_LOSS_SLICES_FULL,	/* counted, but not under its time slice */
	LD_LOSS_RING_FULL,	/* counted, but not kept as an event */
	LD_LOSS_USER_STACK,	/* counted, but without user space's stack */
	LD_LOSSES,
};

/* Things that are merely counted. */
enum ld_counter {
	LD_COUNT_USER_EVENTS,		/* exceptions:page_fault_user */
	LD_COUNT_KERNEL_EVENTS,		/* exceptions:page_fault_kernel */
	LD_COUNT_KERNEL_WRITE_PROTECT,	/* of these: write, page present */
	LD_COUNT_KERNEL_NOT_PRESENT,	/* of these: page not present */
	LD_COUNT_KERNEL_USER_ADDRESS,	/* of these: address of user space */
	LD_COUNT_FAULT_RETRY,		/* handle_mm_fault: to be repeated */
	LD_COUNT_FAULT_MAJOR,		/* handle_mm_fault: had to wait */
	LD_COUNT_FAULT_ERROR,		/* handle_mm_fault: failed */
	LD_COUNT_COW_SAVED,
	LD_COUNT_COW_ALREADY,
	LD_COUNT_COW_LOST,
	LD_COUNT_COW_RELEASING,
	LD_COUNT_COW_OTHER,
	LD_COUNTERS,
};

struct ld_hist {
	u64 count;
	u64 sum_ns;
	u64 max_ns;
	u64 slots[LD_BUCKETS];
};

struct ld_sum {
	u64 count;
	u64 stalled_ns;
};

/*
 * What happened in a time slice on a CPU. `what` is the kind, times
 * LD_CELL_KINDS, plus a bucket, or LD_BUCKETS and a loss, or LD_CELL_UNTIMED.
 * The CPU is in the key: nobody else adds to the value.
 */
struct ld_cell {
	u32 slice;		/* since recording began */
	u16 cpu;
	u16 what;
};

#define LD_CELL_KINDS 2048
#define LD_CELL_UNTIMED (LD_BUCKETS + LD_LOSSES)

/* One stack is taken of so many events, by chance. */
struct ld_turn {
	u32 events;		/* since the last one */
	u32 next;		/* the event to take */
	u32 every;		/* of so many, on average */
	u32 burst;		/* taken since `every` has changed */
	u64 period;
};

/* One fault, where they are kept one by one. */
struct ld_event {
	u64 time_ns;		/* of its end */
	u64 latency_ns;		/* 0: not timed */
	u64 address;		/* copy-on-write: number of the page frame */
	u32 pid;		/* user space's: the thread group */
	u32 tid;
	s32 stack;		/* negative: lost */
	u32 weight;		/* of the stack; 0: none was taken */
	u32 detail;		/* vm_fault, error code, or the outcome */
	u16 cpu;
	u16 kind;
};

/* Events of a kind that a CPU has not handed over yet. */
struct ld_batch {
	u64 sent_ns;		/* when the last ones were */
	u64 count;
	struct ld_event events[LD_BATCH];
};

/* Bit of a stack's number: it is in the map `spilled`. */
#define LD_SPILLED (1 << 30)

struct ld_stack_key {
	u32 slice;
	u32 kind;
	s32 stack;		/* negative: lost */
	s32 user;		/* stack of user space; negative: none */
	u32 pid;		/* whose, 0 without one */
	char comm[LD_COMM];
};

/* Sums stand for all events, those whose stack was not taken included. */
struct ld_fold {
	u64 count;
	u64 stalled_ns;
	u64 samples;
};

struct ld_task_key {
	u32 kind;
	u32 pid;		/* user space's: the thread group */
	char comm[LD_COMM];
};

struct ld_task {
	u64 count;
	u64 stalled_ns;
	u64 cgroup;		/* number of one that it was seen in */
};

/* Sums that are not in `tasks` yet. */
struct ld_tally {
	struct ld_task_key key;
	struct ld_task sum;
};

struct ld_name {
	u64 word[2];		/* LD_COMM bytes, to be compared */
};

/*
 * When recording began, 0 while it is not on: all programs begin and end at the
 * same moment.
 */
BPF_ARRAY(window, u64, 1);
BPF_PERCPU_ARRAY(hists, struct ld_hist, LD_KINDS);
BPF_PERCPU_ARRAY(counters, u64, LD_COUNTERS);
BPF_PERCPU_ARRAY(losses, u64, LD_KINDS * LD_LOSSES);
BPF_STACK_TRACE(stacks, LD_MAX_STACKS);
BPF_STACK_TRACE(spilled, LD_MAX_SPILLED);
BPF_PERCPU_ARRAY(turns, struct ld_turn, LD_KINDS);
BPF_HASH(folds, struct ld_stack_key, struct ld_fold, LD_MAX_FOLDS);
BPF_HASH(cells, struct ld_cell, u64, LD_MAX_CELLS);
#ifdef LD_USER_STACKS
/* Of their own: each process has other addresses, and would fill the kernel's. */
BPF_STACK_TRACE(user_stacks, LD_MAX_STACKS);
BPF_STACK_TRACE(user_spilled, LD_MAX_SPILLED);
#endif
#ifdef LD_EVENTS
BPF_RINGBUF_OUTPUT(ring, LD_RING_PAGES);
BPF_PERCPU_ARRAY(batches, struct ld_batch, LD_KINDS);
#endif
/* A CPU's events are mostly one task's for a while: they get there in one go. */
BPF_HASH(tasks, struct ld_task_key, struct ld_task, LD_MAX_TASKS);
BPF_PERCPU_ARRAY(tallies, struct ld_tally, LD_KINDS);

/* Return: when recording began, or 0. */
static __always_inline u64 ld_recording(void)
{
	int zero = 0;
	u64 *start_ns = window.lookup(&zero);

	return start_ns ? *start_ns : 0;
}

static __always_inline u32 ld_slice(u64 now_ns)
{
	return (now_ns - ld_recording()) / LD_SLICE_NS;
}

/* Whose faults are recorded, where not everybody's are; filled before. */
#ifdef LD_FILTER_PID
BPF_HASH(wanted_pids, u32, u32, 1024);
#endif
#ifdef LD_FILTER_COMM
BPF_ARRAY(wanted_comm, struct ld_name, 1);
#endif
#ifdef LD_FILTER_CGROUP
BPF_CGROUP_ARRAY(wanted_cgroup, 1);
#endif

/* Recording, and the current task is among them. */
static __always_inline bool ld_wanted(void)
{
	if (!ld_recording())
		return false;
#ifdef LD_FILTER_PID
	{
		u32 pid = bpf_get_current_pid_tgid() >> 32;

		if (!wanted_pids.lookup(&pid))
			return false;
	}
#endif
#ifdef LD_FILTER_COMM
	{
		int zero = 0;
		struct ld_name now = {};
		struct ld_name *name = wanted_comm.lookup(&zero);

		bpf_get_current_comm(&now, sizeof(now));
		if (!name || name->word[0] != now.word[0] ||
		    name->word[1] != now.word[1])
			return false;
	}
#endif
#ifdef LD_FILTER_CGROUP
	if (wanted_cgroup.check_current_task(0) <= 0)
		return false;
#endif
	return true;
}

/*
 * Attached for a moment where bpf_prog_active refuses every program, to see
 * whether this kernel counts that.
 */
int ld_refused(struct pt_regs *ctx)
{
	return 0;
}

static __always_inline void ld_add_loss(enum ld_kind kind, enum ld_loss what,
					u64 events)
{
	int index = kind * LD_LOSSES + what;
	u64 *count = losses.lookup(&index);

	if (count)
		*count += events;
}

static __always_inline void ld_add_cell(enum ld_kind kind, u32 what, u64 events,
					u64 now_ns)
{
	struct ld_cell key = {};
	u64 zero = 0, *count;

	key.slice = ld_slice(now_ns);
	key.cpu = bpf_get_smp_processor_id();
	key.what = kind * LD_CELL_KINDS + what;
	count = cells.lookup_or_try_init(&key, &zero);
	if (count)
		*count += events;
	else
		ld_add_loss(kind, LD_LOSS_SLICES_FULL, events);
}

static __always_inline void ld_lost_events(enum ld_kind kind, enum ld_loss what,
					   u64 events)
{
	ld_add_loss(kind, what, events);
	ld_add_cell(kind, LD_BUCKETS + what, events, bpf_ktime_get_ns());
}

static __always_inline void ld_lost(enum ld_kind kind, enum ld_loss what)
{
	ld_lost_events(kind, what, 1);
}

static __always_inline void ld_count(enum ld_counter what)
{
	int index = what;
	u64 *count = counters.lookup(&index);

	if (count)
		*count += 1;
}

static __always_inline void ld_observe(enum ld_kind kind, u64 value_ns,
				       u64 now_ns)
{
	int index = kind;
	u32 bucket = ld_bucket(value_ns);
	struct ld_hist *hist = hists.lookup(&index);

	if (!hist)
		return;
	hist->count += 1;
	hist->sum_ns += value_ns;
	if (value_ns > hist->max_ns)
		hist->max_ns = value_ns;
	if (bucket < LD_BUCKETS) {
		hist->slots[bucket] += 1;
		ld_add_cell(kind, bucket, 1, now_ns);
	}
}

static __always_inline u32 ld_gap(u32 every)
{
	return every > 1 ? 1 + bpf_get_prandom_u32() % (2 * every - 1) : 1;
}

/*
 * Whether this event's stack is to be taken. Gaps are random, so that a load
 * with a rhythm of its own does not hide half of its stacks; they follow the
 * rate at once when it grows, by half each period when it falls.
 * Return: 0, or the number of events that the stack stands for: those since the
 * last one on this CPU. The rest of a burst stands under none: what comes after
 * a pause has nothing to do with it.
 */
static __always_inline u32 ld_sample(enum ld_kind kind, u64 now_ns)
{
#if LD_STACKS == LD_STACKS_SAMPLED
	int index = kind;
	struct ld_turn *turn = turns.lookup(&index);
	u64 period = now_ns >> LD_PERIOD_BITS, passed;
	u32 events, every;

	if (!turn)
		return 1;
	passed = period - turn->period;
	if (passed > 1)
		turn->events = 0;
	events = turn->events + 1;
	if (passed) {
		turn->period = period;
		turn->burst = 0;
		every = passed < 32 ? turn->every >> passed : 0;
		turn->every = every ? every : 1;
		if (turn->next > events + 2 * turn->every)
			turn->next = events + ld_gap(turn->every);
	}
	if (events < turn->next) {
		turn->events = events;
		return 0;
	}
	turn->events = 0;
	turn->burst += 1;
	if (turn->burst >= LD_BURST && turn->every < LD_RAREST) {
		turn->burst = LD_BURST / 2;
		turn->every *= 2;
	}
	turn->next = ld_gap(turn->every);
	return events;
#else
	return LD_STACKS == LD_STACKS_ALL;
#endif
}

/*
 * A stack map keeps one stack for each hash value. One that comes later with
 * the same value goes into a second map, which is nearly empty: to reuse the
 * first one's place would give its events a wrong stack.
 */
static __always_inline s32 ld_stack(void *ctx, enum ld_kind kind, u32 weight)
{
	s32 stack = stacks.get_stackid(ctx, 0);

	if (stack == -EEXIST) {
		stack = spilled.get_stackid(ctx, 0);
		if (stack >= 0)
			stack |= LD_SPILLED;
	}
	if (stack < 0) {
		ld_lost_events(kind, LD_LOSS_STACK, weight);
		return -1;
	}
	return stack;
}

#ifdef LD_USER_STACKS
/* Return: its number; -1 where there is none, as in kernel threads. */
static __always_inline s32 ld_user_stack(void *ctx, enum ld_kind kind,
					 u32 weight)
{
	s32 stack = user_stacks.get_stackid(ctx, BPF_F_USER_STACK);

	if (stack == -EEXIST) {
		stack = user_spilled.get_stackid(ctx, BPF_F_USER_STACK);
		if (stack >= 0)
			stack |= LD_SPILLED;
	}
	if (stack >= 0)
		return stack;
	if (stack != -EFAULT)
		ld_lost_events(kind, LD_LOSS_USER_STACK, weight);
	return -1;
}
#endif

/* weight: of ld_sample(), not 0. */
static __always_inline void ld_add_stack(void *ctx, enum ld_kind kind,
					 s32 stack, u32 weight, u64 stalled_ns,
					 u64 now_ns)
{
	struct ld_stack_key key = { .kind = kind, .stack = stack, .user = -1 };
	struct ld_fold zero = {};
	struct ld_fold *fold;

#ifdef LD_USER_STACKS
	key.user = ld_user_stack(ctx, kind, weight);
	if (key.user >= 0)
		key.pid = bpf_get_current_pid_tgid() >> 32;
#endif
	key.slice = ld_slice(now_ns);
	bpf_get_current_comm(&key.comm, sizeof(key.comm));
	fold = folds.lookup_or_try_init(&key, &zero);
	if (!fold) {
		ld_lost_events(kind, LD_LOSS_STACKS_FULL, weight);
		return;
	}
	__sync_fetch_and_add(&fold->count, weight);
	__sync_fetch_and_add(&fold->stalled_ns, stalled_ns * weight);
	__sync_fetch_and_add(&fold->samples, 1);
}

/*
 * Nothing else that comes here runs on this CPU meanwhile: bpf_prog_active sees
 * to it. The raw program only counts.
 */
static __always_inline void ld_flush_tally(enum ld_kind kind,
					   struct ld_tally *tally)
{
	struct ld_task_key key = tally->key;
	struct ld_task zero = {};
	struct ld_task *sum;

	if (!tally->sum.count && !tally->sum.stalled_ns)
		return;
	sum = tasks.lookup_or_try_init(&key, &zero);
	if (sum) {
		__sync_fetch_and_add(&sum->count, tally->sum.count);
		__sync_fetch_and_add(&sum->stalled_ns, tally->sum.stalled_ns);
		sum->cgroup = tally->sum.cgroup;
	} else {
		ld_lost_events(kind, LD_LOSS_TASKS_FULL, tally->sum.count);
	}
	tally->sum.count = 0;
	tally->sum.stalled_ns = 0;
}

static __always_inline bool ld_same_task(const struct ld_task_key *a,
					 const struct ld_task_key *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline void ld_add_task(enum ld_kind kind, u64 count,
					u64 stalled_ns)
{
	struct ld_task_key key = { .kind = kind };
	int index = kind;
	struct ld_tally *tally = tallies.lookup(&index);

	if (!tally)
		return;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(&key.comm, sizeof(key.comm));
	if (!ld_same_task(&tally->key, &key)) {
		ld_flush_tally(kind, tally);
		tally->key = key;
		tally->sum.cgroup = bpf_get_current_cgroup_id();
	}
	tally->sum.count += count;
	tally->sum.stalled_ns += stalled_ns;
}

#ifdef LD_EVENTS
/*
 * The recorder looks by itself, so nobody is woken. Where there is no room, all
 * are lost now, whenever they happened: a slice of the past may be under way out.
 */
static __always_inline void ld_send(enum ld_kind kind, struct ld_batch *batch,
				    u32 count, u64 now_ns)
{
	struct ld_event *events = batch->events;	/* BCC takes no array */

	if (ring.ringbuf_output(events, count * sizeof(*events),
				BPF_RB_NO_WAKEUP))
		ld_lost_events(kind, LD_LOSS_RING_FULL, count);
	batch->count = 0;
	batch->sent_ns = now_ns;
}
#endif

/*
 * Seldom ones go at once; of many, the last ones stay until the recorder takes
 * them at the end. Nothing else that comes here runs on this CPU meanwhile, see
 * ld_flush_tally().
 */
static __always_inline void ld_emit(enum ld_kind kind, u64 latency_ns,
				    u64 address, u32 detail, u32 weight,
				    s32 stack, u64 now_ns)
{
#ifdef LD_EVENTS
	u64 task = bpf_get_current_pid_tgid();
	int index = kind;
	struct ld_batch *batch = batches.lookup(&index);
	struct ld_event *event;
	u32 place;

	if (!batch)
		return;
	place = batch->count & (LD_BATCH - 1);
	event = &batch->events[place];
	event->time_ns = now_ns;
	event->latency_ns = latency_ns;
	event->address = address;
	event->pid = task >> 32;
	event->tid = task;
	event->stack = stack;
	event->weight = weight;
	event->detail = detail;
	event->cpu = bpf_get_smp_processor_id();
	event->kind = kind;
	batch->count = place + 1;
	if (place + 1 == LD_BATCH || now_ns - batch->sent_ns >= LD_BATCH_NS)
		ld_send(kind, batch, place + 1, now_ns);
#endif
}
