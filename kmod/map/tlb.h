/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LIVEDUMP_TLB_H
#define _LIVEDUMP_TLB_H

/* Flush this CPU's whole TLB, globals included. */
void ld_flush_tlb_local(void);
/* The same on every CPU, and wait: a fault under way elsewhere has ended. */
void ld_flush_tlb_all(void);

#endif
