/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Nobody may trace the way from exc_page_fault() to our probe: what a tracer
 * writes there may be protected, and its fault would be traced as well, without
 * end. With more than one probe on a tracepoint that way leads through the
 * kernel's __traceiter_page_fault_kernel(), which function tracing may enter. So
 * the tracepoint gets an iterator of ours, the same but untraced.
 */
#ifndef _LIVEDUMP_ITERATOR_H
#define _LIVEDUMP_ITERATOR_H

#include <linux/types.h>

struct tracepoint;

/*
 * From here on the tracepoint iterates by ours, whoever adds and removes probes.
 * Return: 0; -ENOENT when this kernel calls its probes in another way.
 */
int ld_iterator_set(struct tracepoint *tp);
/* Whatever is called first on a fault of the kernel is ours, and untraced. */
bool ld_iterator_is_set(void);
/*
 * Adding and removing a probe takes the kernel's lock of tracepoints, so whoever
 * had read the former iterator before is through: once more after the one, and
 * no more of ours from before the other on.
 */
void ld_iterator_confirm(void);
void ld_iterator_leave(void);
/* The kernel's own again; no CPU is in ours, nor in our probe, on return. */
void ld_iterator_reset(void);

#endif
