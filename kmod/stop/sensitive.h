/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that is never protected, since the way to our probe writes it, and a
 * fault there cannot be handled: kernel data, per-CPU memory, the task_structs
 * of idle tasks, kernel stacks.
 */
#ifndef _LIVEDUMP_SENSITIVE_H
#define _LIVEDUMP_SENSITIVE_H

#include <linux/types.h>

typedef void (*ld_page_fn)(unsigned long pfn, void *arg);

/* Resolve the idle task of every CPU, before the stop. Return: 0, -ENOMEM. */
int ld_sensitive_prepare(void);
void ld_sensitive_free(void);

/* Call @fn for each page of: */
void ld_each_data_page(ld_page_fn fn, void *arg);	/* kernel .data, .bss */
/* what a CPU works on: its per-CPU memory, its idle task, its ESPFIX stack */
void ld_each_cpu_page(int cpu, ld_page_fn fn, void *arg);
void ld_each_espfix_page(int cpu, ld_page_fn fn, void *arg);

/*
 * The task_structs of those who take part in the stop or run right after it,
 * and the caller's address space. They could be protected, but would fault on the way out of it: that is
 * downtime.
 */
void ld_each_stopper_page(ld_page_fn fn, void *arg);

/**
 * ld_save_sensitive() - save all of it inside the stop, as in 2012
 * @saved: pages that were saved
 *
 * Beside the above: every task's task_struct and stack, all kernel page tables.
 *
 * Return: 0, or -ENOSPC when the pool is too small.
 */
int ld_save_sensitive(u64 *saved);

#endif
