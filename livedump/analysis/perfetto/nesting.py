"""From events with a start and an end to what Perfetto takes: slices that begin and end in turn.

Slices of a track nest, and events nearly do: a fault inside another one's handler begins and ends
within it, but what was measured around the other one's end may end a little after it, and is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BEGIN, END, INSTANT = 1, 2, 3  # TrackEvent.Type


@dataclass(frozen=True)
class Rows:
    """Events in the order of their track and start; of those that start together, the longest
    first. Arrays of the same length.

    :ivar track: rises by one, or stays
    :ivar start: ns
    :ivar end: ns; the start, where the event has no length
    """

    track: Any
    start: Any
    end: Any


@dataclass(frozen=True)
class Records:
    """What happens on the tracks, in order. Arrays of the same length.

    :ivar what: BEGIN, END or INSTANT
    :ivar row: of the event; of an END of any event
    """

    what: Any
    track: Any
    time: Any
    row: Any


@dataclass
class Nesting:
    """What is open from one part of the events to the next."""

    _track: int = -1
    _ends: list[int] = field(default_factory=list)

    def records(self, rows: Rows) -> Records:
        """Of the next part; what may hold events of a later part ends there."""
        import numpy

        if not len(rows.track):
            return Records(*numpy.zeros((4, 0), "i8"))
        slow = _overlapping(rows, self._open_until(int(rows.track[0])))
        slow[-1] = True  # what comes next may lie in it
        found = numpy.fromiter(self._one_by_one(rows, numpy.flatnonzero(slow)), "4i8")
        return _merged(rows, slow, found)

    def close(self) -> Records:
        """Ends of what is open still."""
        import numpy

        return Records(*numpy.fromiter(self._end_until(None, 0), "4i8").T)

    def _open_until(self, track: int) -> int:
        return self._ends[0] if self._ends and self._track == track else -1

    def _one_by_one(self, rows: Rows, numbers: Any) -> Iterator[tuple[int, int, int, int]]:
        """Records of some events, with a stack of what is open."""
        ends, before = self._ends, -1
        columns = (rows.track[numbers], rows.start[numbers], rows.end[numbers], numbers)
        for track, start, end, row in zip(*(each.tolist() for each in columns), strict=True):
            if row > before + 1:  # nothing is open when an event begins that is left out here
                yield from self._end_until(None, max(before, 0))
            yield from self._end_until(start if track == self._track else None, row)
            self._track, before = track, row
            yield INSTANT if end == start else BEGIN, track, start, row
            if end > start:
                ends.append(min(end, ends[-1]) if ends else end)

    def _end_until(self, time: int | None, row: int) -> Iterator[tuple[int, int, int, int]]:
        """Ends up to a time, or all; in the order of records they come at *row*."""
        while self._ends and (time is None or self._ends[-1] <= time):
            yield END, self._track, self._ends.pop(), row


def _overlapping(rows: Rows, open_until: int) -> Any:
    """Which events lie in another one, or hold one.

    :param open_until: end of what was open before, on the first row's track
    """
    import numpy

    fresh = numpy.ones(len(rows.track), bool)  # nothing is open when it starts
    until = _latest_ends(rows)
    fresh[1:] = (rows.track[1:] != rows.track[:-1]) | (rows.start[1:] >= until[:-1])
    fresh &= (rows.track != rows.track[0]) | (rows.start >= open_until)
    slow = ~fresh
    slow[:-1] |= ~fresh[1:]
    return slow


def _latest_ends(rows: Rows) -> Any:
    """The latest end on each row's track up to it."""
    import numpy

    first, last = int(rows.start.min()), int(rows.end.max())
    span = last - first + 1
    offsets = rows.track - rows.track[0]
    if span * (int(offsets[-1]) + 1) < 1 << 63:
        # One pass for all: each track's times lie behind those of the one before.
        shift = offsets * span - first
        return numpy.maximum.accumulate(rows.end + shift) - shift
    cuts = [0, *(numpy.flatnonzero(numpy.diff(rows.track)) + 1).tolist(), len(rows.track)]
    parts = [rows.end[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    return numpy.concatenate([numpy.maximum.accumulate(part) for part in parts])


def _merged(rows: Rows, slow: Any, found: Any) -> Records:
    """The records *found* of the slow rows, and two or one of each other event."""
    import numpy

    quick = numpy.flatnonzero(~slow)
    instant = rows.end[quick] == rows.start[quick]
    timed = quick[~instant]
    begins = numpy.where(instant, INSTANT, BEGIN), rows.track[quick], rows.start[quick], quick
    ends = numpy.full(len(timed), END), rows.track[timed], rows.end[timed], timed
    columns = [numpy.concatenate(each) for each in zip(found.T, begins, ends, strict=True)]
    order = numpy.argsort(columns[-1], kind="stable")
    return Records(*(column[order] for column in columns))
