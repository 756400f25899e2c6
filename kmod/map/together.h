/* SPDX-License-Identifier: GPL-2.0 */
/* Work over a range, done by several CPUs at once. */
#ifndef _LIVEDUMP_TOGETHER_H
#define _LIVEDUMP_TOGETHER_H

/* A part of the range, @end exclusive; may sleep. Return: 0 or an error. */
typedef int (*ld_part_fn)(unsigned long start, unsigned long end, void *data);

/**
 * ld_together() - call @fn for all of 0 to @count, in parts of at most @part
 *
 * Parts begin at multiples of @part. After an error no further part begins.
 * Ends early when nobody wants the snapshot any more.
 * Return: 0, -EINTR, or an error of @fn.
 */
int ld_together(unsigned long count, unsigned long part, ld_part_fn fn,
		void *data);

#endif
