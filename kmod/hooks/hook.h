/* SPDX-License-Identifier: GPL-2.0 */
/* One hook: a kernel function, and what to do when it is called. */
#ifndef _LIVEDUMP_HOOK_H
#define _LIVEDUMP_HOOK_H

#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/ptrace.h>

/*
 * Names and arguments of the kernel's functions change: of each of the first
 * groups one at least must be there. What is in none may be missing.
 */
enum ld_hook_group {
	LD_HOOK_ATTRIBUTES,	/* of the kernel's own mappings */
	LD_HOOK_TEXT,
	LD_HOOK_VMAP_PAGES,
	LD_HOOK_VMAP_RANGE,
	LD_HOOK_RMAP_ANON,
	LD_HOOK_RMAP_NEW_ANON,
	LD_HOOK_RMAP_FILE,
	LD_HOOK_PFNMAP,
	__LD_HOOK_GROUPS,
	LD_HOOK_OPTIONAL = __LD_HOOK_GROUPS,
};

struct ld_hook {
	const char *symbol;
	const char *module;		/* that has it; NULL: the kernel */
	enum ld_hook_group group;
	/*
	 * A call of it is followed to its return: while one is under way, the
	 * stop is put off, as it may have begun before we looked.
	 */
	bool followed;
	/* While a snapshot is prepared or held. Any context. */
	void (*enter)(struct pt_regs *regs);
	/* The same; true: the call returns at once, @regs->ax has its result. */
	bool (*instead)(struct pt_regs *regs);
	/* Do, at no risk, what it must see; NULL where nothing is so harmless. */
	void (*provoke)(void);

	bool armed;
	atomic_t seen;
	u64 missed_before;
	/*
	 * By how it is hooked. The entry alone, by ftrace: it costs a quarter of
	 * a kprobe while nobody looks, and some of these are the kernel's hottest.
	 */
	struct ftrace_ops function;
	unsigned long address;		/* of the function that ftrace hooks */
	struct kretprobe call;		/* if it is followed */
	struct kprobe entry;		/* if there is an instead */
};

/* The one table of hooks, ended by one without a symbol. */
extern struct ld_hook ld_hook_table[];

#define LD_ARG(regs, i) regs_get_kernel_argument(regs, i)

/* A change that cannot be followed page by page: the snapshot is unproven. */
void ld_hook_unseen(void);

/* Pages come into an area of user space, which may be shared: rmap.c. */
void ld_hook_save_shared(unsigned long vma, unsigned long pfn,
			 unsigned long pages);

/* attributes.c: __change_page_attr_set_clr(cpa, primary) */
void ld_enter_cpa(struct pt_regs *regs);
void ld_provoke_cpa(void);
/* __text_poke(how, addr, from, len) */
void ld_enter_text_poke(struct pt_regs *regs);
void ld_provoke_text_poke(void);

/* vmap.c: vmap_small_pages_range_noflush(addr, end, prot, pages) */
void ld_enter_vmap_pages(struct pt_regs *regs);
void ld_provoke_vmap(void);
/* vmap_range_noflush(addr, end, phys_addr, prot, max_page_shift) */
void ld_enter_vmap_range(struct pt_regs *regs);

/* rmap.c, by arguments; `whole`: as many pages as the folio has */
void ld_enter_anon_whole(struct pt_regs *regs);	/* (page or folio, ...) */
void ld_enter_anon_part(struct pt_regs *regs);	/* (folio, page, pages, ...) */
void ld_enter_file_page(struct pt_regs *regs);	/* (page, vma, compound) */
void ld_enter_file_part(struct pt_regs *regs);	/* (folio, page, pages, vma) */
void ld_enter_file_whole(struct pt_regs *regs);	/* (folio, page, vma) */

/* pfnmap.c: mappings that nobody counts */
void ld_enter_remap(struct pt_regs *regs);	/* (vma, addr, pfn, bytes, ...) */
void ld_enter_insert_pfn(struct pt_regs *regs);	/* (vma, addr, pfn, ...) */
void ld_enter_insert_pmd(struct pt_regs *regs);	/* (vmf, pfn, ...) */
void ld_enter_insert_pud(struct pt_regs *regs);
void ld_enter_apply(struct pt_regs *regs);	/* (mm, ...) */
void ld_enter_unseen(struct pt_regs *regs);

/* host.c: what a hypervisor or a virtual machine does */
void ld_enter_balloon(struct pt_regs *regs);	/* (device, page) */
bool ld_instead_of_reporting(struct pt_regs *regs);
bool ld_instead_of_vm(struct pt_regs *regs);
/* Free pages are reported again. */
void ld_reporting_resume(void);

#endif
