// SPDX-License-Identifier: GPL-2.0
/*
 * How long does a page fault on user memory take?
 *
 * The handlers themselves cannot be probed (exc_page_fault is noinstr,
 * do_user_addr_fault is blacklisted), so latency is that of handle_mm_fault,
 * entry to exit: without the exception entry and without the wait for the
 * mmap lock. A fault that has to be retried counts twice there, and is major
 * each time that it had to wait. The tracepoint page_fault_user gives the exact
 * number of faults.
 */
struct ld_entry {
	u64 start_ns;
	u64 address;
	u32 kind;
	u32 weight;		/* of the stack; 0: none was taken */
	s32 stack;
	u32 unused;
};

BPF_HASH(inflight, u64, struct ld_entry, LD_MAX_INFLIGHT);

int ld_user_fault_entry(struct pt_regs *ctx, struct vm_area_struct *vma,
			unsigned long address, unsigned int flags,
			struct pt_regs *fault_regs)
{
	u64 task = bpf_get_current_pid_tgid();
	struct ld_entry entry = {};

	if (!ld_wanted())
		return 0;
	if (flags & LD_FAULT_FLAG_USER)
		entry.kind = LD_KIND_USER;
#ifndef LD_FAULT_WITHOUT_REGS
	else if (!fault_regs)
		entry.kind = LD_KIND_GUP;
#endif
	else
		entry.kind = LD_KIND_UACCESS;
	if (inflight.lookup(&task))
		ld_lost(entry.kind, LD_LOSS_NO_EXIT);
	entry.stack = -1;
	entry.weight = ld_sample(entry.kind);
	if (entry.weight)
		entry.stack = ld_stack(ctx, entry.kind, entry.weight);
	entry.address = address;
	entry.start_ns = bpf_ktime_get_ns();
	if (inflight.update(&task, &entry))
		ld_lost(entry.kind, LD_LOSS_INFLIGHT_FULL);
	return 0;
}

int ld_user_fault_return(struct pt_regs *ctx)
{
	u64 now_ns = bpf_ktime_get_ns();
	u64 task = bpf_get_current_pid_tgid();
	unsigned int result = PT_REGS_RC(ctx);
	struct ld_entry *found, entry;

	if (!ld_wanted())
		return 0;
	found = inflight.lookup(&task);
	if (!found) {
		ld_lost(LD_KIND_USER, LD_LOSS_NO_ENTRY);
		return 0;
	}
	entry = *found;
	inflight.delete(&task);
	if (entry.kind >= LD_KINDS)
		return 0;

	if (result & LD_VM_FAULT_RETRY)
		ld_count(LD_COUNT_FAULT_RETRY);
	if (result & LD_VM_FAULT_MAJOR)
		ld_count(LD_COUNT_FAULT_MAJOR);
	if (result & LD_VM_FAULT_ERROR)
		ld_count(LD_COUNT_FAULT_ERROR);
	ld_observe(entry.kind, now_ns - entry.start_ns);
	if (entry.kind == LD_KIND_USER && (result & LD_VM_FAULT_MAJOR))
		ld_observe(LD_KIND_USER_MAJOR, now_ns - entry.start_ns);
	if (entry.weight)
		ld_add_stack(ctx, entry.kind, entry.stack, entry.weight,
			     now_ns - entry.start_ns);
	ld_emit(entry.kind, now_ns - entry.start_ns, entry.address, result,
		entry.weight, entry.stack);
	/* Of user faults, the tracepoint counts: it misses none. */
	ld_add_task(entry.kind, entry.kind != LD_KIND_USER,
		    now_ns - entry.start_ns);
	return 0;
}

#ifdef LD_HAVE_PAGE_FAULT_USER
TRACEPOINT_PROBE(exceptions, page_fault_user)
{
	if (!ld_wanted())
		return LD_PASS_ON;
	ld_count(LD_COUNT_USER_EVENTS);
	ld_add_task(LD_KIND_USER, 1, 0);
	return LD_PASS_ON;
}
#endif
