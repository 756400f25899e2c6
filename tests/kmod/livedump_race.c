// SPDX-License-Identifier: GPL-2.0
/*
 * Provokes what rarely happens by itself, for tests of the fault path: CPUs
 * and NMIs that write the same page at the same time, faults inside faults, a
 * demotion that meets another one or the kernel's own split of the same leaf,
 * an NMI that goes on while the stop ends, a mark that a release has left,
 * mappings that change between the plan and the stop.
 * The module under test must be its test build (kmod/test.h).
 *
 * /proc/livedump_race/pages: "KIND NUMBER PADDR", where KIND is race, chain,
 * block or changing. /proc/livedump_race/nmis: how many NMIs wrote a page. Commands for
 * /proc/livedump_race/control:
 *   race VALUE   every CPU writes VALUE to its word of every race page, all at
 *                the same moment; NMIs write to the page of that moment, too
 *   chain DEPTH  write chain page 0; while it is saved write page 1, while
 *                that is saved page 2, ... DEPTH pages in all
 *   split VALUE  for every block of 2 MiB: CPU 0 writes its first page while
 *                CPU 1 asks the kernel to split what maps it, and then writes
 *                the page behind
 *   nmi US       at the next snapshot's end of the stop, an NMI on another CPU
 *                counts in race page 0 and then in page 1, over and over for so
 *                long; 0: no more
 *   mark         the entry that maps race page 0 has the mark of one that was
 *                opened, as a change of its attributes may leave it
 *   change KIND  before the next stop the changing page leaves the direct map
 *                (gone), or comes back, having left it at once (back), or its
 *                block is split (split); none: no more, and the page is there
 *   flood TIMES  before each of so many stops there are more changes than the
 *                module's log has room for
 *   write VALUE  to the changing page and to the page behind it
 */
#include <linux/cpu.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apic.h>
#include <asm/nmi.h>

#include "test.h"

#define RACE_PAGES 192
#define CHAIN_PAGES 12
#define BLOCKS 16
#define BLOCK_ORDER 9
#define NMI_WORD 500		/* a word of the page for each CPU from here on */

static u64 *race_pages[RACE_PAGES];
static u64 *chain_pages[CHAIN_PAGES];
static struct page *blocks[BLOCKS];

static struct page *changing;	/* a block that only we split */
static bool hidden;
static unsigned int floods;

static u64 *nmi_page;		/* written by whatever NMI comes */
static atomic64_t nmis;
static unsigned int long_us;	/* the NMI in the stop takes so long */
static unsigned int next_us;	/* and whichever comes next */
static bool long_begun;
static int chain_depth;
static atomic_t arrived;
static int (*set_memory_4k_fn)(unsigned long addr, int numpages);
static int (*set_invalid_fn)(struct page *page);
static int (*set_default_fn)(struct page *page);
static void (*set_at)(ld_point_fn fn, struct module *owner);

static void set_at_points(ld_point_fn fn)
{
	set_at(fn, THIS_MODULE);
}
static struct proc_dir_entry *folder;
static DEFINE_MUTEX(control_lock);

/* ---- threads that meet ---- */

struct runner {
	struct task_struct *task;
	void (*step)(int cpu, int i, u64 value);
	int cpu, cpus, steps;
	u64 value;
	struct completion done;
};

static void meet(int target)
{
	atomic_inc(&arrived);
	while (atomic_read(&arrived) < target) {
		cpu_relax();
		/* Another CPU may wait for this one, in a stop_machine(). */
		cond_resched();
	}
}

static int run(void *data)
{
	struct runner *runner = data;
	int i;

	for (i = 0; i < runner->steps; i++) {
		meet((i + 1) * runner->cpus);
		runner->step(runner->cpu, i, runner->value);
		cond_resched();
	}
	complete(&runner->done);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int run_on_all_cpus(void (*step)(int cpu, int i, u64 value), int steps,
			   u64 value)
{
	struct runner *runners;
	int cpu, err = 0;

	runners = kcalloc(nr_cpu_ids, sizeof(*runners), GFP_KERNEL);
	if (!runners)
		return -ENOMEM;
	atomic_set(&arrived, 0);
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct runner *runner = &runners[cpu];

		*runner = (struct runner){
			.step = step,
			.cpu = cpu,
			.cpus = num_online_cpus(),
			.steps = steps,
			.value = value,
		};
		init_completion(&runner->done);
		runner->task = kthread_create_on_cpu(run, runner, cpu,
						     "race/%u");
		if (IS_ERR(runner->task)) {
			err = PTR_ERR(runner->task);
			runner->task = NULL;
		}
	}
	for_each_online_cpu(cpu) {
		if (err && runners[cpu].task)
			runners[cpu].steps = 0;
		if (runners[cpu].task)
			wake_up_process(runners[cpu].task);
	}
	for_each_online_cpu(cpu) {
		if (!runners[cpu].task)
			continue;
		wait_for_completion(&runners[cpu].done);
		kthread_stop(runners[cpu].task);
	}
	cpus_read_unlock();
	kfree(runners);
	return err;
}

static void race_step(int cpu, int i, u64 value)
{
	WRITE_ONCE(nmi_page, race_pages[i]);
	WRITE_ONCE(race_pages[i][cpu], value);
}

static void split_step(int cpu, int i, u64 value)
{
	u64 *block = page_address(blocks[i]);

	if (cpu == 0)
		WRITE_ONCE(block[0], value);
	if (cpu != 1)
		return;
	set_memory_4k_fn((unsigned long)block + 8 * PAGE_SIZE, 1);
	WRITE_ONCE(block[PAGE_SIZE / sizeof(u64)], value);
}

/* ---- faults inside faults ---- */

/* Runs inside the fault path. */
static void write_next(enum ld_point point, unsigned long pfn)
{
	int i;

	if (point != LD_POINT_COPIED)
		return;
	for (i = 0; i + 1 < READ_ONCE(chain_depth); i++)
		if (PHYS_PFN(virt_to_phys(chain_pages[i])) == pfn)
			WRITE_ONCE(*chain_pages[i + 1], 1);
}
NOKPROBE_SYMBOL(write_next);

static int go_down(int depth)
{
	if (depth < 1 || depth > CHAIN_PAGES)
		return -EINVAL;
	WRITE_ONCE(chain_depth, depth);
	set_at_points(write_next);
	WRITE_ONCE(*chain_pages[0], 1);
	set_at_points(NULL);
	return 0;
}

/* ---- NMIs ---- */

static void count_in_pages(unsigned int us)
{
	u64 end = rdtsc() + (u64)us * tsc_khz / 1000, value = 0;

	do {
		value++;
		WRITE_ONCE(race_pages[0][NMI_WORD], value);
		WRITE_ONCE(race_pages[1][NMI_WORD], value);
		WRITE_ONCE(long_begun, true);
	} while (rdtsc() < end);
}
NOKPROBE_SYMBOL(count_in_pages);

/* Runs in the stop, on the CPU that leads it. */
static void send_nmi(enum ld_point point, unsigned long pfn)
{
	int other = cpumask_any_but(cpu_online_mask, smp_processor_id());

	if (point != LD_POINT_SETTLE || other >= nr_cpu_ids)
		return;
	WRITE_ONCE(next_us, long_us);
	apic->send_IPI(other, NMI_VECTOR);
	while (!READ_ONCE(long_begun))
		cpu_relax();
}
NOKPROBE_SYMBOL(send_nmi);

static int arm_nmi(unsigned int us)
{
	WRITE_ONCE(nmi_page, NULL);
	WRITE_ONCE(long_begun, false);
	WRITE_ONCE(long_us, us);
	set_at_points(us ? send_nmi : NULL);
	return 0;
}

static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	u64 *page = READ_ONCE(nmi_page);
	unsigned int us = xchg(&next_us, 0);

	if (us) {
		count_in_pages(us);
		atomic64_inc(&nmis);
	}
	if (page) {
		page[NMI_WORD + smp_processor_id() % 8]++;
		atomic64_inc(&nmis);
	}
	/* All that come while we are here were injected for us. */
	return NMI_HANDLED;
}
NOKPROBE_SYMBOL(on_nmi);

/* ---- what a release has left ---- */

static int mark_opened(void)
{
	unsigned int level;
	pte_t *entry = lookup_address((unsigned long)race_pages[0], &level);

	if (!entry)
		return -ENOENT;
	set_bit(_PAGE_BIT_SOFTW2, (unsigned long *)entry);
	return 0;
}

/* ---- mappings that change before the stop ---- */

/* More than kmod/hooks/log.c has room for. */
#define FLOOD (4096 + 512 * num_possible_cpus() + 1)

static int hide(bool wanted)
{
	int err;

	if (hidden == wanted)
		return 0;
	err = wanted ? set_invalid_fn(changing) : set_default_fn(changing);
	if (!err)
		hidden = wanted;
	return err;
}

static int split_block(void)
{
	return set_memory_4k_fn((unsigned long)page_address(changing), 1);
}

static void go(enum ld_point point, unsigned long pfn)
{
	if (point == LD_POINT_PLANNED)
		hide(true);
}

static void come_back(enum ld_point point, unsigned long pfn)
{
	if (point == LD_POINT_PLANNED)
		hide(false);
}

static void split_late(enum ld_point point, unsigned long pfn)
{
	if (point == LD_POINT_PLANNED)
		split_block();
}

static void flood(enum ld_point point, unsigned long pfn)
{
	unsigned int i;

	if (point != LD_POINT_PLANNED || !floods)
		return;
	floods--;
	for (i = 0; i < FLOOD; i++) {
		split_block();
		cond_resched();
	}
}

static int arm_change(const char *kind)
{
	bool back = sysfs_streq(kind, "back");
	int err;

	set_at_points(NULL);
	err = hide(back);
	if (err)
		return err;
	if (back)
		set_at_points(come_back);
	else if (sysfs_streq(kind, "gone"))
		set_at_points(go);
	else if (sysfs_streq(kind, "split"))
		set_at_points(split_late);
	else if (!sysfs_streq(kind, "none"))
		return -EINVAL;
	return 0;
}

static int arm_floods(unsigned int times)
{
	floods = times;
	set_at_points(times ? flood : NULL);
	return 0;
}

static int write_changing(u64 value)
{
	u64 *words = page_address(changing);

	if (hidden)
		return -EFAULT;
	WRITE_ONCE(words[0], value);
	WRITE_ONCE(words[PAGE_SIZE / sizeof(u64)], value);
	return 0;
}

/* ---- files ---- */

static void show_page(struct seq_file *m, const char *kind, int i, void *page)
{
	seq_printf(m, "%s %d %llx\n", kind, i, (u64)virt_to_phys(page));
}

static int pages_show(struct seq_file *m, void *unused)
{
	int i;

	for (i = 0; i < RACE_PAGES; i++)
		show_page(m, "race", i, race_pages[i]);
	for (i = 0; i < CHAIN_PAGES; i++)
		show_page(m, "chain", i, chain_pages[i]);
	for (i = 0; i < BLOCKS; i++)
		show_page(m, "block", i, page_address(blocks[i]));
	show_page(m, "changing", 0, page_address(changing));
	return 0;
}

static int nmis_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llu\n", atomic64_read(&nmis));
	return 0;
}

static int command(const char *words)
{
	u64 value;
	unsigned int us;
	int depth;

	if (sysfs_streq(words, "mark"))
		return mark_opened();
	if (str_has_prefix(words, "change "))
		return arm_change(words + strlen("change "));
	if (sscanf(words, "flood %u", &us) == 1)
		return arm_floods(us);
	if (sscanf(words, "write %llu", &value) == 1)
		return write_changing(value);
	if (sscanf(words, "nmi %u", &us) == 1)
		return arm_nmi(us);
	if (sscanf(words, "race %llu", &value) == 1)
		return run_on_all_cpus(race_step, RACE_PAGES, value);
	if (sscanf(words, "split %llu", &value) == 1)
		return run_on_all_cpus(split_step, BLOCKS, value);
	if (sscanf(words, "chain %d", &depth) == 1)
		return go_down(depth);
	return -EINVAL;
}

static ssize_t control_write(struct file *file, const char __user *buffer,
			     size_t count, loff_t *ppos)
{
	char words[64] = {};
	int err;

	if (count >= sizeof(words))
		return -EINVAL;
	if (copy_from_user(words, buffer, count))
		return -EFAULT;
	mutex_lock(&control_lock);
	err = command(words);
	mutex_unlock(&control_lock);
	return err ?: count;
}

static const struct proc_ops control_ops = {
	.proc_write = control_write,
	.proc_lseek = noop_llseek,
};

/* ---- set-up ---- */

static int make_pages(void)
{
	int i;

	for (i = 0; i < RACE_PAGES + CHAIN_PAGES; i++) {
		u64 *page = (u64 *)get_zeroed_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		if (i < RACE_PAGES)
			race_pages[i] = page;
		else
			chain_pages[i - RACE_PAGES] = page;
	}
	for (i = 0; i < BLOCKS; i++) {
		blocks[i] = alloc_pages(GFP_KERNEL | __GFP_ZERO, BLOCK_ORDER);
		if (!blocks[i])
			return -ENOMEM;
	}
	changing = alloc_pages(GFP_KERNEL | __GFP_ZERO, BLOCK_ORDER);
	return changing ? 0 : -ENOMEM;
}

static void free_all_pages(void)
{
	int i;

	for (i = 0; i < RACE_PAGES; i++)
		free_page((unsigned long)race_pages[i]);
	for (i = 0; i < CHAIN_PAGES; i++)
		free_page((unsigned long)chain_pages[i]);
	for (i = 0; i < BLOCKS; i++)
		if (blocks[i])
			__free_pages(blocks[i], BLOCK_ORDER);
	if (changing)
		__free_pages(changing, BLOCK_ORDER);
}

static void *find(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *addr;

	if (register_kprobe(&probe))
		return NULL;
	addr = probe.addr;
	unregister_kprobe(&probe);
	return addr;
}

static int find_functions(void)
{
	set_memory_4k_fn = find("set_memory_4k");
	set_invalid_fn = find("set_direct_map_invalid_noflush");
	set_default_fn = find("set_direct_map_default_noflush");
	if (!set_memory_4k_fn || !set_invalid_fn || !set_default_fn)
		return -ENOENT;
	set_at = symbol_get(livedump_test_at_points);
	if (!set_at)
		return -ENOENT;
	set_at_points(NULL);	/* our memory stays writable from now on */
	return 0;
}

static void race_exit(void)
{
	proc_remove(folder);
	if (set_at)
		arm_change("none");
	unregister_nmi_handler(NMI_UNKNOWN, "livedump_race");
	if (set_at) {
		set_at(NULL, NULL);
		symbol_put(livedump_test_at_points);
	}
	free_all_pages();
}

static int __init race_init(void)
{
	int err;

	err = register_nmi_handler(NMI_UNKNOWN, on_nmi, 0, "livedump_race");
	if (err)
		return err;
	err = find_functions() ?: make_pages();
	if (err)
		goto fail;
	err = -ENOMEM;
	folder = proc_mkdir("livedump_race", NULL);
	if (folder && proc_create_single("pages", 0400, folder, pages_show) &&
	    proc_create_single("nmis", 0400, folder, nmis_show) &&
	    proc_create("control", 0200, folder, &control_ops))
		return 0;
fail:
	race_exit();
	return err;
}

module_init(race_init);
module_exit(race_exit);

MODULE_DESCRIPTION("Races for livedump's tests");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
