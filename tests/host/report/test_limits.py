"""A recording as large as they get: ten million faults one by one, half an hour of time slices."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

from livedump.kinds import Kind
from livedump.recording import journal, store
from livedump.recording.schema import ERRORS
from tests.unit import samples

EVENTS = 10_000_000
SLICES = 18_000  # half an hour of 100 ms
STOPS = 1000
MOST_S, MOST_BYTES, MOST_HTML = 20, 2 << 30, 8 << 20
#: Of a Perfetto trace: on a busy machine it takes nearly twice as long as the 30 s that are wanted.
MOST_TRACE_S, MOST_TRACE_BYTES, MOST_TRACE_FILE = 60, 700 << 20, 200_000_000

KINDS = ("user", "uaccess", "cow")

#: Distinct stacks, and how many of them there are in a slice.
STACKS, STACKS_IN_SLICE = 3000, 12

#: livedump-trace; at its end it says how much memory it has had.
PROGRAM = """
import sys
from livedump.cli.trace.main import main
try:
    main()
finally:
    sys.stderr.write(open("/proc/self/status").read())
"""


def write_events(folder: Path) -> None:
    """As a recorder leaves them."""
    chance = numpy.random.default_rng(2012)
    with (folder / journal.EVENTS).open("wb") as raw:
        for first in range(0, EVENTS, 1_000_000):
            rows = numpy.zeros(1_000_000, dtype=list(journal.EVENT_LAYOUT))
            rows["time_ns"] = samples.START_NS + numpy.arange(first, first + len(rows)) * 180_000
            rows["latency_ns"] = chance.lognormal(9, 1, len(rows)).astype("u8") + 1
            rows["address"] = chance.integers(0, 1 << 35, len(rows)) << 12
            rows["pid"] = rows["tid"] = chance.integers(1, 400, len(rows))
            rows["stack"] = chance.integers(0, STACKS, len(rows))
            rows["weight"] = chance.integers(0, 2, len(rows))
            rows["kind"] = chance.choice([Kind.USER, Kind.KERNEL, Kind.COW], len(rows))
            rows.tofile(raw)


def stack(number: int) -> str:
    """One of many, of twenty functions."""
    return ";".join(f"function_{(number * 7 + depth * 13) % 900}" for depth in range(20))


def tables() -> dict[str, Any]:
    """The sample's, with half an hour of slices, stacks and stops."""
    found: dict[str, Any] = samples.tables()
    cells = [row for row in found["slices"] if row["kind"] in KINDS][:60]
    numbers = range(SLICES)
    slices = {
        "slice": [number for number in numbers for _ in cells],
        "start_ns": [number * samples.SLICE_NS for number in numbers for _ in cells],
        **{
            name: [row[name] for row in cells] * SLICES
            for name in ("kind", "bucket_low_ns", "bucket_high_ns", "count", "stalled_ns")
        },
    }
    names = [stack(number) for number in range(STACKS)]
    chosen = [number * 31 % STACKS for number in range(SLICES * STACKS_IN_SLICE)]
    rows = len(chosen)
    found["slices"] = lambda: [pyarrow.table(slices)]
    stack_slices = {
        "slice": [number // STACKS_IN_SLICE for number in range(rows)],
        "start_ns": [number // STACKS_IN_SLICE * samples.SLICE_NS for number in range(rows)],
        "kind": [KINDS[number % len(KINDS)] for number in range(rows)],
        "comm": ["mysqld"] * rows,
        "stack": [names[number] for number in chosen],
        **{name: [5] * rows for name in ("samples", "count", "stalled_ns", *ERRORS)},
    }
    found["stack_slices"] = lambda: [pyarrow.table(stack_slices)]
    stop = found["stops"][0]
    found["stops"] = [
        {**stop, "start_monotonic_ns": samples.START_NS + number * 1_790_000_000}
        for number in range(STOPS)
    ]
    found["stacks"] = [
        {
            "kind": kind,
            "comm": "mysqld",
            "stack": name,
            "samples": 5,
            "count": 5 * rows // STACKS,
            "stalled_ns": 9000,
            **dict.fromkeys(ERRORS, 0.0),
        }
        for name in names
        for kind in KINDS
    ]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording."""
    made = tmp_path_factory.mktemp("large")
    write_events(made)
    meta = samples.meta()
    start_ns = meta["clocks"]["start"]["monotonic_ns"]
    meta["clocks"]["end"]["monotonic_ns"] = start_ns + SLICES * samples.SLICE_NS
    names = {number: stack(number) for number in range(STACKS)}
    found = {**tables(), "events": lambda: journal.events(made, names)}
    store.write(made / "recording", meta, found)
    return made / "recording"


def measured(*arguments: str) -> tuple[float, int, str]:
    """livedump-trace's seconds of CPU, most bytes of memory, and output; it must succeed.

    Not the time on the wall: other tests' machines may have both cores.
    """
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=300
    )
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^VmHWM:\s+(\d+) kB", done.stderr, re.MULTILINE)
    assert found
    cpu_s = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    return cpu_s, int(found[1]) << 10, done.stdout


def test_report_of_ten_million_events(folder: Path, tmp_path: Path) -> None:
    assert store.read(folder).columns("events").num_rows == EVENTS
    html = tmp_path / "report.html"
    cpu_s, most, out = measured("report", str(folder), "--html", str(html))
    assert "Faults, each column" in out
    print(f"{cpu_s:.1f} s of CPU, {most / (1 << 20):.0f} MiB, {html.stat().st_size / 1e6:.1f} MB")
    assert cpu_s <= MOST_S
    assert most <= MOST_BYTES
    assert html.stat().st_size <= MOST_HTML


def test_trace_of_ten_million_events(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    cpu_s, most, _out = measured("export", str(folder), "--format", "perfetto", "-o", str(file))
    print(f"{cpu_s:.1f} s of CPU, {most / (1 << 20):.0f} MiB, {file.stat().st_size / 1e6:.1f} MB")
    assert cpu_s <= MOST_TRACE_S
    assert most <= MOST_TRACE_BYTES
    assert file.stat().st_size <= MOST_TRACE_FILE
