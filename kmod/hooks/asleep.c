// SPDX-License-Identifier: GPL-2.0
/*
 * A call that began before its function was hooked is not followed to its
 * return, and what it changes is not logged. It may be asleep, waiting for
 * memory. The stack of every task says whether there is one.
 */
#include <linux/delay.h>
#include <linux/kallsyms.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/unwind.h>

#include "compat.h"
#include "ending.h"
#include "hooks/asleep.h"
#include "hooks/hook.h"

#define MAX_FUNCTIONS 64
#define MAX_WAIT_MS 10000

struct function {
	const char *name;
	unsigned long start, end;
};

static struct {
	struct function functions[MAX_FUNCTIONS];
	int nr_functions;
	struct task_struct **tasks;	/* of whom we do not know yet */
	int nr_tasks;
} look;

/* ---- which functions ---- */

static void add_function(const struct ld_hook *hook)
{
	unsigned long at = (unsigned long)hook->call.kp.addr, offset, size;
	char text[KSYM_SYMBOL_LEN];
	const char *plus;

	/* name+0xoffset/0xsize; a probe may lie behind the first instruction. */
	sprint_symbol(text, at);
	plus = strchr(text, '+');
	if (!plus || sscanf(plus, "+0x%lx/0x%lx", &offset, &size) != 2)
		return;
	look.functions[look.nr_functions++] = (struct function){
		hook->symbol, at - offset, at - offset + size
	};
}

static void find_functions(void)
{
	const struct ld_hook *hook;

	look.nr_functions = 0;
	for (hook = ld_hook_table; hook->symbol; hook++)
		if (hook->armed && hook->followed &&
		    look.nr_functions < MAX_FUNCTIONS)
			add_function(hook);
}

static const char *function_at(unsigned long address)
{
	int i;

	for (i = 0; i < look.nr_functions; i++)
		if (address >= look.functions[i].start &&
		    address < look.functions[i].end)
			return look.functions[i].name;
	return NULL;
}

/* ---- what a task's stack says ---- */

/* Any word that looks so: it may be left over, but none is overlooked. */
static const char *found_in_words(struct task_struct *task)
{
	unsigned long *word = task_stack_page(task);
	unsigned long *end = task_stack_page(task) + THREAD_SIZE;
	const char *name;

	for (; word < end; word++) {
		name = function_at(READ_ONCE_NOCHECK(*word));
		if (name)
			return name;
	}
	return NULL;
}

static const char *found_in_frames(struct task_struct *task)
{
	struct unwind_state state;
	const char *name = NULL;

	for (unwind_start(&state, task, NULL, NULL);
	     !name && !unwind_done(&state); unwind_next_frame(&state))
		name = function_at(unwind_get_return_address(&state));
	/* Its frames cannot be told, as in code that was made at run time. */
	if (!name && unwind_error(&state))
		name = found_in_words(task);
	return name;
}

struct question {
	struct task_struct *task;
	const char *answer;
};

/* On the CPU that may run it. */
static void ask_current(void *data)
{
	struct question *question = data;

	if (current == question->task)
		question->answer = found_in_frames(current);
}

static const char not_known[] = "";

/* It runs, or did while it was looked at. */
static const char *found_running(struct task_struct *task)
{
	struct question question = { task, not_known };

	smp_call_function_single(task_cpu(task), ask_current, &question, 1);
	return question.answer;
}

/* Return: the hooked function that it is in; "" if it would not hold still. */
static const char *found_in(struct task_struct *task)
{
	unsigned long switches = READ_ONCE(task->nvcsw) + READ_ONCE(task->nivcsw);
	const char *name;

	if (task == current || !try_get_task_stack(task))
		return NULL;
	smp_rmb(); /* Its switches are read before its stack ... */
	if (READ_ONCE(task->on_cpu)) {
		name = found_running(task);
	} else {
		name = found_in_frames(task);
		smp_rmb(); /* ... and again after it. */
		if (READ_ONCE(task->on_cpu) ||
		    READ_ONCE(task->nvcsw) + READ_ONCE(task->nivcsw) != switches)
			name = not_known;
	}
	ld_put_task_stack(task);
	return name;
}

/* ---- everybody ---- */

static void forget(int i)
{
	put_task_struct(look.tasks[i]);
	look.tasks[i] = look.tasks[--look.nr_tasks];
}

static int count_tasks(void)
{
	struct task_struct *group, *task;
	int nr = 0;

	rcu_read_lock();
	for_each_process_thread(group, task)
		nr++;
	rcu_read_unlock();
	return nr;
}

/* Return: false if there are more than @room. */
static bool collect(int room)
{
	struct task_struct *group, *task;
	bool all = true;

	rcu_read_lock();
	for_each_process_thread(group, task) {
		if (look.nr_tasks == room) {
			all = false;
			break;
		}
		get_task_struct(task);
		look.tasks[look.nr_tasks++] = task;
	}
	rcu_read_unlock();
	return all;
}

static void forget_all(void)
{
	while (look.nr_tasks)
		forget(look.nr_tasks - 1);
	kvfree(look.tasks);
	look.tasks = NULL;
}

/* Who begins later begins with nothing that we do not follow. */
static int collect_tasks(void)
{
	int room = count_tasks();

	do {
		room += room / 4 + 64;
		look.tasks = kvmalloc_array(room, sizeof(*look.tasks),
					    GFP_KERNEL);
		if (!look.tasks)
			return -ENOMEM;
		if (collect(room))
			return 0;
		forget_all();
	} while (!ld_is_ending());
	return -EINTR;
}

/* Return: the function that one of them is in, or may be; NULL: none is. */
static const char *forget_who_is_not(void)
{
	const char *name, *last = NULL;
	int i;

	for (i = look.nr_tasks - 1; i >= 0; i--) {
		name = found_in(look.tasks[i]);
		if (name)
			last = name;
		else
			forget(i);
		cond_resched();
	}
	return last;
}

static int wait_for_all(const char **name)
{
	unsigned long end = jiffies + msecs_to_jiffies(MAX_WAIT_MS);
	const char *last;

	while ((last = forget_who_is_not()) != NULL) {
		if (*last)
			*name = last;
		if (ld_is_ending())
			return -EINTR;
		if (time_after(jiffies, end))
			return -EBUSY;
		usleep_range(1000, 5000);
	}
	return 0;
}

int ld_asleep_wait(const char **name)
{
	int err;

	find_functions();
	err = collect_tasks();
	if (!err)
		err = wait_for_all(name);
	forget_all();
	return err;
}
