"""Faults one by one: kept in a plain file while recording goes on, a table afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from livedump.trace.layout import Kind, kind_name

#: In the folder of a recording that is being made.
RAW = "events.raw"

#: struct ld_event of bpf/common.h, as numpy has it; a test compares.
LAYOUT = (
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
_STACK = slice(32, 36)

#: Written at once; one row group of the table.
_CHUNK = 1 << 19


class EventFile:
    """Where events go, as the kernel hands them over.

    :raises OSError: of :meth:`flush`, when the disk is full
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RAW
        self._file = self.path.open("ab", buffering=1 << 20)
        self._stacks: set[bytes] = set()

    def add(self, event: bytes) -> None:
        """One more."""
        self._stacks.add(event[_STACK])
        self._file.write(event[:EVENT_BYTES])

    def stacks(self) -> list[int]:
        """Numbers of the stacks that events have."""
        numbers = (int.from_bytes(number, "little", signed=True) for number in self._stacks)
        return sorted(number for number in numbers if number >= 0)

    def flush(self) -> None:
        """To the file."""
        self._file.flush()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def batches(raw: Path, names: Mapping[int, str], where: Mapping[str, str]) -> Iterator[Any]:
    """The rows of the table ``events``, as pyarrow's tables of some 500,000 rows.

    :param names: number of a stack -> its functions, root first
    :param where: columns that are the same everywhere
    """
    import pyarrow

    kinds = [kind_name(kind) for kind in Kind]
    for chunk in _chunks(raw):
        rows = len(chunk)
        numbers = _unique(chunk["stack"])
        stacks = pyarrow.array([names.get(int(number)) for number in numbers], pyarrow.string())
        place = numbers.searchsorted(chunk["stack"])
        columns = {name: pyarrow.array([value] * rows) for name, value in where.items()}
        columns["time_monotonic_ns"] = pyarrow.array(chunk["time_ns"].copy())
        columns["kind"] = pyarrow.array(kinds).take(pyarrow.array(chunk["kind"].copy()))
        columns["latency_ns"] = pyarrow.array(
            chunk["latency_ns"].copy(), mask=chunk["latency_ns"] == 0
        )
        for name in ("address", "pid", "tid", "cpu", "detail", "weight"):
            columns[name] = pyarrow.array(chunk[name].copy())
        columns["stack"] = stacks.take(pyarrow.array(place, mask=chunk["weight"] == 0))
        yield pyarrow.table(columns)


def _unique(values: Any) -> Any:
    import numpy

    return numpy.unique(values)


def _chunks(raw: Path) -> Iterator[Any]:
    """Parts of the file; what a killed recorder has written half is left out."""
    import numpy

    rows = raw.stat().st_size // EVENT_BYTES if raw.exists() else 0
    if not rows:
        return
    every = numpy.memmap(raw, dtype=list(LAYOUT), mode="r", shape=(rows,))
    for first in range(0, rows, _CHUNK):
        yield every[first : first + _CHUNK]
