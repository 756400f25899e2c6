"""Traces for Perfetto, read back by its own protocol buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import CounterDescriptor, Trace, TrackEvent

from livedump.analysis.files import ExportError
from livedump.analysis.perfetto import events as events_module
from livedump.analysis.perfetto import perfetto
from livedump.recording import store
from livedump.recording.store import Recording
from tests.unit import samples, traces

#: Slices of a fault that holds another one, and the like; times since the start.
EVENTS = [
    # kind, tid, end, latency
    ("user", 11, 9_000, 8_000),
    ("cow", 11, 5_000, 2_000),
    ("cow", 11, 9_010, 1_000),  # measured around the end of the one that it is in
    ("kernel", 11, 9_500, None),
    ("user", 11, 20_000, 10_000),
    ("user", 12, 4_000, 1_000),
    ("cow", 13, 5_000, 4_000),  # begins with the one that it is in
    ("user", 13, 9_000, 8_000),
]


@pytest.fixture
def sample(tmp_path: Path) -> Recording:
    """The sample recording, read."""
    return store.read(samples.write(tmp_path / "rec"))


def events() -> list[dict[str, Any]]:
    """Rows of the table ``events``."""
    return [
        {
            "time_monotonic_ns": samples.START_NS + end,
            "kind": kind,
            "latency_ns": latency,
            "address": 0x1000,
            "pid": 10,
            "tid": tid,
            "cpu": 1,
            "detail": 0,
            "weight": 0,
            "stack": "",
        }
        for kind, tid, end, latency in EVENTS
    ]


def read(found: Recording, kinds: tuple[str, ...] = ()) -> Trace:
    """The trace, parsed."""
    return traces.read(b"".join(perfetto(found, kinds)))


def tracks(trace: Trace) -> dict[int, Any]:
    """Number of a track -> its description; each is described once."""
    described = [p.track_descriptor for p in trace.packet if p.HasField("track_descriptor")]
    found = {track.uuid: track for track in described}
    assert len(found) == len(described)
    return found


def slices(trace: Trace) -> list[tuple[Any, str, int, int]]:
    """(track, name, start, end) of every slice, in order of their end. Sorted by time they nest."""
    described = tracks(trace)
    opened: dict[int, list[tuple[str, int]]] = {}
    found = []
    packets = [packet for packet in trace.packet if packet.HasField("track_event")]
    for packet in sorted(packets, key=lambda packet: packet.timestamp):
        event = packet.track_event
        track = described[event.track_uuid]
        name = track.name or track.thread.tid
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            opened.setdefault(track.uuid, []).append((event.name, packet.timestamp))
        elif event.type == TrackEvent.TYPE_SLICE_END:
            text, start = opened[track.uuid].pop()
            found.append((name, text, start, packet.timestamp))
    assert not any(opened.values())
    return found


def counters(trace: Trace) -> dict[str, list[tuple[int, int]]]:
    """Track -> (time, value)."""
    described = tracks(trace)
    found: dict[str, list[tuple[int, int]]] = {}
    for packet in trace.packet:
        if packet.track_event.type == TrackEvent.TYPE_COUNTER:
            track = described[packet.track_event.track_uuid]
            assert track.HasField("counter")
            points = found.setdefault(track.name, [])
            points.append((packet.timestamp, packet.track_event.counter_value))
    return found


def test_stops_that_wait_for_each_other_are_on_tracks_of_their_own(sample: Recording) -> None:
    stop = {**sample.tables["stops"][0], "nested": False, "duration_ns": 100}
    begun = [stop["start_monotonic_ns"] + later for later in (0, 50, 120)]
    sample.tables["stops"] = [{**stop, "start_monotonic_ns": start} for start in begun]
    found = [row for row in slices(read(sample)) if row[0] == "stop_machine (BPF)"]
    assert sorted(row[2:] for row in found) == [(start, start + 100) for start in begun]


def test_perfetto_has_stops_phases_and_holds(sample: Recording) -> None:
    trace = read(sample)
    found = slices(trace)
    assert all(start <= end for _, _, start, end in found)
    stop = [row for row in sample.tables["stops"] if not row["nested"]][0]
    start = stop["start_monotonic_ns"]
    end = start + stop["duration_ns"]
    assert ("stop_machine (BPF)", "livedump_stop [livedump]", start, end) in found
    phases = [row for row in found if row[0] == "snapshot: stop"]
    assert [row[1] for row in phases] == [
        "rendezvous",
        "save",
        "protect",
        "flush",
        "recopy",
        "exit",
    ]
    assert phases[-1][3] - phases[0][2] == sample.tables["snapshots"][0]["stop_ns"]
    # The instant lies between the last copy and the way out.
    assert phases[-1][2] == samples.INSTANT_NS
    assert found[-1][0] == "snapshot: held"
    assert {packet.timestamp_clock_id for packet in trace.packet if packet.timestamp} == {3}


def test_every_fault_is_in_a_counter(sample: Recording) -> None:
    trace = read(sample)
    found = counters(trace)
    for row in sample.tables["counters"]:
        if row["name"] == "sum_ns":
            stalled = sum(value for _, value in found[f"{row['kind']}: stalled per slice"])
            assert stalled == pytest.approx(row["count"], rel=0.032)
    totals: dict[str, int] = {}
    for row in sample.tables["histograms"]:
        totals[row["kind"]] = totals.get(row["kind"], 0) + row["count"]
    for kind, total in totals.items():
        assert sum(value for _, value in found[f"{kind}: per slice"]) == total
    units = {track.name: track.counter.unit for track in tracks(trace).values()}
    assert units["cow: stalled per slice"] == CounterDescriptor.UNIT_TIME_NS


def test_a_counter_is_0_where_nothing_was(sample: Recording) -> None:
    first = samples.START_NS + 20 * samples.SLICE_NS
    assert counters(read(sample))["stop: per slice"] == [
        (samples.START_NS, 0),
        (first, 1),
        (first + samples.SLICE_NS, 0),
    ]
    lost = counters(read(sample))["lost: cow: no stack"]
    assert [value for _, value in lost] == [0, 7, 0]


def test_what_is_not_timed_has_no_stalled_time(tmp_path: Path) -> None:
    row = {"slice": 0, "start_ns": 0, "kind": "kernel", "count": 3}
    store.write(tmp_path / "r", samples.meta(), {"slices": [row]})
    assert list(counters(read(store.read(tmp_path / "r")))) == ["kernel: per slice"]


def test_stalled_time_is_exact_where_it_is_known(tmp_path: Path) -> None:
    row = {"slice": 0, "start_ns": 0, "kind": "user", "bucket_low_ns": 1024, "bucket_high_ns": 1088}
    rows = [{**row, "count": 3, "stalled_ns": 3100}, {**row, "count": 1, "stalled_ns": None}]
    store.write(tmp_path / "r", samples.meta(), {"slices": rows})
    found = counters(read(store.read(tmp_path / "r")))["user: stalled per slice"]
    assert found[0][1] == 3100 + 1056


@pytest.mark.parametrize("part", [1, 2, 1000])
def test_events_are_slices_of_their_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(events_module, "PART", part)
    task = {"kind": "user", "pid": 10, "comm": "fio;1", "cgroup": "/"}
    tasks = [{**task, "count": 6, "stalled_ns": 1}]
    store.write(tmp_path / "r", samples.meta(), {"events": events(), "tasks": tasks})
    trace = read(store.read(tmp_path / "r"))
    start = samples.START_NS
    assert sorted(slices(trace)) == [
        (11, "cow", start + 3_000, start + 5_000),
        (11, "cow", start + 8_010, start + 9_000),
        (11, "user", start + 1_000, start + 9_000),
        (11, "user", start + 10_000, start + 20_000),
        (12, "user", start + 3_000, start + 4_000),
        (13, "cow", start + 1_000, start + 5_000),
        (13, "user", start + 1_000, start + 9_000),
    ]
    instants = [p for p in trace.packet if p.track_event.type == TrackEvent.TYPE_INSTANT]
    assert [(p.timestamp - start, p.track_event.name) for p in instants] == [(9_500, "kernel")]
    described = list(tracks(trace).values())
    names = [track.process.process_name for track in described if track.HasField("process")]
    assert names == ["fio;1"]
    assert {track.thread.pid for track in described if track.HasField("thread")} == {10}


def test_only_the_kinds_that_are_asked_for(tmp_path: Path) -> None:
    rows = {**samples.tables(), "events": events()}
    store.write(tmp_path / "r", samples.meta(), rows)
    trace = read(store.read(tmp_path / "r"), ("cow",))
    found = {(name, text) for name, text, _, _ in slices(trace)}
    assert (11, "cow") in found and (11, "user") not in found
    assert ("snapshot: held", "held") in found
    assert "stop_machine (BPF)" not in {name for name, _ in found}
    assert set(counters(trace)) == {
        "cow: per slice",
        "cow: stalled per slice",
        "lost: cow: no stack",
    }


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    store.write(tmp_path / "r", samples.meta(), {})
    with pytest.raises(ExportError, match="nothing in this recording that has a time"):
        perfetto(store.read(tmp_path / "r"))


def test_clocks_come_first(sample: Recording) -> None:
    """Without them every event is dropped on import: clock_sync_failure."""
    first, *rest = read(sample).packet
    clocks = {clock.clock_id: clock.timestamp for clock in first.clock_snapshot.clocks}
    start = sample.meta["clocks"]["start"]
    assert clocks == {3: 0, 6: 0, 1: start["realtime_ns"] - start["monotonic_ns"]}
    assert first.clock_snapshot.primary_trace_clock == 3
    used = {p.timestamp_clock_id for p in rest if p.HasField("track_event")}
    assert used == {3} and not any(p.HasField("clock_snapshot") for p in rest)


def test_processes_have_their_busiest_name_and_idle_tasks_their_cpu(tmp_path: Path) -> None:
    rows = samples.tables()
    task = {"kind": "user", "pid": 10, "cgroup": "", "stalled_ns": 0}
    rows["tasks"] = [
        {**task, "comm": "java", "count": 90},
        {**task, "comm": "GC Thread#0", "count": 80},
        {**task, "comm": "GC Thread#0", "count": 5, "kind": "cow"},
        {**task, "comm": "VM Periodic Tas", "count": 1},
    ]
    busy, *_ = events()
    idle = {**busy, "pid": 0, "tid": 0, "kind": "cow"}
    rows["events"] = [busy, {**idle, "cpu": 0}, {**idle, "cpu": 1}]
    store.write(tmp_path / "r", samples.meta(), rows)
    trace = read(store.read(tmp_path / "r"))
    described = tracks(trace).values()
    assert [t.process.process_name for t in described if t.HasField("process")] == ["java"]
    # Both last as long as they did, though they overlap.
    lasted = {name: end - start for name, text, start, end in slices(trace) if text == "cow"}
    assert lasted == {"swapper/0": 8_000, "swapper/1": 8_000}
