/* SPDX-License-Identifier: GPL-2.0 */
/* The only downtime: one stop_machine() that takes the snapshot. */
#ifndef _LIVEDUMP_STOP_H
#define _LIVEDUMP_STOP_H

#include <linux/elfcore.h>
#include "stop/strategy.h"

struct ld_stop_cpu {
	struct pt_regs regs;		/* at the stop */
	struct elf_prstatus status;	/* the same as a note */
};

/**
 * ld_stop_prepare() - reserve what the stop writes
 *
 * Return: 0 or -ENOMEM.
 */
int ld_stop_prepare(void);
void ld_stop_free(void);

/**
 * ld_stop_run() - stop all CPUs, protect memory, copy what cannot be
 * @report: its phases, instant and counts are filled in
 *
 * Return: 0; -EAGAIN when the kernel was changing its mappings at every try;
 * -ENOSPC when the pool is too small. Nothing is protected on failure.
 */
int ld_stop_run(const struct ld_strategy *strategy,
		struct livedump_report *report);

const struct ld_stop_cpu *ld_stop_cpu(int cpu);

/* So many pages of the pool hold what was saved by the end of the stop. */
u64 ld_stop_saved(void);

/*
 * Called once inside the stop, at the instant of the snapshot. Empty: a
 * breakpoint or kprobe here sees exactly what the image holds.
 */
void livedump_instant(void);

#endif
