/* SPDX-License-Identifier: GPL-2.0 */
/* Who sleeps in a hooked function since before it was hooked. */
#ifndef _LIVEDUMP_ASLEEP_H
#define _LIVEDUMP_ASLEEP_H

/**
 * ld_asleep_wait() - wait until nobody is in a call that is not followed
 * @name: the last function that somebody was in
 *
 * Call it when all are hooked that are to be followed, and everybody who was
 * preempted in one has left it or sleeps. Calls that are followed are waited
 * for, too. May sleep.
 *
 * Return: 0, -EBUSY after some seconds, -EINTR when the snapshot is to end,
 * -ENOMEM.
 */
int ld_asleep_wait(const char **name);

#endif
