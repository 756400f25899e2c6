"""Sampled stacks, scaled to the exact sums of their time slice.

How many faults of a kind there were in a slice, and how long they took, is counted exactly; of most
only some stacks are taken, by chance (``bpf/sample.h``). So what the samples stand for is scaled to
the exact sums: slow faults, of which as good as every stack is taken, and the others each to theirs
(a separate ratio estimator, Cochran 1977, 6.10). What a slice has no sample of goes to the next one
that has, as a sample stands for what came before it. The variance that is left is kept with each
row: ``w * (w - 1)`` times the square of what was measured, for each sample of weight w (Horvitz and
Thompson 1952), as a ratio's; what came from slices without a sample may be all another stack's.
Where the slices themselves had no room there are no exact sums: rows stay as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
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
    :ivar unscaled: slices had no room, at least once
    """

    def __init__(self) -> None:
        self.left: dict[Sort, list[int]] = defaultdict(lambda: [0, 0])
        self.unscaled = False
        self._seen: set[str] = set()

    def add(self, drained: Drained) -> Drained:
        """The same with scaled stacks. Slices that are over come once, in order."""
        if drained.full:
            self.unscaled = True
            return drained
        exact, full = _sums(drained)
        self._seen.update(kind for _slice, kind in full)
        rows: dict[tuple[int, Sort], list[StackRow]] = defaultdict(list)
        for row in drained.stacks:
            rows[row.slice, (row.kind, row.slow)].append(row)
            self._seen.add(row.kind)
        lost = _lost(full, exact, rows)
        scaled: list[StackRow] = []
        for place in sorted({*exact, *rows}):
            scaled += self._scaled(place, rows[place], exact.get(place, (0, 0)), lost[place])
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
        self, place: tuple[int, Sort], rows: list[StackRow], exact: tuple[int, int], lost: int
    ) -> Iterable[StackRow]:
        """Of one slice and sort.

        :param exact: faults and ns
        :param lost: faults whose stack had no room
        """
        left = self.left[place[1]]
        if not rows and not lost:
            left[:] = (left[0] + exact[0], left[1] + exact[1])
            return ()
        del self.left[place[1]]
        return _share_out([*rows, *_without(place, rows, lost)], exact, (left[0], left[1]))


def _sums(
    drained: Drained,
) -> tuple[dict[tuple[int, Sort], tuple[int, int]], Counter[tuple[int, str]]]:
    """Of each slice and sort, faults and ns; of each slice and kind, those whose stack had no
    room."""
    exact: dict[tuple[int, Sort], tuple[int, int]] = {}
    full: Counter[tuple[int, str]] = Counter()
    for (slice_, what), count in drained.cells.items():
        sort, had_no_room = _sort(what)
        if sort is None:
            continue
        if had_no_room:
            full[slice_, sort[0]] += count
            continue
        before = exact.get((slice_, sort), (0, 0))
        stalled_ns = drained.stalled.get((slice_, what), 0)
        exact[slice_, sort] = (before[0] + count, before[1] + stalled_ns)
    return exact, full


def _lost(
    full: Counter[tuple[int, str]],
    exact: dict[tuple[int, Sort], tuple[int, int]],
    rows: dict[tuple[int, Sort], list[StackRow]],
) -> Tally:
    """Of each slice and sort, those whose stack had no room, which only kinds are counted of: the
    slow ones that are missing, as hardly any of these is not taken, and others. A sort that has no
    stack beside them has lost what it had."""
    lost: Tally = Counter()
    for (slice_, kind), count in full.items():
        fast, slow = (slice_, (kind, False)), (slice_, (kind, True))
        missing = exact.get(slow, (0, 0))[0] - sum(row.count for row in rows.get(slow, ()))
        lost[slow] = min(count, max(0, missing))
        lost[fast] = count - lost[slow] if rows.get(fast) else count
    return lost


@cache
def _sort(what: int) -> tuple[Sort | None, bool]:
    """Of a cell, and whether it counts stacks that had no room; None: it is none of these."""
    cell = cell_what(what)
    if cell.loss == Loss.STACKS_FULL:
        return (kind_name(cell.kind), False), True
    if cell.loss is not None or cell.kind not in _WITH_STACKS:
        return None, False
    slow = cell.bucket is not None and bounds(cell.bucket)[0] >= SLOW_NS
    return (kind_name(cell.kind), slow), False


def _without(place: tuple[int, Sort], rows: Sequence[StackRow], lost: int) -> list[StackRow]:
    """What had no room, as a row: it took as long as the others, on average; alone it is all."""
    if not lost:
        return []
    slice_, (kind, slow) = place
    stood_for = sum(row.count for row in rows) or 1
    stalled_ns = sum(row.stalled_ns for row in rows) * lost // stood_for if rows else lost
    return [StackRow(slice_, kind, "", (), 0, lost, stalled_ns, slow=slow)]


def _share_out(
    rows: Sequence[StackRow], exact: tuple[int, int], left: tuple[int, int]
) -> Iterable[StackRow]:
    """Rows that come to the exact sums of their slice and of those before it.

    :param exact: faults and ns of this slice, *left* of those before it
    """
    counts = [row.count for row in rows]
    times = [row.stalled_ns for row in rows]
    if left == (0, 0) and exact == (sum(counts), sum(times)):
        return rows  # as where every stack is taken
    return map(
        _with_sums,
        rows,
        _parts(exact[0] + left[0], counts),
        _parts(exact[1] + left[1], times),
        _variances(exact[0], left[0], counts, [row.variance for row in rows]),
        _variances(exact[1], left[1], times, [row.stalled_variance for row in rows]),
    )


def _with_sums(
    row: StackRow, count: int, stalled_ns: int, variance: int, stalled_variance: int
) -> StackRow:
    """As dataclasses.replace() has it, which takes three times as long."""
    return StackRow(
        *(row.slice, row.kind, row.comm, row.addresses, row.samples, count, stalled_ns, row.user),
        *(row.slow, variance, stalled_variance),
    )


def _parts(total: int, weights: Sequence[int]) -> Iterator[int]:
    """Whole parts of *total* as their weights are, which add up to it; 0 without weights."""
    weight, passed, given = sum(weights), 0, 0
    for each in weights:
        passed += each
        upto = (2 * total * passed + weight) // (2 * weight) if weight else 0
        yield upto - given
        given = upto


def _variances(
    total: int, left: int, parts: Sequence[int], variances: Sequence[int]
) -> Iterator[int]:
    """Of each part: what one has more of *total*, the others have less; of *left* it may have as
    much again, or nothing."""
    whole, variance = sum(parts), sum(variances)
    if not whole or not (variance or left):
        return repeat(0, len(parts))
    scale = (total / whole) ** 2
    shares = (part / whole for part in parts)
    return (
        round(scale * ((1 - share) ** 2 * own + share**2 * (variance - own)) + (left * share) ** 2)
        for share, own in zip(shares, variances, strict=True)
    )
