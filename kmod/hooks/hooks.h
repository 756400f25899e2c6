/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Probes where the kernel changes memory or a mapping of it behind the
 * protection. They are armed by the first snapshot and stay until the module
 * goes: to arm one patches a function that everybody may be in. While no
 * snapshot is prepared or held they only count who is inside.
 */
#ifndef _LIVEDUMP_HOOKS_H
#define _LIVEDUMP_HOOKS_H

#include <linux/types.h>

/* Modules that come bring functions that are hooked. Return: 0 or an errno. */
int ld_hooks_init(void);
/* Remove all hooks: the module goes. */
void ld_hooks_exit(void);

/**
 * ld_hooks_arm() - see changes from here on
 * @name: the kernel function that could not be hooked
 *
 * A function that this kernel has but that cannot be probed is an error, one
 * that it lacks is not, unless nothing else does its work.
 *
 * Return: 0 or a negative errno.
 */
int ld_hooks_arm(const char **name);
/* The snapshot is over: the hooks look away. */
void ld_hooks_stand_down(void);

/* True while a task is inside a hooked call: this is no time to stop. */
bool ld_hooks_busy(void);
/*
 * Wait until none is, for a second at most. A call that began before a log was
 * restarted is in no log: what is looked at after this is looked at in time.
 * Return: none is.
 */
bool ld_hooks_wait(void);

/**
 * ld_hooks_canary() - does each hook see what it must?
 *
 * Hooks can be disarmed behind our back (debugfs kprobes/enabled,
 * kernel.ftrace_enabled). Each one's place in the kernel's text is looked at,
 * and what can be done without harm is done and must be seen. What was not
 * counts as missed.
 */
void ld_hooks_canary(void);

/* Hooked calls that we did not see since ld_hooks_arm(). */
u64 ld_hooks_missed(void);
/* Changes seen since then that cannot be followed page by page. */
u64 ld_hooks_unseen(void);

#endif
