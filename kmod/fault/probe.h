/* SPDX-License-Identifier: GPL-2.0 */
/* The probe on the page-fault path: is it ours? Save, then unprotect. */
#ifndef _LIVEDUMP_FAULT_H
#define _LIVEDUMP_FAULT_H

#include <linux/types.h>

struct pt_regs;

/* What the fault path counts, summed over all CPUs. */
struct ld_fault_stats {
	u64 faults;
	u64 already;
	u64 saved;
	u64 hook_saved;
	u64 demote_tsc;
	u64 copy_tsc;
	u64 total_tsc;
	u64 max_tsc;
	u64 trace_skipped;
};

/**
 * ld_fault_arm() - look at kernel page faults, before anybody else does
 *
 * The probe is registered by the first snapshot and stays until the module
 * goes: each change patches the hottest branch of exc_page_fault().
 *
 * Return: 0, -ENOENT when the kernel lacks exceptions:page_fault_kernel, -EBUSY
 * when others are called before us.
 */
int ld_fault_arm(void);
/* Is our probe the first on its way still, and is that untraced? */
bool ld_fault_is_armed(void);
/* Let faults be the kernel's own; no CPU is inside the probe on return. */
void ld_fault_disarm(void);
/* Unregister the probe: the module goes. */
void ld_fault_exit(void);

/* The probe itself, for the iterator of the tracepoint. */
void ld_fault_probe(void *unused, unsigned long address, struct pt_regs *regs,
		    unsigned long error_code);

/* From here on faults open what is armed, and log it. */
void ld_fault_armed(void);
/* From here on faults save pages; the leader calls it inside the stop. */
void ld_fault_hold(void);
/* From here on faults only unprotect. */
void ld_fault_releasing(void);

/*
 * A hook saw pages that are about to change behind the protection. Any
 * context. The second also makes its page writable in the direct map: the
 * entries are none of ours on return.
 */
void ld_fault_save_pages(unsigned long pfn, unsigned long count);
void ld_fault_save_for_hook(unsigned long pfn);
/* The same, at an address of a space that is armed. */
void ld_fault_open_for_hook(unsigned long addr);
/* Whether faults, and these, save pages. Any context. */
bool ld_fault_is_holding(void);

void ld_fault_stats_reset(void);
void ld_fault_stats_read(struct ld_fault_stats *sum);

#endif
