/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Armed memory: what vmalloc space and modules map writable, 4 KiB at a time. No
 * entry above these can be protected, as vunmap() takes such a table for a bad one,
 * and there may be any number of them: so they are protected before the stop, while
 * the system runs (stop/arm.c). A fault gives one back and logs it; the stop protects
 * what was logged, and what was mapped since. So its length depends on what is being
 * written, not on what there is. Here: the log, and what is never protected.
 */
#ifndef _LIVEDUMP_ARMED_H
#define _LIVEDUMP_ARMED_H

#include <linux/types.h>

/* vmalloc space, and modules. */
#define LD_ARMED_SPACES 2

struct ld_span {
	unsigned long start;	/* inclusive */
	unsigned long end;	/* exclusive */
};

/* Room for the log. Return: 0 or -ENOMEM. */
int ld_armed_prepare(void);
void ld_armed_free(void);

/*
 * An area of ours whose pages are not: a mapping of page tables, that the fault path
 * or the stop writes by. Return: 0 or -ENOMEM.
 */
int ld_armed_exclude(const void *addr, unsigned long bytes);

/*
 * May a 4 KiB entry be protected: is it of ordinary memory, writable, and none of
 * ours? Not asked of a thread's stack.
 */
bool ld_armed_may(u64 entry, unsigned long addr);
/* A table of entries that is about to be edited. */
void ld_armed_set_table(unsigned long pfn);

/* Is the address in a space that is armed? Any context. */
bool ld_armed_is_space(unsigned long addr);
const struct ld_span *ld_armed_space_at(int i);

/* From here on what follows is logged. */
void ld_armed_restart_log(void);
void ld_armed_stop_log(void);
/* Before an entry is given back. Any context. */
void ld_armed_log_opened(unsigned long addr);
/* What of such a space is being mapped, or changes its attributes. Any context. */
void ld_armed_log_range(unsigned long addr, unsigned long end);
/* A table of entries may go. Any context. */
void ld_armed_log_broken(void);

/* The log does not tell all. */
bool ld_armed_is_broken(void);
int ld_armed_opened(void);
unsigned long ld_armed_opened_at(int i);
int ld_armed_ranges(void);
const struct ld_span *ld_armed_range_at(int i);

/* A page that was a table of armed entries: as it would be without us. */
void ld_armed_clean_table(unsigned long pfn, u64 *entries);

#endif
