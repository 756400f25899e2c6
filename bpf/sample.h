/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Of which events the stack is taken, and under which stack they are counted.
 *
 * Joined into one text with the other files, see abi.h.
 */

static __always_inline u32 ld_gap(u32 every)
{
	return every > 1 ? 1 + bpf_get_prandom_u32() % (2 * every - 1) : 1;
}

static __always_inline u32 ld_slow(u64 latency_ns)
{
	return latency_ns >= LD_SLOW_NS;
}

/*
 * Whether this event's stack is to be taken, now that its latency is known.
 * Slow ones and others take turns of their own, see LD_SLOW_NS. Gaps are random,
 * so that a load with a rhythm of its own does not hide half of its stacks; they
 * follow the rate at once when it grows, by half each period when it falls.
 * Return: 0, or the number of events that the stack stands for: those of its
 * sort since the last one on this CPU. The rest of a burst stands under none:
 * what comes after a pause has nothing to do with it. The recorder scales all of
 * a time slice to its exact sums (livedump/trace/scale.py).
 */
static __always_inline u32 ld_sample(enum ld_kind kind, u64 latency_ns,
				     u64 now_ns)
{
#if LD_STACKS == LD_STACKS_SAMPLED
	u32 slow = ld_slow(latency_ns);
	u32 most = slow ? LD_SLOW_BURST : LD_BURST;
	int index = 2 * kind + slow;
	struct ld_turn *turn = turns.lookup(&index);
	u64 period = now_ns >> LD_PERIOD_BITS, passed;
	u32 events, every;

	if (!turn)
		return 1;
	passed = period - turn->period;
	if (passed > 1)
		turn->events = 0;
	events = turn->events + 1;
	if (passed) {
		turn->period = period;
		turn->burst = 0;
		every = passed < 32 ? turn->every >> passed : 0;
		turn->every = every ? every : 1;
		if (turn->next > events + 2 * turn->every)
			turn->next = events + ld_gap(turn->every);
	}
	if (events < turn->next) {
		turn->events = events;
		return 0;
	}
	turn->events = 0;
	turn->burst += 1;
	if (turn->burst >= most && turn->every < LD_RAREST) {
		turn->burst = most / 2;
		turn->every *= 2;
	}
	turn->next = ld_gap(turn->every);
	return events;
#else
	return LD_STACKS == LD_STACKS_ALL;
#endif
}

/*
 * A stack map keeps one stack for each hash value. One that comes later with
 * the same value goes into a second map, which is nearly empty: to reuse the
 * first one's place would give its events a wrong stack.
 */
static __always_inline s32 ld_stack(void *ctx, enum ld_kind kind, u32 weight)
{
	s32 stack = stacks.get_stackid(ctx, 0);

	if (stack == -EEXIST) {
		stack = spilled.get_stackid(ctx, 0);
		if (stack >= 0)
			stack |= LD_SPILLED;
	}
	if (stack < 0) {
		ld_lost_events(kind, LD_LOSS_STACK, weight);
		return -1;
	}
	return stack;
}

#ifdef LD_USER_STACKS
/* Return: its number; -1 where there is none, as in kernel threads. */
static __always_inline s32 ld_user_stack(void *ctx, enum ld_kind kind,
					 u32 weight)
{
	s32 stack = user_stacks.get_stackid(ctx, BPF_F_USER_STACK);

	if (stack == -EEXIST) {
		stack = user_spilled.get_stackid(ctx, BPF_F_USER_STACK);
		if (stack >= 0)
			stack |= LD_SPILLED;
	}
	if (stack >= 0)
		return stack;
	if (stack != -EFAULT)
		ld_lost_events(kind, LD_LOSS_USER_STACK, weight);
	return -1;
}
#endif

/* weight: of ld_sample(), not 0. */
static __always_inline void ld_add_stack(void *ctx, enum ld_kind kind,
					 s32 stack, u32 weight, u64 stalled_ns,
					 u64 now_ns)
{
	struct ld_stack_key key = { .kind = kind, .stack = stack, .user = -1 };
	u64 apart = (u64)weight * (weight - 1), time = stalled_ns >> 10;
	struct ld_fold zero = {};
	struct ld_fold *fold;

#ifdef LD_USER_STACKS
	key.user = ld_user_stack(ctx, kind, weight);
	if (key.user >= 0)
		key.pid = bpf_get_current_pid_tgid() >> 32;
#endif
	key.slice = ld_slice(now_ns);
	key.slow = ld_slow(stalled_ns);
	bpf_get_current_comm(&key.comm, sizeof(key.comm));
	fold = folds.lookup_or_try_init(&key, &zero);
	if (!fold) {
		ld_lost_events(kind, LD_LOSS_STACKS_FULL, weight);
		return;
	}
	__sync_fetch_and_add(&fold->count, weight);
	__sync_fetch_and_add(&fold->stalled_ns, stalled_ns * weight);
	__sync_fetch_and_add(&fold->samples, 1);
	if (!apart)
		return;
	__sync_fetch_and_add(&fold->spread, apart);
	__sync_fetch_and_add(&fold->stalled_spread, apart * time * time);
}
