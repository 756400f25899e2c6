// SPDX-License-Identifier: GPL-2.0
/*
 * What do livedump's own copy-on-write faults cost, who pays, for which
 * pages? The costs are the module's own, from inside its fault probe.
 * Field `outcome` is enum livedump_outcome of kmod/uapi/livedump.h.
 */
BPF_HASH(pages, u64, struct ld_sum, LD_MAX_PAGES);

TRACEPOINT_PROBE(livedump, livedump_fault)
{
	struct ld_sum zero = {};
	u64 pfn = args->pfn;
	u64 demote_ns = args->demote_ns;
	u64 total_ns = args->total_ns, now_ns;
	u32 outcome = args->outcome;
	struct ld_sum *sum;
	s32 stack = -1;
	u32 weight;

	if (!ld_wanted())
		return 0;
	now_ns = bpf_ktime_get_ns();
	if (outcome == 0)
		ld_count(LD_COUNT_COW_SAVED);
	else if (outcome == 1)
		ld_count(LD_COUNT_COW_ALREADY);
	else if (outcome == 2)
		ld_count(LD_COUNT_COW_LOST);
	else if (outcome == 3)
		ld_count(LD_COUNT_COW_RELEASING);
	else
		ld_count(LD_COUNT_COW_OTHER);

	ld_observe(LD_KIND_COW, total_ns, now_ns);
	if (demote_ns)
		ld_observe(LD_KIND_COW_DEMOTE, demote_ns, now_ns);
	if (outcome == 0)
		ld_observe(LD_KIND_COW_COPY, args->copy_ns, now_ns);
	ld_add_task(LD_KIND_COW, 1, total_ns);
	weight = ld_sample(LD_KIND_COW, total_ns, now_ns);
	if (weight) {
		stack = ld_stack(args, LD_KIND_COW, weight);
		ld_add_stack(args, LD_KIND_COW, stack, weight, total_ns,
			     now_ns);
	}
	ld_emit(LD_KIND_COW, total_ns, pfn, outcome, weight, stack, now_ns);

	sum = pages.lookup_or_try_init(&pfn, &zero);
	if (!sum) {
		ld_lost(LD_KIND_COW, LD_LOSS_PAGES_FULL);
		return 0;
	}
	__sync_fetch_and_add(&sum->count, 1);
	__sync_fetch_and_add(&sum->stalled_ns, total_ns);
	return 0;
}
