"""What happened when: latencies and stacks by time, in as many steps as a page or a terminal has
room for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livedump.analysis import stacks
from livedump.kinds import kind_order
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from livedump.sums import add_up

#: Steps of time on the page.
STEPS = 600

#: How long before and after the end of a stop the page has every slice.
AROUND_NS = (1_000_000_000, 4_000_000_000)

#: Rows of a heat map for each power of two of latency: a bucket has four times as many.
BANDS = 4


@dataclass
class Heat:
    """Faults of a kind by step and latency.

    :ivar bands: lower bounds of latency, ns, rising; empty: the kind is counted, not timed
    :ivar cells: [step, number of the band, faults]
    """

    bands: list[int]
    cells: list[list[int]]


@dataclass
class Stacks:
    """Stacks of a kind by step.

    :ivar every: steps that one of ``cells`` stands for
    :ivar paths: task and functions, root first
    :ivar cells: [first step, number of the path, faults, ns stalled]
    :ivar left_out: faults of rare stacks that there was no room for
    """

    every: int = 1
    paths: list[list[str]] = field(default_factory=list)
    cells: list[list[int]] = field(default_factory=list)
    left_out: int = 0

    def shrink(self, limit_bytes: int, *, longer: bool = True) -> None:
        """Until it takes no more as JSON: by longer steps, if they may be, then by fewer stacks."""
        most = max((cell[0] for cell in self.cells), default=0)
        while self._bytes() > limit_bytes and self.cells:
            if longer and self.every <= most and len(self.cells) > len(self.paths):
                self.every *= 2
                self.merge()
            else:
                self._drop_half()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "every": self.every,
            "paths": self.paths,
            "cells": self.cells,
            "left_out": self.left_out,
        }

    def _bytes(self) -> int:
        return len(json.dumps(self.to_dict(), separators=(",", ":")))

    def merge(self) -> None:
        """Add up what has come to be the same stack in the same steps."""
        totals = add_up(
            ((step // self.every * self.every, number), sums) for step, number, *sums in self.cells
        )
        self.cells = [[*key, *sums] for key, sums in sorted(totals.items())]

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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "step_ns": self.step_ns,
            "steps": self.steps,
            "heat": {
                kind: {"bands": heat.bands, "cells": heat.cells} for kind, heat in self.heat.items()
            },
            "stacks": {kind: each.to_dict() for kind, each in self.stacks.items()},
            "losses": {"names": self.losses.names, "cells": self.losses.cells},
        }

    def shrink(self, limit_bytes: int, *, longer: bool = True) -> None:
        """Until all stacks together take no more as JSON, see :meth:`Stacks.shrink`."""
        for each in self.stacks.values():
            each.shrink(limit_bytes // len(self.stacks), longer=longer)

    def heat_bytes(self) -> int:
        """What all but the stacks takes as JSON."""
        return len(json.dumps({**self.to_dict(), "stacks": {}}, separators=(",", ":")))


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
    cells = _rows(recording, "slices", wanted)
    heat = _sums(cells, width, ["bucket_low_ns"], ["count"], found.steps)
    for kind in sorted(heat, key=kind_order):
        if not kinds or kind in kinds:
            found.heat[kind] = _heat(heat[kind])
    if with_stacks:
        sums = ["count", "stalled_ns"]
        taken = _rows(recording, "stack_slices", wanted)
        rows = _sums(taken, width, ["comm", "stack"], sums, found.steps)
        for kind in sorted(rows, key=kind_order):
            if not kinds or kind in kinds:
                found.stacks[kind] = _stacks(rows[kind])
    return found


def close_up(
    recording: Recording, instants_ns: Sequence[int], kinds: Sequence[str], limit_bytes: int
) -> tuple[OverTime, int]:
    """Every slice around instants, at most *limit_bytes* of JSON; the first ones are kept.

    :returns: with for how many of them there was room
    """
    kept = list(instants_ns)
    while True:
        found = over_time(recording, kinds, around_ns=kept)
        heat_bytes = found.heat_bytes()
        if heat_bytes <= limit_bytes // 2 or not kept:
            break
        kept = kept[: len(kept) // 2]
    found.shrink(limit_bytes - heat_bytes, longer=False)
    return found, len(kept)


def _slices_around(instants_ns: Sequence[int], slice_ns: int) -> set[int]:
    """All slices of which something is :data:`AROUND_NS` of an instant."""
    before, after = AROUND_NS
    return {
        number
        for instant in instants_ns
        for number in range(max(0, instant - before) // slice_ns, -(-(instant + after) // slice_ns))
    }


def _rows(recording: Recording, name: str, wanted: set[int] | None) -> Any:
    """A table, or what it has of some slices, as pyarrow has it."""
    import pyarrow
    import pyarrow.compute

    table = recording.columns(name)
    if wanted is None:
        return table
    numbers = pyarrow.array(sorted(wanted), pyarrow.uint32())
    return table.filter(pyarrow.compute.is_in(table["slice"], value_set=numbers))


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
    totals: dict[tuple[int, int], int] = {}
    for step, low_ns, count in rows:
        key = (step, _band(low_ns) if low_ns is not None else 0)
        totals[key] = totals.get(key, 0) + count
    timed = any(low_ns is not None for _step, low_ns, _count in rows)
    numbers = [number for _step, number in totals]
    first, last = min(numbers), max(numbers)
    return Heat(
        [_band_low(number) for number in range(first, last + 1)] if timed else [],
        [[step, number - first, count] for (step, number), count in sorted(totals.items())],
    )


def _band(value_ns: int) -> int:
    """Number of the band of a latency: :data:`BANDS` for each power of two."""
    if value_ns < BANDS:
        return value_ns
    exponent = value_ns.bit_length() - 1
    shift = exponent - BANDS.bit_length() + 1
    return (exponent - BANDS.bit_length() + 2) * BANDS + ((value_ns >> shift) & (BANDS - 1))


def _band_low(number: int) -> int:
    """Lower bound of a band, ns."""
    if number < BANDS:
        return number
    group, part = divmod(number, BANDS)
    return (BANDS + part) << (group - 1)


def _stacks(rows: list[tuple[Any, ...]]) -> Stacks:
    """From (step, comm, stack, count, stalled_ns)."""
    found = Stacks()
    numbers: dict[tuple[str, ...], int] = {}
    for step, comm, stack, *sums in sorted(rows):
        path = tuple(stacks.path(comm, stack))
        number = numbers.setdefault(path, len(numbers))
        found.cells.append([step, number, *sums])
    found.paths = [list(path) for path in numbers]
    found.merge()
    return found
