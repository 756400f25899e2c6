// SPDX-License-Identifier: GPL-2.0
#include <linux/irqflags.h>
#include <linux/smp.h>
#include <asm/special_insns.h>
#include <asm/processor-flags.h>

#include "map/tlb.h"

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
