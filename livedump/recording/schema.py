"""The tables of a recording: their columns and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

FORMAT = "livedump-recording"
SCHEMA = 4

META = "meta.json"

#: A folder that is being written is called ``.NAME.partial-PID``.
PARTIAL = ".partial-"

#: Columns of every table.
WHERE = {"host": "string", "boot_id": "string"}

#: Standard errors of a stack's ``count`` and ``stalled_ns``, where not every stack was taken.
ERRORS = {"count_error": "float64", "stalled_error_ns": "float64"}

#: Table -> column -> Parquet type. Every column may be null only where the value is not known: of
#: ``slices`` the bucket, of ``events`` the latency and of ``cpus`` the stalled time, where faults
#: are counted, not timed.
#: ``start_ns`` is since the start; ``count`` and ``stalled_ns`` of stacks stand for all faults,
#: ``samples`` for those whose stack was taken; ``weight`` is for how many faults an event's stack
#: stands, ``detail`` what handle_mm_fault() returned, the error code, or the outcome. What pages
#: were is known after `livedump-trace annotate`.
TABLES: dict[str, dict[str, str]] = {
    "histograms": {
        "kind": "string",
        "bucket_low_ns": "uint64",
        "bucket_high_ns": "uint64",
        "count": "uint64",
    },
    "stacks": {
        "kind": "string",
        "comm": "string",
        "stack": "string",
        "samples": "uint64",
        "count": "uint64",
        "stalled_ns": "uint64",
        **ERRORS,
    },
    "slices": {
        "slice": "uint32",
        "start_ns": "uint64",
        "kind": "string",
        "bucket_low_ns": "uint64",
        "bucket_high_ns": "uint64",
        "count": "uint64",
        "stalled_ns": "uint64",
    },
    "stack_slices": {
        "slice": "uint32",
        "start_ns": "uint64",
        "kind": "string",
        "comm": "string",
        "stack": "string",
        "samples": "uint64",
        "count": "uint64",
        "stalled_ns": "uint64",
        **ERRORS,
    },
    "loss_slices": {
        "slice": "uint32",
        "start_ns": "uint64",
        "probe": "string",
        "what": "string",
        "count": "uint64",
    },
    "events": {
        "time_monotonic_ns": "uint64",
        "kind": "string",
        "latency_ns": "uint64",
        "address": "uint64",
        "pid": "uint32",
        "tid": "uint32",
        "cpu": "uint16",
        "detail": "uint32",
        "weight": "uint32",
        "stack": "string",
    },
    "tasks": {
        "kind": "string",
        "pid": "uint32",
        "comm": "string",
        "cgroup": "string",
        "count": "uint64",
        "stalled_ns": "uint64",
    },
    "cpus": {
        "kind": "string",
        "cpu": "uint16",
        "count": "uint64",
        "stalled_ns": "uint64",
    },
    "pages": {
        "pfn": "uint64",
        "count": "uint64",
        "stalled_ns": "uint64",
        "was": "string",
        "name": "string",
    },
    "stops": {
        "start_monotonic_ns": "uint64",
        "duration_ns": "uint64",
        "pid": "uint32",
        "comm": "string",
        "site": "string",
        "nested": "bool_",
        "symbol": "string",
        "cpu": "uint16",
        "cgroup": "string",
        "stack": "string",
    },
    "snapshots": {
        "snapshot_monotonic_ns": "uint64",
        "pid": "uint32",
        "comm": "string",
        "instant_monotonic_ns": "uint64",
        "prepare_ns": "uint64",
        "rendezvous_ns": "uint64",
        "save_ns": "uint64",
        "protect_ns": "uint64",
        "flush_ns": "uint64",
        "recopy_ns": "uint64",
        "stop_ns": "uint64",
        "entries_protected": "uint64",
        "strategy": "uint32",
        "attempts": "uint32",
        "release_monotonic_ns": "uint64",
        "release_ns": "uint64",
        "entries_restored": "uint64",
        "faults": "uint64",
        "pages_lost": "uint64",
        "trace_skipped": "uint64",
        "reason": "uint32",
        "verdict": "uint32",
    },
    "counters": {"kind": "string", "name": "string", "count": "uint64"},
    "losses": {"probe": "string", "what": "string", "count": "uint64"},
}

#: Tables that may have millions of rows: read on demand, by column.
LARGE = frozenset({"slices", "stack_slices", "events"})

Row = dict[str, Any]

#: Rows, or parts as pyarrow has them, made when they are asked for.
Table = Sequence[Row] | Callable[[], Iterator[Any]]
