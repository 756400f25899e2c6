"""Sampled stacks, scaled to the exact sums of their time slice.

How many faults of a kind there were in a slice, and how long they took, is counted exactly; of most
only some stacks are taken, by chance (``bpf/sample.h``). So what the samples stand for is scaled to
the exact sums: slow faults, of which as good as every stack is taken, and the others each to theirs
(a separate ratio estimator, Cochran 1977, 6.10). What a slice has no sample of goes to the next one
that has, as a sample stands for what came before it. The variance that is left is kept with each
row: ``w * (w - 1)`` times the square of what was measured, for each sample of weight w (Horvitz and
Thompson 1952), as a ratio's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat

from livedump.kinds import ABOUT, kind_name
from livedump.recording.buckets import bounds
from livedump.recording.layout import SLOW_NS, Loss, cell_what
from livedump.recording.rows import Drained, StackRow

#: Faults that are scaled alike: kind, and whether they were slow.
Sort = tuple[str, bool]

Tally = Counter[tuple[int, Sort]]

#: Kinds whose stacks are taken; the others are parts of these.
_WITH_STACKS = frozenset(kind for kind, about in ABOUT.items() if not about.part_of)


class Scale:
    """Scales what is drained, slice by slice.

    :ivar left: sort -> faults and ns of slices that had no sample, since the last one that had
    """

    def __init__(self) -> None:
        self.left: dict[Sort, list[int]] = defaultdict(lambda: [0, 0])
        self._seen: set[str] = set()

    def add(self, drained: Drained) -> Drained:
        """The same with scaled stacks. Slices that are over come once, in order."""
        exact, lost = _sums(drained)
        self._seen.update(kind for _slice, (kind, _slow) in lost)
        rows: dict[tuple[int, Sort], list[StackRow]] = defaultdict(list)
        for row in drained.stacks:
            rows[row.slice, (row.kind, row.slow)].append(row)
            self._seen.add(row.kind)
        scaled: list[StackRow] = []
        for place in sorted({*exact, *rows}):
            scaled += self._scaled(place[1], rows[place], exact.get(place, (0, 0)), lost[place])
        return replace(drained, stacks=scaled)

    def rest(self, slice_: int) -> list[StackRow]:
        """After the end: faults that came after the last sample of their kind, as of *slice_*."""
        found = [
            StackRow(slice_, kind, "", (), 0, count, stalled_ns, slow=slow)
            for (kind, slow), (count, stalled_ns) in sorted(self.left.items())
            if kind in self._seen and count
        ]
        self.left.clear()
        return found

    def _scaled(
        self, sort: Sort, rows: list[StackRow], exact: tuple[int, int], lost: int
    ) -> Iterable[StackRow]:
        """Of one slice and sort.

        :param exact: faults and ns
        :param lost: faults whose stack had no room
        """
        if rows and exact[0] < sum(row.samples for row in rows):
            return rows  # the slice itself had no room: nothing exact is known
        left = self.left[sort]
        left[:] = (left[0] + exact[0], left[1] + exact[1])
        if not rows:
            return ()
        del self.left[sort]
        return _share_out([*rows, *_without(rows, lost)], *left)


def _sums(drained: Drained) -> tuple[dict[tuple[int, Sort], tuple[int, int]], Tally]:
    """Of each slice and sort, faults and ns; and those whose stack had no room, as if none of them
    was slow."""
    exact: dict[tuple[int, Sort], tuple[int, int]] = {}
    lost: Tally = Counter()
    for (slice_, what), count in drained.cells.items():
        cell = cell_what(what)
        if cell.loss == Loss.STACKS_FULL:
            lost[slice_, (kind_name(cell.kind), False)] += count
        elif cell.loss is None and cell.kind in _WITH_STACKS:
            slow = cell.bucket is not None and bounds(cell.bucket)[0] >= SLOW_NS
            place = (slice_, (kind_name(cell.kind), slow))
            before = exact.get(place, (0, 0))
            stalled_ns = drained.stalled.get((slice_, what), 0)
            exact[place] = (before[0] + count, before[1] + stalled_ns)
    return exact, lost


def _without(rows: Sequence[StackRow], lost: int) -> list[StackRow]:
    """What had no room, as a row: it took as long as the others, on average."""
    if not lost:
        return []
    stood_for = sum(row.count for row in rows)
    stalled_ns = sum(row.stalled_ns for row in rows) * lost // stood_for
    return [StackRow(rows[0].slice, rows[0].kind, "", (), 0, lost, stalled_ns, slow=rows[0].slow)]


def _share_out(rows: Sequence[StackRow], count: int, stalled_ns: int) -> Iterator[StackRow]:
    counts = [row.count for row in rows]
    times = [row.stalled_ns for row in rows]
    return map(
        _with_sums,
        rows,
        _parts(count, counts),
        _parts(stalled_ns, times),
        _variances(count, counts, [row.variance for row in rows]),
        _variances(stalled_ns, times, [row.stalled_variance for row in rows]),
    )


def _with_sums(
    row: StackRow, count: int, stalled_ns: int, variance: int, stalled_variance: int
) -> StackRow:
    return replace(
        row,
        count=count,
        stalled_ns=stalled_ns,
        variance=variance,
        stalled_variance=stalled_variance,
    )


def _parts(total: int, weights: Sequence[int]) -> Iterator[int]:
    """Whole parts of *total* as their weights are, which add up to it; 0 without weights."""
    weight, passed, given = sum(weights), 0, 0
    for each in weights:
        passed += each
        upto = (2 * total * passed + weight) // (2 * weight) if weight else 0
        yield upto - given
        given = upto


def _variances(total: int, parts: Sequence[int], variances: Sequence[int]) -> Iterator[int]:
    """Of each part, scaled so that all come to *total*: what one has more, the others have less."""
    whole, variance = sum(parts), sum(variances)
    if not variance or not whole:
        return repeat(0, len(parts))
    scale = (total / whole) ** 2
    shares = (part / whole for part in parts)
    return (
        round(scale * ((1 - share) ** 2 * own + share**2 * (variance - own)))
        for share, own in zip(shares, variances, strict=True)
    )
