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
	u32 reason;		/* enum livedump_reason, of the last release */
	char error[LD_WHY_SIZE];	/* why the last snapshot failed, or empty */
};

int ld_session_init(void);
void ld_session_exit(void);

/**
 * ld_session_snapshot() - idle to holding
 * @why: filled in with a sentence for the user on failure
 *
 * Return: 0 or a negative errno; then everything is as it was.
 */
int ld_session_snapshot(const struct ld_request *request,
			char why[LD_WHY_SIZE]);

/* Holding to idle; -ENOENT when nothing is held. */
int ld_session_release(u32 reason);

/* The machine is going to sleep: release, and refuse until it has woken. */
void ld_session_sleep(bool asleep);

/* An image file is going away: if it owns the snapshot, release it. */
void ld_session_file_closed(const struct file *file);

/* True from the start of preparation to the end of release; lockless. */
bool ld_session_busy(void);

/* The next lost page frame from *pfn on; false when there is none. */
bool ld_session_next_lost(unsigned long *pfn);

int ld_session_status(struct ld_status *status);

#endif
