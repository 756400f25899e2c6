// SPDX-License-Identifier: GPL-2.0
/* What a hypervisor takes from us, and a virtual machine does to us. */
#include <linux/mm.h>
#include <linux/page_reporting.h>
#include <linux/rcupdate.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "fault/probe.h"
#include "hooks/hook.h"

/* The host empties it. With init_on_alloc it was saved when it was zeroed. */
void ld_enter_balloon(struct pt_regs *regs)
{
	ld_fault_save_pages(page_to_pfn((struct page *)LD_ARG(regs, 1)), 1);
}
NOKPROBE_SYMBOL(ld_enter_balloon);

/* page_reporting_process(work): it stays asked for, and waits for us. */
bool ld_instead_of_reporting(struct pt_regs *regs)
{
	return true;
}
NOKPROBE_SYMBOL(ld_instead_of_reporting);

/*
 * As page_reporting_process() ends when it was asked for once more meanwhile:
 * its state says so still.
 */
void ld_reporting_resume(void)
{
	struct page_reporting_dev_info *device;

	if (!ld_syms.page_reporting)
		return;
	rcu_read_lock();
	device = rcu_dereference(*(struct page_reporting_dev_info __rcu **)
					 ld_syms.page_reporting);
	if (device && atomic_read(&device->state))
		schedule_delayed_work(&device->work, HZ);
	rcu_read_unlock();
}

/* kvm_arch_init_vm(kvm, type): see has_kvm_guest() in compat.c. */
bool ld_instead_of_vm(struct pt_regs *regs)
{
	regs->ax = -EBUSY;
	return true;
}
NOKPROBE_SYMBOL(ld_instead_of_vm);
