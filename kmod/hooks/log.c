// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "fault/cow.h"
#include "hooks/log.h"

#define ROOM(each) (4096 + (each) * num_possible_cpus())
#define STACKS_EACH 256
#define PAGES_EACH 512

static struct {
	bool on;
	unsigned long *stacks;
	struct ld_changed *pages;
	int stack_room, page_room;
	atomic_t stack_count, page_count;
	bool stacks_broken;		/* too many, or a table may have gone */
} changes;

int ld_log_prepare(void)
{
	changes.stack_room = ROOM(STACKS_EACH);
	changes.page_room = ROOM(PAGES_EACH);
	changes.stacks = vzalloc(array_size(changes.stack_room, sizeof(*changes.stacks)));
	changes.pages = vzalloc(array_size(changes.page_room,
					 sizeof(*changes.pages)));
	if (!changes.stacks || !changes.pages)
		return -ENOMEM;
	ld_cow_mark_own(changes.stacks, changes.stack_room * sizeof(*changes.stacks));
	ld_cow_mark_own(changes.pages, changes.page_room * sizeof(*changes.pages));
	return 0;
}

void ld_log_free(void)
{
	vfree(changes.stacks);
	vfree(changes.pages);
	changes.stacks = NULL;
	changes.pages = NULL;
}

void ld_log_restart_stacks(void)
{
	WRITE_ONCE(changes.stacks_broken, false);
	atomic_set(&changes.stack_count, 0);
	WRITE_ONCE(changes.on, true);
}

void ld_log_restart_pages(void)
{
	atomic_set(&changes.page_count, 0);
	WRITE_ONCE(changes.on, true);
}

void ld_log_stop(void)
{
	WRITE_ONCE(changes.on, false);
}

void ld_log_mapping(unsigned long addr, unsigned long end, bool large)
{
	int i;

	if (!READ_ONCE(changes.on))
		return;
	if (large) {
		/* It may free the table that a stack's entries are in. */
		WRITE_ONCE(changes.stacks_broken, true);
	} else if (end - addr == THREAD_SIZE && IS_ALIGNED(addr, THREAD_SIZE)) {
		i = atomic_fetch_add_unless(&changes.stack_count, 1,
					    changes.stack_room);
		if (i < changes.stack_room)
			changes.stacks[i] = addr;
		else
			WRITE_ONCE(changes.stacks_broken, true);
	}
}
NOKPROBE_SYMBOL(ld_log_mapping);

/* Counts what finds no room, too: then it is more than the room. */
void ld_log_pages(unsigned long pfn, unsigned long pages)
{
	int i;

	if (!READ_ONCE(changes.on))
		return;
	i = atomic_fetch_add_unless(&changes.page_count, 1, changes.page_room + 1);
	if (i < changes.page_room)
		changes.pages[i] = (struct ld_changed){
			.pfn = pfn,
			.pages = pages,
		};
}
NOKPROBE_SYMBOL(ld_log_pages);

int ld_log_stacks(void)
{
	return READ_ONCE(changes.stacks_broken) ? -1 :
					      atomic_read(&changes.stack_count);
}

unsigned long ld_log_stack_at(int i)
{
	return changes.stacks[i];
}

int ld_log_changes(void)
{
	int count = atomic_read(&changes.page_count);

	return count > changes.page_room ? -1 : count;
}

const struct ld_changed *ld_log_change_at(int i)
{
	return &changes.pages[i];
}
