// SPDX-License-Identifier: GPL-2.0
#include <linux/jump_label.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/probe.h"
#include "hooks/hooks.h"
#include "hooks/user.h"
#include "map/pgwalk.h"
#include "map/ram.h"

#define LOG_ROOM 1024

static unsigned long new_stacks[LOG_ROOM];	/* module memory: writable */
static atomic_t logged;
static bool log_broken;

static DEFINE_STATIC_KEY_FALSE(canary);

static atomic_t under_way;	/* hooked calls that have not returned */
static atomic_t seen;		/* hooked calls that we saw */
static u64 canaries_lost;

static void enter(void)
{
	atomic_inc(&under_way);
	atomic_inc(&seen);
}
NOKPROBE_SYMBOL(enter);

static int leave(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	atomic_dec(&under_way);
	return 0;
}
NOKPROBE_SYMBOL(leave);

static void save_address(unsigned long addr)
{
	if (addr >= PAGE_OFFSET &&
	    PHYS_PFN(addr - PAGE_OFFSET) < ld_ranges_max_pfn())
		ld_fault_save_for_hook(PHYS_PFN(addr - PAGE_OFFSET));
}
NOKPROBE_SYMBOL(save_address);

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

	enter();
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

static void log_mapping(unsigned long addr, unsigned long end)
{
	int i;

	if (end - addr >= PMD_SIZE) {
		WRITE_ONCE(log_broken, true);	/* it may free a table */
	} else if (end - addr == THREAD_SIZE && IS_ALIGNED(addr, THREAD_SIZE)) {
		i = atomic_fetch_add_unless(&logged, 1, LOG_ROOM);
		if (i < LOG_ROOM)
			new_stacks[i] = addr;
		else
			WRITE_ONCE(log_broken, true);
	}
}
NOKPROBE_SYMBOL(log_mapping);

void ld_hooks_log_restart(void)
{
	WRITE_ONCE(log_broken, false);
	atomic_set(&logged, 0);
}

int ld_hooks_log_count(void)
{
	return READ_ONCE(log_broken) ? -1 : atomic_read(&logged);
}

unsigned long ld_hooks_log_at(int i)
{
	return new_stacks[i];
}

/* vmap_small_pages_range_noflush(addr, end, prot, pages): new aliases. */
static int vmap_pages(struct kretprobe_instance *instance,
		      struct pt_regs *regs)
{
	unsigned long addr = regs_get_kernel_argument(regs, 0);
	unsigned long end = regs_get_kernel_argument(regs, 1);
	struct page **pages = (void *)regs_get_kernel_argument(regs, 3);
	unsigned long i;

	enter();
	log_mapping(addr, end);
	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		if (pages[i])
			ld_fault_save_for_hook(page_to_pfn(pages[i]));
	return 0;
}
NOKPROBE_SYMBOL(vmap_pages);

/* vmap_range_noflush(addr, end, phys_addr, prot, max_page_shift) */
static int vmap_range(struct kretprobe_instance *instance,
		      struct pt_regs *regs)
{
	unsigned long addr = regs_get_kernel_argument(regs, 0);
	unsigned long end = regs_get_kernel_argument(regs, 1);
	unsigned long pfn = PHYS_PFN(regs_get_kernel_argument(regs, 2));
	unsigned long i;

	enter();
	log_mapping(addr, end);
	for (i = 0; i < (end - addr) >> PAGE_SHIFT; i++)
		ld_fault_save_for_hook(pfn + i);
	return 0;
}
NOKPROBE_SYMBOL(vmap_range);

/* remap_pfn_range(vma, addr, pfn, size, prot): mappings that nobody counts */
static int remap_pages(struct kretprobe_instance *instance,
		       struct pt_regs *regs)
{
	const struct vm_area_struct *vma =
		(void *)regs_get_kernel_argument(regs, 0);
	unsigned long pfn = regs_get_kernel_argument(regs, 2);
	unsigned long size = regs_get_kernel_argument(regs, 3);

	enter();
	ld_usermap_save(vma, pfn, PAGE_ALIGN(size) >> PAGE_SHIFT);
	return 0;
}
NOKPROBE_SYMBOL(remap_pages);

/* vmf_insert_pfn_prot(vma, addr, pfn, prot) */
static int insert_page(struct kretprobe_instance *instance,
		       struct pt_regs *regs)
{
	const struct vm_area_struct *vma =
		(void *)regs_get_kernel_argument(regs, 0);

	enter();
	ld_usermap_save(vma, regs_get_kernel_argument(regs, 2), 1);
	return 0;
}
NOKPROBE_SYMBOL(insert_page);

/* __text_poke(how, addr, from, len): writes by a mapping of its own. */
static int poke_text(struct kretprobe_instance *instance,
		     struct pt_regs *regs)
{
	unsigned long addr = regs_get_kernel_argument(regs, 1);
	unsigned long last = addr + regs_get_kernel_argument(regs, 3) - 1;
	struct ld_where where;

	enter();
	for (addr &= PAGE_MASK; addr <= last; addr += PAGE_SIZE) {
		u64 leaf = ld_lookup(addr, &where);

		if (leaf)
			ld_fault_save_for_hook(
				ld_entry_pfn(leaf, where.level) +
				((addr & (ld_level_size(where.level) - 1)) >>
				 PAGE_SHIFT));
	}
	return 0;
}
NOKPROBE_SYMBOL(poke_text);

static struct kretprobe hooks[] = {
	{
		.kp.symbol_name = "__change_page_attr_set_clr",
		.entry_handler = change_entry,
	},
	{
		.kp.symbol_name = "vmap_small_pages_range_noflush",
		.entry_handler = vmap_pages,
	},
	{
		.kp.symbol_name = "vmap_range_noflush",
		.entry_handler = vmap_range,
	},
	{
		.kp.symbol_name = "remap_pfn_range",
		.entry_handler = remap_pages,
	},
	{
		.kp.symbol_name = "vmf_insert_pfn_prot",
		.entry_handler = insert_page,
	},
	{
		.kp.symbol_name = "__text_poke",
		.entry_handler = poke_text,
	},
};

static int armed;		/* hooks that are registered, in order */

int ld_hooks_arm(void)
{
	int err;

	atomic_set(&under_way, 0);
	canaries_lost = 0;
	ld_hooks_log_restart();
	for (armed = 0; armed < ARRAY_SIZE(hooks); armed++) {
		struct kretprobe *hook = &hooks[armed];

		/* It keeps what it learnt when it was registered before. */
		hook->kp.addr = NULL;
		hook->kp.flags = 0;
		hook->kp.nmissed = 0;
		hook->nmissed = 0;
		hook->handler = leave;
		hook->maxactive = 128;
		err = register_kretprobe(hook);
		if (err)
			return err;
	}
	/*
	 * Who was preempted inside a hooked call before it was armed has left
	 * it after this. Who sleeps in one, waiting for memory, we cannot see.
	 */
	synchronize_rcu_tasks();
	return 0;
}

void ld_hooks_disarm(void)
{
	while (armed > 0) {
		struct kretprobe *hook = &hooks[--armed];

		unregister_kretprobe(hook);
		hook->kp.nmissed = 0;
		hook->nmissed = 0;
	}
	canaries_lost = 0;
}

bool ld_hooks_busy(void)
{
	return atomic_read(&under_way) > 0;
}

/* Patches a branch, here: the function is not inlined anywhere else. */
static noinline void flip_canary(void)
{
	if (static_branch_unlikely(&canary))
		static_branch_disable(&canary);
	else
		static_branch_enable(&canary);
}

void ld_hooks_canary(void)
{
	struct page *page = alloc_page(GFP_KERNEL);
	int before = atomic_read(&seen);
	void *alias;

	if (!page) {
		canaries_lost++;
		return;
	}
	alias = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	vunmap(alias);
	if (!alias || atomic_read(&seen) == before)
		canaries_lost++;
	before = atomic_read(&seen);
	/* Nothing to split: it only passes through. */
	ld_set_memory_4k((unsigned long)page_address(page), 1);
	if (atomic_read(&seen) == before)
		canaries_lost++;
	__free_page(page);
	before = atomic_read(&seen);
	flip_canary();
	if (atomic_read(&seen) == before)
		canaries_lost++;
}

u64 ld_hooks_missed(void)
{
	u64 missed = canaries_lost;
	int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		missed += hooks[i].nmissed + hooks[i].kp.nmissed;
	return missed;
}
