/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Page tables of our own, and writable pointers to any page table. Tables lie
 * in the direct map, which is what we protect: ours are written by way of a
 * private mapping, the kernel's by way of temporary ones.
 */
#ifndef _LIVEDUMP_TABLES_H
#define _LIVEDUMP_TABLES_H

#include "map/pgwalk.h"

/* Nested faults up to this depth have a temporary mapping each. */
#define LD_MAX_DEPTH 6

/**
 * ld_tables_prepare() - reserve tables for every large leaf, and mappings
 *
 * Return: 0 or -ENOMEM; then, and in any case later, call ld_tables_free().
 */
int ld_tables_prepare(void);

/*
 * Give back all tables that nothing uses.
 * Return: tables that stay, since they map memory: see ld_tables_merge().
 */
u64 ld_tables_free(void);

/**
 * ld_table_map() - a writable pointer to a table, interrupts off
 * @pfn: the table's page frame
 * @depth: how deep the caller is nested, from 1
 * @kept: for ld_table_unmap()
 */
u64 *ld_table_map(unsigned long pfn, int depth, u64 *kept);
void ld_table_unmap(int depth, u64 kept);

/*
 * A pointer for as long as the tables are reserved: to our own table by its
 * private mapping, to another by the direct map, where it must be writable.
 */
u64 *ld_table_writable(unsigned long pfn);

/**
 * ld_demote() - replace a large leaf by a table of ours, any context
 * @where: the leaf's place
 * @leaf: the leaf; nothing is changed if it is another by now
 * @opened: the flags that the new table's entry carries beside the usual ones
 *
 * The children say together what the leaf said, tag included.
 * Return: 0, -EAGAIN when the leaf has changed, -ENOMEM without a table left.
 */
int ld_demote(const struct ld_where *where, u64 leaf, u64 opened, int depth);

/*
 * Split what maps an address until its leaf is of 4 KiB, before the stop.
 * Return: 0; -ENOMEM; nothing is split where nothing is mapped.
 */
int ld_split(unsigned long addr);

/*
 * Put every large leaf back whose table still says what it said. Nothing is
 * tagged any more. Return: tables that are still in use.
 */
u64 ld_tables_merge(void);

/*
 * Tables that were edited by ld_split(): room for their copies, and the copies
 * as of the stop. Return: 0, or -ENOSPC; adds to @saved.
 */
int ld_tables_save_parents(u64 *saved);
void ld_tables_recopy_parents(void);

/*
 * In the copies of tables that we changed before the stop, show the leaf that
 * was there: the image is to know nothing of us.
 */
void ld_tables_patch_copies(void);

u64 ld_tables_used(void);

#endif
