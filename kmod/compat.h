/* SPDX-License-Identifier: GPL-2.0 */
/* The only home of what differs between kernels and of unexported symbols. */
#ifndef _LIVEDUMP_COMPAT_H
#define _LIVEDUMP_COMPAT_H

#include <linux/ftrace.h>
#include <linux/hardirq.h>
#include <linux/mm_types.h>
#include <linux/sched.h>

/* Unexported kernel symbols, resolved once by ld_compat_init(). */
struct ld_syms {
	struct mm_struct *init_mm;
	unsigned long text;		/* _text, start of the kernel image */
	unsigned long data;		/* _sdata */
	unsigned long end;		/* _end */
	unsigned char *vmcoreinfo_data;
	size_t vmcoreinfo_size;
	unsigned long pcpu_base;
	const unsigned long *pcpu_unit_offsets;
	unsigned long pcpu_unit_used;	/* bytes; the rest was freed at boot */
	size_t task_struct_size;
	unsigned long espfix_waddr;	/* per-CPU offset; 0 where there is none */
	unsigned long set_memory_rw;
	unsigned long idle_task;
	unsigned long get_online_mems;
	unsigned long put_online_mems;
	unsigned long put_task_stack;
	unsigned long find_vm_area;
	unsigned long nohz_full_running;
	unsigned long hugetlb_optimize;	/* bool; 0 where there is none */
	unsigned long page_reporting;	/* pointer to a pointer; 0: as above */
	unsigned long nmi_state;	/* per-CPU offset; 0: as above */
	unsigned long cached_stacks;	/* per-CPU offset; 0: as above */
	unsigned long kprobes_disarmed;	/* bool; 0: as above */
	unsigned long ftrace_enabled;	/* int; 0: as above */
	spinlock_t *cpa_lock;		/* of changes to kernel mappings */
};

extern struct ld_syms ld_syms;

int ld_compat_init(void);

/**
 * ld_machine_refusal() - what about this machine livedump does not handle
 * @why: the same in a sentence for the user
 *
 * Return: enum livedump_refusal; NONE when a snapshot may be taken.
 */
u32 ld_machine_refusal(const char **why);

/* Keep memory from being onlined, offlined, added or removed. */
void ld_get_online_mems(void);
void ld_put_online_mems(void);

int ld_set_memory_rw(unsigned long addr, int numpages);
struct task_struct *ld_idle_task(int cpu);

#define LD_STACK_PAGES ((int)(THREAD_SIZE / PAGE_SIZE))

/**
 * ld_is_stack() - may a thread's stack begin at this address of vmalloc space?
 *
 * That is, is there an area of the size of one. An area is there before it maps its
 * first page, so who has read an entry before is told in time. Should it have gone
 * since, nobody is on that stack, and another is there only once all CPUs have flushed
 * their TLBs: with interrupts off, this one too (7.3 with INVLPGB aside). Takes a
 * spinlock of the kernel's, which nobody holds in the stop.
 */
bool ld_is_stack(unsigned long addr);

/* Give back what try_get_task_stack() got. */
void ld_put_task_stack(struct task_struct *task);

/**
 * ld_call() - call an unexported kernel function
 *
 * Goes through a pushed return address: with kernel IBT the function may carry
 * no ENDBR, so that an indirect call to it is fatal. Returns are not tracked.
 */
unsigned long ld_call(unsigned long fn, unsigned long arg0, unsigned long arg1);

/* Somebody has switched kprobes off; or ftrace, which calls most of them, too. */
bool ld_are_kprobes_off(void);
bool ld_is_ftrace_off(void);

/* Each part of a module's memory. */
struct module;
void ld_each_module_part(const struct module *module,
			 void (*fn)(unsigned long addr, unsigned long bytes));

/* Where a function is that is to be hooked; 0: this kernel has none. */
unsigned long ld_function(const char *name);

/* Where a hooked call goes that is not to happen: it returns at once. */
extern const char ld_just_return_thunk[];
unsigned long ld_just_return(void);

#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error "livedump needs a kernel with CONFIG_DYNAMIC_FTRACE_WITH_ARGS"
#endif

/* Registers of which ftrace has kept those with arguments; 6.12.y has it, 6.1 not. */
#ifndef arch_ftrace_regs
#define arch_ftrace_regs(regs) (regs)
#endif

static inline struct pt_regs *ld_arguments(struct ftrace_regs *regs)
{
	return &arch_ftrace_regs(regs)->regs;
}

/* How many NMIs a CPU has had; a member of an array in 7.3. */
#ifdef LD_HAVE_IRQ_COUNTS
#define ld_nmis(cpu) per_cpu(irq_stat.counts[IRQ_COUNT_NMI], cpu)
#else
#define ld_nmis(cpu) per_cpu(irq_stat.__nmi_count, cpu)
#endif

/* Pages with a type (buddy, page table, ...) reuse the field of mapcount. */
static inline bool ld_page_has_type(const struct page *page)
{
	return page_has_type((struct page *)page);
}

/* Head of struct cpa_data, arch/x86/mm/pat/set_memory.c; 6.1 to 7.3. */
struct ld_cpa_data {
	unsigned long *vaddr;
	pgd_t *pgd;
	pgprot_t mask_set;
	pgprot_t mask_clr;
	unsigned long numpages;
	unsigned long curpage;
	unsigned long pfn;
	unsigned int flags;
	unsigned int force_bits;
	struct page **pages;
};

#define LD_CPA_ARRAY 2
#define LD_CPA_PAGES_ARRAY 4
#define LD_CPA_COLLAPSE 16	/* 7.3: tables may go once it has returned */

#endif
