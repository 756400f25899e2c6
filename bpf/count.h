/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sums: losses, time slices, histograms, tasks.
 *
 * Joined into one text with the other files, see abi.h.
 */

/*
 * Attached for a moment where bpf_prog_active refuses every program, to see
 * whether this kernel counts that.
 */
int ld_refused(struct pt_regs *ctx)
{
	return 0;
}

static __always_inline void ld_add_loss(enum ld_kind kind, enum ld_loss what,
					u64 events)
{
	int index = kind * LD_LOSSES + what;
	u64 *count = losses.lookup(&index);

	if (count)
		*count += events;
}

static __always_inline void ld_add_cell(enum ld_kind kind, u32 what, u64 events,
					u64 stalled_ns, u64 now_ns)
{
	struct ld_cell key = {};
	struct ld_sum zero = {}, *sum;

	key.slice = ld_slice(now_ns);
	key.cpu = bpf_get_smp_processor_id();
	key.what = kind * LD_CELL_KINDS + what;
	sum = cells.lookup_or_try_init(&key, &zero);
	if (!sum) {
		ld_add_loss(kind, LD_LOSS_SLICES_FULL, events);
		return;
	}
	sum->count += events;
	sum->stalled_ns += stalled_ns;
}

static __always_inline void ld_lost_events(enum ld_kind kind, enum ld_loss what,
					   u64 events)
{
	ld_add_loss(kind, what, events);
	ld_add_cell(kind, LD_BUCKETS + what, events, 0, bpf_ktime_get_ns());
}

static __always_inline void ld_lost(enum ld_kind kind, enum ld_loss what)
{
	ld_lost_events(kind, what, 1);
}

static __always_inline void ld_count(enum ld_counter what)
{
	int index = what;
	u64 *count = counters.lookup(&index);

	if (count)
		*count += 1;
}

static __always_inline void ld_observe(enum ld_kind kind, u64 value_ns,
				       u64 now_ns)
{
	int index = kind;
	u32 bucket = ld_bucket(value_ns);
	struct ld_hist *hist = hists.lookup(&index);

	if (!hist)
		return;
	hist->count += 1;
	hist->sum_ns += value_ns;
	if (value_ns > hist->max_ns)
		hist->max_ns = value_ns;
	if (bucket < LD_BUCKETS) {
		hist->slots[bucket] += 1;
		ld_add_cell(kind, bucket, 1, value_ns, now_ns);
	}
}

/*
 * Nothing else that comes here runs on this CPU meanwhile: bpf_prog_active sees
 * to it. The raw program only counts.
 */
static __always_inline void ld_flush_tally(enum ld_kind kind,
					   struct ld_tally *tally)
{
	struct ld_task_key key = tally->key;
	struct ld_task zero = {};
	struct ld_task *sum;

	if (!tally->sum.count && !tally->sum.stalled_ns)
		return;
	sum = tasks.lookup_or_try_init(&key, &zero);
	if (sum) {
		__sync_fetch_and_add(&sum->count, tally->sum.count);
		__sync_fetch_and_add(&sum->stalled_ns, tally->sum.stalled_ns);
		sum->cgroup = tally->sum.cgroup;
	} else {
		ld_lost_events(kind, LD_LOSS_TASKS_FULL, tally->sum.count);
	}
	tally->sum.count = 0;
	tally->sum.stalled_ns = 0;
}

static __always_inline bool ld_same_task(const struct ld_task_key *a,
					 const struct ld_task_key *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline void ld_add_task(enum ld_kind kind, u64 count,
					u64 stalled_ns)
{
	struct ld_task_key key = { .kind = kind };
	int index = kind;
	struct ld_tally *tally = tallies.lookup(&index);

	if (!tally)
		return;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(&key.comm, sizeof(key.comm));
	if (!ld_same_task(&tally->key, &key)) {
		ld_flush_tally(kind, tally);
		tally->key = key;
		tally->sum.cgroup = bpf_get_current_cgroup_id();
	}
	tally->sum.count += count;
	tally->sum.stalled_ns += stalled_ns;
}
