"""The format of a recording, version 5: its tables, their columns, types and meaning.

docs/recording.md is made of this. Whole numbers are signed and have 64 bits, as Spark and SQL have
them; an address is the same 64 bits, so that the kernel's are negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livedump.abi import Reason, Strategy, Verdict

FORMAT = "livedump-recording"

#: Another one cannot be read.
SCHEMA = 5

#: Columns and tables that came since are missing in a recording with an older one: their values are
#: null. What a newer one has besides is left alone.
MINOR = 0

META = "meta.json"

#: A folder that is being written is called ``.NAME.partial-PID``.
PARTIAL = ".partial-"

#: Numbers are kept in so many bits, with a sign.
MOST = (1 << 63) - 1

#: What is counted or added up is no more: 36 years in ns. So sums of some such numbers have room.
MOST_COUNTED = 1 << 60

INT, FLOAT, TEXT, FLAG, TIME = "int64", "float64", "string", "bool_", "timestamp"


@dataclass(frozen=True)
class Column:
    """A column.

    :ivar type: of :mod:`pyarrow`
    :ivar text: what it means, in a few words
    :ivar since: minor version that has it
    :ivar null: may have no value
    :ivar least: of a number; None: any
    :ivar most: likewise
    """

    type: str
    text: str
    since: int = 0
    null: bool = False
    least: int | None = 0
    most: int | None = MOST_COUNTED

    @property
    def bounded(self) -> bool:
        """Whether it is a number that may not be any."""
        return self.type in (INT, FLOAT) and (self.least, self.most) != (None, None)


@dataclass(frozen=True)
class TableInfo:
    """A table.

    :ivar text: what a row is
    :ivar clock: what ``time`` is made of: a column of CLOCK_MONOTONIC, or ``start_ns``
    :ivar together: columns of which in a row all are null, or none
    """

    text: str
    columns: dict[str, Column]
    clock: str = ""
    together: tuple[tuple[str, ...], ...] = ()


#: Columns of every table: where a row comes from.
WHERE = {
    "recording_id": Column(TEXT, "UUID of the recording"),
    "host": Column(TEXT, "name of the machine"),
    "machine_id": Column(TEXT, "of /etc/machine-id; empty: it has none"),
    "boot_id": Column(TEXT, "of the boot; monotonic times of one boot are on one clock"),
}

#: Names of a code: column -> enumeration. Each has a column ``NAME_name``.
CODES = {"strategy": Strategy, "reason": Reason, "verdict": Verdict}

_TIME = {"time": Column(TIME, "when, UTC; by the clocks at the start of the recording")}
_KIND = {"kind": Column(TEXT, "kind of fault or stop, see the table of kinds")}
_PART_OF = {
    "part_of": Column(
        TEXT,
        "kind whose events these are, too, or parts of: do not add both up; null: no other's",
        null=True,
    )
}
_COMM = {"comm": Column(TEXT, "name of the task")}
_PID = {"pid": Column(INT, "process, in the recorder's own PID namespace")}
_CGROUP = {"cgroup": Column(TEXT, "one that it was seen in (version 2); empty: its name is gone")}
_COUNT = {"count": Column(INT, "how many")}
_STALLED = {
    "stalled_ns": Column(INT, "how long they took, added up; null: they are not timed", null=True)
}
_BUCKET = {
    "bucket_low_ns": Column(
        INT, "shortest latency of the bucket; null: not timed", null=True, most=MOST
    ),
    "bucket_high_ns": Column(
        INT, "the next bucket's shortest latency; null: not timed", null=True, most=MOST
    ),
}
_SLICE = {
    "slice": Column(INT, "number of the time slice"),
    "start_ns": Column(INT, "its start, since the recording's"),
}

#: Standard errors of a stack's ``count`` and ``stalled_ns``, where not every stack was taken.
ERRORS = {
    "count_error": Column(FLOAT, "standard error of count; 0: every stack was taken"),
    "stalled_error_ns": Column(FLOAT, "standard error of stalled_ns"),
}
_STACK = {
    "stack": Column(TEXT, "functions, root first, between semicolons"),
    "samples": Column(INT, "how often it was taken"),
    "count": Column(INT, "events that it stands for"),
    "stalled_ns": Column(INT, "how long they took, added up; 0: they are not timed"),
    **ERRORS,
}


def _times(*names: str) -> dict[str, Column]:
    """Fields of the module's report."""
    return {name: Column(INT, f"{name} of struct livedump_report") for name in names}


def _codes(*names: str) -> dict[str, Column]:
    found = {}
    for name in names:
        found[name] = Column(INT, f"enum livedump_{name}")
        found[f"{name}_name"] = Column(TEXT, "the same in a word")
    return found


def _or_null(found: dict[str, Column]) -> dict[str, Column]:
    """Any of them may have no value."""
    return {name: replace(column, null=True) for name, column in found.items()}


_SNAPSHOT = {
    "snapshot_monotonic_ns": Column(INT, "when the module had taken it, since the boot"),
    **_TIME,
    **_PID,
    **_COMM,
    **_times(
        *("instant_monotonic_ns", "prepare_ns", "rendezvous_ns", "save_ns", "protect_ns"),
        *("flush_ns", "recopy_ns", "stop_ns", "entries_protected"),
    ),
    **_codes("strategy"),
    **_times("attempts"),
}
_RELEASE = {
    "release_monotonic_ns": Column(INT, "when the module had released it, since the boot"),
    **_times("release_ns", "entries_restored", "faults", "pages_lost", "trace_skipped"),
    **_codes("reason", "verdict"),
}

#: Table -> what it is.
TABLES = {
    "recordings": TableInfo(
        "the recording",
        {
            "schema": Column(INT, "version of this format"),
            "minor": Column(INT, "minor version"),
            "start_at": Column(TIME, "start, UTC"),
            "end_at": Column(TIME, "end, UTC"),
            "start_realtime_ns": Column(INT, "start, since 1970", most=MOST),
            "start_monotonic_ns": Column(INT, "the same instant, since the boot"),
            "duration_ns": Column(INT, "how long it lasted, sleep of the machine excluded"),
            "suspended_ns": Column(INT, "how long the machine slept meanwhile"),
            "slice_ns": Column(INT, "length of a time slice"),
            "kernel": Column(TEXT, "its release"),
            "architecture": Column(TEXT, "of the kernel"),
            "cpus": Column(INT, "CPUs that are online"),
            "memory_bytes": Column(INT, "RAM that the kernel manages"),
            "livedump": Column(TEXT, "version that wrote it"),
            "command": Column(TEXT, "that was run; null: none", null=True),
            "command_status": Column(
                INT, "its exit status; null: none, or it did not end", null=True, least=None
            ),
            "ended_by": Column(TEXT, "what ended the recording"),
            "stacks": Column(
                TEXT, "which were taken: none, sampled, all; null: not known", null=True
            ),
            "labels": Column(TEXT, "given with --label, as a JSON object"),
            "losses_total": Column(
                INT, "all that was lost, see the table losses; null: not known", null=True
            ),
            "events_lost": Column(
                INT,
                "of these, events that were not counted or not timed; null: not known",
                null=True,
            ),
            "stacks_lost": Column(
                INT, "events that are under no stack; null: not known", null=True
            ),
            "rows_lost": Column(
                INT, "events that are no row of the table events; null: not known", null=True
            ),
            "meta": Column(TEXT, "all of meta.json"),
        },
    ),
    "histograms": TableInfo(
        "latencies of a kind within a bucket, of the whole recording",
        {**_KIND, **_PART_OF, **_BUCKET, **_COUNT},
        together=(tuple(_BUCKET),),
    ),
    "stacks": TableInfo(
        "events of one task under one stack, of the whole recording",
        {**_KIND, **_COMM, **_STACK},
    ),
    "slices": TableInfo(
        "events of a kind and bucket within a time slice; there may be several rows: add up",
        {**_SLICE, **_TIME, **_KIND, **_PART_OF, **_BUCKET, **_COUNT, **_STALLED},
        "start_ns",
        (tuple(_BUCKET),),
    ),
    "stack_slices": TableInfo(
        "as stacks, within a time slice; what a slice has no sample of is in the next one that has",
        {**_SLICE, **_TIME, **_KIND, **_COMM, **_STACK},
        "start_ns",
    ),
    "loss_slices": TableInfo(
        "losses within a time slice",
        {
            **_SLICE,
            **_TIME,
            "probe": Column(TEXT, "kind or probe that lost it"),
            "what": Column(TEXT, "what was lost"),
            **_COUNT,
        },
        "start_ns",
    ),
    "events": TableInfo(
        "one event (--events), in no order",
        {
            "time_monotonic_ns": Column(INT, "end of the event, since the boot"),
            **_TIME,
            **_KIND,
            "latency_ns": Column(INT, "how long it took; null: not timed", null=True),
            "address": Column(
                INT,
                "that was touched; of cow the number of the page frame",
                least=None,
                most=None,
            ),
            **_PID,
            "tid": Column(INT, "thread"),
            "cpu": Column(INT, "CPU at the end"),
            "detail": Column(INT, "handle_mm_fault()'s result, the error code, or cow's outcome"),
            "weight": Column(INT, "for how many events its stack stands; 0: none was taken"),
            "stack": Column(
                TEXT, "the kernel's functions, root first; null: none was taken", null=True
            ),
        },
        "time_monotonic_ns",
    ),
    "tasks": TableInfo(
        "events of one process under one name",
        {**_KIND, **_PID, **_COMM, **_CGROUP, **_COUNT, **_STALLED},
    ),
    "cpus": TableInfo(
        "events on one CPU",
        {**_KIND, **_PART_OF, "cpu": Column(INT, "number"), **_COUNT, **_STALLED},
    ),
    "pages": TableInfo(
        "copy-on-write faults of one page frame",
        {
            "pfn": Column(INT, "number of the page frame"),
            **_COUNT,
            "stalled_ns": Column(INT, "how long they took, added up"),
            "was": Column(
                TEXT, "what the page was; null before livedump-trace annotate", null=True
            ),
            "name": Column(
                TEXT, "of what was there: a cache, a file, a symbol; null: it has none", null=True
            ),
        },
    ),
    "stops": TableInfo(
        "one call of stop_machine()",
        {
            "start_monotonic_ns": Column(INT, "start, since the boot"),
            **_TIME,
            "duration_ns": Column(INT, "call to return"),
            **_PID,
            **_COMM,
            "site": Column(TEXT, "function that was called"),
            "nested": Column(FLAG, "called by another one that is a row, too"),
            "symbol": Column(TEXT, "function that ran while the machine was stopped"),
            "cpu": Column(INT, "CPU of the caller"),
            **_CGROUP,
            "stack": Column(TEXT, "the caller's functions, root first; empty: not taken"),
        },
        "start_monotonic_ns",
    ),
    "snapshots": TableInfo(
        "a snapshot and its release; a half that was outside the recording is null",
        _or_null({**_SNAPSHOT, **_RELEASE}),
        "instant_monotonic_ns",
        (tuple(_SNAPSHOT), tuple(_RELEASE)),
    ),
    "counters": TableInfo(
        "something that is merely counted; sum_ns and max_ns are a kind's exact sum and maximum",
        {
            **_KIND,
            "name": Column(TEXT, "what is counted"),
            "count": replace(_COUNT["count"], most=MOST),
        },
    ),
    "losses": TableInfo(
        "something that was not recorded",
        {
            "probe": Column(TEXT, "kind or probe that lost it"),
            "what": Column(TEXT, "what was lost"),
            **_COUNT,
        },
    ),
}

#: Tables that may have millions of rows: read on demand, by column.
LARGE = frozenset({"slices", "stack_slices", "events"})

Row = dict[str, Any]

#: Rows, or parts as pyarrow has them, made when they are asked for.
Table = Sequence[Row] | Callable[[], Iterator[Any]]


def columns(table: str) -> dict[str, Column]:
    """All columns of a table, :data:`WHERE` first."""
    return {**WHERE, **TABLES[table].columns}
