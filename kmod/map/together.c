// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "ending.h"
#include "map/together.h"

#define MAX_HELPERS 15

struct together {
	unsigned long count, part;
	ld_part_fn fn;
	void *data;
	atomic_long_t next;
	atomic_t err;
};

struct helper {
	struct work_struct work;
	struct together *together;
};

static void take_parts(struct together *all)
{
	unsigned long start;
	int err;

	while (!atomic_read(&all->err)) {
		start = atomic_long_fetch_add(all->part, &all->next);
		if (start >= all->count)
			return;
		err = all->fn(start, min(start + all->part, all->count), all->data);
		if (!err && ld_is_ending())
			err = -EINTR;
		if (err)
			atomic_set(&all->err, err);
		cond_resched();
	}
}

static void help(struct work_struct *work)
{
	take_parts(container_of(work, struct helper, work)->together);
}

int ld_together(unsigned long count, unsigned long part, ld_part_fn fn,
		void *data)
{
	struct together all = {
		.count = count, .part = part, .fn = fn, .data = data,
	};
	unsigned int i, helping = min(num_online_cpus() - 1, MAX_HELPERS);
	struct helper *helpers = kcalloc(helping, sizeof(*helpers), GFP_KERNEL);

	for (i = 0; helpers && i < helping; i++) {
		helpers[i].together = &all;
		INIT_WORK(&helpers[i].work, help);
		queue_work(system_unbound_wq, &helpers[i].work);
	}
	take_parts(&all);
	for (i = 0; helpers && i < helping; i++)
		cancel_work_sync(&helpers[i].work);
	kfree(helpers);
	return atomic_read(&all.err);
}
