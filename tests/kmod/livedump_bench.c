// SPDX-License-Identifier: GPL-2.0
/*
 * Measures what tools/bench compares, with the clock that livedump uses itself:
 * the time stamp counter, ordered. It asks livedump for nothing but the
 * tracepoint of its faults.
 *
 * /proc/livedump_bench/control: commands
 *   blocks NUMBER   have so many blocks of 2 MiB; 0 frees them
 *   vmalloc MIB     have so much vmalloc memory in 4 KiB pages; 0 frees it
 *   touch           write a word to TOUCHED pages of each block and time each
 *   copy            copy the same pages to a buffer, and time each
 * /proc/livedump_bench/
 *   clock        "tsc_khz EMPTY LOOP": in cycles, the median cost of reading
 *                the counter twice, and the least of LOOP_STEPS steps of two
 *                instructions: where a cycle is an instruction, that is 2000
 *                and a little
 *   empty_stop   "TOTAL RENDEZVOUS EXIT": runs a stop_machine() that does
 *                nothing; ns, call to return, of it until the first CPU is in
 *                it, and from there to the return
 *   touches      "PAGE CYCLES DEMOTE_NS COPY_NS TOTAL_NS": what the last touch
 *                took, and of it livedump's handler, zeros without a fault;
 *                PAGE is the number in its block, 0 is the first one touched
 *   copies       "PAGE CYCLES", of the last copy
 */
#include <linux/gfp.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#include "trace.h"

#define MAX_BLOCKS 64
#define BLOCK_ORDER 9
#define TOUCHED 32		/* pages of a block, spread over it */
#define STRIDE ((PAGE_SIZE << BLOCK_ORDER) / TOUCHED)
#define LOOP_STEPS 1000
#define CLOCK_SAMPLES 101
#define VMALLOC_PART_MIB 64
#define MAX_VMALLOC_MIB 16384

/* Module memory: livedump's handler, which calls us, never protects it. */
struct touch {
	u64 cycles, demote_ns, copy_ns, total_ns;
};

static struct page *blocks[MAX_BLOCKS];
static unsigned int nr_blocks;
static struct touch touches[MAX_BLOCKS * TOUCHED];
static u64 copies[MAX_BLOCKS * TOUCHED];
static unsigned int nr_touches, nr_copies;
static struct touch *touching;
static unsigned long touched_address;
static void *vmallocs[MAX_VMALLOC_MIB / VMALLOC_PART_MIB];
static void *buffer;
static struct tracepoint *fault_tracepoint;
static struct proc_dir_entry *folder;
static DEFINE_MUTEX(control_lock);

/* ---- memory ---- */

static void free_blocks(void)
{
	while (nr_blocks)
		__free_pages(blocks[--nr_blocks], BLOCK_ORDER);
	nr_touches = 0;
	nr_copies = 0;
}

static int make_blocks(unsigned int count)
{
	free_blocks();
	if (count > MAX_BLOCKS)
		return -EINVAL;
	for (; nr_blocks < count; nr_blocks++) {
		blocks[nr_blocks] = alloc_pages(GFP_KERNEL, BLOCK_ORDER);
		if (!blocks[nr_blocks])
			return -ENOMEM;
	}
	return 0;
}

static void free_vmalloc(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vmallocs); i++) {
		vfree(vmallocs[i]);
		vmallocs[i] = NULL;
		cond_resched();
	}
}

static int make_vmalloc(unsigned int mib)
{
	unsigned int i;

	free_vmalloc();
	if (mib > MAX_VMALLOC_MIB || mib % VMALLOC_PART_MIB)
		return -EINVAL;
	for (i = 0; i < mib / VMALLOC_PART_MIB; i++) {
		vmallocs[i] = vmalloc((unsigned long)VMALLOC_PART_MIB << 20);
		if (!vmallocs[i])
			return -ENOMEM;
		cond_resched();
	}
	return 0;
}

static void *page_at(unsigned int i)
{
	return page_address(blocks[i / TOUCHED]) + (i % TOUCHED) * STRIDE;
}

/* ---- what livedump says of its faults ---- */

static void notrace on_fault(void *unused, u64 pfn, unsigned long address,
			     unsigned long ip, u32 outcome, u64 demote_ns,
			     u64 copy_ns, u64 total_ns)
{
	struct touch *touch = READ_ONCE(touching);

	if (!touch || address != READ_ONCE(touched_address))
		return;
	touch->demote_ns += demote_ns;
	touch->copy_ns += copy_ns;
	touch->total_ns += total_ns;
}

static int find_tracepoint(struct notifier_block *block, unsigned long event,
			   void *data)
{
	const struct tp_module *module = data;
	int i;

	if (event != MODULE_STATE_COMING ||
	    strcmp(module->mod->name, "livedump"))
		return NOTIFY_OK;
	for (i = 0; i < module->mod->num_tracepoints; i++) {
		struct tracepoint *tp = tracepoint_ptr_deref(
			&module->mod->tracepoints_ptrs[i]);

		if (!strcmp(tp->name, "livedump_fault"))
			fault_tracepoint = tp;
	}
	return NOTIFY_OK;
}

/* Told at once of the modules that are there. */
static struct notifier_block finder = { .notifier_call = find_tracepoint };

static int attach(void)
{
	int err;

	check_trace_callback_type_livedump_fault(on_fault);
	err = register_tracepoint_module_notifier(&finder);
	if (err)
		return err;
	unregister_tracepoint_module_notifier(&finder);
	if (!fault_tracepoint)
		return -ENOENT;
	err = tracepoint_probe_register(fault_tracepoint, on_fault, NULL);
	if (err)
		fault_tracepoint = NULL;
	return err;
}

static void detach(void)
{
	if (fault_tracepoint)
		tracepoint_probe_unregister(fault_tracepoint, on_fault, NULL);
	tracepoint_synchronize_unregister();
}

/* ---- timed ---- */

static void touch_one(unsigned int i)
{
	u64 *word = page_at(i), start, end;

	memset(&touches[i], 0, sizeof(touches[i]));
	preempt_disable();
	touched_address = (unsigned long)word;
	WRITE_ONCE(touching, &touches[i]);
	start = rdtsc_ordered();
	WRITE_ONCE(*word, i);
	end = rdtsc_ordered();
	WRITE_ONCE(touching, NULL);
	preempt_enable();
	touches[i].cycles = end - start;
}

static void touch_all(void)
{
	for (nr_touches = 0; nr_touches < nr_blocks * TOUCHED; nr_touches++) {
		touch_one(nr_touches);
		cond_resched();
	}
}

static u64 copy_one(unsigned int i)
{
	u64 start;

	preempt_disable();
	start = rdtsc_ordered();
	copy_page(buffer, page_at(i));
	start = rdtsc_ordered() - start;
	preempt_enable();
	return start;
}

static void copy_all(void)
{
	memset(buffer, 0, PAGE_SIZE);
	for (nr_copies = 0; nr_copies < nr_blocks * TOUCHED; nr_copies++) {
		copies[nr_copies] = copy_one(nr_copies);
		cond_resched();
	}
}

static u64 time_nothing(void)
{
	u64 start = rdtsc_ordered();

	return rdtsc_ordered() - start;
}

static u64 time_loop(void)
{
	unsigned long steps = LOOP_STEPS;
	u64 start = rdtsc_ordered();

	asm volatile("1: dec %0\n\tjnz 1b" : "+r"(steps) : : "cc");
	return rdtsc_ordered() - start;
}

static int by_value(const void *a, const void *b)
{
	u64 left = *(const u64 *)a, right = *(const u64 *)b;

	return left < right ? -1 : left > right;
}

static int clock_show(struct seq_file *m, void *unused)
{
	u64 nothing[CLOCK_SAMPLES], loop = U64_MAX;
	int i;

	for (i = 0; i < CLOCK_SAMPLES; i++) {
		nothing[i] = time_nothing();
		loop = min(loop, time_loop());
	}
	sort(nothing, CLOCK_SAMPLES, sizeof(*nothing), by_value, NULL);
	seq_printf(m, "%u %llu %llu\n", tsc_khz, nothing[CLOCK_SAMPLES / 2],
		   loop);
	return 0;
}

/* ---- a stop that does nothing ---- */

static u64 arrived;

static int do_nothing(void *unused)
{
	u64 now = rdtsc_ordered();

	cmpxchg(&arrived, 0, now);
	return 0;
}

static u64 to_ns(u64 from, u64 to)
{
	return (s64)(to - from) < 0 ? 0 :
				      mul_u64_u64_div_u64(to - from, 1000000,
							  tsc_khz);
}

static int empty_stop_show(struct seq_file *m, void *unused)
{
	u64 called, ended;
	int err;

	arrived = 0;
	called = rdtsc_ordered();
	err = stop_machine(do_nothing, NULL, cpu_online_mask);
	ended = rdtsc_ordered();
	seq_printf(m, "%llu %llu %llu\n", to_ns(called, ended),
		   to_ns(called, arrived), to_ns(arrived, ended));
	return err;
}

/* ---- files ---- */

static int touches_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < nr_touches; i++)
		seq_printf(m, "%u %llu %llu %llu %llu\n", i % TOUCHED,
			   touches[i].cycles, touches[i].demote_ns,
			   touches[i].copy_ns, touches[i].total_ns);
	return 0;
}

static int copies_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < nr_copies; i++)
		seq_printf(m, "%u %llu\n", i % TOUCHED, copies[i]);
	return 0;
}

static int run_command(const char *command)
{
	unsigned int number;

	if (sscanf(command, "blocks %u", &number) == 1)
		return make_blocks(number);
	if (sscanf(command, "vmalloc %u", &number) == 1)
		return make_vmalloc(number);
	if (!strncmp(command, "touch", 5))
		touch_all();
	else if (!strncmp(command, "copy", 4))
		copy_all();
	else
		return -EINVAL;
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *text,
			     size_t count, loff_t *ppos)
{
	char command[32] = {};
	int err;

	if (count >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, text, count))
		return -EFAULT;
	mutex_lock(&control_lock);
	err = run_command(command);
	mutex_unlock(&control_lock);
	return err ?: count;
}

static const struct proc_ops control_ops = {
	.proc_write = control_write,
	.proc_lseek = noop_llseek,
};

static int make_files(void)
{
	folder = proc_mkdir("livedump_bench", NULL);
	if (folder &&
	    proc_create_single("clock", 0400, folder, clock_show) &&
	    proc_create_single("empty_stop", 0400, folder, empty_stop_show) &&
	    proc_create_single("touches", 0400, folder, touches_show) &&
	    proc_create_single("copies", 0400, folder, copies_show) &&
	    proc_create("control", 0200, folder, &control_ops))
		return 0;
	return -ENOMEM;
}

static void bench_exit(void)
{
	proc_remove(folder);
	detach();
	free_vmalloc();
	free_blocks();
	free_page((unsigned long)buffer);
}

static int __init bench_init(void)
{
	int err = -ENOMEM;

	buffer = (void *)__get_free_page(GFP_KERNEL);
	if (!buffer)
		goto fail;
	err = attach();
	if (err)
		goto fail;
	err = make_files();
	if (err)
		goto fail;
	return 0;
fail:
	bench_exit();
	return err;
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_DESCRIPTION("Measurements for livedump's benchmarks");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
