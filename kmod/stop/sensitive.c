// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/cow.h"
#include "map/pgwalk.h"
#include "stop/sensitive.h"

static struct task_struct **idle;	/* by CPU */

int ld_sensitive_prepare(void)
{
	int cpu;

	idle = vzalloc(array_size(nr_cpu_ids, sizeof(*idle)));
	if (!idle)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		idle[cpu] = ld_idle_task(cpu);
	ld_cow_mark_own(idle, nr_cpu_ids * sizeof(*idle));
	return 0;
}

void ld_sensitive_free(void)
{
	vfree(idle);
	idle = NULL;
}

/* The pages that hold [addr, addr + bytes) of the direct map or the image. */
static void each_page(const void *addr, size_t bytes, ld_page_fn fn, void *arg)
{
	unsigned long pfn = PHYS_PFN(__pa(addr));
	unsigned long last = PHYS_PFN(__pa(addr) + bytes - 1);

	for (; pfn <= last; pfn++)
		fn(pfn, arg);
}

/*
 * From .data to .bss and .brk. What was freed after boot between them is the
 * page allocator's by now, and not reserved. Text and read-only data stay in
 * place: a hook sees who patches them.
 */
void ld_each_data_page(ld_page_fn fn, void *arg)
{
	unsigned long addr;

	for (addr = ld_syms.data & PAGE_MASK; addr < ld_syms.end;
	     addr += PAGE_SIZE)
		if (PageReserved(pfn_to_page(PHYS_PFN(__pa(addr)))))
			fn(PHYS_PFN(__pa(addr)), arg);
}

void ld_each_cpu_page(int cpu, ld_page_fn fn, void *arg)
{
	each_page((void *)ld_syms.pcpu_base + ld_syms.pcpu_unit_offsets[cpu],
		  ld_syms.pcpu_unit_used, fn, arg);
	if (idle[cpu])
		each_page(idle[cpu], ld_syms.task_struct_size, fn, arg);
	ld_each_espfix_page(cpu, fn, arg);
}

void ld_each_espfix_page(int cpu, ld_page_fn fn, void *arg)
{
	void **waddr = (void **)(ld_syms.espfix_waddr + per_cpu_offset(cpu));

	/* IRET to a 16-bit stack writes here, past any fault handler. */
	if (ld_syms.espfix_waddr && *waddr)
		each_page(*waddr, 1, fn, arg);
}

/* Kernel threads that stop the CPUs, and that run as soon as they go on. */
static const char *const stoppers[] = {
	"migration/", "ksoftirqd/", "rcu_preempt", "rcu_sched",
};

static bool is_stopper(const struct task_struct *task)
{
	int i;

	if (task == current)
		return true;
	if (!(task->flags & PF_KTHREAD))
		return false;
	for (i = 0; i < ARRAY_SIZE(stoppers); i++)
		if (str_has_prefix(task->comm, stoppers[i]))
			return true;
	return false;
}

void ld_each_stopper_page(ld_page_fn fn, void *arg)
{
	struct task_struct *group, *task;

	rcu_read_lock();
	for_each_process_thread(group, task)
		if (is_stopper(task))
			each_page(task, ld_syms.task_struct_size, fn, arg);
	rcu_read_unlock();
	/* Switching back to who asked marks its address space as used. */
	if (current->mm)
		each_page(current->mm, sizeof(*current->mm) + cpumask_size(),
			  fn, arg);
}

/* ---- all inside the stop ---- */

struct saver {
	u64 saved;
	int error;
};

static void save_pfn(unsigned long pfn, void *arg)
{
	struct saver *saver = arg;

	saver->error = ld_cow_keep(pfn, &saver->saved) ?: saver->error;
}

static void save_task(struct saver *saver, struct task_struct *task)
{
	struct vm_struct *stack = task->stack_vm_area;
	int i;

	each_page(task, ld_syms.task_struct_size, save_pfn, saver);
	for (i = 0; stack && i < THREAD_SIZE / PAGE_SIZE; i++)
		save_pfn(page_to_pfn(stack->pages[i]), saver);
}

static void save_tasks(struct saver *saver)
{
	struct task_struct *group, *task;
	int cpu;

	for_each_possible_cpu(cpu)
		if (idle[cpu])
			save_task(saver, idle[cpu]);
	/*
	 * The list is whole: its writers hold a spinlock with interrupts off,
	 * so none of them is stopped half-way.
	 */
	for_each_process_thread(group, task)
		save_task(saver, task);
}

struct table_walk {
	struct ld_walk walk;
	struct saver *saver;
	unsigned long last[6];		/* table of each level, visited last */
};

static bool save_table(struct ld_walk *walk, unsigned long pfn, int level,
		       unsigned long addr)
{
	struct table_walk *tw = container_of(walk, struct table_walk, walk);

	/* ESPFIX maps one table some thousand times, side by side. */
	if (tw->last[level] == pfn)
		return false;
	tw->last[level] = pfn;
	save_pfn(pfn, tw->saver);
	return level > LD_LEVEL_PTE;
}

static void save_tables(struct saver *saver)
{
	struct table_walk tw = {
		.walk = {
			.table = save_table,
			.start = 0,
			.last = ULONG_MAX,
		},
		.saver = saver,
	};

	save_pfn(PHYS_PFN(__pa(ld_syms.init_mm->pgd)), saver);
	ld_walk_kernel(&tw.walk);
}

int ld_save_sensitive(u64 *saved)
{
	struct saver saver = {};
	int cpu;

	ld_each_data_page(save_pfn, &saver);
	for_each_possible_cpu(cpu)
		ld_each_cpu_page(cpu, save_pfn, &saver);
	save_tasks(&saver);
	save_tables(&saver);
	*saved = saver.saved;
	return saver.error;
}
