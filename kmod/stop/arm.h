/* SPDX-License-Identifier: GPL-2.0 */
/* Protect before the stop what is of 4 KiB: see fault/armed.h. */
#ifndef _LIVEDUMP_ARM_H
#define _LIVEDUMP_ARM_H

#include <linux/types.h>

/**
 * ld_arm() - protect what there is, and log what is opened from here on
 *
 * No TLB is flushed: the stop does that.
 * Return: 0; -EAGAIN when mappings change all the time; -EINTR.
 */
int ld_arm(void);

/* How many entries were protected when it ended. */
u64 ld_arm_entries(void);

/* In the stop, before anything is changed. Return: 0; -EAGAIN: arm again. */
int ld_arm_check(void);
/*
 * In the stop, while tables can be written by the direct map: protect what was opened
 * and mapped. Return: entries.
 */
unsigned int ld_arm_close(void);

/* Entries of ours, marks too if @marks, as they were. Return: how many. */
u64 ld_arm_restore(bool marks);

#endif
