"""What happened when: latencies and stacks by time, in as many steps as a page or a terminal has
room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from livedump.analysis import pack, stacks
from livedump.kinds import kind_order
from livedump.recording.buckets import SUB, SUB_BITS
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from livedump.sums import add_up

#: Steps of time on the page.
STEPS = 600

#: How long before and after the end of a stop the page has every slice.
AROUND_NS = (1_000_000_000, 4_000_000_000)

#: Bands are no wider than this: 2 for each power of two.
COARSEST = SUB_BITS - 1


@dataclass
class Heat:
    """Faults of a kind by step and latency.

    :ivar timed: has latencies; the kind is only counted else, and all is in band 0
    :ivar cells: [step, band, faults]; a band is the number of a bucket without its *shift* lowest
        bits (:mod:`livedump.recording.buckets`): it holds 1 << *shift* of them
    """

    timed: bool
    cells: list[list[int]]
    shift: int = 0

    def widen(self) -> None:
        """Two bands become one."""
        self.shift += 1
        totals = add_up(((step, band >> 1), (count,)) for step, band, count in self.cells)
        self.cells = [[*key, *sums] for key, sums in sorted(totals.items())]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"timed": self.timed, "shift": self.shift, "cells": pack.steps(self.cells)}


@dataclass
class Stacks:
    """Stacks of a kind by step.

    :ivar every: steps that one of ``cells`` stands for
    :ivar paths: task and functions, root first
    :ivar cells: [first step, number of the path, faults, ns stalled]; a stack's faults of one step
        that took twice as long as others, or more, are a cell of their own
    :ivar left_out: faults of rare stacks that there was no room for
    """

    every: int = 1
    paths: list[list[str]] = field(default_factory=list)
    cells: list[list[int]] = field(default_factory=list)
    left_out: int = 0

    def shrink(self, limit_bytes: int, names: pack.Names, *, longer: bool = True) -> None:
        """Until it takes no more as JSON: by longer steps, if they may be, then by fewer stacks.

        :param names: that the page has anyhow
        """
        most = max((cell[0] for cell in self.cells), default=0)
        while self._bytes(names) > limit_bytes and self.cells:
            if longer and self.every <= most and len(self.cells) > len(self.paths):
                self.every *= 2
                self.merge()
            else:
                self._drop_half()

    def to_dict(self, names: pack.Names) -> dict[str, Any]:
        """For JSON."""
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        fresh = {number: place for place, number in enumerate(order)}
        cells = sorted((step // self.every, fresh[n], *sums) for step, n, *sums in self.cells)
        return {
            "every": self.every,
            "paths": pack.paths((self.paths[number] for number in order), names),
            "cells": pack.steps(cells),
            "left_out": self.left_out,
        }

    def _bytes(self, names: pack.Names) -> int:
        used = {frame for path in self.paths for frame in path}
        # With numbers of their own, which are no longer than those of the page by much.
        return pack.size(self.to_dict(pack.Names())) + sum(map(names.cost, used))

    def merge(self) -> None:
        """Add up what has come to be the same stack in the same steps, as slow by a factor of 2."""
        totals = add_up(
            ((step // self.every * self.every, number, _octave(*sums)), sums)
            for step, number, *sums in self.cells
        )
        self.cells = [[step, number, *sums] for (step, number, _), sums in sorted(totals.items())]

    def _drop_half(self) -> None:
        """The stacks with the fewest faults."""
        counts = [0] * len(self.paths)
        for _step, number, count, _stalled_ns in self.cells:
            counts[number] += count
        kept = sorted(range(len(counts)), key=lambda number: -counts[number])[: len(counts) // 2]
        fresh = {number: place for place, number in enumerate(kept)}
        self.left_out += sum(c[2] for c in self.cells if c[1] not in fresh)
        self.cells = [[c[0], fresh[c[1]], *c[2:]] for c in self.cells if c[1] in fresh]
        self.paths = [self.paths[number] for number in kept]


def _octave(count: int, stalled_ns: int) -> int:
    """The power of two of the mean latency."""
    return (stalled_ns // max(1, count)).bit_length()


@dataclass
class Losses:
    """What was lost, by step.

    :ivar names: probe and what, ``cow, no stack``
    :ivar cells: [step, number of the name, how many]
    """

    names: list[str]
    cells: list[list[int]]

    def counts(self, steps: int) -> list[int]:
        """How many in each step."""
        found = [0] * steps
        for step, _number, count in self.cells:
            found[step] += count
        return found


@dataclass
class OverTime:
    """A recording by time.

    :ivar step_ns: length of a step
    :ivar steps: how many there are
    """

    step_ns: int
    steps: int
    heat: dict[str, Heat]
    stacks: dict[str, Stacks]
    losses: Losses

    def counts(self, kind: str) -> list[int]:
        """Faults of a kind in each step."""
        found = [0] * self.steps
        for step, _band, count in self.heat[kind].cells:
            found[step] += count
        return found

    def to_dict(self, names: pack.Names) -> dict[str, Any]:
        """For JSON.

        :param names: of the page
        """
        return {
            "step_ns": self.step_ns,
            "steps": self.steps,
            "heat": {kind: heat.to_dict() for kind, heat in self.heat.items()},
            "stacks": {kind: each.to_dict(names) for kind, each in self.stacks.items()},
            "losses": {"names": self.losses.names, "cells": self.losses.cells},
        }

    def shrink(self, limit_bytes: int, names: pack.Names, *, longer: bool = True) -> None:
        """Until it takes no more as JSON, if wider bands and :meth:`Stacks.shrink` do so; a third
        is for latencies."""
        self.widen(limit_bytes // 3)
        left = max(0, limit_bytes - self.heat_bytes())
        for each in self.stacks.values():
            each.shrink(left // len(self.stacks), names, longer=longer)

    def widen(self, limit_bytes: int) -> None:
        """Until all but the stacks takes no more as JSON, or bands are :data:`COARSEST`."""
        while self.heat_bytes() > limit_bytes and self._widest() < COARSEST:
            for heat in self.heat.values():
                heat.widen()

    def heat_bytes(self) -> int:
        """What all but the stacks takes as JSON."""
        return pack.size(replace(self, stacks={}).to_dict(pack.Names()))

    def _widest(self) -> int:
        return max((heat.shift for heat in self.heat.values()), default=COARSEST)


def over_time(
    recording: Recording,
    kinds: Sequence[str] = (),
    steps: int = STEPS,
    *,
    with_stacks: bool = True,
    around_ns: Sequence[int] | None = None,
) -> OverTime:
    """The recording in at most *steps* steps of equal length, each of whole slices.

    :param kinds: only these; empty: all
    :param around_ns: since the start; each slice is a step then, and only those :data:`AROUND_NS`
        of one of these have something
    :raises livedump.recording.errors.RecordingError: a table cannot be read
    """
    slice_ns = int(recording.meta["slice_ns"])
    slices = max(1, -(-recording.lasted_ns // slice_ns))
    width = 1 if around_ns is not None else -(-slices // steps)
    wanted = None if around_ns is None else _slices_around(around_ns, slice_ns)
    count = -(-slices // width)
    lost = [r for r in recording.tables["loss_slices"] if wanted is None or r["slice"] in wanted]
    found = OverTime(width * slice_ns, count, {}, {}, _losses(lost, width, count))
    cells = _rows(recording, "slices", ["bucket_low_ns", "count"], wanted)
    heat = _sums(cells, width, ["bucket_low_ns"], ["count"], found.steps)
    for kind in sorted(heat, key=kind_order):
        if not kinds or kind in kinds:
            found.heat[kind] = _heat(heat[kind])
    if with_stacks:
        sums = ["count", "stalled_ns"]
        taken = _with_octave(_rows(recording, "stack_slices", ["comm", "stack", *sums], wanted))
        rows = _sums(taken, width, ["octave", "comm", "stack"], sums, found.steps)
        for kind in sorted(rows, key=kind_order):
            if not kinds or kind in kinds:
                found.stacks[kind] = _stacks(rows[kind])
    return found


def close_up(
    recording: Recording,
    instants_ns: Sequence[int],
    kinds: Sequence[str],
    limit_bytes: int,
    names: pack.Names,
) -> tuple[OverTime, int]:
    """Every slice around instants, at most *limit_bytes* of JSON; the first ones are kept.

    :returns: with for how many of them there was room
    """
    kept = list(instants_ns)
    while True:
        found = over_time(recording, kinds, around_ns=kept)
        found.widen(limit_bytes // 3)
        if found.heat_bytes() <= limit_bytes // 2 or not kept:
            break
        kept = kept[: len(kept) // 2]
    found.shrink(limit_bytes, names, longer=False)
    return found, len(kept)


def _slices_around(instants_ns: Sequence[int], slice_ns: int) -> set[int]:
    """All slices of which something is :data:`AROUND_NS` of an instant."""
    before, after = AROUND_NS
    return {
        number
        for instant in instants_ns
        for number in range(max(0, instant - before) // slice_ns, -(-(instant + after) // slice_ns))
    }


def _rows(recording: Recording, name: str, columns: Sequence[str], wanted: set[int] | None) -> Any:
    """Some columns of a table, or what they have of some slices, as pyarrow has it."""
    import pyarrow
    import pyarrow.compute

    table = recording.columns(name, ["kind", "slice", *columns])
    if wanted is None:
        return table
    numbers = pyarrow.array(sorted(wanted), pyarrow.uint32())
    return table.filter(pyarrow.compute.is_in(table["slice"], value_set=numbers))


def _with_octave(table: Any) -> Any:
    """With the power of two of each row's mean latency: what is slow stays apart when added up."""
    import pyarrow
    import pyarrow.compute as compute

    at_least = pyarrow.scalar(1.0)
    count, stalled_ns = (
        compute.cast(table[column], pyarrow.float64(), safe=False)
        for column in ("count", "stalled_ns")
    )
    mean = compute.divide(stalled_ns, compute.max_element_wise(count, at_least))
    octave = compute.floor(compute.log2(compute.max_element_wise(mean, at_least)))
    return table.append_column("octave", octave.cast(pyarrow.int8()))


def _sums(
    table: Any, width: int, by: list[str], sums: list[str], steps: int
) -> dict[str, list[tuple[Any, ...]]]:
    """Kind -> (step, *by, *sums) of a table, added up by pyarrow: it may have millions of rows."""
    import pyarrow
    import pyarrow.compute

    step = pyarrow.compute.divide(table["slice"], pyarrow.scalar(width, pyarrow.uint32()))
    step = pyarrow.compute.min_element_wise(step, pyarrow.scalar(steps - 1, pyarrow.uint32()))
    keys = ["kind", "step", *by]
    total = (
        table.append_column("step", step)
        .group_by(keys)
        .aggregate([(column, "sum") for column in sums])
        .select([*keys, *(f"{column}_sum" for column in sums)])
    )
    found: dict[str, list[tuple[Any, ...]]] = {}
    for kind, *rest in zip(*(column.to_pylist() for column in total.columns), strict=True):
        found.setdefault(kind, []).append(tuple(rest))
    return found


def _losses(rows: Sequence[Row], width: int, steps: int) -> Losses:
    totals = add_up(
        (
            (min(row["slice"] // width, steps - 1), f"{row['probe']}, {row['what']}"),
            (int(row["count"]),),
        )
        for row in rows
    )
    names = sorted({name for _step, name in totals})
    numbers = {name: number for number, name in enumerate(names)}
    return Losses(
        names, sorted([step, numbers[name], sums[0]] for (step, name), sums in totals.items())
    )


def _heat(rows: list[tuple[Any, ...]]) -> Heat:
    """From (step, lower bound of the bucket, count)."""
    totals = add_up(
        ((step, _bucket(low_ns) if low_ns is not None else 0), (count,))
        for step, low_ns, count in rows
    )
    return Heat(
        any(low_ns is not None for _step, low_ns, _count in rows),
        [[*key, *sums] for key, sums in sorted(totals.items())],
    )


def _bucket(low_ns: int) -> int:
    """Number of the bucket with this lower bound, see :mod:`livedump.recording.buckets`."""
    if low_ns < SUB:
        return low_ns
    shift = low_ns.bit_length() - SUB_BITS - 1
    return ((shift + 1) << SUB_BITS) + (low_ns >> shift) - SUB


def _stacks(rows: list[tuple[Any, ...]]) -> Stacks:
    """From (step, octave, comm, stack, count, stalled_ns)."""
    found = Stacks()
    numbers: dict[tuple[str, ...], int] = {}
    known: dict[tuple[str, str], int] = {}  # most stacks are in many steps
    for step, _, comm, stack, *sums in sorted(rows):
        number = known.get((comm, stack))
        if number is None:
            path = tuple(stacks.path(comm, stack))
            number = known[comm, stack] = numbers.setdefault(path, len(numbers))
        found.cells.append([step, number, *sums])
    found.paths = [list(path) for path in numbers]
    found.merge()
    return found
