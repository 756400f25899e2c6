/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The maps that every program shares, and the time slice. Totals are read when
 * recording ends; `cells` and `folds` are taken out while it goes on.
 *
 * Joined into one text with the other files, see abi.h.
 */

/*
 * When recording began, 0 while it is not on: all programs begin and end at the
 * same moment.
 */
BPF_ARRAY(window, u64, 1);
BPF_PERCPU_ARRAY(hists, struct ld_hist, LD_KINDS);
BPF_PERCPU_ARRAY(counters, u64, LD_COUNTERS);
BPF_PERCPU_ARRAY(losses, u64, LD_KINDS * LD_LOSSES);
BPF_STACK_TRACE(stacks, LD_MAX_STACKS);
BPF_STACK_TRACE(spilled, LD_MAX_SPILLED);
BPF_PERCPU_ARRAY(turns, struct ld_turn, 2 * LD_KINDS);
BPF_HASH(folds, struct ld_stack_key, struct ld_fold, LD_MAX_FOLDS);
BPF_HASH(cells, struct ld_cell, struct ld_sum, LD_MAX_CELLS);
#ifdef LD_USER_STACKS
/* Of their own: each process has other addresses, and would fill the kernel's. */
BPF_STACK_TRACE(user_stacks, LD_MAX_STACKS);
BPF_STACK_TRACE(user_spilled, LD_MAX_SPILLED);
#endif
#ifdef LD_EVENTS
BPF_RINGBUF_OUTPUT(ring, LD_RING_PAGES);
BPF_PERCPU_ARRAY(batches, struct ld_batch, LD_KINDS);
#endif
/* A CPU's events are mostly one task's for a while: they get there in one go. */
BPF_HASH(tasks, struct ld_task_key, struct ld_task, LD_MAX_TASKS);
BPF_PERCPU_ARRAY(tallies, struct ld_tally, LD_KINDS);

/* Return: when recording began, or 0. */
static __always_inline u64 ld_recording(void)
{
	int zero = 0;
	u64 *start_ns = window.lookup(&zero);

	return start_ns ? *start_ns : 0;
}

static __always_inline u32 ld_slice(u64 now_ns)
{
	return (now_ns - ld_recording()) / LD_SLICE_NS;
}
