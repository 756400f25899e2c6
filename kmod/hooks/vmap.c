// SPDX-License-Identifier: GPL-2.0
/* New mappings in vmalloc space: other ways to pages of the direct map. */
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "fault/armed.h"
#include "fault/probe.h"
#include "hooks/hook.h"
#include "hooks/log.h"

void ld_enter_vmap_pages(struct pt_regs *regs)
{
	unsigned long addr = LD_ARG(regs, 0), end = LD_ARG(regs, 1), i;
	struct page **pages = (void *)LD_ARG(regs, 3);

	ld_log_mapping(addr, end, false);
	ld_armed_log_range(addr, end);
	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		if (pages[i])
			ld_fault_save_for_hook(page_to_pfn(pages[i]));
}
NOKPROBE_SYMBOL(ld_enter_vmap_pages);

void ld_enter_vmap_range(struct pt_regs *regs)
{
	unsigned long addr = LD_ARG(regs, 0), end = LD_ARG(regs, 1), i;
	unsigned long pfn = PHYS_PFN(LD_ARG(regs, 2));

	ld_log_mapping(addr, end, LD_ARG(regs, 4) >= PMD_SHIFT &&
					  end - addr >= PMD_SIZE);
	ld_armed_log_range(addr, end);
	if (LD_ARG(regs, 4) >= PMD_SHIFT && end - addr >= PMD_SIZE)
		ld_armed_log_broken();
	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		ld_fault_save_for_hook(pfn + i);
}
NOKPROBE_SYMBOL(ld_enter_vmap_range);

void ld_provoke_vmap(void)
{
	struct page *page = alloc_page(GFP_KERNEL);
	void *alias;

	if (!page)
		return;
	alias = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	vunmap(alias);
	__free_page(page);
}
