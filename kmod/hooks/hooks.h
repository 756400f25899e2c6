/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kprobes where the kernel changes or adds a mapping of memory behind the
 * protection: attribute changes (module load, BPF JIT, ftrace), vmap, patches
 * of text. New stacks are logged from ld_hooks_log_restart() to the stop.
 */
#ifndef _LIVEDUMP_HOOKS_H
#define _LIVEDUMP_HOOKS_H

#include <linux/types.h>

int ld_hooks_arm(void);
void ld_hooks_disarm(void);

/* True while a task is inside a hooked call: this is no time to stop. */
bool ld_hooks_busy(void);

void ld_hooks_log_restart(void);
/* Addresses of new mappings like stacks; -1: the log tells not all. */
int ld_hooks_log_count(void);
unsigned long ld_hooks_log_at(int i);

/**
 * ld_hooks_canary() - do what each hook must see, and look whether it did
 *
 * Hooks can be disarmed behind our back (debugfs kprobes/enabled,
 * kernel.ftrace_enabled). What was not seen counts as missed.
 */
void ld_hooks_canary(void);

/* Hooked calls that we did not see since ld_hooks_arm(). */
u64 ld_hooks_missed(void);

#endif
