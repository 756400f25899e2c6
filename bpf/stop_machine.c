// SPDX-License-Identifier: GPL-2.0
/*
 * How long was the machine stopped, by whom, and does the module's own
 * receipt agree? stop_machine() calls stop_machine_cpuslocked(), which others
 * call directly: both are timed, the inner one of a pair is marked nested.
 */
enum ld_stop_site {
	LD_STOP_MACHINE,
	LD_STOP_MACHINE_CPUSLOCKED,
};

struct ld_stop_key {
	u64 task;
	u64 site;
};

struct ld_stop_open {
	u64 start_ns;
	u64 fn;
	u64 nested;
	s32 stack;		/* negative: lost, not asked for, or nested */
	u32 cpu;
};

struct ld_event_key {
	u64 time_ns;
	u64 task;
};

struct ld_stop {
	u64 start_ns;
	u64 duration_ns;
	u64 fn;
	u32 pid;
	u16 site;
	u16 nested;
	u64 cgroup;
	s32 stack;
	u32 cpu;
	char comm[LD_COMM];
};

BPF_HASH(stop_open, struct ld_stop_key, struct ld_stop_open, 256);
BPF_HASH(stops, struct ld_event_key, struct ld_stop, LD_MAX_EVENTS);

static __always_inline int ld_stop_enter(struct pt_regs *ctx, u64 site)
{
	struct ld_stop_key key = {};
	struct ld_stop_open open = {};

	if (!ld_recording())
		return 0;
	key.task = bpf_get_current_pid_tgid();
	key.site = LD_STOP_MACHINE;
	if (site != LD_STOP_MACHINE)
		open.nested = stop_open.lookup(&key) != NULL;
	key.site = site;
	if (stop_open.lookup(&key))
		ld_lost(LD_KIND_STOP, LD_LOSS_NO_EXIT);
	open.fn = PT_REGS_PARM1(ctx);
	open.cpu = bpf_get_smp_processor_id();
	open.stack = -1;
	if (LD_STACKS != LD_STACKS_NONE && !open.nested)
		open.stack = ld_stack(ctx, LD_KIND_STOP, 1);
	open.start_ns = bpf_ktime_get_ns();
	if (stop_open.update(&key, &open))
		ld_lost(LD_KIND_STOP, LD_LOSS_INFLIGHT_FULL);
	return 0;
}

static __always_inline int ld_stop_exit(struct pt_regs *ctx, u64 site)
{
	u64 now_ns = bpf_ktime_get_ns();
	struct ld_stop_key key = {};
	struct ld_stop_open *open;
	struct ld_event_key event = {};
	struct ld_stop stop = {};

	if (!ld_recording())
		return 0;
	key.task = bpf_get_current_pid_tgid();
	key.site = site;
	open = stop_open.lookup(&key);
	if (!open) {
		ld_lost(LD_KIND_STOP, LD_LOSS_NO_ENTRY);
		return 0;
	}
	stop.start_ns = open->start_ns;
	stop.duration_ns = now_ns - open->start_ns;
	stop.fn = open->fn;
	stop.pid = key.task >> 32;
	stop.site = site;
	stop.nested = open->nested;
	stop.stack = open->stack;
	stop.cpu = open->cpu;
	stop.cgroup = bpf_get_current_cgroup_id();
	bpf_get_current_comm(&stop.comm, sizeof(stop.comm));
	stop_open.delete(&key);

	if (!stop.nested) {
		ld_observe(LD_KIND_STOP, stop.duration_ns, now_ns);
		if (LD_STACKS != LD_STACKS_NONE)
			ld_add_stack(ctx, LD_KIND_STOP, stop.stack, 1,
				     stop.duration_ns, now_ns);
	}
	event.time_ns = stop.start_ns;
	event.task = key.task;
	if (stops.update(&event, &stop))
		ld_lost(LD_KIND_STOP, LD_LOSS_EVENTS_FULL);
	return 0;
}

int ld_stop_machine_entry(struct pt_regs *ctx)
{
	return ld_stop_enter(ctx, LD_STOP_MACHINE);
}

int ld_stop_machine_return(struct pt_regs *ctx)
{
	return ld_stop_exit(ctx, LD_STOP_MACHINE);
}

int ld_stop_cpuslocked_entry(struct pt_regs *ctx)
{
	return ld_stop_enter(ctx, LD_STOP_MACHINE_CPUSLOCKED);
}

int ld_stop_cpuslocked_return(struct pt_regs *ctx)
{
	return ld_stop_exit(ctx, LD_STOP_MACHINE_CPUSLOCKED);
}
