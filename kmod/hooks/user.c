// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel counts a mapping (rmap) before it writes the entry that maps the
 * page, both under the page table's lock, so with preemption off: the stop
 * comes before the count or after the entry, never in between. What is mapped
 * by then is `unguarded`, what is mapped later is saved here.
 *
 * What this does not see: memory of hugetlbfs, which counts its mappings in
 * functions without a name (all of it is `unguarded`), and mappings that are
 * not counted, see remap_pages() in hooks.c.
 */
#include <linux/kprobes.h>
#include <linux/mm.h>

#include "fault/probe.h"
#include "hooks/user.h"

void ld_usermap_save(const struct vm_area_struct *vma, unsigned long pfn,
		     unsigned long count)
{
	/* A private one is written by copies, which are anonymous. */
	if (vma->vm_flags & VM_SHARED)
		ld_fault_save_pages(pfn, count);
}
NOKPROBE_SYMBOL(ld_usermap_save);

static unsigned long pages_of(struct page *page)
{
	return PageHead(page) ? folio_nr_pages(page_folio(page)) : 1;
}
NOKPROBE_SYMBOL(pages_of);

#define ARG(i) regs_get_kernel_argument(regs, i)
#define ARG_PAGE(i) ((struct page *)ARG(i))
#define ARG_PFN(i) page_to_pfn(ARG_PAGE(i))
#define ARG_VMA(i) ((const struct vm_area_struct *)ARG(i))

/* (page or folio, ...): anonymous memory, all of it */
static int anon_whole(struct kprobe *probe, struct pt_regs *regs)
{
	ld_fault_save_pages(ARG_PFN(0), pages_of(ARG_PAGE(0)));
	return 0;
}
NOKPROBE_SYMBOL(anon_whole);

/* (folio, page, nr_pages, ...) */
static int anon_part(struct kprobe *probe, struct pt_regs *regs)
{
	ld_fault_save_pages(ARG_PFN(1), (int)ARG(2));
	return 0;
}
NOKPROBE_SYMBOL(anon_part);

/* (page, vma, compound) */
static int file_page(struct kprobe *probe, struct pt_regs *regs)
{
	ld_usermap_save(ARG_VMA(1), ARG_PFN(0),
			(bool)ARG(2) ? pages_of(ARG_PAGE(0)) : 1);
	return 0;
}
NOKPROBE_SYMBOL(file_page);

/* (folio, page, nr_pages, vma) */
static int file_part(struct kprobe *probe, struct pt_regs *regs)
{
	ld_usermap_save(ARG_VMA(3), ARG_PFN(1), (int)ARG(2));
	return 0;
}
NOKPROBE_SYMBOL(file_part);

/* (folio, page, vma): a PMD */
static int file_whole(struct kprobe *probe, struct pt_regs *regs)
{
	ld_usermap_save(ARG_VMA(2), ARG_PFN(0), pages_of(ARG_PAGE(0)));
	return 0;
}
NOKPROBE_SYMBOL(file_whole);

enum kind {
	ANON,
	NEW_ANON,
	FILES,
	KINDS,
};

/* Names and arguments changed from 6.3 to 6.8; of each kind one must exist. */
static struct rmap {
	enum kind kind;
	bool armed;
	struct kprobe probe;
} rmaps[] = {
#define RMAP(kind_, name, handler)                                         \
	{                                                                  \
		.kind = kind_,                                             \
		.probe = { .symbol_name = name, .pre_handler = handler },  \
	}
	RMAP(ANON, "page_add_anon_rmap", anon_whole),
	RMAP(ANON, "folio_add_anon_rmap_ptes", anon_part),
	RMAP(ANON, "folio_add_anon_rmap_pmd", anon_whole),
	RMAP(NEW_ANON, "page_add_new_anon_rmap", anon_whole),
	RMAP(NEW_ANON, "folio_add_new_anon_rmap", anon_whole),
	RMAP(FILES, "page_add_file_rmap", file_page),
	RMAP(FILES, "folio_add_file_rmap_range", file_part),
	RMAP(FILES, "folio_add_file_rmap_ptes", file_part),
	RMAP(FILES, "folio_add_file_rmap_pmd", file_whole),
};

static u64 missed_before;

static int arm(struct rmap *rmap)
{
	int err = register_kprobe(&rmap->probe);

	rmap->armed = !err;
	return err == -ENOENT ? 0 : err;
}

static int arm_all(void)
{
	bool found[KINDS] = {};
	int i, err;

	for (i = 0; i < ARRAY_SIZE(rmaps); i++) {
		err = arm(&rmaps[i]);
		if (err)
			return err;
		found[rmaps[i].kind] |= rmaps[i].armed;
	}
	for (i = 0; i < KINDS; i++)
		if (!found[i])
			return -ENOENT;
	return 0;
}

static u64 missed(void)
{
	u64 missed = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(rmaps); i++)
		missed += rmaps[i].probe.nmissed;
	return missed;
}

int ld_usermap_arm(void)
{
	static bool armed;
	int err = armed ? 0 : arm_all();

	armed = !err;
	if (err)
		ld_usermap_exit();
	missed_before = missed();
	return err;
}

void ld_usermap_exit(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(rmaps); i++) {
		if (rmaps[i].armed)
			unregister_kprobe(&rmaps[i].probe);
		/* It keeps what it learnt, should it be registered again. */
		rmaps[i].armed = false;
		rmaps[i].probe.addr = NULL;
		rmaps[i].probe.flags = 0;
	}
}

u64 ld_usermap_missed(void)
{
	return missed() - missed_before;
}
