// SPDX-License-Identifier: GPL-2.0
/* Linked into test builds only; see test.h. Runs wherever the fault path does. */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/tsc.h>

#include "hooks/hook.h"
#include "test.h"

static char *mutant = "none";
module_param(mutant, charp, 0600);
MODULE_PARM_DESC(mutant, "none, flush, publish, recopy, neighbours, recheck, changes or armed");

static unsigned int delay_us[__LD_POINT_MAX];
module_param_array(delay_us, uint, NULL, 0600);
MODULE_PARM_DESC(delay_us, "busy wait at copied, published, read, demote, settle, planned");

static unsigned long delay_pfn;
module_param(delay_pfn, ulong, 0600);
MODULE_PARM_DESC(delay_pfn, "wait at this page frame only; 0: at all");

static int fail_at;
module_param(fail_at, int, 0600);
MODULE_PARM_DESC(fail_at, "let this step of a snapshot fail, once; 1 is the first");

/* ---- one hook that is not called any more ---- */

static struct ld_hook *blind;

static bool is_cold(const struct ld_hook *hook)
{
	return hook->armed &&
	       (hook->followed || strstr(hook->symbol, "rmap") == NULL);
}

static int set_blind(struct ld_hook *hook, bool is_blind)
{
	if (hook->entry.pre_handler)
		return is_blind ? disable_kprobe(&hook->entry) :
				  enable_kprobe(&hook->entry);
	if (hook->followed)
		return is_blind ? disable_kretprobe(&hook->call) :
				  enable_kretprobe(&hook->call);
	return is_blind ? unregister_ftrace_function(&hook->function) :
			  register_ftrace_function(&hook->function);
}

static int blind_one(const char *name, const struct kernel_param *unused)
{
	struct ld_hook *hook;
	int err = blind ? set_blind(blind, false) : 0;

	blind = NULL;
	for (hook = ld_hook_table; hook->symbol && !err && !blind; hook++) {
		if (!is_cold(hook) || !sysfs_streq(name, hook->symbol))
			continue;
		err = set_blind(hook, true);
		if (!err)
			blind = hook;
	}
	return err;
}

static int list_cold(char *text, const struct kernel_param *unused)
{
	struct ld_hook *hook;
	int at = 0;

	for (hook = ld_hook_table; hook->symbol; hook++)
		if (is_cold(hook))
			at += sysfs_emit_at(text, at, "%s\n", hook->symbol);
	return at;
}

static const struct kernel_param_ops blind_ops = {
	.set = blind_one,
	.get = list_cold,
};

module_param_cb(blind, &blind_ops, NULL, 0600);
MODULE_PARM_DESC(blind, "one hook to switch off; read: those that are not hot");

static ld_point_fn at_points;
static struct module *owner;

static const char *const names[] = {
	[LD_MUTANT_NONE] = "none",
	[LD_MUTANT_FLUSH] = "flush",
	[LD_MUTANT_PUBLISH] = "publish",
	[LD_MUTANT_RECOPY] = "recopy",
	[LD_MUTANT_NEIGHBOURS] = "neighbours",
	[LD_MUTANT_RECHECK] = "recheck",
	[LD_MUTANT_CHANGES] = "changes",
	[LD_MUTANT_ARMED] = "armed",
};

bool notrace ld_is_mutant(enum ld_mutant asked)
{
	return !strcmp(mutant, names[asked]);
}
NOKPROBE_SYMBOL(ld_is_mutant);

static void notrace busy_wait(unsigned int us)
{
	u64 end = rdtsc() + (u64)us * tsc_khz / 1000;

	while (rdtsc() < end)
		cpu_relax();
}
NOKPROBE_SYMBOL(busy_wait);

void notrace ld_point(enum ld_point point, unsigned long pfn)
{
	ld_point_fn fn = READ_ONCE(at_points);

	if (delay_us[point] && (!delay_pfn || delay_pfn == pfn))
		busy_wait(delay_us[point]);
	if (fn)
		fn(point, pfn);
}
NOKPROBE_SYMBOL(ld_point);

struct module *ld_test_owner(void)
{
	return owner;
}

void livedump_test_at_points(ld_point_fn fn, struct module *module)
{
	owner = module;
	WRITE_ONCE(at_points, fn);
}
EXPORT_SYMBOL_GPL(livedump_test_at_points);

int ld_test_step(void)
{
	if (!fail_at || --fail_at)
		return 0;
	return -ENOMEM;
}
