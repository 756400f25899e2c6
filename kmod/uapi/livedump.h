/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * livedump's ABI: the only definition of what the module and its clients
 * share. livedump/abi.py mirrors it and a test compares the two.
 *
 * Control is a generic netlink family in the initial network namespace; the
 * snapshot itself is read from LIVEDUMP_IMAGE_PATH, a seekable ELF64 core.
 */
#ifndef _UAPI_LIVEDUMP_H
#define _UAPI_LIVEDUMP_H

#include <linux/types.h>

#define LIVEDUMP_ABI 4

#define LIVEDUMP_GENL_NAME "livedump"
#define LIVEDUMP_GENL_VERSION 2
#define LIVEDUMP_GENL_GROUP "events"

#define LIVEDUMP_IMAGE_PATH "/proc/livedump"

/*
 * Our ELF note: name and type; its descriptor is struct livedump_report. The
 * type is none of CORE's: crash looks at the type alone, and 1 is NT_PRSTATUS.
 */
#define LIVEDUMP_NOTE_NAME "LIVEDUMP"
#define LIVEDUMP_NOTE_TYPE 0x4c44

enum livedump_cmd {
	LIVEDUMP_CMD_UNSPEC,
	LIVEDUMP_CMD_STATUS,	/* -> state, step, report, owner, refusal, ... */
	/*
	 * Strategy, pool, owner fd, flags, max hold. Answers at once, like STATUS:
	 * refused, or `prepared`. The module's worker does the rest; STATUS and an
	 * event tell how it ended.
	 */
	LIVEDUMP_CMD_SNAPSHOT,
	/* Ends a snapshot, or its preparation; answers at once, like STATUS. */
	LIVEDUMP_CMD_RELEASE,
	LIVEDUMP_CMD_LOST,	/* dump: one LOST_PFN for each message */
	LIVEDUMP_CMD_EVENT,	/* multicast: event, state, report, reason */
	__LIVEDUMP_CMD_MAX,
};

enum livedump_attr {
	LIVEDUMP_ATTR_UNSPEC,
	LIVEDUMP_ATTR_PAD,
	LIVEDUMP_ATTR_STATE,		/* u32, enum livedump_state */
	LIVEDUMP_ATTR_STRATEGY,		/* u32, enum livedump_strategy */
	LIVEDUMP_ATTR_FLAGS,		/* u32, LIVEDUMP_F_* */
	LIVEDUMP_ATTR_OWNER_FD,		/* u32, the sender's open image file */
	LIVEDUMP_ATTR_OWNER_PID,	/* u32, 0 when persistent */
	LIVEDUMP_ATTR_POOL_BYTES,	/* u64, 0 = default */
	LIVEDUMP_ATTR_MAX_HOLD_MS,	/* u32, 0 = no limit */
	LIVEDUMP_ATTR_REPORT,		/* binary, struct livedump_report */
	LIVEDUMP_ATTR_ERROR,		/* string, why the last snapshot failed */
	LIVEDUMP_ATTR_EVENT,		/* u32, enum livedump_event */
	LIVEDUMP_ATTR_REASON,		/* u32, enum livedump_reason */
	LIVEDUMP_ATTR_LOST_PFN,		/* u64, page frame number */
	LIVEDUMP_ATTR_REFUSAL,		/* u32, enum livedump_refusal: the last one */
	LIVEDUMP_ATTR_STEP,		/* u32, enum livedump_step */
	/* u32, enum livedump_refusal of this machine now, while state is idle */
	LIVEDUMP_ATTR_MACHINE,
	LIVEDUMP_ATTR_DEFAULT_POOL,	/* u64, bytes */
	__LIVEDUMP_ATTR_MAX,
};

enum livedump_state {
	LIVEDUMP_STATE_IDLE,
	LIVEDUMP_STATE_PREPARED,
	LIVEDUMP_STATE_HOLDING,
	LIVEDUMP_STATE_RELEASING,
};

/* What the worker does while state is `prepared`. */
enum livedump_step {
	LIVEDUMP_STEP_NONE,
	LIVEDUMP_STEP_RESERVE,		/* the pool, tables, notes */
	LIVEDUMP_STEP_HOOKS,		/* arm what sees mappings change */
	LIVEDUMP_STEP_SURVEY,		/* which pages there are to be read */
	LIVEDUMP_STEP_PLAN,		/* copy what stays writable, plan the stop */
	LIVEDUMP_STEP_STOP,
};

/*
 * Why there is no snapshot. The machine's own come first; a client that is not
 * able to ask can look for them by itself (livedump/machine.py).
 */
enum livedump_refusal {
	LIVEDUMP_REFUSAL_NONE,
	/* this machine or kernel, whatever is asked */
	LIVEDUMP_REFUSAL_XEN_PV,	/* Xen owns the page tables */
	LIVEDUMP_REFUSAL_ENCRYPTED,	/* SEV or TDX guest */
	LIVEDUMP_REFUSAL_PREEMPT_RT,
	LIVEDUMP_REFUSAL_SANITIZER,	/* KASAN, KMSAN, KCOV, STACKLEAK */
	LIVEDUMP_REFUSAL_CONFIG,	/* lacks VMAP_STACK or SPARSEMEM_VMEMMAP */
	LIVEDUMP_REFUSAL_DEBUG_PAGEALLOC,
	LIVEDUMP_REFUSAL_CPA_DEBUG,	/* its self-test uses our tag */
	LIVEDUMP_REFUSAL_NOHZ_FULL,
	LIVEDUMP_REFUSAL_PERCPU_PAGES,	/* percpu_alloc=page */
	LIVEDUMP_REFUSAL_TSC,		/* no usable time stamp counter */
	/* this machine, now */
	LIVEDUMP_REFUSAL_KVM_GUEST,	/* a virtual machine runs on it */
	LIVEDUMP_REFUSAL_HUGETLB_VMEMMAP,	/* vm.hugetlb_optimize_vmemmap is on */
	LIVEDUMP_REFUSAL_TRACED,	/* the way to the fault probe is traced */
	LIVEDUMP_REFUSAL_SLEEPING,	/* suspend, hibernation or reboot */
	/* this request */
	LIVEDUMP_REFUSAL_BUSY,		/* a snapshot is held or being prepared */
	LIVEDUMP_REFUSAL_STRATEGY,	/* there is no such strategy */
	LIVEDUMP_REFUSAL_OWNER,		/* neither an image file nor F_PERSIST */
	LIVEDUMP_REFUSAL_UNLOADING,	/* the module is going away */
	LIVEDUMP_REFUSAL_POOL_TOO_LARGE,	/* there is not so much memory */
	LIVEDUMP_REFUSAL_POOL_TOO_SMALL,	/* for what is copied before faults are */
	LIVEDUMP_REFUSAL_MEMORY,	/* an allocation failed */
	LIVEDUMP_REFUSAL_RAM,		/* cannot list the System RAM */
	LIVEDUMP_REFUSAL_HOOK,		/* cannot probe a kernel function */
	LIVEDUMP_REFUSAL_TRACEPOINT,	/* no exceptions:page_fault_kernel */
	LIVEDUMP_REFUSAL_CHANGING,	/* mappings changed at every attempt */
	LIVEDUMP_REFUSAL_STOP,		/* stop_machine() failed */
	LIVEDUMP_REFUSAL_CANCELLED,	/* owner closed, RELEASE, or the system */
};

enum livedump_strategy {
	LIVEDUMP_STRATEGY_NONE,		/* before the first snapshot */
	LIVEDUMP_STRATEGY_EAGER,	/* every 4 KiB entry, inside the stop */
	LIVEDUMP_STRATEGY_LAZY,		/* the highest entries, demoted on write */
};

/* Keep the snapshot when its owner goes away; only RELEASE ends it then. */
#define LIVEDUMP_F_PERSIST 1
/*
 * Set by the module, never asked for: pages are not zeroed when they are
 * allocated (init_on_alloc=0). One that a device is handed while the snapshot is
 * held and writes first is not saved, nor counted.
 */
#define LIVEDUMP_F_NOT_ZEROED 2

enum livedump_event {
	LIVEDUMP_EVENT_SNAPSHOT,	/* the stop is over, state is holding */
	LIVEDUMP_EVENT_POOL_LOW,	/* less than a tenth of the pool is left */
	LIVEDUMP_EVENT_LOST,		/* the pool is exhausted: pages are lost */
	LIVEDUMP_EVENT_RELEASE,		/* everything restored, state is idle */
	LIVEDUMP_EVENT_FAILED,		/* no snapshot: see REFUSAL, ERROR */
};

/* Why a snapshot was released. */
enum livedump_reason {
	LIVEDUMP_REASON_NONE,
	LIVEDUMP_REASON_REQUEST,	/* LIVEDUMP_CMD_RELEASE */
	LIVEDUMP_REASON_OWNER,		/* the owner's file was closed */
	LIVEDUMP_REASON_TIMEOUT,	/* MAX_HOLD_MS is over */
	LIVEDUMP_REASON_SYSTEM,		/* suspend, hibernation, reboot */
	LIVEDUMP_REASON_FAILED,		/* the snapshot could not be taken */
};

enum livedump_verdict {
	LIVEDUMP_VERDICT_PENDING,	/* held still, or never taken */
	LIVEDUMP_VERDICT_COMPLETE,	/* every covered page is as it was */
	LIVEDUMP_VERDICT_LOST,		/* pages are missing: pages_lost, pages_vanished */
	/* see hooks_missed, mappings_unseen, nmis_late, nmis_running, entries_late */
	LIVEDUMP_VERDICT_UNPROVEN,
};

/* What handled a fault of ours; field `outcome` of the fault tracepoint. */
enum livedump_outcome {
	LIVEDUMP_OUTCOME_SAVED,		/* first write: copied by this fault */
	LIVEDUMP_OUTCOME_ALREADY,	/* saved before, only unprotected */
	LIVEDUMP_OUTCOME_LOST,		/* no room left in the pool */
	LIVEDUMP_OUTCOME_RELEASING,	/* the snapshot is being released */
};

enum livedump_leaf {
	LIVEDUMP_LEAF_4K,
	LIVEDUMP_LEAF_2M,
	LIVEDUMP_LEAF_1G,
	__LIVEDUMP_LEAF_MAX,
};

/*
 * The receipt of a snapshot: netlink attribute and ELF note. Little-endian,
 * no padding. Costs are in ns of the time stamp counter. Pages are counted
 * once, by what the image holds for them; `live` and `unguarded` are counted
 * on top of that: a page of theirs may change under a reader.
 */
struct livedump_report {
	__u32 abi;
	__u32 size;			/* of this structure, bytes */
	__u32 state;			/* enum livedump_state */
	__u32 strategy;			/* enum livedump_strategy */
	__u32 verdict;			/* enum livedump_verdict */
	__u32 flags;			/* LIVEDUMP_F_* */
	__u64 instant_realtime_ns;	/* CLOCK_REALTIME of the instant */
	__u64 instant_boottime_ns;	/* CLOCK_BOOTTIME of the instant */
	__u64 instant_monotonic_ns;	/* CLOCK_MONOTONIC of the instant */

	/* downtime and its phases, ns; stop covers the five after prepare */
	__u64 prepare_ns;		/* everything before, no downtime */
	__u64 reserve_ns;		/* of it: enum livedump_step */
	__u64 hooks_ns;
	__u64 survey_ns;
	__u64 plan_ns;
	__u64 rendezvous_ns;		/* all CPUs to reach the stop */
	__u64 save_ns;			/* sensitive memory copied */
	__u64 protect_ns;		/* entries changed */
	__u64 flush_ns;			/* the whole TLB, of the leader */
	__u64 recopy_ns;		/* all CPUs: flushed, and what was
					 * written since its copy copied
					 */
	__u64 stop_ns;			/* stop_machine(), call to return */
	__u64 stops_ns;			/* the same, of all attempts together */
	__u64 release_ns;		/* 0 while held */
	__u64 attempts;			/* stops tried, 1 = the first worked */
	__u64 nmis;			/* NMIs seen inside the stop */
	__u64 nmis_late;		/* of them, after the last copy: 0 */
	__u64 nmis_running;		/* CPUs inside an NMI at the instant: 0 */
	__u64 recopies;			/* how often more, because of NMIs */
	__u64 recopied;			/* copies made for that */

	/* page-table entries; leaves are those of the direct map */
	__u64 entries_protected;	/* in the stop */
	__u64 entries_by_level[__LIVEDUMP_LEAF_MAX];	/* of these */
	__u64 entries_armed;		/* of vmalloc and modules, before the stop */
	__u64 entries_closed;		/* in the stop: opened or mapped since then */
	__u64 entries_restored;		/* by release, not by faults */
	__u64 entries_late;		/* found tagged after release: 0 */
	__u64 marks_cleared;		/* left by an earlier snapshot */
	__u64 changes_logged;		/* of mappings, from planning to the stop */
	__u64 demotions;		/* large leaves replaced by a table */
	__u64 tables_left;		/* of them, not given back by release */
	__u64 leaves_before[__LIVEDUMP_LEAF_MAX];
	__u64 leaves_held[__LIVEDUMP_LEAF_MAX];		/* at the stop */
	__u64 leaves_after[__LIVEDUMP_LEAF_MAX];	/* after release */

	/* pages of RAM, by what the image holds */
	__u64 pages_ram;
	__u64 pages_saved_stop;
	__u64 pages_saved_fault;
	__u64 pages_saved_hook;
	__u64 pages_in_place;		/* not written yet */
	__u64 pages_own;		/* livedump's memory: zeros */
	__u64 pages_unreadable;		/* offline, poisoned, unmapped: zeros */
	__u64 pages_lost;		/* no room in the pool: zeros */
	__u64 pages_vanished;		/* of in place: unmapped or poisoned since */
	/* on top: pages that the image holds but does not guard */
	__u64 pages_counted;		/* looked at for these two; at last: all */
	__u64 pages_live;		/* mapped by vmalloc or modules */
	__u64 pages_unguarded;		/* mapped or pinned by user space then */

	/* faults of ours, and what they cost */
	__u64 faults;
	__u64 faults_already;		/* saved by somebody else before */
	__u64 fault_demote_ns;		/* sum, of those that opened upper entries */
	__u64 fault_copy_ns;		/* sum */
	__u64 fault_total_ns;		/* sum, probe entry to unprotected */
	__u64 fault_max_ns;
	__u64 trace_skipped;		/* faults without a trace event */
	__u64 hooks_missed;		/* hooked kernel calls not seen */
	__u64 mappings_unseen;		/* made in a way that cannot be followed */

	__u64 pool_pages;
	__u64 pool_used;
};

#endif /* _UAPI_LIVEDUMP_H */
