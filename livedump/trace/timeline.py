"""What happened when: sums by time slice, kept compactly while recording goes on."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from livedump.trace.buckets import bounds
from livedump.trace.data import Drained, LossRow, StackRow
from livedump.trace.layout import LOSS_NAMES, Kind, cell_what, kind_name

#: Slices of the last so many seconds are kept at hand, for those who watch.
RECENT_S = 120

#: A table as columns of equal length.
Columns = Mapping[str, Sequence[object]]


@dataclass
class Window:
    """What happened in some slices that follow each other.

    :ivar first: number of the first slice
    :ivar buckets: kind -> bucket -> faults that were timed
    :ivar untimed: kind -> faults that were merely counted
    :ivar losses: what was lost -> how often
    :ivar stacks: one row for each of each slice
    """

    first: int
    slices: int
    buckets: dict[Kind, Counter[int]] = field(default_factory=dict)
    untimed: Counter[Kind] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    stacks: list[StackRow] = field(default_factory=list)

    def count(self, kind: Kind) -> int:
        """Faults of a kind."""
        return sum(self.buckets.get(kind, {}).values()) + self.untimed[kind]


class Timeline:
    """Everything that was drained. 14 bytes for a bucket of a slice, however long it gets.

    :param whole: False: only what :meth:`window` may be asked for is kept
    """

    def __init__(self, slice_ns: int, *, whole: bool = True) -> None:
        self.slice_ns = slice_ns
        self._whole = whole
        self._slices, self._whats, self._counts = array("I"), array("H"), array("Q")
        self._recent: deque[tuple[int, int, int]] = deque()
        self._recent_stacks: deque[StackRow] = deque()
        self._last = -1
        self._stacks: dict[tuple[int, str, str, int], list[int]] = {}
        self._places: dict[tuple[tuple[int, ...], tuple[str, ...]], int] = {}
        self._losses: list[tuple[int, LossRow]] = []

    @property
    def last(self) -> int:
        """The last slice that is known to be over; -1: none."""
        return self._last

    def add(self, drained: Drained) -> None:
        """Take in what was drained."""
        self._recent += [(slice_, what, count) for (slice_, what), count in drained.cells.items()]
        self._recent_stacks += drained.stacks
        if self._whole:
            self._keep(drained)
        self._last = max(self._last, drained.last)
        oldest = self._last - RECENT_S * 1_000_000_000 // self.slice_ns
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()
        while self._recent_stacks and self._recent_stacks[0].slice < oldest:
            self._recent_stacks.popleft()

    def _keep(self, drained: Drained) -> None:
        for (slice_, what), count in drained.cells.items():
            self._slices.append(slice_)
            self._whats.append(what)
            self._counts.append(count)
        for row in drained.stacks:
            place = self._places.setdefault((row.addresses, row.user), len(self._places))
            sums = self._stacks.setdefault((row.slice, row.kind, row.comm, place), [0, 0, 0])
            sums[0] += row.samples
            sums[1] += row.count
            sums[2] += row.stalled_ns

    def add_losses(self, slice_: int, losses: Sequence[LossRow]) -> None:
        """What the kernel says it has skipped since it was asked the last time."""
        self._losses += [(slice_, row) for row in losses]

    def window(self, seconds: float) -> Window:
        """The last slices that are over; fewer than asked for when recording has just begun."""
        first = max(0, self._last + 1 - max(1, round(seconds * 1e9 / self.slice_ns)))
        found = Window(first, self._last + 1 - first)
        for slice_, what, count in self._recent:
            if first <= slice_ <= self._last:
                cell = cell_what(what)
                if cell.bucket is not None:
                    found.buckets.setdefault(cell.kind, Counter())[cell.bucket] += count
                elif cell.untimed:
                    found.untimed[cell.kind] += count
                elif cell.loss is not None:
                    found.losses[LOSS_NAMES[cell.loss]] += count
        found.stacks = [row for row in self._recent_stacks if first <= row.slice <= self._last]
        return found

    def stacks(self) -> Iterator[StackRow]:
        """One row for each stack of each slice."""
        places = list(self._places)
        for (slice_, kind, comm, place), sums in self._stacks.items():
            addresses, user = places[place]
            samples, count, stalled_ns = sums
            yield StackRow(slice_, kind, comm, addresses, samples, count, stalled_ns, user)

    def slices(self) -> Columns:
        """The table ``slices``: what follows is sorted by nothing, and may be there in parts."""
        columns: dict[str, list[object]] = {
            name: []
            for name in ("slice", "start_ns", "kind", "bucket_low_ns", "bucket_high_ns", "count")
        }
        for slice_, what, count in self._cells():
            cell = cell_what(what)
            if cell.loss is None:
                low, high = (None, None) if cell.bucket is None else bounds(cell.bucket)
                values = (slice_, slice_ * self.slice_ns, kind_name(cell.kind), low, high, count)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
        return columns

    def losses(self) -> list[dict[str, object]]:
        """The table ``loss_slices``."""
        found: Counter[tuple[int, str, str]] = Counter()
        for slice_, what, count in self._cells():
            cell = cell_what(what)
            if cell.loss is not None:
                found[(slice_, kind_name(cell.kind), LOSS_NAMES[cell.loss])] += count
        for slice_, row in self._losses:
            found[(slice_, row.probe, row.what)] += row.count
        return [
            {
                "slice": slice_,
                "start_ns": slice_ * self.slice_ns,
                "probe": probe,
                "what": what,
                "count": count,
            }
            for (slice_, probe, what), count in sorted(found.items())
        ]

    def _cells(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._slices, self._whats, self._counts, strict=True)
