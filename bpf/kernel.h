/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's constants that the programs need, and the only place for what
 * differs between kernels. They are in linux/mm_types.h, enum fault_flag and
 * enum vm_fault_reason; including that would add half to the compile time,
 * which is most of a minute in an emulated guest. A test compares the values
 * with the headers of every installed kernel.
 */
#ifndef LIVEDUMP_KERNEL_H
#define LIVEDUMP_KERNEL_H

#define LD_FAULT_FLAG_USER 0x40

#define LD_VM_FAULT_MAJOR 0x4
#define LD_VM_FAULT_RETRY 0x400
/* OOM, SIGBUS, SIGSEGV, HWPOISON, HWPOISON_LARGE, FALLBACK */
#define LD_VM_FAULT_ERROR 0x873

/* Bits of a page fault's error code: the CPU's. */
#define LD_PF_PROT 1
#define LD_PF_WRITE 2

#endif /* LIVEDUMP_KERNEL_H */
