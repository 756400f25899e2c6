// SPDX-License-Identifier: GPL-2.0
/*
 * livedump: a consistent snapshot of the kernel's memory while it runs.
 * Start with session.c; docs and clients are in the parent folder.
 */
#include <linux/cpuhotplug.h>
#include <linux/memory.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "compat.h"
#include "fault/probe.h"
#include "genl.h"
#include "hooks/hooks.h"
#include "image.h"
#include "map/clock.h"
#include "session.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* A CPU that is not online yet would fault where no probe can see it. */
static int veto_cpu(unsigned int cpu)
{
	return ld_session_busy() ? -EBUSY : 0;
}

static int veto_memory(struct notifier_block *nb, unsigned long action,
		       void *data)
{
	if ((action == MEM_GOING_ONLINE || action == MEM_GOING_OFFLINE) &&
	    ld_session_busy())
		return notifier_from_errno(-EBUSY);
	return NOTIFY_OK;
}

static int around_sleep(struct notifier_block *nb, unsigned long action,
			void *data)
{
	switch (action) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		ld_session_sleep(true);
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		ld_session_sleep(false);
		break;
	}
	return NOTIFY_OK;
}

static int before_reboot(struct notifier_block *nb, unsigned long action,
			 void *data)
{
	ld_session_sleep(true);
	return NOTIFY_OK;
}

static struct notifier_block memory_notifier = { .notifier_call = veto_memory };
static struct notifier_block sleep_notifier = { .notifier_call = around_sleep };
static struct notifier_block reboot_notifier = {
	.notifier_call = before_reboot,
};

static int cpu_up_state, cpu_down_state;

static int cpus_init(void)
{
	cpu_up_state = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN,
						 "livedump:up", veto_cpu, NULL);
	if (cpu_up_state < 0)
		return cpu_up_state;
	cpu_down_state = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN,
						   "livedump:down", NULL,
						   veto_cpu);
	if (cpu_down_state < 0) {
		cpuhp_remove_state_nocalls(cpu_up_state);
		return cpu_down_state;
	}
	return 0;
}

static void cpus_exit(void)
{
	cpuhp_remove_state_nocalls(cpu_down_state);
	cpuhp_remove_state_nocalls(cpu_up_state);
}

static int memory_init(void)
{
	return register_memory_notifier(&memory_notifier);
}

static void memory_exit(void)
{
	unregister_memory_notifier(&memory_notifier);
}

static int sleep_init(void)
{
	return register_pm_notifier(&sleep_notifier);
}

static void sleep_exit(void)
{
	unregister_pm_notifier(&sleep_notifier);
}

static int reboot_init(void)
{
	return register_reboot_notifier(&reboot_notifier);
}

static void reboot_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
}

/* The probes that stay come with the first snapshot. */
static int resolve_init(void)
{
	int err = ld_compat_init();

	if (!err && tsc_khz)
		ld_tsc_init();
	return err;
}

static void probe_exit(void)
{
	ld_fault_exit();
}

/* In order; left in reverse, by failure and unload alike. */
static const struct {
	const char *name;
	int (*init)(void);
	void (*exit)(void);
} parts[] = {
	{ "symbols", resolve_init, probe_exit },
	{ "hooks", ld_hooks_init, ld_hooks_exit },
	{ "session", ld_session_init, ld_session_exit },
	{ "CPU hotplug", cpus_init, cpus_exit },
	{ "memory hotplug", memory_init, memory_exit },
	{ "suspend", sleep_init, sleep_exit },
	{ "reboot", reboot_init, reboot_exit },
	{ "image", ld_image_init, ld_image_exit },
	{ "netlink", ld_genl_init, ld_genl_exit },
};

static int parts_up;

static void livedump_exit(void)
{
	while (parts_up > 0)
		parts[--parts_up].exit();
}

static int __init livedump_init(void)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		err = parts[i].init();
		if (err) {
			pr_err("livedump: cannot set up %s (%d)\n",
			       parts[i].name, err);
			livedump_exit();
			return err;
		}
		parts_up++;
	}
	return 0;
}

module_init(livedump_init);
module_exit(livedump_exit);

MODULE_DESCRIPTION("Consistent memory snapshots of a running kernel");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
