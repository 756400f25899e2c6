// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>
#include <linux/rcupdate.h>
#include <linux/static_call.h>
#include <linux/tracepoint.h>

#include "fault/iterator.h"
#include "fault/probe.h"

static struct {
	struct tracepoint *tp;
	void *kernels;			/* the iterator that was there */
} iterator;

/*
 * As __DO_TRACE() in linux/tracepoint.h has it, but that ours comes first in any
 * case. Kernel code calls it directly.
 */
static int notrace iterate(void *unused, unsigned long address,
			   struct pt_regs *regs, unsigned long error_code)
{
	struct tracepoint_func *func;

	ld_fault_probe(NULL, address, regs, error_code);
	func = rcu_dereference_raw(iterator.tp->funcs);
	if (!func)
		return 0;
	do {
		void (*probe)(void *data, unsigned long address,
			      struct pt_regs *regs, unsigned long error_code) =
			READ_ONCE(func->func);

		if (probe != ld_fault_probe)
			probe(func->data, address, regs, error_code);
	} while ((++func)->func);
	return 0;
}
NOKPROBE_SYMBOL(iterate);

static void call_instead(const struct tracepoint *tp, void *old, void *new)
{
	struct static_call_key *key = tp->static_call_key;

	/* What else it may be is a single probe, called without any iterator. */
	if (READ_ONCE(key->func) == old)
		__static_call_update(key, tp->static_call_tramp, new);
}

int ld_iterator_set(struct tracepoint *tp)
{
	if (!tp->iterator || !tp->static_call_key || !tp->static_call_tramp)
		return -ENOENT;
	iterator.tp = tp;
	iterator.kernels = tp->iterator;
	WRITE_ONCE(tp->iterator, iterate);
	call_instead(tp, iterator.kernels, iterate);
	return 0;
}

bool ld_iterator_is_set(void)
{
	const struct tracepoint *tp = iterator.tp;
	const void *called;

	if (!tp || READ_ONCE(tp->iterator) != iterate)
		return false;
	called = READ_ONCE(tp->static_call_key->func);
	return called == iterate || called == ld_fault_probe;
}

void ld_iterator_confirm(void)
{
	call_instead(iterator.tp, iterator.kernels, iterate);
}

void ld_iterator_leave(void)
{
	if (iterator.tp)
		WRITE_ONCE(iterator.tp->iterator, iterator.kernels);
}

void ld_iterator_reset(void)
{
	struct tracepoint *tp = iterator.tp;

	if (!tp)
		return;
	ld_iterator_leave();
	call_instead(tp, iterate, iterator.kernels);
	/* Who is inside reads it still. */
	tracepoint_synchronize_unregister();
	iterator.tp = NULL;
}
