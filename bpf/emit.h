/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events that are kept one by one.
 *
 * Joined into one text with the other files, see abi.h.
 */

#ifdef LD_EVENTS
/*
 * The recorder looks by itself, so nobody is woken. Where there is no room, all
 * are lost now, whenever they happened: a slice of the past may be under way out.
 */
static __always_inline void ld_send(enum ld_kind kind, struct ld_batch *batch,
				    u32 count, u64 now_ns)
{
	struct ld_event *events = batch->events;	/* BCC takes no array */

	if (ring.ringbuf_output(events, count * sizeof(*events),
				BPF_RB_NO_WAKEUP))
		ld_lost_events(kind, LD_LOSS_RING_FULL, count);
	batch->count = 0;
	batch->sent_ns = now_ns;
}
#endif

/*
 * Seldom ones go at once; of many, the last ones stay until the recorder takes
 * them at the end. Nothing else that comes here runs on this CPU meanwhile, see
 * ld_flush_tally().
 */
static __always_inline void ld_emit(enum ld_kind kind, u64 latency_ns,
				    u64 address, u32 detail, u32 weight,
				    s32 stack, u64 now_ns)
{
#ifdef LD_EVENTS
	u64 task = bpf_get_current_pid_tgid();
	int index = kind;
	struct ld_batch *batch = batches.lookup(&index);
	struct ld_event *event;
	u32 place;

	if (!batch)
		return;
	place = batch->count & (LD_BATCH - 1);
	event = &batch->events[place];
	event->time_ns = now_ns;
	event->latency_ns = latency_ns;
	event->address = address;
	event->pid = task >> 32;
	event->tid = task;
	event->stack = stack;
	event->weight = weight;
	event->detail = detail;
	event->cpu = bpf_get_smp_processor_id();
	event->kind = kind;
	batch->count = place + 1;
	if (place + 1 == LD_BATCH || now_ns - batch->sent_ns >= LD_BATCH_NS)
		ld_send(kind, batch, place + 1, now_ns);
#endif
}
