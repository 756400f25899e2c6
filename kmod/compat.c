// SPDX-License-Identifier: GPL-2.0
#include <linux/cc_platform.h>
#include <linux/cpu.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/objtool.h>
#include <linux/percpu.h>
#include <linux/tick.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>
#include <xen/xen.h>

#include "compat.h"
#include "uapi/livedump.h"

struct ld_syms ld_syms;

static unsigned long lookup_name;	/* kallsyms_lookup_name() */

/*
 * Push the target and return into it: see ld_call() in compat.h. The
 * arguments are already where the target wants them once shifted by one.
 */
asm(
	".pushsection .text, \"ax\"\n"
	".type ld_call_thunk, @function\n"
	"ld_call_thunk:\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	movq %rsi, %rdi\n"
	"	movq %rdx, %rsi\n"
	"	" ASM_RET "\n"
	".size ld_call_thunk, . - ld_call_thunk\n"
	".popsection\n"
);

/* What a hooked call returns into at once: its caller. Never called itself. */
asm(
	".pushsection .text, \"ax\"\n"
	".type ld_just_return_thunk, @function\n"
	"ld_just_return_thunk:\n"
	"	" ASM_RET "\n"
	".size ld_just_return_thunk, . - ld_just_return_thunk\n"
	".popsection\n"
);

unsigned long ld_just_return(void)
{
	return (unsigned long)ld_just_return_thunk;
}
NOKPROBE_SYMBOL(ld_just_return);

asmlinkage unsigned long ld_call_thunk(unsigned long fn, unsigned long arg0,
				       unsigned long arg1);
STACK_FRAME_NON_STANDARD(ld_call_thunk);

unsigned long ld_call(unsigned long fn, unsigned long arg0, unsigned long arg1)
{
	return ld_call_thunk(fn, arg0, arg1);
}

/* A kprobe is the one exported way to the address of any function. */
static unsigned long probe_address(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static unsigned long lookup(const char *name)
{
	return ld_call(lookup_name, (unsigned long)name, 0);
}

static int required(const char *name, unsigned long *address)
{
	*address = lookup(name);
	if (*address)
		return 0;
	pr_err("livedump: kernel symbol %s not found (CONFIG_KALLSYMS_ALL?)\n",
	       name);
	return -ENOENT;
}

/*
 * pcpu_embed_first_chunk() gives the tail of each unit back to the allocator:
 * what it keeps is the static part, the one for modules and the dynamic one.
 */
static int resolve_percpu(void)
{
	unsigned long start, end, size;

	if (required("__per_cpu_end", &end) || required("pcpu_unit_size", &size))
		return -ENOENT;
	start = lookup("__per_cpu_start");	/* 0 where they are offsets */
	ld_syms.pcpu_unit_used = PFN_ALIGN(
		end - start + PERCPU_MODULE_RESERVE +
		max_t(size_t, PERCPU_DYNAMIC_RESERVE, PERCPU_DYNAMIC_EARLY_SIZE));
	if (ld_syms.pcpu_unit_used > *(int *)size)
		return -ERANGE;
	return 0;
}

/* The kernel's variables, by value where it never changes after boot. */
static int resolve_variables(void)
{
	unsigned long data, size, base, task;

	if (required("vmcoreinfo_data", &data) ||
	    required("vmcoreinfo_size", &size) ||
	    required("pcpu_base_addr", &base) ||
	    required("arch_task_struct_size", &task))
		return -ENOENT;
	ld_syms.vmcoreinfo_data = *(unsigned char **)data;
	ld_syms.vmcoreinfo_size = *(size_t *)size;
	ld_syms.pcpu_base = *(unsigned long *)base;
	ld_syms.task_struct_size = *(unsigned int *)task;

	if (required("pcpu_unit_offsets", &data))
		return -ENOENT;
	ld_syms.pcpu_unit_offsets = *(const unsigned long **)data;
	return resolve_percpu();
}

int ld_compat_init(void)
{
	unsigned long init_mm, cpa_lock;

	lookup_name = probe_address("kallsyms_lookup_name");
	if (!lookup_name) {
		pr_err("livedump: cannot probe kallsyms_lookup_name (kprobes off or lockdown?)\n");
		return -ENOENT;
	}
	if (required("init_mm", &init_mm) ||
	    required("_text", &ld_syms.text) ||
	    required("_sdata", &ld_syms.data) ||
	    required("_end", &ld_syms.end) ||
	    required("cpa_lock", &cpa_lock) ||
	    required("set_memory_rw", &ld_syms.set_memory_rw) ||
	    required("idle_task", &ld_syms.idle_task) ||
	    required("get_online_mems", &ld_syms.get_online_mems) ||
	    required("put_online_mems", &ld_syms.put_online_mems) ||
	    required("put_task_stack", &ld_syms.put_task_stack) ||
	    required("find_vm_area", &ld_syms.find_vm_area) ||
	    resolve_variables())
		return -ENOENT;
	ld_syms.init_mm = (struct mm_struct *)init_mm;
	ld_syms.cpa_lock = (spinlock_t *)cpa_lock;
	ld_syms.espfix_waddr = lookup("espfix_waddr");
	ld_syms.nohz_full_running = lookup("tick_nohz_full_running");
	ld_syms.hugetlb_optimize = lookup("vmemmap_optimize_enabled");
	ld_syms.page_reporting = lookup("pr_dev_info");
	ld_syms.nmi_state = lookup("nmi_state");
	ld_syms.kprobes_disarmed = lookup("kprobes_all_disarmed");
	ld_syms.ftrace_enabled = lookup("ftrace_enabled");
	ld_syms.cached_stacks = lookup("cached_stacks");
	return 0;
}

bool ld_is_stack(unsigned long addr)
{
	const struct vm_struct *area =
		(void *)ld_call(ld_syms.find_vm_area, addr, 0);
	unsigned long size;
	void *start;

	/* It may go while we look. The hole behind counts. */
	return area && !get_kernel_nofault(start, &area->addr) &&
	       !get_kernel_nofault(size, &area->size) &&
	       start == (void *)addr && size == THREAD_SIZE + PAGE_SIZE;
}

int ld_set_memory_rw(unsigned long addr, int numpages)
{
	return (int)ld_call(ld_syms.set_memory_rw, addr, numpages);
}

struct task_struct *ld_idle_task(int cpu)
{
	return (struct task_struct *)ld_call(ld_syms.idle_task, cpu, 0);
}

void ld_get_online_mems(void)
{
	ld_call(ld_syms.get_online_mems, 0, 0);
}

void ld_put_online_mems(void)
{
	ld_call(ld_syms.put_online_mems, 0, 0);
}

void ld_put_task_stack(struct task_struct *task)
{
	ld_call(ld_syms.put_task_stack, (unsigned long)task, 0);
}

/*
 * AMD's __svm_vcpu_run() stores guest registers while GSBASE is the guest's: a
 * fault there cannot be handled. On Intel a fault between a VM exit and kvm's
 * read of CR2 gives the guest our address as its own. So no guest may run; a
 * hook on kvm_arch_init_vm() keeps new ones from starting.
 */
static bool has_kvm_guest(void)
{
	/* In kvm.ko, which may come and go, now too: looked up each time. */
	struct list_head *vms = (struct list_head *)lookup("vm_list"), *first;

	return vms && !get_kernel_nofault(first, &vms->next) && first != vms;
}

bool ld_are_kprobes_off(void)
{
	return ld_syms.kprobes_disarmed &&
	       READ_ONCE(*(bool *)ld_syms.kprobes_disarmed);
}

bool ld_is_ftrace_off(void)
{
	return ld_syms.ftrace_enabled &&
	       !READ_ONCE(*(int *)ld_syms.ftrace_enabled);
}

unsigned long ld_function(const char *name)
{
	return lookup(name);
}

static bool is_nohz_full(void)
{
	return ld_syms.nohz_full_running && *(bool *)ld_syms.nohz_full_running;
}

/*
 * Struct pages of a huge page are mapped anew, writable, by hand. The key's
 * first member is its count.
 */
static bool is_hugetlb_vmemmap_optimized(void)
{
#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
	return ld_syms.hugetlb_optimize &&
	       READ_ONCE(*(bool *)ld_syms.hugetlb_optimize);
#else
	return false;
#endif
}

#define REFUSE(name, words)                                                \
	do {                                                               \
		*why = words;                                              \
		return LIVEDUMP_REFUSAL_##name;                            \
	} while (0)

u32 ld_machine_refusal(const char **why)
{
#ifdef CONFIG_XEN_PV
	if (xen_pv_domain())
		REFUSE(XEN_PV, "Xen PV owns the page tables of this machine");
#endif
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		REFUSE(ENCRYPTED, "guest memory is encrypted (SEV or TDX)");
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		REFUSE(PREEMPT_RT, "PREEMPT_RT kernels are not supported");
	if (IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KMSAN) ||
	    IS_ENABLED(CONFIG_KCOV) || IS_ENABLED(CONFIG_GCC_PLUGIN_STACKLEAK) ||
	    IS_ENABLED(CONFIG_KSTACK_ERASE))
		REFUSE(SANITIZER, "KASAN, KMSAN, KCOV and STACKLEAK kernels are not supported");
	if (!IS_ENABLED(CONFIG_VMAP_STACK) ||
	    !IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP))
		REFUSE(CONFIG, "the kernel lacks CONFIG_VMAP_STACK or CONFIG_SPARSEMEM_VMEMMAP");
	if (IS_ENABLED(CONFIG_CPA_DEBUG))
		REFUSE(CPA_DEBUG, "CONFIG_CPA_DEBUG uses the bit that tags our entries");
	if (debug_pagealloc_enabled())
		REFUSE(DEBUG_PAGEALLOC, "debug_pagealloc is on");
	if (is_nohz_full())
		REFUSE(NOHZ_FULL, "nohz_full CPUs are not supported");
	if (is_vmalloc_addr((void *)ld_syms.pcpu_base))
		REFUSE(PERCPU_PAGES, "per-CPU memory is in vmalloc space (percpu_alloc=page)");
	if (!tsc_khz)
		REFUSE(TSC, "the time stamp counter is not usable");
	if (has_kvm_guest())
		REFUSE(KVM_GUEST, "a virtual machine runs on this host: it could not take our faults");
	if (is_hugetlb_vmemmap_optimized())
		REFUSE(HUGETLB_VMEMMAP, "vm.hugetlb_optimize_vmemmap is on");
	*why = "";
	return LIVEDUMP_REFUSAL_NONE;
}

#ifdef LD_HAVE_MODULE_MEMORY
void ld_each_module_part(const struct module *module,
			 void (*fn)(unsigned long addr, unsigned long bytes))
{
	int i;

	for (i = 0; i < MOD_MEM_NUM_TYPES; i++)
		if (module->mem[i].size)
			fn((unsigned long)module->mem[i].base, module->mem[i].size);
}
#else
void ld_each_module_part(const struct module *module,
			 void (*fn)(unsigned long addr, unsigned long bytes))
{
	fn((unsigned long)module->core_layout.base, module->core_layout.size);
}
#endif
