// SPDX-License-Identifier: GPL-2.0
/* Attributes of the kernel's mappings, and patches of its text. */
#include <linux/jump_label.h>
#include <linux/mm.h>

#include "compat.h"
#include "fault/armed.h"
#include "fault/probe.h"
#include "hooks/hook.h"
#include "hooks/log.h"
#include "map/pgwalk.h"
#include "map/ram.h"

static void change_pages(unsigned long addr, unsigned long pages)
{
	unsigned long pfn = PHYS_PFN(addr - PAGE_OFFSET), i;

	if (ld_armed_is_space(addr)) {
		ld_armed_log_range(addr, addr + pages * PAGE_SIZE);
		for (i = 0; i < pages; i++)
			ld_fault_open_for_hook(addr + i * PAGE_SIZE);
		return;
	}
	if (addr < PAGE_OFFSET || pfn >= ld_ranges_max_pfn())
		return;
	ld_log_pages(pfn, pages);
	for (i = 0; i < pages; i++)
		ld_fault_save_for_hook(pfn + i);
}
NOKPROBE_SYMBOL(change_pages);

/*
 * The kernel reads an entry, changes it and writes it back without
 * compare-exchange: it could undo what we do, or carry our tag into the future.
 * So its range must be none of ours by the time it starts.
 */
void ld_enter_cpa(struct pt_regs *regs)
{
	const struct ld_cpa_data *cpa = (void *)LD_ARG(regs, 0);
	unsigned long i;

	if (cpa->pgd)
		return;			/* not the kernel's own tables (EFI) */
	if (cpa->flags & LD_CPA_COLLAPSE)
		ld_armed_log_broken();
	if (!(cpa->flags & (LD_CPA_PAGES_ARRAY | LD_CPA_ARRAY))) {
		change_pages(*cpa->vaddr + cpa->curpage * PAGE_SIZE,
			     cpa->numpages);
		return;
	}
	for (i = 0; i < cpa->numpages; i++) {
		if (cpa->flags & LD_CPA_PAGES_ARRAY)
			change_pages((unsigned long)page_address(
				cpa->pages[cpa->curpage + i]), 1);
		else
			change_pages(cpa->vaddr[cpa->curpage + i], 1);
	}
}
NOKPROBE_SYMBOL(ld_enter_cpa);

/*
 * Nothing to change: it only passes through. Not set_memory_4k(), which leaves
 * a mark in the entry for good, in 7.3.
 */
void ld_provoke_cpa(void)
{
	unsigned long addr = __get_free_page(GFP_KERNEL);

	if (!addr)
		return;
	ld_set_memory_rw(addr, 1);
	free_page(addr);
}

static void save_text(unsigned long addr, unsigned long last)
{
	struct ld_where where;

	for (addr &= PAGE_MASK; addr <= last; addr += PAGE_SIZE) {
		u64 leaf = ld_lookup(addr, &where);
		unsigned long pfn;

		if (!leaf)
			continue;
		pfn = ld_entry_pfn(leaf, where.level) +
		      ((addr & (ld_level_size(where.level) - 1)) >> PAGE_SHIFT);
		ld_fault_save_for_hook(pfn);
	}
}
NOKPROBE_SYMBOL(save_text);

/*
 * The kernel writes by a mapping of its own. Behind its image are modules and
 * BPF programs, whose leaves 7.3 may collapse meanwhile: it holds init_mm's lock
 * for that, and so does its own look-up, which comes after us.
 */
void ld_enter_text_poke(struct pt_regs *regs)
{
	unsigned long addr = LD_ARG(regs, 1);
	unsigned long last = addr + LD_ARG(regs, 3) - 1;
	struct ld_hold hold;

	if (!ld_fault_is_holding())
		return;
	if (addr < MODULES_VADDR) {
		save_text(addr, last);
	} else if (ld_try_hold_tables(&hold)) {
		save_text(addr, last);
		ld_end_hold_tables(&hold);
	} else {
		ld_hook_unseen();
	}
}
NOKPROBE_SYMBOL(ld_enter_text_poke);

static DEFINE_STATIC_KEY_FALSE(canary);

/*
 * Patches a branch in the module, here: the function is not inlined anywhere
 * else, and nobody else runs it.
 */
noinline void ld_provoke_text_poke(void)
{
	if (static_branch_unlikely(&canary))
		static_branch_disable(&canary);
	else
		static_branch_enable(&canary);
}
