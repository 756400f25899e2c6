// SPDX-License-Identifier: GPL-2.0
#include <linux/cc_platform.h>
#include <linux/cpu.h>
#include <linux/kprobes.h>
#include <linux/objtool.h>
#include <linux/percpu.h>
#include <linux/tick.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include <asm/tsc.h>
#include <xen/xen.h>

#include "compat.h"

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
	    required("set_memory_4k", &ld_syms.set_memory_4k) ||
	    required("idle_task", &ld_syms.idle_task) ||
	    required("get_online_mems", &ld_syms.get_online_mems) ||
	    required("put_online_mems", &ld_syms.put_online_mems) ||
	    resolve_variables())
		return -ENOENT;
	ld_syms.init_mm = (struct mm_struct *)init_mm;
	ld_syms.cpa_lock = (spinlock_t *)cpa_lock;
	ld_syms.espfix_waddr = lookup("espfix_waddr");
	ld_syms.nohz_full_running = lookup("tick_nohz_full_running");
	return 0;
}

int ld_set_memory_4k(unsigned long addr, int numpages)
{
	return (int)ld_call(ld_syms.set_memory_4k, addr, numpages);
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

/*
 * AMD's __svm_vcpu_run stores guest registers while GSBASE is the guest's: a
 * fault there cannot be handled. A guest may start at any moment while we
 * prepare, so what counts is that kvm could run one.
 */
static bool may_run_guests_on_amd(void)
{
	return boot_cpu_data.x86_vendor != X86_VENDOR_INTEL &&
	       lookup("svm_vcpu_run");
}

static bool is_nohz_full(void)
{
	return ld_syms.nohz_full_running && *(bool *)ld_syms.nohz_full_running;
}

const char *ld_machine_refusal(void)
{
#ifdef CONFIG_XEN_PV
	if (xen_pv_domain())
		return "Xen PV owns the page tables of this machine";
#endif
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return "guest memory is encrypted (SEV or TDX)";
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return "PREEMPT_RT kernels are not supported";
	if (IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KMSAN))
		return "KASAN and KMSAN kernels are not supported";
	if (!IS_ENABLED(CONFIG_VMAP_STACK) ||
	    !IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP))
		return "the kernel lacks CONFIG_VMAP_STACK or CONFIG_SPARSEMEM_VMEMMAP";
	if (debug_pagealloc_enabled())
		return "debug_pagealloc is on";
	if (is_nohz_full())
		return "nohz_full CPUs are not supported";
	if (is_vmalloc_addr((void *)ld_syms.pcpu_base))
		return "per-CPU memory is in vmalloc space (percpu_alloc=page)";
	if (may_run_guests_on_amd())
		return "kvm_amd is loaded: its guests could not take our faults";
	if (!tsc_khz)
		return "the time stamp counter is not usable";
	return NULL;
}
