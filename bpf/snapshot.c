// SPDX-License-Identifier: GPL-2.0
/*
 * livedump's snapshots and releases, as its module reports them; the names
 * are those of struct livedump_report. Exists while the module is loaded.
 */
struct ld_when {
	u64 time_ns;
	u64 task;
};

struct ld_snapshot {
	u64 instant_monotonic_ns;
	u64 prepare_ns;
	u64 rendezvous_ns;
	u64 save_ns;
	u64 protect_ns;
	u64 flush_ns;
	u64 recopy_ns;
	u64 stop_ns;
	u64 entries_protected;
	u32 strategy;
	u32 attempts;
	char comm[LD_COMM];
};

struct ld_release {
	u64 release_ns;
	u64 entries_restored;
	u64 faults;
	u64 pages_lost;
	u64 trace_skipped;
	u32 reason;
	u32 verdict;
};

BPF_HASH(snapshots, struct ld_when, struct ld_snapshot, LD_MAX_EVENTS);
BPF_HASH(releases, struct ld_when, struct ld_release, LD_MAX_EVENTS);

TRACEPOINT_PROBE(livedump, livedump_snapshot)
{
	struct ld_when when = {};
	struct ld_snapshot snapshot = {};

	if (!ld_recording())
		return 0;
	when.time_ns = bpf_ktime_get_ns();
	when.task = bpf_get_current_pid_tgid();
	snapshot.instant_monotonic_ns = args->instant_monotonic_ns;
	snapshot.prepare_ns = args->prepare_ns;
	snapshot.rendezvous_ns = args->rendezvous_ns;
	snapshot.save_ns = args->save_ns;
	snapshot.protect_ns = args->protect_ns;
	snapshot.flush_ns = args->flush_ns;
	snapshot.recopy_ns = args->recopy_ns;
	snapshot.stop_ns = args->stop_ns;
	snapshot.entries_protected = args->entries;
	snapshot.strategy = args->strategy;
	snapshot.attempts = args->attempts;
	bpf_get_current_comm(&snapshot.comm, sizeof(snapshot.comm));
	if (snapshots.update(&when, &snapshot))
		ld_lost(LD_KIND_STOP, LD_LOSS_EVENTS_FULL);
	return 0;
}

TRACEPOINT_PROBE(livedump, livedump_release)
{
	struct ld_when when = {};
	struct ld_release release = {};

	if (!ld_recording())
		return 0;
	when.time_ns = bpf_ktime_get_ns();
	when.task = bpf_get_current_pid_tgid();
	release.release_ns = args->release_ns;
	release.entries_restored = args->restored;
	release.faults = args->faults;
	release.pages_lost = args->lost;
	release.trace_skipped = args->trace_skipped;
	release.reason = args->reason;
	release.verdict = args->verdict;
	if (releases.update(&when, &release))
		ld_lost(LD_KIND_STOP, LD_LOSS_EVENTS_FULL);
	return 0;
}
