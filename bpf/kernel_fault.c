// SPDX-License-Identifier: GPL-2.0
/*
 * Who faults in kernel mode, how often and where? Faults on user memory
 * (copy_to_user) and livedump's copy-on-write faults are among them.
 */
TRACEPOINT_PROBE(exceptions, page_fault_kernel)
{
	unsigned long error_code = args->error_code;
	u64 now_ns;
	s32 stack = -1;
	u32 weight;

	if (!ld_wanted())
		return LD_PASS_ON;
	now_ns = bpf_ktime_get_ns();
	ld_count(LD_COUNT_KERNEL_EVENTS);
	if (!(error_code & LD_PF_PROT))
		ld_count(LD_COUNT_KERNEL_NOT_PRESENT);
	else if (error_code & LD_PF_WRITE)
		ld_count(LD_COUNT_KERNEL_WRITE_PROTECT);
	if ((s64)args->address >= 0)
		ld_count(LD_COUNT_KERNEL_USER_ADDRESS);
	ld_add_task(LD_KIND_KERNEL, 1, 0);
	ld_add_cell(LD_KIND_KERNEL, LD_CELL_UNTIMED, 1, 0, now_ns);
	weight = ld_sample(LD_KIND_KERNEL, 0, now_ns);
	if (weight) {
		stack = ld_stack(args, LD_KIND_KERNEL, weight);
		ld_add_stack(args, LD_KIND_KERNEL, stack, weight, 0,
			     now_ns);
	}
	ld_emit(LD_KIND_KERNEL, 0, args->address, error_code, weight, stack,
		now_ns);
	return LD_PASS_ON;
}
