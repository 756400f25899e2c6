/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whose faults are recorded.
 *
 * Joined into one text with the other files, see abi.h.
 */

/* Whose faults are recorded, where not everybody's are; filled before. */
#ifdef LD_FILTER_PID
BPF_HASH(wanted_pids, u32, u32, 1024);
#endif
#ifdef LD_FILTER_COMM
BPF_ARRAY(wanted_comm, struct ld_name, 1);
#endif
#ifdef LD_FILTER_CGROUP
BPF_CGROUP_ARRAY(wanted_cgroup, 1);
#endif

/* Recording, and the current task is among them. */
static __always_inline bool ld_wanted(void)
{
	if (!ld_recording())
		return false;
#ifdef LD_FILTER_PID
	{
		u32 pid = bpf_get_current_pid_tgid() >> 32;

		if (!wanted_pids.lookup(&pid))
			return false;
	}
#endif
#ifdef LD_FILTER_COMM
	{
		int zero = 0;
		struct ld_name now = {};
		struct ld_name *name = wanted_comm.lookup(&zero);

		bpf_get_current_comm(&now, sizeof(now));
		if (!name || name->word[0] != now.word[0] ||
		    name->word[1] != now.word[1])
			return false;
	}
#endif
#ifdef LD_FILTER_CGROUP
	if (wanted_cgroup.check_current_task(0) <= 0)
		return false;
#endif
	return true;
}
