/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What only test builds have (make TEST=1): mutants, each of which leaves out
 * one thing that the snapshot's truth rests on and must be caught, and points
 * where a test delays the protocol or nests a fault. Nothing in other builds.
 */
#ifndef _LIVEDUMP_TEST_H
#define _LIVEDUMP_TEST_H

#include <linux/types.h>

enum ld_mutant {
	LD_MUTANT_NONE,
	LD_MUTANT_FLUSH,	/* one CPU keeps its TLB in the stop */
	LD_MUTANT_PUBLISH,	/* a saver publishes before it copies */
	LD_MUTANT_RECOPY,	/* written pages are not copied again */
	LD_MUTANT_NEIGHBOURS,	/* of fixed pages, are not protected */
	LD_MUTANT_RECHECK,	/* an in-place read does not look again */
	LD_MUTANT_CHANGES,	/* the stop does not look at what was logged */
	LD_MUTANT_ARMED,	/* nor at what was opened while armed */
};

enum ld_point {
	LD_POINT_COPIED,	/* copied, not yet published */
	LD_POINT_PUBLISHED,	/* published, not yet writable */
	LD_POINT_READ,		/* slot seen empty, not yet read in place */
	LD_POINT_DEMOTE,	/* table filled, not yet in place */
	LD_POINT_SETTLE,	/* in the stop: all is copied, NMIs not yet looked for */
	LD_POINT_PLANNED,	/* before an attempt to stop; may sleep */
	__LD_POINT_MAX,
};

typedef void (*ld_point_fn)(enum ld_point point, unsigned long pfn);

struct module;

/*
 * Call @fn at every point; NULL: no more. Exported to test modules. From the next
 * snapshot on the memory of @owner stays writable, as ours does: it is written inside
 * of faults.
 */
void livedump_test_at_points(ld_point_fn fn, struct module *owner);

#ifdef LIVEDUMP_TEST
bool ld_is_mutant(enum ld_mutant mutant);
void ld_point(enum ld_point point, unsigned long pfn);
/* 0; -ENOMEM at the step whose number the parameter fail_at is, once. */
int ld_test_step(void);
/* The module that the points belong to, or NULL. */
struct module *ld_test_owner(void);
#else
static inline bool ld_is_mutant(enum ld_mutant mutant)
{
	return false;
}

static inline void ld_point(enum ld_point point, unsigned long pfn)
{
}

static inline int ld_test_step(void)
{
	return 0;
}

static inline struct module *ld_test_owner(void)
{
	return NULL;
}
#endif

#endif
