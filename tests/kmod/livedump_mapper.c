// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of the kernel that user space maps, by each way that a driver has:
 *
 *   /proc/livedump_mapper/WAY   mmap() of PAGES pages, shared
 *   /proc/livedump_mapper/pages their page frames, a line each
 *   /proc/livedump_mapper/fill  write a character: all of them are filled with it
 *   /proc/livedump_mapper/pmd   mmap() of 4 MiB: 2 MiB of it are a large page of
 *                               the kernel's, /proc/livedump_mapper/large its frame
 *   /proc/livedump_mapper/device write anything: memory of a device comes, with
 *                               struct pages and in the direct map, and goes
 *   /proc/livedump_mapper/asleep write 1: the same sleeps in memremap_pages()
 *                               until somebody writes 0, and fails
 *   /dev/livedump_mapper        mmap() that only says what is to be mapped, where
 *                               the kernel has that (mmap_prepare)
 */
#include <linux/completion.h>
#include <linux/ioport.h>
#include <linux/kprobes.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#ifdef LIVEDUMP_PFN_T
#include <linux/pfn_t.h>
#define MIXED(pfn) pfn_to_pfn_t(pfn)
#else
#define MIXED(pfn) (pfn)
#endif

#define ORDER 3
#define PAGES (1 << ORDER)

static struct page *pages;
static struct page *large;		/* HPAGE_PMD_NR of them */
static struct proc_dir_entry *folder;

static void add_flags(struct vm_area_struct *vma, unsigned long flags)
{
#ifdef LIVEDUMP_VM_FLAGS_SET
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/* ---- at once ---- */

static int map_remap(struct file *file, struct vm_area_struct *vma)
{
	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(pages),
			       PAGES * PAGE_SIZE, vma->vm_page_prot);
}

static int map_page(struct file *file, struct vm_area_struct *vma)
{
	int i, err = 0;

	for (i = 0; i < PAGES && !err; i++)
		err = vm_insert_page(vma, vma->vm_start + i * PAGE_SIZE,
				     pages + i);
	return err;
}

static int leave_it(pte_t *entry, unsigned long addr, void *data)
{
	return 0;
}

static int map_apply(struct file *file, struct vm_area_struct *vma)
{
	return apply_to_page_range(vma->vm_mm, vma->vm_start, PAGE_SIZE,
				   leave_it, NULL);
}

/* ---- page by page, when user space gets there ---- */

static unsigned long wanted(const struct vm_fault *fault)
{
	return page_to_pfn(pages) + min_t(pgoff_t, fault->pgoff, PAGES - 1);
}

static vm_fault_t fault_pfn(struct vm_fault *fault)
{
	return vmf_insert_pfn(fault->vma, fault->address, wanted(fault));
}

static vm_fault_t fault_prot(struct vm_fault *fault)
{
	return vmf_insert_pfn_prot(fault->vma, fault->address, wanted(fault),
				   fault->vma->vm_page_prot);
}

static vm_fault_t fault_mixed(struct vm_fault *fault)
{
	return vmf_insert_mixed(fault->vma, fault->address,
				MIXED(wanted(fault)));
}

#define BY_FAULT(way, flags)                                                  \
	static const struct vm_operations_struct way##_operations = {         \
		.fault = fault_##way,                                         \
	};                                                                    \
	static int map_##way(struct file *file, struct vm_area_struct *vma)   \
	{                                                                     \
		add_flags(vma, flags);                                        \
		vma->vm_ops = &way##_operations;                              \
		return 0;                                                     \
	}

BY_FAULT(pfn, VM_PFNMAP)
BY_FAULT(prot, VM_PFNMAP)
BY_FAULT(mixed, VM_MIXEDMAP)

static vm_fault_t fault_pmd(struct vm_fault *fault)
{
	unsigned long start = fault->address & HPAGE_PMD_MASK;

	if (start < fault->vma->vm_start ||
	    start + HPAGE_PMD_SIZE > fault->vma->vm_end)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn_pmd(fault, MIXED(page_to_pfn(large)), true);
}

BY_FAULT(pmd, VM_PFNMAP)

/* ---- by the kernel, as it was told ---- */

#ifdef LIVEDUMP_MMAP_ACTION
static int prepare_action(struct vm_area_desc *desc)
{
	if (desc->end - desc->start > PAGES * PAGE_SIZE)
		return -EINVAL;
	mmap_action_remap_full(desc, page_to_pfn(pages));
	return 0;
}

static const struct file_operations action_operations = {
	.owner = THIS_MODULE,
	.mmap_prepare = prepare_action,
};

static struct miscdevice action_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "livedump_mapper",
	.fops = &action_operations,
	.mode = 0600,
};

static int action_init(void)
{
	return misc_register(&action_device);
}

static void action_exit(void)
{
	misc_deregister(&action_device);
}
#else
static int action_init(void)
{
	return 0;
}

static void action_exit(void)
{
}
#endif

/* ---- memory of a device ---- */

static int map_device(struct resource *where)
{
	struct dev_pagemap map = {
		.type = MEMORY_DEVICE_GENERIC,
		.range = { .start = where->start, .end = where->end },
		.nr_range = 1,
	};
	void *addr = memremap_pages(&map, 0);

	if (IS_ERR(addr))
		return PTR_ERR(addr);
	memunmap_pages(&map);
	return 0;
}

static ssize_t come_and_go(struct file *file, const char __user *from,
			   size_t count, loff_t *at)
{
	struct resource *where = request_free_mem_region(&iomem_resource,
							 SZ_128M, "livedump_mapper");
	int err;

	if (IS_ERR(where))
		return PTR_ERR(where);
	err = map_device(where);
	release_mem_region(where->start, resource_size(where));
	return err ?: count;
}

/* ---- the same, slowly ---- */

static struct task_struct *sleeper;
static DECLARE_COMPLETION(awake);

/* Called by memremap_pages() as if it were percpu_ref_init(). */
static noinline int sleep_instead(void)
{
	wait_for_completion_killable(&awake);
	return -ENOMEM;
}

static int on_ref_init(struct kprobe *probe, struct pt_regs *regs)
{
	if (current != sleeper)
		return 0;
	regs->ip = (unsigned long)sleep_instead;
	return 1;
}

static ssize_t sleep_in_it(struct file *file, const char __user *from,
			   size_t count, loff_t *at)
{
	struct kprobe probe = { .symbol_name = "percpu_ref_init",
				.pre_handler = on_ref_init };
	ssize_t done = register_kprobe(&probe);

	if (done)
		return done;
	reinit_completion(&awake);
	sleeper = current;
	done = come_and_go(file, from, count, at);
	sleeper = NULL;
	unregister_kprobe(&probe);
	return done;
}

static ssize_t sleep_or_wake(struct file *file, const char __user *from,
			     size_t count, loff_t *at)
{
	char what;

	if (get_user(what, from))
		return -EFAULT;
	if (what == '1')
		return sleep_in_it(file, from, count, at);
	complete_all(&awake);
	return count;
}

static const struct proc_ops asleep_operations = {
	.proc_write = sleep_or_wake,
	.proc_lseek = noop_llseek,
};

static const struct proc_ops device_operations = {
	.proc_write = come_and_go,
	.proc_lseek = noop_llseek,
};

/* ---- files ---- */

static ssize_t fill(struct file *file, const char __user *from, size_t count,
		    loff_t *at)
{
	char with;

	if (get_user(with, from))
		return -EFAULT;
	memset(page_address(pages), with, PAGES * PAGE_SIZE);
	memset(page_address(large), with, HPAGE_PMD_SIZE);
	return count;
}

static const struct proc_ops fill_operations = {
	.proc_write = fill,
	.proc_lseek = noop_llseek,
};

static int show_pages(struct seq_file *out, void *unused)
{
	int i;

	for (i = 0; i < PAGES; i++)
		seq_printf(out, "%lu\n", page_to_pfn(pages + i));
	return 0;
}

static int show_large(struct seq_file *out, void *unused)
{
	seq_printf(out, "%lu\n", page_to_pfn(large));
	return 0;
}

#define WAY(way) { #way, { .proc_mmap = map_##way, .proc_lseek = noop_llseek } }

static const struct {
	const char *name;
	const struct proc_ops operations;
} ways[] = {
	WAY(remap), WAY(page), WAY(apply), WAY(pfn), WAY(prot), WAY(mixed), WAY(pmd),
};

static void free_all(void)
{
	proc_remove(folder);
	__free_pages(pages, ORDER);
	__free_pages(large, HPAGE_PMD_ORDER);
}

static void mapper_exit(void)
{
	action_exit();
	free_all();
}

static bool make_files(void)
{
	struct proc_dir_entry *file;
	int i;

	folder = proc_mkdir("livedump_mapper", NULL);
	if (!folder || !proc_create_single("pages", 0400, folder, show_pages) ||
	    !proc_create_single("large", 0400, folder, show_large) ||
	    !proc_create("fill", 0200, folder, &fill_operations) ||
	    !proc_create("device", 0200, folder, &device_operations) ||
	    !proc_create("asleep", 0200, folder, &asleep_operations))
		return false;
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		file = proc_create(ways[i].name, 0600, folder,
				   &ways[i].operations);
		if (!file)
			return false;
		/* Python maps no more of a file than there is. */
		proc_set_size(file, 2 * HPAGE_PMD_SIZE);
	}
	return true;
}

static int __init mapper_init(void)
{
	/* One folio: vm_insert_page() counts who uses it. */
	pages = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, ORDER);
	if (!pages)
		return -ENOMEM;
	large = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, HPAGE_PMD_ORDER);
	if (!large) {
		__free_pages(pages, ORDER);
		return -ENOMEM;
	}
	if (make_files() && !action_init())
		return 0;
	free_all();
	return -ENOMEM;
}

module_init(mapper_init);
module_exit(mapper_exit);

MODULE_DESCRIPTION("Mappings of the kernel's pages for livedump's tests");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
