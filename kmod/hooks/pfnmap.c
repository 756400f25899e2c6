// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of user space that nobody counts: by page frame number, or by a
 * caller's own function. What was mapped so by the instant is found by a walk of
 * such areas (map/classes.c).
 */
#include <linux/mm.h>

#include "hooks/hook.h"

void ld_enter_remap(struct pt_regs *regs)
{
	ld_hook_save_shared(LD_ARG(regs, 0), LD_ARG(regs, 2),
			    PAGE_ALIGN(LD_ARG(regs, 3)) >> PAGE_SHIFT);
}
NOKPROBE_SYMBOL(ld_enter_remap);

/* A pfn_t has flags in its highest bits. */
static unsigned long arg_pfn(unsigned long pfn)
{
	return pfn & (PTE_PFN_MASK >> PAGE_SHIFT);
}
NOKPROBE_SYMBOL(arg_pfn);

void ld_enter_insert_pfn(struct pt_regs *regs)
{
	ld_hook_save_shared(LD_ARG(regs, 0), arg_pfn(LD_ARG(regs, 2)), 1);
}
NOKPROBE_SYMBOL(ld_enter_insert_pfn);

static void save_large(struct pt_regs *regs, unsigned long pages)
{
	const struct vm_fault *fault = (void *)LD_ARG(regs, 0);

	ld_hook_save_shared((unsigned long)fault->vma, arg_pfn(LD_ARG(regs, 1)),
			    pages);
}
NOKPROBE_SYMBOL(save_large);

void ld_enter_insert_pmd(struct pt_regs *regs)
{
	save_large(regs, PMD_SIZE >> PAGE_SHIFT);
}
NOKPROBE_SYMBOL(ld_enter_insert_pmd);

void ld_enter_insert_pud(struct pt_regs *regs)
{
	save_large(regs, PUD_SIZE >> PAGE_SHIFT);
}
NOKPROBE_SYMBOL(ld_enter_insert_pud);

/* The caller's function alone knows which pages (i915's of user space). */
void ld_enter_apply(struct pt_regs *regs)
{
	ld_hook_unseen();
}
NOKPROBE_SYMBOL(ld_enter_apply);

void ld_enter_unseen(struct pt_regs *regs)
{
	ld_hook_unseen();
}
NOKPROBE_SYMBOL(ld_enter_unseen);
