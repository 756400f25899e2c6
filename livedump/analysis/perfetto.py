"""A recording as a trace for https://ui.perfetto.dev. Its clock is the kernel's monotonic one.

It is made part by part, as with all events it is large: the parts of a protobuf message, one after
the other, are the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from livedump.analysis.files import ExportError
from livedump.analysis.receipt import receipts
from livedump.kinds import kind_order
from livedump.recording.store import Recording
from livedump.sums import add_up

#: Events that are turned into one part.
PART = 20_000

#: Begin, end, name and notes.
Slice = tuple[int, int, str, dict[str, Any]]


def perfetto(found: Recording, kinds: Sequence[str] = ()) -> Iterator[bytes]:
    """The trace, in parts: faults and stalled time of each slice by kind, losses, single events on
    their threads, stops, snapshots with the phases of their stops and how long each was held.

    :param kinds: only faults and stops of these; empty: all. Losses and snapshots are always there
    :raises ExportError: there would be nothing in it
    """
    parts = (part for part in _parts(found, kinds) if part)
    first = next(parts, None)
    if first is None:
        raise ExportError("there is nothing in this recording that has a time", step="export")
    out = _Writer()
    out.clocks(found.meta["clocks"]["start"])
    return chain([out.take(), first], parts)


def _parts(found: Recording, kinds: Sequence[str]) -> Iterator[bytes]:
    out = _Writer()
    if not kinds or "stop" in kinds:
        out.slices("stop_machine (BPF)", _stops(found))
    out.slices("snapshot: stop", _phases(found))
    out.slices("snapshot: held", _holds(found))
    _add_counters(out, found, kinds)
    yield out.take()
    for _ in _add_events(out, found, kinds):
        yield out.take()


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
        start = row["instant_monotonic_ns"] + receipt.phases_ns["exit"] - row["stop_ns"]
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


def _add_counters(out: _Writer, found: Recording, kinds: Sequence[str]) -> None:
    start_ns = int(found.meta["clocks"]["start"]["monotonic_ns"])
    slice_ns = int(found.meta["slice_ns"])
    for name, unit, points in chain(_faults(found, kinds), _losses(found)):
        track = out.counter(name, unit)
        for time_ns, value in _steps(points, slice_ns):
            out.value(track, start_ns + time_ns, value)


#: Name of a track, its unit, and since the start of the recording: (start of a slice, value).
Counter = tuple[str, str, list[tuple[int, int]]]


def _faults(found: Recording, kinds: Sequence[str]) -> Iterator[Counter]:
    """Stalled time is within 3.2 %, as percentiles are."""
    from pyarrow import compute

    table = found.columns("slices")
    ends = compute.add(table["bucket_low_ns"], table["bucket_high_ns"])
    stalled = compute.multiply(compute.divide(ends, 2), table["count"])
    sums = (
        table.append_column("stalled", stalled)
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


# ---- single events ----

_COLUMNS = ("pid", "tid", "time_monotonic_ns", "latency_ns", "kind", "cpu", "address")


def _add_events(out: _Writer, found: Recording, kinds: Sequence[str]) -> Iterator[None]:
    """Thread by thread; yields now and then, when there is enough for a part."""
    from pyarrow import array, compute

    table = found.columns("events", _COLUMNS)
    if kinds:
        table = table.filter(compute.is_in(table["kind"], array(kinds)))
    latency = compute.fill_null(table["latency_ns"], 0)
    table = table.append_column("start", compute.subtract(table["time_monotonic_ns"], latency))
    # What holds another comes first.
    table = table.append_column(
        "idle", compute.if_else(compute.equal(table["tid"], 0), table["cpu"], 0)
    )
    order = [(name, "ascending") for name in ("pid", "tid", "idle", "start")]
    table = table.sort_by([*order, ("time_monotonic_ns", "descending")])
    names = _process_names(found)
    thread: _Thread | None = None
    for batch in table.to_batches(max_chunksize=PART):
        rows = zip(*(c.to_pylist() for c in batch.columns), strict=True)
        for pid, tid, end, latency_ns, kind, cpu, address, start, idle in rows:
            if thread is None or thread.key != (pid, tid, idle):
                if thread:
                    thread.close()
                thread = _Thread(out, (pid, tid, idle), names.get(pid, ""))
            thread.add(end, latency_ns, kind, cpu, address, start)
        yield
    if thread:
        thread.close()
        yield


def _process_names(found: Recording) -> dict[int, str]:
    """Each process by the name under which most of its faults were: its busiest threads'."""
    counts = add_up(((r["pid"], r["comm"]), (r["count"],)) for r in found.tables["tasks"])
    return {pid: comm for (pid, comm), _ in sorted(counts.items(), key=lambda item: item[1])}


class _Thread:
    """Events of one thread, in the order of their start.

    :param key: process, thread, and of the idle tasks, which are all thread 0, the CPU
    """

    def __init__(self, out: _Writer, key: tuple[int, int, int], name: str) -> None:
        self.key = key
        pid, tid, idle = key
        self._out = out
        self._track = out.thread(pid, tid, name) if tid else out.named(f"swapper/{idle}")
        self._ends: list[int] = []

    def add(
        self, end: int, latency_ns: int | None, kind: str, cpu: int, address: int, start: int
    ) -> None:
        """One event; what is counted but not timed has no length."""
        self._end_until(start)
        notes = {"cpu": cpu, "address": address}
        if latency_ns is None:
            self._out.event(self._track, start, "TYPE_INSTANT", kind, notes)
            return
        self._out.event(self._track, start, "TYPE_SLICE_BEGIN", kind, notes)
        # Slices of a track nest; what was measured around another one may end a little before it.
        self._ends.append(min([end, *self._ends[-1:]]))

    def close(self) -> None:
        """End what is open."""
        while self._ends:
            self._out.event(self._track, self._ends.pop(), "TYPE_SLICE_END")

    def _end_until(self, time_ns: int) -> None:
        while self._ends and self._ends[-1] <= time_ns:
            self._out.event(self._track, self._ends.pop(), "TYPE_SLICE_END")


# ---- packets ----


class _Writer:
    """Packets, and tracks that are described when they are first used."""

    SEQUENCE = 1
    CLOCK = 3  # BUILTIN_CLOCK_MONOTONIC
    BOOTTIME, REALTIME = 6, 1

    def __init__(self) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

        self._protos = protos
        self._trace = protos.Trace()
        self._tracks = 0
        self._processes: set[int] = set()

    def take(self) -> bytes:
        """What has come since the last time."""
        data: bytes = self._trace.SerializeToString()
        self._trace = self._protos.Trace()
        return data

    def slices(self, name: str, slices: Iterable[Slice]) -> None:
        """A track for slices, in the order of their start; where they overlap, as stops that wait
        for each other, one more of that name. None without any."""
        ends: dict[int, int] = {}
        for start_ns, end_ns, text, notes in slices:
            track = next((each for each, end in ends.items() if end <= start_ns), 0)
            track = track or int(self._new_track(name=name).uuid)
            ends[track] = end_ns
            self.event(track, start_ns, "TYPE_SLICE_BEGIN", text, notes)
            self.event(track, end_ns, "TYPE_SLICE_END")

    def clocks(self, start: Mapping[str, int]) -> None:
        """How our clock and the trace's belong together: without this, the events of a clock that
        is not the trace's own are dropped when the trace is opened."""
        monotonic_ns = start["monotonic_ns"]
        snapshot = self._trace.packet.add(trusted_packet_sequence_id=self.SEQUENCE).clock_snapshot
        snapshot.primary_trace_clock = self.CLOCK
        for clock, time_ns in (
            (self.CLOCK, monotonic_ns),
            (self.BOOTTIME, start.get("boottime_ns", monotonic_ns)),
            (self.REALTIME, start["realtime_ns"]),
        ):
            snapshot.clocks.add(clock_id=clock, timestamp=time_ns)

    def named(self, name: str) -> int:
        """A new track."""
        return int(self._new_track(name=name).uuid)

    def counter(self, name: str, unit: str) -> int:
        """A new track of numbers."""
        track = self._new_track(name=name)
        track.counter.unit = self._protos.CounterDescriptor.Unit.Value(unit)
        return int(track.uuid)

    def thread(self, pid: int, tid: int, name: str) -> int:
        """A new track of a thread; *name* is its process's."""
        if pid not in self._processes:
            self._processes.add(pid)
            process = self._new_track().process
            process.pid, process.process_name = pid, name
        track = self._new_track()
        track.thread.pid, track.thread.tid = pid, tid
        return int(track.uuid)

    def event(
        self,
        track: int,
        time_ns: int,
        kind: str,
        name: str = "",
        notes: dict[str, Any] | None = None,
    ) -> None:
        """Begin or end of a slice, or an instant."""
        event = self._event(track, time_ns, kind)
        if name:
            event.name = name
        for key, value in (notes or {}).items():
            if isinstance(value, int):
                event.debug_annotations.add(name=key, uint_value=value)
            else:
                event.debug_annotations.add(name=key, string_value=str(value))

    def value(self, track: int, time_ns: int, value: int) -> None:
        """Of a counter, from then on."""
        self._event(track, time_ns, "TYPE_COUNTER").counter_value = value

    def _event(self, track: int, time_ns: int, kind: str) -> Any:
        packet = self._trace.packet.add(
            timestamp=time_ns,
            timestamp_clock_id=self.CLOCK,
            trusted_packet_sequence_id=self.SEQUENCE,
        )
        packet.track_event.type = getattr(self._protos.TrackEvent, kind)
        packet.track_event.track_uuid = track
        return packet.track_event

    def _new_track(self, **described: str) -> Any:
        self._tracks += 1
        packet = self._trace.packet.add(trusted_packet_sequence_id=self.SEQUENCE)
        for key, value in described.items():
            setattr(packet.track_descriptor, key, value)
        packet.track_descriptor.uuid = self._tracks
        return packet.track_descriptor
