"""What was drained while a recording is made: files that only grow, and the tables made of them.

So memory and the time of a round do not depend on how long recording goes on, and a killed recorder
leaves everything up to its last round.
"""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from livedump.kinds import Kind, kind_name
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.layout import CELL_KINDS, LOSS_NAMES, Loss
from livedump.recording.losses import NOT_WRITTEN_EVENTS, NOT_WRITTEN_SLICES
from livedump.recording.rows import Drained, LossRow, Place, StackRow
from livedump.recording.schema import MOST, Row
from livedump.sums import add_up
from livedump.text import storable

CELLS, STACKS, EVENTS = "cells.raw", "stacks.raw", "events.raw"
NAMES, LOSSES = "names.jsonl", "losses.jsonl"

#: slice, what (see livedump.recording.layout.cell_what), count, stalled_ns
CELL = struct.Struct("<IHxxQQ")
CELL_LAYOUT = [
    *(("slice", "<u4"), ("what", "<u2"), ("unused", "<u2")),
    *(("count", "<u8"), ("stalled_ns", "<u8")),
]

#: slice, kind, number of the comm, number of the stack, samples, count, stalled_ns, their variances
STACK = struct.Struct("<IIIIQQQdd")
STACK_LAYOUT = [
    *((name, "<u4") for name in ("slice", "kind", "comm", "stack")),
    *((name, "<u8") for name in ("samples", "count", "stalled_ns")),
    *((name, "<f8") for name in ("variance", "stalled_variance")),
]

#: struct ld_event of bpf/abi.h, as numpy has it; a test compares.
EVENT_LAYOUT = (
    ("time_ns", "<u8"),
    ("latency_ns", "<u8"),
    ("address", "<u8"),
    ("pid", "<u4"),
    ("tid", "<u4"),
    ("stack", "<i4"),
    ("weight", "<u4"),
    ("detail", "<u4"),
    ("cpu", "<u2"),
    ("kind", "<u2"),
)
EVENT_BYTES = 48
#: Where its stack is, in numbers of 4 bytes.
_EVENT_STACK = 8

#: Rows that are made at once; one row group of the table.
_CHUNK = 1 << 19

_KINDS = [kind_name(kind) for kind in Kind]


class _File:
    """A file that grows by whole pieces: one that does not fit is not there at all."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._bytes = 0

    def append(self, data: bytes) -> str:
        """Why it could not be written; empty: it was."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            os.ftruncate(self._fd, self._bytes)
            return error.strerror or str(error)
        self._bytes += len(data)
        return ""

    def close(self) -> None:
        """Safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Journal:
    """The files of one recording, in *folder*.

    :param names: (addresses, user) of each stack -> its functions, root first
    :param events: faults one by one, too
    :ivar stacks: (kind, comm, functions) -> samples, count, stalled_ns and their variances, in all
    :ivar failed: why something could not be written, the last time; empty: everything was
    :raises OSError: a file cannot be made
    """

    def __init__(self, folder: Path, names: Mapping[Place, str], *, events: bool) -> None:
        self.stacks: dict[tuple[str, str, str], list[int]] = {}
        self.failed = ""
        self._names = names
        files = (CELLS, STACKS, NAMES, LOSSES, *([EVENTS] if events else []))
        self._files = {name: _File(folder / name) for name in files}
        self._numbers: dict[str, int] = {}
        self._fresh: list[str] = []
        self._events = bytearray()
        self._event_stacks: set[int] = set()
        self._lost: Counter[str] = Counter()

    def add(self, drained: Drained) -> None:
        """What a round has taken out."""
        named = (
            (
                (row.kind, row.comm, self._names[(row.addresses, row.user)]),
                _sums(row),
            )
            for row in drained.stacks
        )
        add_up(named, self.stacks)
        cells = b"".join(
            CELL.pack(*key, count, drained.stalled.get(key, 0))
            for key, count in drained.cells.items()
        )
        stacks = b"".join(
            STACK.pack(
                row.slice,
                _KINDS.index(row.kind),
                self._number(row.comm),
                self._number(self._names[(row.addresses, row.user)]),
                *_sums(row),
            )
            for row in drained.stacks
        )
        if self._fresh:
            # A name that is missing would give its number to the next one: then the rows go, too.
            fresh = "".join(f"{json.dumps(name)}\n" for name in self._fresh).encode()
            if self._append(NAMES, fresh):
                self._fresh.clear()
            else:
                self._lost[NOT_WRITTEN_SLICES] += sum(row.count for row in drained.stacks)
                stacks = b""
        if not self._append(CELLS, cells):
            self._lost[NOT_WRITTEN_SLICES] += sum(drained.cells.values())
        if not self._append(STACKS, stacks):
            self._lost[NOT_WRITTEN_SLICES] += sum(row.count for row in drained.stacks)

    def add_losses(self, slice_: int, losses: list[LossRow]) -> None:
        """What is lost since the last round, as far as no cell has it."""
        lines = [json.dumps([slice_, row.probe, row.what, row.count]) for row in losses]
        if lines:
            self._append(LOSSES, ("\n".join(lines) + "\n").encode())

    def add_events(self, events: bytes) -> None:
        """Some struct ld_event, one after the other."""
        self._events += events

    def flush(self) -> None:
        """The events so far."""
        if not self._events:
            return
        events = bytes(self._events)
        self._events.clear()
        self._event_stacks.update(memoryview(events).cast("i")[_EVENT_STACK :: EVENT_BYTES // 4])
        if not self._append(EVENTS, events):
            self._lost[NOT_WRITTEN_EVENTS] += len(events) // EVENT_BYTES

    def event_stacks(self) -> list[int]:
        """Numbers of the stacks that events have, as far as they are flushed."""
        return sorted(number for number in self._event_stacks if number >= 0)

    def losses(self) -> list[LossRow]:
        """What could not be written."""
        return [LossRow("recorder", what, count) for what, count in self._lost.items()]

    def close(self) -> None:
        """Safe to repeat."""
        for file in self._files.values():
            file.close()

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers)
            self._fresh.append(storable(name))
        return self._numbers[name]

    def _append(self, name: str, data: bytes) -> bool:
        failed = self._files[name].append(data)
        self.failed = failed or self.failed
        return not failed


def _sums(row: StackRow) -> tuple[int, int, int, int, int]:
    return row.samples, row.count, row.stalled_ns, row.variance, row.stalled_variance


# ---- the tables ----


def last_slice(folder: Path) -> int:
    """The last slice of which there is something; -1: there is none."""
    return max(
        (int(chunk["slice"].max()) for chunk in _chunks(folder / CELLS, CELL_LAYOUT)), default=-1
    )


def slices(folder: Path, slice_ns: int) -> Iterator[Any]:
    """The table ``slices``, in parts, as pyarrow has it. A bucket of a slice may be there more than
    once: readers add up."""
    import numpy
    import pyarrow

    edges = [[min(edge, MOST) for edge in bounds(bucket)] for bucket in range(BUCKETS)]
    lows, highs = numpy.array(edges, "i8").T
    for chunk in _chunks(folder / CELLS, CELL_LAYOUT):
        kind, rest = numpy.divmod(chunk["what"], CELL_KINDS)
        kept = (rest < BUCKETS) | (rest == BUCKETS + len(Loss))
        chunk, kind, rest = chunk[kept], kind[kept], rest[kept]
        untimed = rest >= BUCKETS
        bucket = numpy.where(untimed, 0, rest)
        yield pyarrow.table(
            {
                **_when(chunk["slice"], slice_ns),
                "kind": _kinds(kind),
                "bucket_low_ns": pyarrow.array(lows[bucket], mask=untimed),
                "bucket_high_ns": pyarrow.array(highs[bucket], mask=untimed),
                "count": pyarrow.array(chunk["count"].copy()),
                "stalled_ns": pyarrow.array(chunk["stalled_ns"].copy(), mask=untimed),
            }
        )


def stack_slices(folder: Path, slice_ns: int) -> Iterator[Any]:
    """The table ``stack_slices``, in parts."""
    import numpy
    import pyarrow

    names = pyarrow.array(_lines(folder / NAMES), pyarrow.string())
    for chunk in _chunks(folder / STACKS, STACK_LAYOUT):
        yield pyarrow.table(
            {
                **_when(chunk["slice"], slice_ns),
                "kind": _kinds(chunk["kind"]),
                **{n: names.take(pyarrow.array(chunk[n].copy())) for n in ("comm", "stack")},
                **{n: pyarrow.array(chunk[n].copy()) for n in ("samples", "count", "stalled_ns")},
                "count_error": pyarrow.array(numpy.sqrt(chunk["variance"])),
                "stalled_error_ns": pyarrow.array(numpy.sqrt(chunk["stalled_variance"])),
            }
        )


def loss_slices(folder: Path, slice_ns: int) -> list[Row]:
    """The table ``loss_slices``."""
    found: Counter[tuple[int, str, str]] = Counter()
    for chunk in _chunks(folder / CELLS, CELL_LAYOUT):
        rest = chunk["what"] % CELL_KINDS
        lost = chunk[(rest >= BUCKETS) & (rest < BUCKETS + len(Loss))]
        for slice_, what, _unused, count, _stalled_ns in lost.tolist():
            kind, rest_ = divmod(what, CELL_KINDS)
            found[(slice_, _KINDS[kind], LOSS_NAMES[Loss(rest_ - BUCKETS)])] += count
    for slice_, probe, what, count in _lines(folder / LOSSES):
        found[(slice_, probe, what)] += count
    names = ("slice", "start_ns", "probe", "what", "count")
    return [
        dict(zip(names, (slice_, slice_ * slice_ns, probe, what, count), strict=True))
        for (slice_, probe, what), count in sorted(found.items())
    ]


def events(folder: Path, stacks: Mapping[int, str]) -> Iterator[Any]:
    """The table ``events``, in parts.

    :param stacks: number of a stack -> its functions, root first
    """
    import numpy
    import pyarrow

    for chunk in _chunks(folder / EVENTS, list(EVENT_LAYOUT)):
        numbers = numpy.unique(chunk["stack"])
        names = pyarrow.array([stacks.get(int(number)) for number in numbers], pyarrow.string())
        place = numbers.searchsorted(chunk["stack"])
        plain = ("pid", "tid", "cpu", "detail", "weight")
        yield pyarrow.table(
            {
                "time_monotonic_ns": pyarrow.array(chunk["time_ns"].copy()),
                "kind": _kinds(chunk["kind"]),
                "latency_ns": pyarrow.array(
                    chunk["latency_ns"].copy(), mask=chunk["latency_ns"] == 0
                ),
                "address": pyarrow.array(chunk["address"].astype("i8")),
                **{name: pyarrow.array(chunk[name].copy()) for name in plain},
                "stack": names.take(pyarrow.array(place, mask=chunk["weight"] == 0)),
            }
        )


def _when(numbers: Any, slice_ns: int) -> dict[str, Any]:
    import pyarrow

    slices_ = numbers.astype("u8")
    return {"slice": pyarrow.array(slices_), "start_ns": pyarrow.array(slices_ * slice_ns)}


def _kinds(numbers: Any) -> Any:
    import pyarrow

    return pyarrow.array(_KINDS).take(pyarrow.array(numbers.copy()))


def _lines(path: Path) -> list[Any]:
    """JSON, line by line; what a killed recorder has written half is left out."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _chunks(path: Path, layout: Any) -> Iterator[Any]:
    """Parts of a file of records; half a record at its end is left out."""
    import numpy

    kind = numpy.dtype(layout)
    rows = path.stat().st_size // kind.itemsize if path.exists() else 0
    if not rows:
        return
    every = numpy.memmap(path, dtype=kind, mode="r", shape=(rows,))
    for first in range(0, rows, _CHUNK):
        yield every[first : first + _CHUNK]
