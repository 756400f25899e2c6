// SPDX-License-Identifier: GPL-2.0
/*
 * User space gets a mapping of a page: from then on it stores into the page
 * without a fault of ours, so the page is saved before.
 *
 * The kernel counts a mapping (rmap) before it writes the entry that maps the
 * page, both under the page table's lock, so with preemption off: the stop
 * comes before the count or after the entry, never in between. What is mapped
 * by then is `unguarded`, what is mapped later is saved here.
 *
 * What this does not see: memory of hugetlbfs, which counts its mappings in
 * functions without a name (all of it is `unguarded`), and mappings that are
 * not counted, see pfnmap.c.
 */
#include <linux/mm.h>

#include "fault/probe.h"
#include "hooks/hook.h"

#define ARG_PAGE(regs, i) ((struct page *)LD_ARG(regs, i))
#define ARG_PFN(regs, i) page_to_pfn(ARG_PAGE(regs, i))

static unsigned long pages_of(struct page *page)
{
	return PageHead(page) ? folio_nr_pages(page_folio(page)) : 1;
}
NOKPROBE_SYMBOL(pages_of);

/* A private one is written by copies, which are anonymous. */
void ld_hook_save_shared(unsigned long vma, unsigned long pfn,
			 unsigned long pages)
{
	if (((const struct vm_area_struct *)vma)->vm_flags & VM_SHARED)
		ld_fault_save_pages(pfn, pages);
}
NOKPROBE_SYMBOL(ld_hook_save_shared);

void ld_enter_anon_whole(struct pt_regs *regs)
{
	ld_fault_save_pages(ARG_PFN(regs, 0), pages_of(ARG_PAGE(regs, 0)));
}
NOKPROBE_SYMBOL(ld_enter_anon_whole);

void ld_enter_anon_part(struct pt_regs *regs)
{
	ld_fault_save_pages(ARG_PFN(regs, 1), (int)LD_ARG(regs, 2));
}
NOKPROBE_SYMBOL(ld_enter_anon_part);

void ld_enter_file_page(struct pt_regs *regs)
{
	ld_hook_save_shared(LD_ARG(regs, 1), ARG_PFN(regs, 0),
			    (bool)LD_ARG(regs, 2) ?
				    pages_of(ARG_PAGE(regs, 0)) : 1);
}
NOKPROBE_SYMBOL(ld_enter_file_page);

void ld_enter_file_part(struct pt_regs *regs)
{
	ld_hook_save_shared(LD_ARG(regs, 3), ARG_PFN(regs, 1),
			    (int)LD_ARG(regs, 2));
}
NOKPROBE_SYMBOL(ld_enter_file_part);

/* A PMD. */
void ld_enter_file_whole(struct pt_regs *regs)
{
	ld_hook_save_shared(LD_ARG(regs, 2), ARG_PFN(regs, 0),
			    pages_of(ARG_PAGE(regs, 0)));
}
NOKPROBE_SYMBOL(ld_enter_file_whole);
