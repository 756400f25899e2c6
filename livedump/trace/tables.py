"""From what the programs hand over to the tables of a recording: names, order, pairs."""

from __future__ import annotations

from livedump.trace.buckets import bounds
from livedump.trace.data import RawData, ReleaseEvent, SnapshotEvent, StackRow, as_row
from livedump.trace.recording import Row, Table
from livedump.trace.symbols import Symbols
from livedump.trace.timeline import Timeline

STACK_LOST = "[stack lost]"


def tables(data: RawData, timeline: Timeline, symbols: Symbols) -> dict[str, Table]:
    """The content of each table of :data:`livedump.trace.recording.TABLES`."""
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
                    "bucket_high_ns": min(high, (1 << 64) - 1),
                    "count": count,
                }
            )
        counters.append({"kind": kind, "name": "sum_ns", "count": histogram.sum_ns})
        counters.append({"kind": kind, "name": "max_ns", "count": histogram.max_ns})
    return {
        "histograms": histograms,
        **_stacks(timeline, symbols),
        "slices": timeline.slices(),
        "loss_slices": timeline.losses(),
        "tasks": [as_row(row) for row in sorted(data.tasks, key=lambda r: -r.count)],
        "pages": [as_row(row) for row in sorted(data.pages, key=lambda r: (-r.count, r.pfn))],
        "stops": [
            {
                "start_monotonic_ns": stop.start_monotonic_ns,
                "duration_ns": stop.duration_ns,
                "pid": stop.pid,
                "comm": stop.comm,
                "site": stop.site,
                "nested": stop.nested,
                "symbol": symbols.name(stop.function),
            }
            for stop in sorted(data.stops, key=lambda s: s.start_monotonic_ns)
        ],
        "snapshots": pair_snapshots(data.snapshots, data.releases),
        "counters": counters,
        "losses": [as_row(row) for row in data.losses],
    }


def _stacks(timeline: Timeline, symbols: Symbols) -> dict[str, list[Row]]:
    """Rows of stacks by slice, and in all; what differs only in offsets is added up."""
    names: dict[tuple[tuple[int, ...], tuple[str, ...]], str] = {}
    by_slice: dict[tuple[str, str, str, int], list[int]] = {}
    total: dict[tuple[str, str, str], list[int]] = {}
    for row in timeline.stacks():
        place = (row.addresses, row.user)
        if place not in names:
            names[place] = fold(row, symbols)
        key = (row.kind, row.comm, names[place])
        for sums in (
            by_slice.setdefault((*key, row.slice), [0, 0, 0]),
            total.setdefault(key, [0, 0, 0]),
        ):
            sums[0] += row.samples
            sums[1] += row.count
            sums[2] += row.stalled_ns
    heaviest = sorted(total.items(), key=lambda item: (item[0][0], -item[1][1], item[0]))
    return {
        "stacks": [_stack_row(*key, sums) for key, sums in heaviest],
        "stack_slices": [
            {
                "slice": slice_,
                "start_ns": slice_ * timeline.slice_ns,
                **_stack_row(kind, comm, stack, sums),
            }
            for (kind, comm, stack, slice_), sums in by_slice.items()
        ],
    }


def fold(row: StackRow, symbols: Symbols) -> str:
    """A stack as one string, root first: user space's part, then the kernel's."""
    kernel = symbols.fold(row.addresses) if row.addresses else STACK_LOST
    user = [name.replace(";", ":") for name in reversed(row.user)]
    return ";".join([*user, kernel])


def _stack_row(kind: str, comm: str, stack: str, sums: list[int]) -> Row:
    samples, count, stalled_ns = sums
    return {
        "kind": kind,
        "comm": comm,
        "stack": stack,
        "samples": samples,
        "count": count,
        "stalled_ns": stalled_ns,
    }


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
