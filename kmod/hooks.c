// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "compat.h"
#include "fault.h"
#include "hooks.h"
#include "ranges.h"

static atomic_t changes_under_way;

static void save_address(unsigned long addr)
{
	if (addr >= PAGE_OFFSET &&
	    PHYS_PFN(addr - PAGE_OFFSET) < ld_ranges_max_pfn())
		ld_fault_save_for_hook(PHYS_PFN(addr - PAGE_OFFSET));
}

/*
 * __change_page_attr_set_clr() reads an entry, changes it and writes it back
 * without compare-exchange: it could undo what we do, or carry our tag into
 * the future. So its range must be none of ours by the time it starts.
 */
static int change_entry(struct kretprobe_instance *instance,
			struct pt_regs *regs)
{
	const struct ld_cpa_data *cpa =
		(void *)regs_get_kernel_argument(regs, 0);
	unsigned long i;

	atomic_inc(&changes_under_way);
	if (cpa->pgd)
		return 0;		/* not the kernel's own tables (EFI) */
	for (i = 0; i < cpa->numpages; i++) {
		if (cpa->flags & LD_CPA_PAGES_ARRAY)
			save_address((unsigned long)page_address(
				cpa->pages[cpa->curpage + i]));
		else if (cpa->flags & LD_CPA_ARRAY)
			save_address(cpa->vaddr[cpa->curpage + i]);
		else
			save_address(*cpa->vaddr +
				     (cpa->curpage + i) * PAGE_SIZE);
	}
	return 0;
}
NOKPROBE_SYMBOL(change_entry);

static int change_return(struct kretprobe_instance *instance,
			 struct pt_regs *regs)
{
	atomic_dec(&changes_under_way);
	return 0;
}
NOKPROBE_SYMBOL(change_return);

/* vmap_small_pages_range_noflush(addr, end, prot, pages): new aliases. */
static int vmap_pages(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long addr = regs_get_kernel_argument(regs, 0);
	unsigned long end = regs_get_kernel_argument(regs, 1);
	struct page **pages = (void *)regs_get_kernel_argument(regs, 3);
	unsigned long i;

	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		if (pages[i])
			ld_fault_save_for_hook(page_to_pfn(pages[i]));
	return 0;
}
NOKPROBE_SYMBOL(vmap_pages);

/* vmap_range_noflush(addr, end, phys_addr, prot, max_page_shift) */
static int vmap_range(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long addr = regs_get_kernel_argument(regs, 0);
	unsigned long end = regs_get_kernel_argument(regs, 1);
	unsigned long pfn = PHYS_PFN(regs_get_kernel_argument(regs, 2));
	unsigned long i;

	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		ld_fault_save_for_hook(pfn + i);
	return 0;
}
NOKPROBE_SYMBOL(vmap_range);

static struct kretprobe change_hook = {
	.kp.symbol_name = "__change_page_attr_set_clr",
	.entry_handler = change_entry,
	.handler = change_return,
	.maxactive = 128,
};

static struct kprobe vmap_hooks[] = {
	{
		.symbol_name = "vmap_small_pages_range_noflush",
		.pre_handler = vmap_pages,
	},
	{
		.symbol_name = "vmap_range_noflush",
		.pre_handler = vmap_range,
	},
};

static int armed;		/* hooks that are registered, in order */

int ld_hooks_arm(void)
{
	int i, err;

	/* A kprobe that was registered before keeps what it learnt: clear it. */
	change_hook.kp.addr = NULL;
	change_hook.nmissed = 0;
	change_hook.kp.nmissed = 0;
	change_hook.kp.flags = 0;
	atomic_set(&changes_under_way, 0);
	err = register_kretprobe(&change_hook);
	if (err)
		return err;
	armed = 1;
	for (i = 0; i < ARRAY_SIZE(vmap_hooks); i++) {
		vmap_hooks[i].addr = NULL;
		vmap_hooks[i].nmissed = 0;
		vmap_hooks[i].flags = 0;
		err = register_kprobe(&vmap_hooks[i]);
		if (err)
			return err;
		armed++;
	}
	return 0;
}

void ld_hooks_disarm(void)
{
	for (; armed > 1; armed--)
		unregister_kprobe(&vmap_hooks[armed - 2]);
	if (armed)
		unregister_kretprobe(&change_hook);
	armed = 0;
}

bool ld_hooks_busy(void)
{
	return atomic_read(&changes_under_way) > 0;
}

u64 ld_hooks_missed(void)
{
	u64 missed = change_hook.nmissed + change_hook.kp.nmissed;
	int i;

	for (i = 0; i < ARRAY_SIZE(vmap_hooks); i++)
		missed += vmap_hooks[i].nmissed;
	return missed;
}
