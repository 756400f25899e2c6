// SPDX-License-Identifier: GPL-2.0
/*
 * A witness for the tests: it knows what a consistent image must look like,
 * and shares no code with what it judges.
 *
 * - Writers keep an order between pages of one kind: slab, vmalloc areas of one
 *   page, one large one, a module's data, per-CPU memory. Each writer has
 *   WRITER_PAGES pages and writes 1, 2, 3, ... to the first, then the second, ... of them,
 *   so at every instant the values never rise along the row, and first and
 *   last differ by at most 1. Some writers are threads; the others are timers'
 *   interrupts, one on each CPU. The timer expires during a stop, so right
 *   after it, before anything that drops TLB entries, its interrupt writes to
 *   the pages that it wrote right before: an entry that the stop left in the
 *   TLB is used.
 * - One thread also writes to what is mapped like a thread's stack, but is a
 *   device's, far behind the end of RAM. No device is there: nothing happens.
 * - A kprobe inside the stop writes down every writer's values and the list of
 *   tasks.
 * - The direct map's permissions, page by page, as a CPU would find them: ANDed
 *   along the walk.
 *
 * Files in /proc/livedump_witness/: writers (text), control (write "start",
 * "stop", "poke ROW PAGE VALUE", "forget" what the stop was like), values
 * (text), instant and tasks (text, as written down inside the last stop; an
 * error when there was none), directmap (binary, one byte for each page frame).
 */
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

/* Rows of slab pages by threads and by timers, then one of each by other kinds. */
#define THREADS 4
#define TIMERS 4	/* on the first CPUs */
#define SLABS (THREADS + TIMERS)
#define KINDS 4
#define WRITERS (SLABS + 2 * KINDS)
#define TIMER_NS 200000
#define WRITER_PAGES 64
#define SPACERS 12
#define MAX_TASKS 32768
#define DEVICE_AT (1000ULL << 30)

enum kind {
	KIND_SMALL,	/* vmalloc, an area for each page */
	KIND_LARGE,	/* vmalloc, one for all */
	KIND_STATIC,	/* a module's .bss */
	KIND_CPU,	/* per-CPU memory, allocated */
};

struct row {
	u64 *page[WRITER_PAGES];	/* the value is the first word */
	u64 noted[WRITER_PAGES];	/* inside the stop */
	struct task_struct *writer;
	struct hrtimer timer;
	bool timed;
};

struct task_record {
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

static struct row rows[WRITERS];
static u8 fixed[2][WRITER_PAGES][PAGE_SIZE] __aligned(PAGE_SIZE);
static void *large[2];
static void __percpu *of_cpus[2][WRITER_PAGES];
static void __iomem *device;
/*
 * Between the columns, so that the rows spread over more memory than the tails
 * of per-CPU units, which livedump saves in the stop.
 */
static void *spacer[WRITER_PAGES][SPACERS];
static struct task_record *tasks;
static unsigned int nr_tasks, dropped_tasks;
static struct proc_dir_entry *folder;
static DEFINE_MUTEX(control_lock);

/* ---- writers ---- */

static int write_row(void *data)
{
	struct row *row = data;
	u64 value = *row->page[0];
	int i;

	while (!kthread_should_stop()) {
		value++;
		if (row == rows)
			writel(value, device);
		for (i = 0; i < WRITER_PAGES; i++) {
			/* Nobody sees a later page before this one. */
			smp_store_release(row->page[i], value);
			if (!(i % 8))
				cond_resched();
		}
		usleep_range(50, 200);
	}
	return 0;
}

static enum hrtimer_restart write_row_timed(struct hrtimer *timer)
{
	struct row *row = container_of(timer, struct row, timer);
	u64 value = *row->page[0] + 1;
	int i;

	for (i = 0; i < WRITER_PAGES; i++)
		/* as write_row() */
		smp_store_release(row->page[i], value);
	hrtimer_forward_now(timer, TIMER_NS);
	return HRTIMER_RESTART;
}

static bool is_timed(int i)
{
	return i < SLABS ? i >= THREADS : i % 2;
}

static int cpu_of(int i)
{
	return i < SLABS ? i - THREADS : i / 2 % 2;
}

/* On the CPU that the interrupts shall come to. */
static void start_timer(void *data)
{
	struct row *row = data;

#ifdef LIVEDUMP_HRTIMER_SETUP
	hrtimer_setup(&row->timer, write_row_timed, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_HARD);
#else
	hrtimer_init(&row->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	row->timer.function = write_row_timed;
#endif
	hrtimer_start(&row->timer, TIMER_NS, HRTIMER_MODE_REL_PINNED_HARD);
	row->timed = true;
}

static void stop_writers(void)
{
	int i;

	for (i = 0; i < WRITERS; i++) {
		if (rows[i].writer)
			kthread_stop(rows[i].writer);
		rows[i].writer = NULL;
		if (rows[i].timed)
			hrtimer_cancel(&rows[i].timer);
		rows[i].timed = false;
	}
}

static int start_writer(int i)
{
	struct task_struct *writer;

	writer = kthread_run(write_row, &rows[i], "witness/%d", i);
	if (IS_ERR(writer))
		return PTR_ERR(writer);
	rows[i].writer = writer;
	return 0;
}

static int start_writers(void)
{
	int i, err = 0;

	for (i = 0; i < WRITERS && !err; i++)
		if (!is_timed(i) && !rows[i].writer)
			err = start_writer(i);
	for (i = 0; i < WRITERS; i++)
		if (is_timed(i) && !rows[i].timed)
			/* a CPU that is not there has no timer */
			smp_call_function_single(cpu_of(i), start_timer,
						 &rows[i], true);
	if (err)
		stop_writers();
	return err;
}

static void *make_page(enum kind kind, int which, int page)
{
	switch (kind) {
	case KIND_SMALL:
		return vzalloc(PAGE_SIZE);
	case KIND_LARGE:
		if (!large[which])
			large[which] = vzalloc(WRITER_PAGES * PAGE_SIZE);
		return large[which] ? large[which] + page * PAGE_SIZE : NULL;
	case KIND_STATIC:
		return fixed[which][page];
	case KIND_CPU:
		of_cpus[which][page] = __alloc_percpu(PAGE_SIZE, PAGE_SIZE);
		return of_cpus[which][page] ?
			       per_cpu_ptr(of_cpus[which][page], 0) : NULL;
	}
	return NULL;
}

static int make_others(void)
{
	int i, j;

	for (i = 0; i < 2 * KINDS; i++)
		for (j = 0; j < WRITER_PAGES; j++) {
			rows[SLABS + i].page[j] = make_page(i / 2, i % 2, j);
			if (!rows[SLABS + i].page[j])
				return -ENOMEM;
		}
	return 0;
}

static void free_others(void)
{
	int i, j;

	for (i = 0; i < 2; i++) {
		for (j = 0; j < WRITER_PAGES; j++) {
			vfree(rows[SLABS + 2 * KIND_SMALL + i].page[j]);
			free_percpu(of_cpus[i][j]);
		}
		vfree(large[i]);
	}
}

static int make_rows(void)
{
	int i, j;

	/* By column, so that the pages of a row lie far from each other. */
	for (j = 0; j < WRITER_PAGES; j++) {
		for (i = 0; i < SLABS; i++) {
			rows[i].page[j] = kzalloc(PAGE_SIZE, GFP_KERNEL);
			if (!rows[i].page[j])
				return -ENOMEM;
		}
		for (i = 0; i < SPACERS; i++)
			spacer[j][i] = kmalloc(PAGE_SIZE, GFP_KERNEL);
	}
	return make_others();
}

static void free_rows(void)
{
	int i, j;

	for (j = 0; j < WRITER_PAGES; j++) {
		for (i = 0; i < SLABS; i++)
			kfree(rows[i].page[j]);
		for (i = 0; i < SPACERS; i++)
			kfree(spacer[j][i]);
	}
	free_others();
}

static u64 physical(const void *addr)
{
	return virt_addr_valid(addr) ? virt_to_phys((void *)addr) :
				       PFN_PHYS(vmalloc_to_pfn(addr));
}

/* "row page paddr vaddr" */
static int writers_show(struct seq_file *m, void *unused)
{
	int i, j;

	for (i = 0; i < WRITERS; i++)
		for (j = 0; j < WRITER_PAGES; j++)
			seq_printf(m, "%d %d %llx %lx\n", i, j,
				   physical(rows[i].page[j]),
				   (unsigned long)rows[i].page[j]);
	return 0;
}

/* "row page value", read slowly, as a plain copy of live memory would */
static int values_show(struct seq_file *m, void *unused)
{
	int i, j;

	for (i = 0; i < WRITERS; i++) {
		for (j = 0; j < WRITER_PAGES; j++) {
			seq_printf(m, "%d %d %llu\n", i, j,
				   READ_ONCE(*rows[i].page[j]));
			cond_resched();
		}
	}
	return 0;
}

static int write_value(const char *command)
{
	unsigned int row, page;
	u64 value;

	if (sscanf(command, "poke %u %u %llu", &row, &page, &value) != 3 ||
	    row >= WRITERS || page >= WRITER_PAGES || rows[row].writer ||
	    rows[row].timed)
		return -EINVAL;
	WRITE_ONCE(*rows[row].page[page], value);
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *buffer,
			     size_t count, loff_t *ppos)
{
	char command[64] = {};
	int err = 0;

	if (count >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, buffer, count))
		return -EFAULT;
	mutex_lock(&control_lock);
	if (!strncmp(command, "start", 5))
		err = start_writers();
	else if (!strncmp(command, "stop", 4))
		stop_writers();
	else if (!strncmp(command, "forget", 6))
		nr_tasks = 0;
	else
		err = write_value(command);
	mutex_unlock(&control_lock);
	return err ?: count;
}

/* ---- values and tasks, written down inside the stop ---- */

static void note_values(void)
{
	int i, j;

	for (i = 0; i < WRITERS; i++)
		for (j = 0; j < WRITER_PAGES; j++)
			rows[i].noted[j] = READ_ONCE(*rows[i].page[j]);
}

static void note_tasks(void)
{
	struct task_struct *group, *task;

	nr_tasks = 0;
	dropped_tasks = 0;
	for_each_process_thread(group, task) {
		struct task_record *record = &tasks[nr_tasks];

		if (nr_tasks == MAX_TASKS) {
			dropped_tasks++;
			continue;
		}
		record->pid = task->pid;
		memcpy(record->comm, task->comm, TASK_COMM_LEN);
		nr_tasks++;
	}
}

static int inside_stop(struct kprobe *probe, struct pt_regs *regs)
{
	note_values();
	note_tasks();
	return 0;
}

static struct kprobe stop_probe = {
	.symbol_name = "livedump_instant",
	.pre_handler = inside_stop,
};

/* "row page value" */
static int instant_show(struct seq_file *m, void *unused)
{
	int i, j;

	if (!nr_tasks)
		return -ENODATA;
	for (i = 0; i < WRITERS; i++)
		for (j = 0; j < WRITER_PAGES; j++)
			seq_printf(m, "%d %d %llu\n", i, j, rows[i].noted[j]);
	return 0;
}

/* "pid comm" */
static int tasks_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	if (!nr_tasks)
		return -ENODATA;
	if (dropped_tasks)
		return -EOVERFLOW;
	for (i = 0; i < nr_tasks; i++)
		seq_printf(m, "%d %s\n", tasks[i].pid, tasks[i].comm);
	return 0;
}

/* ---- the direct map, level by level ---- */

#define DM_PRESENT 1
#define DM_RW 2		/* at every level */
#define DM_NX 4		/* of the leaf, as all that follow but the last */
#define DM_DIRTY 8
#define DM_SOFTW1 16	/* at any level */
#define DM_SOFTW2 32
#define DM_SOFTW3 64
#define DM_SHADOW 128	/* read-only and dirty at any level: a shadow stack */

struct walked {
	u64 leaf;
	bool read_only, softw1, shadow;
};

/* True when there is another level below the entry. */
static bool walk_entry(struct walked *w, u64 entry, bool leaf)
{
	w->leaf = entry;
	if (!(entry & _PAGE_PRESENT))
		return false;
	w->read_only |= !(entry & _PAGE_RW);
	w->softw1 |= !!(entry & _PAGE_SOFTW1);
	w->shadow |= (entry & (_PAGE_RW | _PAGE_DIRTY)) == _PAGE_DIRTY;
	return !leaf && !(entry & _PAGE_PSE);
}

/* All processes share the kernel's half of the top table. */
static void walk_levels(struct walked *w, unsigned long addr)
{
	pgd_t *pgd = pgd_offset_pgd(current->active_mm->pgd, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (!walk_entry(w, pgd_val(READ_ONCE(*pgd)), false))
		return;
	p4d = p4d_offset(pgd, addr);
	if (!walk_entry(w, p4d_val(READ_ONCE(*p4d)), false))
		return;
	pud = pud_offset(p4d, addr);
	if (!walk_entry(w, pud_val(READ_ONCE(*pud)), false))
		return;
	pmd = pmd_offset(pud, addr);
	if (!walk_entry(w, pmd_val(READ_ONCE(*pmd)), false))
		return;
	walk_entry(w, pte_val(READ_ONCE(*pte_offset_kernel(pmd, addr))), true);
}

static u8 permissions(unsigned long pfn)
{
	struct walked w = {};
	u64 leaf;

	walk_levels(&w, (unsigned long)__va(PFN_PHYS(pfn)));
	leaf = w.leaf;
	if (!(leaf & _PAGE_PRESENT))
		return 0;
	return DM_PRESENT | (w.read_only ? 0 : DM_RW) |
	       (leaf & _PAGE_NX ? DM_NX : 0) |
	       (leaf & _PAGE_DIRTY ? DM_DIRTY : 0) |
	       (w.softw1 ? DM_SOFTW1 : 0) |
	       (leaf & _PAGE_SOFTW2 ? DM_SOFTW2 : 0) |
	       (leaf & _PAGE_SOFTW3 ? DM_SOFTW3 : 0) |
	       (w.shadow ? DM_SHADOW : 0);
}

static ssize_t directmap_read(struct file *file, char __user *buffer,
			      size_t count, loff_t *ppos)
{
	unsigned long end = PHYS_PFN(virt_to_phys(high_memory - 1)) + 1;
	unsigned long pfn = *ppos, i;
	u8 *bytes;

	if (pfn >= end)
		return 0;
	count = min3(count, (size_t)SZ_64K, (size_t)(end - pfn));
	bytes = kmalloc(count, GFP_KERNEL);
	if (!bytes)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		bytes[i] = permissions(pfn + i);
	i = copy_to_user(buffer, bytes, count);
	kfree(bytes);
	if (i)
		return -EFAULT;
	*ppos += count;
	return count;
}

static const struct proc_ops directmap_ops = {
	.proc_read = directmap_read,
	.proc_lseek = default_llseek,
};

static const struct proc_ops control_ops = {
	.proc_write = control_write,
	.proc_lseek = noop_llseek,
};

static int make_files(void)
{
	folder = proc_mkdir("livedump_witness", NULL);
	if (folder && proc_create_single("writers", 0400, folder, writers_show) &&
	    proc_create_single("values", 0400, folder, values_show) &&
	    proc_create_single("instant", 0400, folder, instant_show) &&
	    proc_create_single("tasks", 0400, folder, tasks_show) &&
	    proc_create("control", 0200, folder, &control_ops) &&
	    proc_create("directmap", 0400, folder, &directmap_ops))
		return 0;
	return -ENOMEM;
}

static bool probing;

static void witness_exit(void)
{
	proc_remove(folder);
	if (probing)
		unregister_kprobe(&stop_probe);
	stop_writers();
	vfree(tasks);
	free_rows();
	if (device)
		iounmap(device);
}

static int __init witness_init(void)
{
	int err = make_rows();

	if (err)
		goto fail;
	err = -ENOMEM;
	tasks = vzalloc(array_size(MAX_TASKS, sizeof(*tasks)));
	if (!tasks)
		goto fail;
	device = ioremap(DEVICE_AT, THREAD_SIZE);
	if (!device)
		goto fail;
	err = register_kprobe(&stop_probe);
	if (err)
		goto fail;
	probing = true;
	err = make_files();
	if (err)
		goto fail;
	return 0;
fail:
	witness_exit();
	return err;
}

module_init(witness_init);
module_exit(witness_exit);

MODULE_DESCRIPTION("A witness for livedump's tests");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
