// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "ending.h"
#include "hooks/asleep.h"
#include "hooks/hook.h"
#include "hooks/hooks.h"
#include "hooks/log.h"

#define MAX_WAITS 200		/* of 5 ms, for followed calls to end */
#define MAX_ACTIVE 128		/* calls of one function that are followed */
#define ENDBR_BYTES 4

static struct {
	struct mutex lock;	/* of arming: a module may come meanwhile */
	bool looking;		/* a snapshot is prepared or held */
	bool armed;		/* the kernel's are; those of modules as they come */
	bool ready;		/* who was in a call before that has left */
	atomic_t under_way;	/* followed calls that have not returned */
	atomic64_t unseen;
	u64 canaries_lost;
} hooks = { .lock = __MUTEX_INITIALIZER(hooks.lock) };

#define for_each_hook(hook) \
	for (hook = ld_hook_table; hook->symbol; hook++)

/* ---- when the kernel gets there ---- */

void ld_hook_unseen(void)
{
	atomic64_inc(&hooks.unseen);
}
NOKPROBE_SYMBOL(ld_hook_unseen);

static void notice(struct ld_hook *hook, struct pt_regs *regs)
{
	if (hook->provoke)
		atomic_inc(&hook->seen);
	if (hook->enter && READ_ONCE(hooks.looking))
		hook->enter(regs);
}
NOKPROBE_SYMBOL(notice);

static void notrace on_function(unsigned long ip, unsigned long parent,
				struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	struct ld_hook *hook = container_of(ops, struct ld_hook, function);

	/* As in a kprobe: ld_hooks_stand_down() waits for who still looks. */
	preempt_disable_notrace();
	if (READ_ONCE(hooks.looking))
		hook->enter(ld_arguments(regs));
	preempt_enable_notrace();
}
NOKPROBE_SYMBOL(on_function);

static int on_entry(struct kprobe *probe, struct pt_regs *regs)
{
	struct ld_hook *hook = container_of(probe, struct ld_hook, entry);

	if (!READ_ONCE(hooks.looking) || !hook->instead(regs))
		return 0;
	/* Return at once, to where the call came from. */
	regs->ip = ld_just_return();
	return 1;
}
NOKPROBE_SYMBOL(on_entry);

/* Followed in any case: it may last until somebody looks. */
static int on_call(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct kretprobe *call = get_kretprobe(instance);

	atomic_inc(&hooks.under_way);
	if (call)
		notice(container_of(call, struct ld_hook, call), regs);
	return 0;
}
NOKPROBE_SYMBOL(on_call);

static int on_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	atomic_dec(&hooks.under_way);
	return 0;
}
NOKPROBE_SYMBOL(on_return);

/* ---- arm once ---- */

static int arm_function(struct ld_hook *hook)
{
	int err;

	hook->address = ld_function(hook->symbol);
	if (!hook->address)
		return -ENOENT;
	hook->function.func = on_function;
	err = ftrace_set_filter_ip(&hook->function, hook->address, 0, 1) ?:
	      register_ftrace_function(&hook->function);
	if (err) {
		ftrace_free_filter(&hook->function);
		memset(&hook->function, 0, sizeof(hook->function));
	}
	return err;
}

static void disarm_function(struct ld_hook *hook)
{
	unregister_ftrace_function(&hook->function);
	ftrace_free_filter(&hook->function);
	memset(&hook->function, 0, sizeof(hook->function));
}

static int arm_call(struct ld_hook *hook)
{
	int err;

	hook->call.kp.symbol_name = hook->symbol;
	hook->call.entry_handler = on_call;
	hook->call.handler = on_return;
	hook->call.maxactive = MAX_ACTIVE;
	err = register_kretprobe(&hook->call);
	if (err)
		memset(&hook->call, 0, sizeof(hook->call));
	return err;
}

static void disarm_call(struct ld_hook *hook)
{
	/* What it learnt must go, should it be registered again. */
	unregister_kretprobe(&hook->call);
	memset(&hook->call, 0, sizeof(hook->call));
}

static int arm_instead(struct ld_hook *hook)
{
	int err;

	hook->entry.symbol_name = hook->symbol;
	hook->entry.pre_handler = on_entry;
	err = register_kprobe(&hook->entry);
	if (err)
		memset(&hook->entry, 0, sizeof(hook->entry));
	return err;
}

static void disarm(struct ld_hook *hook)
{
	if (hook->entry.pre_handler)
		unregister_kprobe(&hook->entry);
	memset(&hook->entry, 0, sizeof(hook->entry));
	if (hook->followed)
		disarm_call(hook);
	else
		disarm_function(hook);
	hook->armed = false;
}

/* Return: 0, also where this kernel has no such function. */
static int arm(struct ld_hook *hook)
{
	int err;

	if (hook->armed)
		return 0;
	err = hook->followed ? arm_call(hook) : arm_function(hook);
	hook->armed = !err;
	if (!err && hook->instead) {
		err = arm_instead(hook);
		if (err)
			disarm(hook);
	}
	return err == -ENOENT ? 0 : err;
}

static int arm_all(const char **name)
{
	bool found[__LD_HOOK_GROUPS + 1] = {};
	const char *names[__LD_HOOK_GROUPS + 1] = {};
	struct ld_hook *hook;
	int i, err;

	for_each_hook(hook) {
		/* What this kernel lacks it will not have later. */
		if (hooks.armed && !hook->module)
			continue;
		*name = hook->symbol;
		err = arm(hook);
		if (err)
			return err;
		found[hook->group] |= hook->armed;
		names[hook->group] = hook->symbol;
	}
	for (i = 0; i < __LD_HOOK_GROUPS && !hooks.armed; i++) {
		*name = names[i];
		if (!found[i])
			return -ENOENT;
	}
	hooks.armed = true;
	return 0;
}

static u64 probe_missed(const struct ld_hook *hook)
{
	return hook->entry.nmissed + hook->call.kp.nmissed + hook->call.nmissed;
}

static void start_counting(void)
{
	struct ld_hook *hook;

	hooks.canaries_lost = 0;
	atomic64_set(&hooks.unseen, 0);
	for_each_hook(hook)
		hook->missed_before = probe_missed(hook);
}

/* Calls from before they were armed, which are not followed. */
static int wait_for_old_calls(const char **name)
{
	int err = 0;

	if (!hooks.ready) {
		/* Who was preempted in one has left it after this, or sleeps. */
		synchronize_rcu_tasks();
		err = ld_asleep_wait(name);
	}
	if (!err)
		hooks.ready = true;
	return err;
}

int ld_hooks_arm(const char **name)
{
	int err;

	mutex_lock(&hooks.lock);
	err = arm_all(name);
	if (!err)
		start_counting();
	mutex_unlock(&hooks.lock);
	if (err)
		return err;
	err = wait_for_old_calls(name);
	if (err)
		return err;
	*name = "log";
	err = ld_log_prepare();
	if (!err)
		WRITE_ONCE(hooks.looking, true);
	return err;
}

void ld_hooks_stand_down(void)
{
	bool looked = READ_ONCE(hooks.looking);

	ld_log_stop();
	WRITE_ONCE(hooks.looking, false);
	/* No CPU is in one that still looks: all run with preemption off. */
	synchronize_rcu();
	ld_log_free();
	if (looked)
		ld_reporting_resume();
}

/* ---- functions of modules ---- */

static bool is_within(const struct ld_hook *hook, const struct module *module)
{
	unsigned long address = hook->followed ?
					(unsigned long)hook->call.kp.addr :
					hook->address;

	return hook->armed && within_module(address, module);
}

static void disarm_within(const struct module *module)
{
	struct ld_hook *hook;

	for_each_hook(hook)
		if (is_within(hook, module))
			disarm(hook);
}

static int arm_within(const struct module *module)
{
	struct ld_hook *hook;
	int err = 0;

	for_each_hook(hook)
		if (!err && hook->module && !strcmp(hook->module, module->name))
			err = arm(hook);
	/* Nobody tells us that a module does not come after all. */
	if (err)
		disarm_within(module);
	return err;
}

/* One that comes while we look must be seen, or must not come. */
static int module_changes(struct notifier_block *nb, unsigned long action,
			  void *data)
{
	int err = 0;

	mutex_lock(&hooks.lock);
	if (action == MODULE_STATE_COMING && hooks.armed)
		err = arm_within(data);
	else if (action == MODULE_STATE_GOING)
		disarm_within(data);
	mutex_unlock(&hooks.lock);
	return err && READ_ONCE(hooks.looking) ? notifier_from_errno(err) :
						 NOTIFY_OK;
}

static struct notifier_block modules = { .notifier_call = module_changes };

int ld_hooks_init(void)
{
	return register_module_notifier(&modules);
}

void ld_hooks_exit(void)
{
	struct ld_hook *hook;

	unregister_module_notifier(&modules);
	for_each_hook(hook)
		if (hook->armed)
			disarm(hook);
	hooks.armed = false;
	hooks.ready = false;
}

bool ld_hooks_wait(void)
{
	int waits = MAX_WAITS;

	while (ld_hooks_busy() && waits-- && !ld_is_ending())
		usleep_range(1000, 5000);
	return !ld_hooks_busy();
}

bool ld_hooks_busy(void)
{
	return atomic_read(&hooks.under_way) > 0;
}

/* ---- do they see? ---- */

/* It begins with a call of ftrace, or a breakpoint, maybe behind an ENDBR64. */
static bool is_patched(unsigned long address)
{
	u8 text[ENDBR_BYTES + 1];
	u8 first, second;

	if (copy_from_kernel_nofault(text, (void *)address, sizeof(text)))
		return false;
	first = text[0];
	second = text[ENDBR_BYTES];
	return first == CALL_INSN_OPCODE || first == INT3_INSN_OPCODE ||
	       first == JMP32_INSN_OPCODE || second == CALL_INSN_OPCODE;
}

static bool is_probed(const struct kprobe *probe)
{
	return !ld_are_kprobes_off() &&
	       !(probe->flags & (KPROBE_FLAG_DISABLED | KPROBE_FLAG_GONE)) &&
	       is_patched((unsigned long)probe->addr);
}

static bool is_seeing(const struct ld_hook *hook)
{
	if (ld_is_ftrace_off())
		return false;
	if (hook->entry.pre_handler && !is_probed(&hook->entry))
		return false;
	return hook->followed ? is_probed(&hook->call.kp) :
				is_patched(hook->address);
}

static bool sees(struct ld_hook *hook)
{
	int before = atomic_read(&hook->seen);

	if (!is_seeing(hook))
		return false;
	if (!hook->provoke)
		return true;
	hook->provoke();
	return atomic_read(&hook->seen) != before;
}

void ld_hooks_canary(void)
{
	struct ld_hook *hook;

	mutex_lock(&hooks.lock);
	for_each_hook(hook)
		if (hook->armed && !sees(hook))
			hooks.canaries_lost++;
	mutex_unlock(&hooks.lock);
}

u64 ld_hooks_missed(void)
{
	u64 missed = hooks.canaries_lost;
	const struct ld_hook *hook;

	for_each_hook(hook)
		if (hook->armed)
			missed += probe_missed(hook) - hook->missed_before;
	return missed;
}

u64 ld_hooks_unseen(void)
{
	return atomic64_read(&hooks.unseen);
}
