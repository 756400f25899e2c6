"""From what the programs hand over to the tables of a recording: names, order, pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from livedump.recording import journal
from livedump.recording.buckets import bounds
from livedump.recording.rows import PageRow, Place, RawData, ReleaseEvent, SnapshotEvent, as_row
from livedump.recording.schema import ERRORS, MOST, Row, Table


class Naming(Protocol):
    """Gives names to addresses, see :class:`livedump.trace.names.Names`."""

    def function(self, address: int) -> str:
        """Of the kernel, at this address."""

    def __getitem__(self, place: Place) -> str:
        """A stack, root first."""


def journal_tables(
    folder: Path, slice_ns: int, event_stacks: Mapping[int, str]
) -> dict[str, Table]:
    """The tables that a journal has.

    :param event_stacks: number of a stack -> its functions, root first
    """
    return {
        "slices": partial(journal.slices, folder, slice_ns),
        "stack_slices": partial(journal.stack_slices, folder, slice_ns),
        "loss_slices": journal.loss_slices(folder, slice_ns),
        "events": partial(journal.events, folder, event_stacks),
    }


def tables(
    data: RawData, stacks: Mapping[tuple[str, str, str], list[int]], names: Naming
) -> dict[str, list[Row]]:
    """The other tables of :data:`livedump.recording.schema.TABLES`.

    :param stacks: see :attr:`livedump.recording.journal.Journal.stacks`
    """
    histograms = []
    counters = [
        {"kind": kind, "name": name, "count": count}
        for (kind, name), count in sorted(data.counters.items())
    ]
    for kind, histogram in data.histograms.items():
        for bucket, count in sorted(histogram.slots.items()):
            low, high = bounds(bucket)
            histograms.append(
                {
                    "kind": kind,
                    "bucket_low_ns": low,
                    "bucket_high_ns": min(high, MOST),
                    "count": count,
                }
            )
        counters.append({"kind": kind, "name": "sum_ns", "count": histogram.sum_ns})
        counters.append({"kind": kind, "name": "max_ns", "count": histogram.max_ns})
    return {
        "histograms": histograms,
        "stacks": _stacks(stacks),
        "tasks": [as_row(row) for row in sorted(data.tasks, key=lambda r: -r.count)],
        "cpus": [as_row(row) for row in data.cpus],
        "pages": [as_row(row) for row in sorted(data.pages, key=_hottest)],
        "stops": [
            {
                "start_monotonic_ns": stop.start_monotonic_ns,
                "duration_ns": stop.duration_ns,
                "pid": stop.pid,
                "comm": stop.comm,
                "site": stop.site,
                "nested": stop.nested,
                "symbol": names.function(stop.function),
                "cpu": stop.cpu,
                "cgroup": stop.cgroup,
                "stack": names[(stop.addresses, ())] if stop.addresses else "",
            }
            for stop in sorted(data.stops, key=lambda s: s.start_monotonic_ns)
        ],
        "snapshots": pair_snapshots(data.snapshots, data.releases),
        "counters": counters,
        "losses": [as_row(row) for row in data.losses],
    }


def _hottest(page: PageRow) -> tuple[int, int, int]:
    """Most faults first. With one snapshot nearly every page has one: then the longest."""
    return -page.count, -page.stalled_ns, page.pfn


def _stacks(stacks: Mapping[tuple[str, str, str], list[int]]) -> list[Row]:
    """The heaviest of a kind first."""
    heaviest = sorted(stacks.items(), key=lambda item: (item[0][0], -item[1][1], item[0]))
    columns = ("kind", "comm", "stack", "samples", "count", "stalled_ns", *ERRORS)
    return [
        dict(zip(columns, (*key, *sums[:-2], *map(math.sqrt, sums[-2:])), strict=True))
        for key, sums in heaviest
    ]


def pair_snapshots(snapshots: list[SnapshotEvent], releases: list[ReleaseEvent]) -> list[Row]:
    """One row for each snapshot with its release; a half outside the recording is null."""
    rows: list[Row] = []
    events: list[SnapshotEvent | ReleaseEvent] = [*snapshots, *releases]
    held: Row | None = None
    for event in sorted(events, key=lambda item: item.time_monotonic_ns):
        if isinstance(event, SnapshotEvent):
            held = {
                "snapshot_monotonic_ns": event.time_monotonic_ns,
                "pid": event.pid,
                "comm": event.comm,
                **event.report,
            }
            rows.append(held)
            continue
        if held is None:
            held = {}
            rows.append(held)
        held.update({"release_monotonic_ns": event.time_monotonic_ns, **event.report})
        held = None
    return rows
