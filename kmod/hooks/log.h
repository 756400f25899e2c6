/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What hooks saw change between planning and the stop, for the stop to honour:
 * new mappings that look like a stack, and pages whose attributes changed.
 */
#ifndef _LIVEDUMP_LOG_H
#define _LIVEDUMP_LOG_H

#include <linux/types.h>

struct ld_changed {
	unsigned long pfn;
	unsigned long pages;
};

/* Room by the number of CPUs. Return: 0 or -ENOMEM. */
int ld_log_prepare(void);
void ld_log_free(void);

/* From here on: @pages, too, or stacks alone. Ends with ld_log_stop(). */
void ld_log_restart_stacks(void);
void ld_log_restart_pages(void);
void ld_log_stop(void);

/* A hook saw it. Any context. */
void ld_log_mapping(unsigned long addr, unsigned long end, bool large);
void ld_log_pages(unsigned long pfn, unsigned long pages);

/* Entries; -1: the log tells not all. */
int ld_log_stacks(void);
unsigned long ld_log_stack_at(int i);
int ld_log_changes(void);
const struct ld_changed *ld_log_change_at(int i);

#endif
