"""The parts that traces with millions of events are made by, against plain ways to do the same."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy
import pytest

from livedump.analysis.files import ExportError
from livedump.analysis.perfetto import events as events_module
from livedump.analysis.perfetto import perfetto, wire
from livedump.analysis.perfetto.nesting import BEGIN, END, INSTANT, Nesting, Rows
from livedump.recording import store
from livedump.recording.errors import RecordingError
from livedump.recording.schema import Row
from tests.unit import samples, traces

Event = tuple[int, int, int]  # track, start, end


def plain_varint(value: int) -> bytes:
    """As the encoding is defined."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def numbers() -> list[int]:
    """Around every size, and at random."""
    chance = random.Random(1)
    edges = [(1 << bits) + more for bits in range(1, 64) for more in (-1, 0, 1)]
    return [0, *edges, (1 << 64) - 1, *(chance.getrandbits(n % 64 + 1) for n in range(500))]


def test_varints() -> None:
    found = wire.flat(wire.varint(numpy.array(numbers(), "u8")))
    assert found == b"".join(map(plain_varint, numbers()))


@pytest.mark.parametrize("most", [1, 7, 8, 14, 15, 28, 29, 56, 57, 64])
def test_messages(most: int) -> None:
    """Words are joined in another way for every largest number."""
    values = [value for value in numbers() if value < 1 << most]
    column = numpy.array(values, "u8")
    odd = column % numpy.uint64(2) == 1
    inside = wire.join(wire.number(3, column), wire.only(odd, wire.constant(b"odd")))
    found = wire.flat(wire.join(wire.constant(b"<"), wire.message(1000, inside)))
    expected = b""
    for value in values:
        text = b"\x18" + plain_varint(value) + b"odd" * (value % 2)
        expected += b"<" + plain_varint(1000 << 3 | 2) + plain_varint(len(text)) + text
    assert found == expected


def plain(rows: list[Event]) -> list[tuple[int, int, int]]:
    """(what, track, time) of sorted events, one after the other."""
    found: list[tuple[int, int, int]] = []
    ends: list[int] = []
    last = -1

    def end_until(time: int | None) -> None:
        while ends and (time is None or ends[-1] <= time):
            found.append((END, last, ends.pop()))

    for track, start, end in rows:
        end_until(start if track == last else None)
        last = track
        found.append((BEGIN if end > start else INSTANT, track, start))
        if end > start:
            ends.append(min([end, *ends[-1:]]))
    end_until(None)
    return found


def some_events(chance: random.Random, span: int) -> list[Event]:
    """Sorted; more or less crowded."""
    longest = chance.choice([2, 5, span])
    found = []
    for track in range(chance.randrange(1, 5)):
        for _ in range(chance.randrange(1, 12)):
            start = chance.randrange(span)
            found.append((track, start, start + chance.randrange(longest)))
    return sorted(found, key=lambda row: (row[0], row[1], -row[2]))


@pytest.mark.parametrize("far", [0, 1 << 62])
def test_nesting_in_any_parts(far: int) -> None:
    """*far*: times for which all tracks of a part do not fit into one number."""
    chance = random.Random(2012)
    for _ in range(400):
        rows = some_events(chance, chance.choice([4, 30, 1000]))
        rows = [(track, start + far * (start % 2), end + far) for track, start, end in rows]
        rows.sort(key=lambda row: (row[0], row[1], -row[2]))
        nesting, found = Nesting(), list[tuple[int, int, int]]()
        at = 0
        while at < len(rows):
            part = rows[at : at + chance.randrange(1, 8)]
            at += len(part)
            columns = numpy.array(part, "i8").T
            records = nesting.records(Rows(*columns))
            begun = records.what != END
            assert records.row[begun].tolist() == list(range(len(part)))
            found += zip(*(x.tolist() for x in (records.what, records.track, records.time)))
        rest = nesting.close()
        found += zip(*(x.tolist() for x in (rest.what, rest.track, rest.time)))
        assert found == plain(rows)


def event(**changed: Any) -> Row:
    """A fault."""
    return {
        "time_monotonic_ns": samples.START_NS + 1000,
        "kind": "user",
        "latency_ns": 100,
        "address": 0xFFFF_8881_0000_0000 - (1 << 64),
        "pid": 10,
        "tid": 11,
        "cpu": 1,
        "detail": 0,
        "weight": 0,
        "stack": "",
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"time_monotonic_ns": -5}, "time_monotonic_ns has -5"),
        ({"latency_ns": -1}, "latency_ns has -1"),
        ({"tid": -1}, "tid has -1"),
        ({"cpu": -1}, "cpu has -1"),
        ({"cpu": 1 << 16}, "no possible CPU"),
        ({"latency_ns": samples.START_NS * 2}, "no possible time"),
        ({"pid": 1 << 31}, "no possible pid"),
        ({"tid": None}, "tid has null"),
    ],
)
def test_damaged_events_are_one_clear_error(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    store.write(tmp_path / "r", samples.meta(), {"events": [event(), event(**changed)]})
    errors = ExportError, RecordingError
    with pytest.raises(errors, match=rf"events(.parquet)? is damaged: .*{words}"):
        list(perfetto(store.read(tmp_path / "r")))


def test_too_many_kinds(tmp_path: Path) -> None:
    rows = [event(kind=str(number)) for number in range(events_module.MOST_KINDS + 1)]
    store.write(tmp_path / "r", samples.meta(), {"events": rows})
    with pytest.raises(ExportError, match="more than 100 kinds"):
        list(perfetto(store.read(tmp_path / "r")))


def test_a_table_that_is_cut_short(tmp_path: Path) -> None:
    """DuckDB reads it for us; the error is ours."""
    rows = [event(address=number * 977) for number in range(5000)]
    store.write(tmp_path / "r", samples.meta(), {"events": rows})
    found = store.read(tmp_path / "r")
    file = tmp_path / "r" / "events.parquet"
    whole = file.read_bytes()
    file.write_bytes(b"PAR1" + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(RecordingError, match="events.parquet is damaged"):
        list(perfetto(found))


@pytest.mark.parametrize(("memory", "folder"), [("1MB", None), ("256MB", "/proc/self")])
def test_no_room_to_sort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, folder: str | None
) -> None:
    rows = [event(address=number * 977) for number in range(50_000)]
    store.write(tmp_path / "r", samples.meta(), {"events": rows})
    monkeypatch.setattr(events_module, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    with pytest.raises(ExportError, match="cannot be sorted") as raised:
        list(perfetto(store.read(tmp_path / "r")))
    assert "TMPDIR" in str(raised.value)


def test_numbers_stand_for_strings(tmp_path: Path) -> None:
    """Each name is there once in all, not once for each event."""
    stops = [
        {**row, "start_monotonic_ns": row["start_monotonic_ns"] + number * 10**8, "nested": False}
        for number in range(50)
        for row in samples.tables()["stops"][:1]
    ]
    rows = [event(kind="uaccess", time_monotonic_ns=samples.START_NS + n) for n in range(500)]
    store.write(tmp_path / "r", samples.meta(), {"events": rows, "stops": stops})
    data = b"".join(perfetto(store.read(tmp_path / "r")))
    plain_data = b"".join(packet.SerializeToString() for packet in traces.packets(data))
    for text in (b"uaccess", b"address", b"livedump_stop", b"ksys_write;livedump_snapshot"):
        assert plain_data.count(text) == 1, text
    assert len(data) < 20 * len(rows)


def test_threads_are_named_where_that_is_known(tmp_path: Path) -> None:
    task = {"kind": "user", "cgroup": "", "stalled_ns": 0, "count": 1}
    tasks = [
        {**task, "pid": 10, "comm": "one"},
        {**task, "pid": 10, "comm": "one", "kind": "cow"},
        {**task, "pid": 20, "comm": "main"},
        {**task, "pid": 20, "comm": "other"},
    ]
    rows = [event(), event(pid=20, tid=21), event(pid=30, tid=31)]
    store.write(tmp_path / "r", samples.meta(), {"events": rows, "tasks": tasks})
    trace = traces.read(b"".join(perfetto(store.read(tmp_path / "r"))))
    threads = [packet.track_descriptor.thread for packet in trace.packet]
    assert {t.tid: t.thread_name for t in threads if t.tid} == {11: "one", 21: "", 31: ""}
