// SPDX-License-Identifier: GPL-2.0
/*
 * How long does a page fault on user memory take?
 *
 * The handlers themselves cannot be probed (exc_page_fault is noinstr,
 * do_user_addr_fault is blacklisted), so latency is that of handle_mm_fault,
 * entry to exit: without the exception entry and without the wait for the
 * mmap lock. A fault that has to be retried is measured twice there, is major
 * each time that it had to wait, and is a task's once, when it is done; one that
 * fails is no task's, as in getrusage(). The tracepoint page_fault_user gives the
 * exact number of exceptions: also of those that never get there.
 *
 * Stacks are taken at the exit, when it is known which faults were slow: they are
 * those of whoever called handle_mm_fault(), and cost none of the latency.
 */
struct ld_entry {
	u64 task;		/* 0: of none */
	u64 start_ns;
	u64 address;
	u64 kind;
};

/*
 * By the thread's number: what is under way costs no hash, lock or allocation.
 * Threads that have the same place at the same time are in `crowded`.
 */
BPF_ARRAY(inflight, struct ld_entry, LD_MAX_INFLIGHT);
BPF_HASH(crowded, u64, struct ld_entry, LD_MAX_CROWDED);

/* Return: the task's place, if nobody else has it, or NULL. */
static __always_inline struct ld_entry *ld_claim(u64 task)
{
	int index = (u32)task % LD_MAX_INFLIGHT;
	struct ld_entry *place = inflight.lookup(&index);
	u64 owner;

	if (!place)
		return NULL;
	owner = place->task;
	if (owner == task)
		ld_lost(place->kind, LD_LOSS_NO_EXIT);
	else if (owner || __sync_val_compare_and_swap(&place->task, 0, task))
		return NULL;
	return place;
}

/* Return: whether there was an entry, now in *entry. */
static __always_inline bool ld_take(u64 task, struct ld_entry *entry)
{
	int index = (u32)task % LD_MAX_INFLIGHT;
	struct ld_entry *place = inflight.lookup(&index);

	if (place && place->task == task) {
		*entry = *place;
		barrier(); /* another CPU's from here on */
		place->task = 0;
		return true;
	}
	place = crowded.lookup(&task);
	if (!place)
		return false;
	*entry = *place;
	crowded.delete(&task);
	return true;
}

static __always_inline void ld_unusual(enum ld_kind kind, unsigned int result,
				       u64 latency_ns, u64 now_ns)
{
	if (result & LD_VM_FAULT_RETRY)
		ld_count(LD_COUNT_FAULT_RETRY);
	if (result & LD_VM_FAULT_ERROR)
		ld_count(LD_COUNT_FAULT_ERROR);
	if (!(result & LD_VM_FAULT_MAJOR))
		return;
	ld_count(LD_COUNT_FAULT_MAJOR);
	if (kind == LD_KIND_USER)
		ld_observe(LD_KIND_USER_MAJOR, latency_ns, now_ns);
}

int ld_user_fault_entry(struct pt_regs *ctx, struct vm_area_struct *vma,
			unsigned long address, unsigned int flags,
			struct pt_regs *fault_regs)
{
	struct ld_entry entry = {}, *place;

	if (!ld_wanted())
		return 0;
	entry.task = bpf_get_current_pid_tgid();
	if (flags & LD_FAULT_FLAG_USER)
		entry.kind = LD_KIND_USER;
#ifndef LD_FAULT_WITHOUT_REGS
	else if (!fault_regs)
		entry.kind = LD_KIND_GUP;
#endif
	else
		entry.kind = LD_KIND_UACCESS;
	entry.address = address;
	entry.start_ns = bpf_ktime_get_ns();
	place = ld_claim(entry.task);
	if (place) {
		*place = entry;
		return 0;
	}
	place = crowded.lookup(&entry.task);
	if (place)
		ld_lost(place->kind, LD_LOSS_NO_EXIT);
	if (crowded.update(&entry.task, &entry))
		ld_lost(entry.kind, LD_LOSS_INFLIGHT_FULL);
	return 0;
}

int ld_user_fault_return(struct pt_regs *ctx)
{
	u64 now_ns = bpf_ktime_get_ns(), latency_ns;
	unsigned int result = PT_REGS_RC(ctx);
	struct ld_entry entry;
	s32 stack = -1;
	u32 weight;

	if (!ld_wanted())
		return 0;
	if (!ld_take(bpf_get_current_pid_tgid(), &entry)) {
		ld_lost(LD_KIND_USER, LD_LOSS_NO_ENTRY);
		return 0;
	}
	latency_ns = now_ns - entry.start_ns;
	ld_observe(entry.kind, latency_ns, now_ns);
	if (result & (LD_VM_FAULT_RETRY | LD_VM_FAULT_MAJOR |
		      LD_VM_FAULT_ERROR))
		ld_unusual(entry.kind, result, latency_ns, now_ns);
	weight = ld_sample(entry.kind, latency_ns, now_ns);
	if (weight) {
		stack = ld_stack(ctx, entry.kind, weight);
		ld_add_stack(ctx, entry.kind, stack, weight, latency_ns,
			     now_ns);
	}
	ld_emit(entry.kind, latency_ns, entry.address, result, weight, stack,
		now_ns);
	ld_add_task(entry.kind,
		    !(result & (LD_VM_FAULT_RETRY | LD_VM_FAULT_ERROR)),
		    latency_ns);
	return 0;
}

#ifdef LD_HAVE_PAGE_FAULT_USER
/*
 * Raw: through perf each fault costs 850 instructions more, as much as all the
 * rest. Not guarded by bpf_prog_active, but this one cannot nest: the CPU comes
 * from user mode, where no program runs.
 */
RAW_TRACEPOINT_PROBE(page_fault_user)
{
	if (ld_wanted())
		ld_count(LD_COUNT_USER_EVENTS);
	return 0;
}
#endif
