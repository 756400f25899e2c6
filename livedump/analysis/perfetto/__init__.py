"""A recording as a trace for https://ui.perfetto.dev. Its clock is the kernel's monotonic one.

It is made part by part, as with all events it is large. A part is packets one behind the other,
compressed; the parts one after the other are the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from livedump.analysis.files import ExportError
from livedump.analysis.perfetto.events import add_events
from livedump.analysis.perfetto.packets import Packets, Slice, clocks, compressed
from livedump.analysis.receipt import receipts
from livedump.kinds import kind_order
from livedump.recording.schema import MOST_COUNTED
from livedump.recording.store import Recording
from livedump.sums import add_up

#: Bytes that are compressed at once.
PART = 1 << 20


def perfetto(found: Recording, kinds: Sequence[str] = ()) -> Iterator[bytes]:
    """The trace, in parts: faults and stalled time of each slice by kind, losses, single events on
    their threads, stops, snapshots with the phases of their stops and how long each was held.

    :param kinds: only faults and stops of these; empty: all. Losses and snapshots are always there
    :raises ExportError: there would be nothing in it
    """
    parts = _parts(found, kinds)
    first = next(parts, None)
    if first is None:
        raise ExportError("there is nothing in this recording that has a time", step="export")
    return chain([clocks(found.meta["clocks"]["start"]), first], parts)


def _parts(found: Recording, kinds: Sequence[str]) -> Iterator[bytes]:
    whole = bytearray()
    for part in _packets(found, kinds):
        whole += part
        if len(whole) >= PART:
            yield compressed(whole)
            whole.clear()
    if whole:
        yield compressed(whole)


def _packets(found: Recording, kinds: Sequence[str]) -> Iterator[bytes]:
    out = Packets()
    if not kinds or "stop" in kinds:
        out.slices("stop_machine (BPF)", _stops(found))
    out.slices("snapshot: stop", _phases(found))
    out.slices("snapshot: held", _holds(found))
    _add_counters(out, found, kinds)
    yield out.take()
    yield from add_events(out, found, kinds)


# ---- stops and snapshots ----


def _stops(found: Recording) -> Iterator[Slice]:
    for row in found.tables["stops"]:
        if not row["nested"]:
            start = row["start_monotonic_ns"]
            notes = {name: row[name] for name in ("comm", "pid", "site", "cpu", "cgroup", "stack")}
            yield start, start + row["duration_ns"], row["symbol"], notes


def _phases(found: Recording) -> Iterator[Slice]:
    """The stop ends where its last phase does; the instant lies before that one."""
    for receipt in receipts(found):
        row = receipt.snapshot
        start = max(0, row["instant_monotonic_ns"] + receipt.phases_ns["exit"] - row["stop_ns"])
        for name, lasted_ns in receipt.phases_ns.items():
            end = start + lasted_ns
            yield start, end, name, {}
            start = end


def _holds(found: Recording) -> Iterator[Slice]:
    for receipt in receipts(found):
        row = receipt.snapshot
        if row["release_monotonic_ns"] is None:
            continue
        notes = {name: row[name] for name in ("faults", "pages_lost", "entries_restored")}
        yield row["instant_monotonic_ns"], row["release_monotonic_ns"], "held", notes


# ---- time slices ----


def _add_counters(out: Packets, found: Recording, kinds: Sequence[str]) -> None:
    start_ns = int(found.meta["clocks"]["start"]["monotonic_ns"])
    slice_ns = int(found.meta["slice_ns"])
    for name, unit, points in chain(_faults(found, kinds), _losses(found)):
        steps = _steps(points, slice_ns)
        out.values(name, unit, ((start_ns + time_ns, value) for time_ns, value in steps))


#: Name of a track, its unit, and since the start of the recording: (start of a slice, value).
Counter = tuple[str, str, list[tuple[int, int]]]


_COLUMNS = ("kind", "start_ns", "bucket_low_ns", "bucket_high_ns", "count", "stalled_ns")


def _faults(found: Recording, kinds: Sequence[str]) -> Iterator[Counter]:
    """Stalled time is exact where the recording has it, or within 3.2 %, as percentiles are."""
    sums = (
        _with_stalled(found.columns("slices", _COLUMNS))
        .group_by(["kind", "start_ns"])
        .aggregate([("count", "sum"), ("stalled", "sum")])
        .select(["kind", "start_ns", "count_sum", "stalled_sum"])
    )
    rows = zip(*(column.to_pylist() for column in sums.columns), strict=True)
    for kind, group in groupby(sorted(rows, key=lambda r: (kind_order(r[0]), r[1])), itemgetter(0)):
        if not kinds or kind in kinds:
            of_kind = list(group)
            yield f"{kind}: per slice", "UNIT_COUNT", [row[1:3] for row in of_kind]
            timed = [(row[1], row[3]) for row in of_kind if row[3] is not None]
            if timed:
                yield f"{kind}: stalled per slice", "UNIT_TIME_NS", timed


def _with_stalled(table: Any) -> Any:
    """With the buckets' middles for what has no exact sum; null: what is not timed."""
    import pyarrow
    from pyarrow import compute

    low, high, count = (
        compute.cast(table[column], pyarrow.float64(), safe=False)
        for column in ("bucket_low_ns", "bucket_high_ns", "count")
    )
    middles = compute.multiply(compute.divide(compute.add(low, high), 2.0), count)
    most = pyarrow.scalar(float(MOST_COUNTED))
    middles = compute.min_element_wise(middles, most, skip_nulls=False)
    whole = compute.cast(middles, pyarrow.int64(), safe=False)
    return table.append_column("stalled", compute.coalesce(table["stalled_ns"], whole))


def _losses(found: Recording) -> Iterator[Counter]:
    rows = found.tables["loss_slices"]
    sums = add_up(((r["probe"], r["what"], r["start_ns"]), (r["count"],)) for r in rows)
    for (probe, what), group in groupby(sorted(sums.items()), lambda item: item[0][:2]):
        points = [(key[2], count) for key, (count,) in group]
        yield f"lost: {probe}: {what}", "UNIT_COUNT", points


def _steps(points: Iterable[tuple[int, int]], slice_ns: int) -> Iterator[tuple[int, int]]:
    """A counter keeps its value until the next one: slices without anything are 0."""
    end_ns = 0
    for start_ns, value in points:
        if start_ns > end_ns:
            yield end_ns, 0
        yield start_ns, value
        end_ns = start_ns + slice_ns
    yield end_ns, 0
