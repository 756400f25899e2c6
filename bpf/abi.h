/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sizes, numbers and structures that the programs of livedump-trace share with
 * the recorder. livedump/recording/layout.py mirrors them; a test compares.
 *
 * BCC rewrites accesses to maps in the file that it compiles only, not in what
 * that includes. So the recorder joins one text, in this order: abi.h, maps.h,
 * filter.h, count.h, sample.h, emit.h, then the .c file of each question.
 *
 * Programs may run inside a page fault: every map is preallocated, and only
 * attach types that bpf_prog_active guards are used (kprobe, kretprobe,
 * TRACEPOINT_PROBE), but for page_fault_user, which cannot nest. What the guard
 * skips is counted by the kernel for each program and read by the recorder.
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
 * Sampled: for each kind and CPU, after LD_BURST stacks within one period of
 * 2^LD_PERIOD_BITS ns (0.13 s) the rate halves, and again after every
 * LD_BURST / 2; the next period starts at twice the last rate. Taking a stack
 * costs some microseconds, a fault less than one.
 */
#define LD_BURST 32
#define LD_PERIOD_BITS 27
/*
 * Events that take at least so long are few, and have most of the stalled time:
 * they take turns of their own, in which as good as every stack is taken. A
 * power of two, so that no bucket of the histogram holds both sorts.
 */
#define LD_SLOW_NS (1 << 20)
#define LD_SLOW_BURST 1024
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
 * The value is a struct ld_sum; the CPU is in the key: nobody else adds to it.
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
	u32 slow;		/* of events that took LD_SLOW_NS, or of others */
	char comm[LD_COMM];
};

/*
 * Sums stand for all events, those whose stack was not taken included. How
 * uncertain that is follows from the sums of w * (w - 1) over all samples, w
 * being the weight, and of w * (w - 1) * t * t, t being the time in 1,024 ns.
 */
struct ld_fold {
	u64 count;
	u64 stalled_ns;
	u64 samples;
	u64 spread;
	u64 stalled_spread;
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
