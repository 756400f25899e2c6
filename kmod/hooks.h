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

/* True while a CPU is inside an attribute change: this is no time to stop. */
bool ld_hooks_busy(void);

/* Hooked calls that we did not see since ld_hooks_arm(). */
u64 ld_hooks_missed(void);

#endif
