/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kprobes where the kernel changes or adds a mapping of memory behind the
 * protection: attribute changes (module load, BPF JIT, ftrace) and vmap.
 */
#ifndef _LIVEDUMP_HOOKS_H
#define _LIVEDUMP_HOOKS_H

#include <linux/types.h>

int ld_hooks_arm(void);
void ld_hooks_disarm(void);

/* True while a task is inside a hooked call: this is no time to stop. */
bool ld_hooks_busy(void);

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
