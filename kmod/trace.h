/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints that bpf/ attaches to: one for each thing a snapshot does. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM livedump

#if !defined(_LIVEDUMP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _LIVEDUMP_TRACE_H

#include <linux/tracepoint.h>
#include "uapi/livedump.h"

/* A copy-on-write fault of ours, after its page is writable again. */
TRACE_EVENT(livedump_fault,
	TP_PROTO(u64 pfn, unsigned long address, unsigned long ip, u32 outcome,
		 u64 demote_ns, u64 copy_ns, u64 total_ns),
	TP_ARGS(pfn, address, ip, outcome, demote_ns, copy_ns, total_ns),
	TP_STRUCT__entry(
		__field(u64, pfn)
		__field(u64, address)
		__field(u64, ip)
		__field(u64, demote_ns)
		__field(u64, copy_ns)
		__field(u64, total_ns)
		__field(u32, outcome)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->address = address;
		__entry->ip = ip;
		__entry->demote_ns = demote_ns;
		__entry->copy_ns = copy_ns;
		__entry->total_ns = total_ns;
		__entry->outcome = outcome;
	),
	TP_printk("pfn=%llx address=%llx ip=%pS outcome=%u demote_ns=%llu copy_ns=%llu total_ns=%llu",
		  __entry->pfn, __entry->address, (void *)__entry->ip,
		  __entry->outcome, __entry->demote_ns, __entry->copy_ns,
		  __entry->total_ns)
);

/* The stop is over: the downtime receipt. */
TRACE_EVENT(livedump_snapshot,
	TP_PROTO(const struct livedump_report *report),
	TP_ARGS(report),
	TP_STRUCT__entry(
		__field(u64, instant_monotonic_ns)
		__field(u64, prepare_ns)
		__field(u64, rendezvous_ns)
		__field(u64, save_ns)
		__field(u64, protect_ns)
		__field(u64, flush_ns)
		__field(u64, recopy_ns)
		__field(u64, stop_ns)
		__field(u64, entries)
		__field(u32, strategy)
		__field(u32, attempts)
	),
	TP_fast_assign(
		__entry->instant_monotonic_ns = report->instant_monotonic_ns;
		__entry->prepare_ns = report->prepare_ns;
		__entry->rendezvous_ns = report->rendezvous_ns;
		__entry->save_ns = report->save_ns;
		__entry->protect_ns = report->protect_ns;
		__entry->flush_ns = report->flush_ns;
		__entry->recopy_ns = report->recopy_ns;
		__entry->stop_ns = report->stop_ns;
		__entry->entries = report->entries_protected;
		__entry->strategy = report->strategy;
		__entry->attempts = report->attempts;
	),
	TP_printk("strategy=%u stop_ns=%llu rendezvous_ns=%llu save_ns=%llu protect_ns=%llu flush_ns=%llu recopy_ns=%llu entries=%llu attempts=%u",
		  __entry->strategy, __entry->stop_ns, __entry->rendezvous_ns,
		  __entry->save_ns, __entry->protect_ns, __entry->flush_ns,
		  __entry->recopy_ns, __entry->entries, __entry->attempts)
);

/* Everything is restored. */
TRACE_EVENT(livedump_release,
	TP_PROTO(u32 reason, const struct livedump_report *report),
	TP_ARGS(reason, report),
	TP_STRUCT__entry(
		__field(u64, release_ns)
		__field(u64, restored)
		__field(u64, faults)
		__field(u64, lost)
		__field(u64, trace_skipped)
		__field(u32, reason)
		__field(u32, verdict)
	),
	TP_fast_assign(
		__entry->release_ns = report->release_ns;
		__entry->restored = report->entries_restored;
		__entry->faults = report->faults;
		__entry->lost = report->pages_lost;
		__entry->trace_skipped = report->trace_skipped;
		__entry->reason = reason;
		__entry->verdict = report->verdict;
	),
	TP_printk("reason=%u verdict=%u restored=%llu release_ns=%llu faults=%llu lost=%llu trace_skipped=%llu",
		  __entry->reason, __entry->verdict, __entry->restored,
		  __entry->release_ns, __entry->faults, __entry->lost,
		  __entry->trace_skipped)
);

#endif /* _LIVEDUMP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
