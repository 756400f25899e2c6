/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kprobes where user space gets a mapping of a page: from then on it stores
 * into the page without a fault of ours, so the page is saved before.
 */
#ifndef _LIVEDUMP_USERMAP_H
#define _LIVEDUMP_USERMAP_H

#include <linux/types.h>

struct vm_area_struct;

/**
 * ld_usermap_arm() - see every page that user space maps from now on
 *
 * The probes are registered by the first snapshot and stay until the module
 * goes: they are on the kernel's hottest functions, which would be patched
 * twice for each snapshot.
 *
 * Return: 0, or -ENOENT when this kernel maps pages by other functions.
 */
int ld_usermap_arm(void);
/* Unregister them: the module goes. */
void ld_usermap_exit(void);

/* These pages come into a mapping by which user space may store. Any context. */
void ld_usermap_save(const struct vm_area_struct *vma, unsigned long pfn,
		     unsigned long count);

/* Calls that we did not see since ld_usermap_arm(). */
u64 ld_usermap_missed(void);

#endif
