// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/smp.h>
#include <asm/tlbflush.h>

#include "pgwalk.h"
#include "protect.h"
#include "ranges.h"

static const struct ld_strategy *const strategies[] = { &ld_eager };

const struct ld_strategy *ld_strategy_find(u32 id)
{
	int i;

	if (id == LIVEDUMP_STRATEGY_DEFAULT)
		return strategies[0];
	for (i = 0; i < ARRAY_SIZE(strategies); i++)
		if (strategies[i]->id == id)
			return strategies[i];
	return NULL;
}

struct leaf_walk {
	struct ld_walk walk;
	u64 *leaves;
};

static void count_leaf(struct ld_walk *walk, u64 entry, int level,
		       unsigned long addr)
{
	container_of(walk, struct leaf_walk, walk)->leaves[level - 1]++;
}

void ld_count_leaves(u64 leaves[__LIVEDUMP_LEAF_MAX])
{
	struct leaf_walk lw = {
		.walk = {
			.leaf = count_leaf,
			.start = PAGE_OFFSET,
			.last = PAGE_OFFSET +
				PFN_PHYS(ld_ranges_max_pfn()) - 1,
		},
		.leaves = leaves,
	};

	memset(leaves, 0, sizeof(*leaves) * __LIVEDUMP_LEAF_MAX);
	ld_walk_kernel(&lw.walk);
}

/* native_write_cr4() is exported only in kernels with the LKDTM module. */
static void write_cr4(unsigned long cr4)
{
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

/*
 * Toggling CR4.PGE drops every entry of every address space. The value ends
 * as it was, so the kernel's shadow of CR4 stays right.
 */
void ld_flush_tlb_local(void)
{
	unsigned long cr4, flags;

	raw_local_irq_save(flags);
	cr4 = native_read_cr4();
	write_cr4(cr4 ^ X86_CR4_PGE);
	write_cr4(cr4);
	raw_local_irq_restore(flags);
}

static void flush_ipi(void *unused)
{
	ld_flush_tlb_local();
}

void ld_flush_tlb_all(void)
{
	on_each_cpu(flush_ipi, NULL, 1);
}
