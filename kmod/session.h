/* SPDX-License-Identifier: GPL-2.0 */
/* The state machine of the one snapshot there can be, its owner, its limits. */
#ifndef _LIVEDUMP_SESSION_H
#define _LIVEDUMP_SESSION_H

#include <linux/fs.h>
#include "uapi/livedump.h"

#define LD_WHY_SIZE 160

struct ld_request {
	u32 strategy;		/* enum livedump_strategy */
	u32 flags;		/* LIVEDUMP_F_* */
	u64 pool_bytes;		/* 0 = default */
	u32 max_hold_ms;	/* 0 = no limit */
	struct file *owner;	/* an open image file; NULL if persistent */
};

struct ld_status {
	struct livedump_report report;
	u32 owner_pid;
	u32 step;		/* enum livedump_step */
	u32 reason;		/* enum livedump_reason, of the last release */
	u32 refusal;		/* enum livedump_refusal, of the last one */
	char error[LD_WHY_SIZE];	/* the same in words, or empty */
	/* set by ld_session_status() only */
	u32 machine;		/* enum livedump_refusal of this machine now */
	u64 default_pool;	/* bytes */
};

typedef void (*ld_event_fn)(u32 event, const struct ld_status *status);

int ld_session_init(void);
void ld_session_exit(void);

/**
 * ld_session_snapshot() - let the worker take a snapshot
 * @answer: the status then; on failure with the refusal, and its words
 *
 * Return: 0 or a negative errno; then nothing has changed.
 */
int ld_session_snapshot(const struct ld_request *request,
			struct ld_status *answer);

/*
 * Let the worker end the snapshot, or its preparation. Return: 0, -EINTR;
 * -ENOENT when there is neither.
 */
int ld_session_release(u32 reason);

/*
 * The machine is going to sleep, or down: release, and refuse until it has
 * woken. Waits for the end, for a minute at most.
 */
void ld_session_sleep(bool asleep);

/* True from the start of preparation to the end of release; lockless. */
bool ld_session_busy(void);

/* The next lost page frame from *pfn on; false when there is none. */
bool ld_session_next_lost(unsigned long *pfn);

int ld_session_status(struct ld_status *status);

/* Who is to hear of events, from the worker; NULL: nobody any more. */
void ld_session_on_event(ld_event_fn fn);

#endif
