"""What has just happened, for those who watch while recording goes on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from livedump.kinds import Kind
from livedump.recording.layout import LOSS_NAMES, cell_what
from livedump.recording.rows import Drained, LossRow, StackRow

#: Slices of the last so many seconds are kept.
RECENT_S = 120


@dataclass
class Window:
    """What happened in some slices that follow each other.

    :ivar first: number of the first slice
    :ivar buckets: kind -> bucket -> faults that were timed
    :ivar untimed: kind -> faults that were merely counted
    :ivar losses: what was lost -> how often
    :ivar stacks: one row for each of each slice, where they are kept
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
    """The last :data:`RECENT_S`, whatever was drained before is in the journal.

    :param recent_stacks: stacks, too
    """

    def __init__(self, slice_ns: int, *, recent_stacks: bool = False) -> None:
        self.slice_ns = slice_ns
        self._recent_stacks = recent_stacks
        self._cells: deque[tuple[int, int, int]] = deque()
        self._stacks: deque[StackRow] = deque()
        self._losses: deque[tuple[int, LossRow]] = deque()
        self._last = -1

    @property
    def last(self) -> int:
        """The last slice that is known to be over; -1: none."""
        return self._last

    @property
    def _oldest(self) -> int:
        """The first slice that is kept."""
        return self._last - RECENT_S * 1_000_000_000 // self.slice_ns

    def add(self, drained: Drained) -> None:
        """Take in what was drained."""
        self._cells += [(slice_, what, count) for (slice_, what), count in drained.cells.items()]
        if self._recent_stacks:
            self._stacks += drained.stacks
        self._last = max(self._last, drained.last)
        oldest = self._oldest
        while self._cells and self._cells[0][0] < oldest:
            self._cells.popleft()
        while self._stacks and self._stacks[0].slice < oldest:
            self._stacks.popleft()
        while self._losses and self._losses[0][0] < oldest:
            self._losses.popleft()

    def add_losses(self, losses: Sequence[LossRow]) -> None:
        """What was lost since the last round, as far as no cell has it."""
        self._losses += [(max(self._last, 0), row) for row in losses]

    def window(self, seconds: float) -> Window:
        """The last slices that are over; fewer than asked for when recording has just begun."""
        return self.since(self._last + 1 - max(1, round(seconds * 1e9 / self.slice_ns)))

    def since(self, first: int) -> Window:
        """The slices from *first* on that are over, as far as they are kept."""
        first = max(0, first, self._oldest)
        found = Window(first, self._last + 1 - first)
        for slice_, what, count in self._cells:
            if first <= slice_ <= self._last:
                cell = cell_what(what)
                if cell.bucket is not None:
                    found.buckets.setdefault(cell.kind, Counter())[cell.bucket] += count
                elif cell.untimed:
                    found.untimed[cell.kind] += count
                elif cell.loss is not None:
                    found.losses[LOSS_NAMES[cell.loss]] += count
        for slice_, row in self._losses:
            if first <= slice_ <= self._last:
                found.losses[row.what] += row.count
        found.stacks = [row for row in self._stacks if first <= row.slice <= self._last]
        return found
