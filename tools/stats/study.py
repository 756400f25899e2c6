"""Many comparisons of made-up loads, and how often each says what."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy

from livedump.analysis import compare, judge
from livedump.analysis.compare import METRICS
from livedump.analysis.significance import ALPHA
from livedump.conditions import parse
from tools.stats.loads import Load, run

#: Conditions that are judged alone: one is named, nothing is corrected.
CONDITIONS = ("p99(user)>+20%", "p99.9(user)>+20%", "max(user)>+20%", "mean(user)>+20%")

SEED = 1


@dataclass(frozen=True)
class Case:
    """Loads to compare.

    :ivar runs: of A, and of B
    """

    name: str
    a: Load
    b: Load
    seconds: int = 60
    runs: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Found:
    """Of a case, as shares of the pairs in which it could be told.

    :ivar alone: intervals that leave out 0, by metric
    :ivar stars: rows with a `*`, by metric
    :ivar told: how often it could be told, by metric
    :ivar half_width: median half-width of the intervals, by metric
    :ivar any_alone: pairs in which any interval leaves out 0
    :ivar any_star: pairs with any `*`
    :ivar fails: conditions that fail
    """

    case: Case
    pairs: int
    alone: Mapping[str, float]
    stars: Mapping[str, float]
    told: Mapping[str, float]
    half_width: Mapping[str, float]
    any_alone: float
    any_star: float
    fails: Mapping[str, float]
    took_s: float


def study(case: Case, pairs: int, conditions: Sequence[str] = CONDITIONS) -> Found:
    """Compare so many pairs, the same ones each time."""
    chance, begun = numpy.random.default_rng(SEED), time.monotonic()
    asked = [parse(text, ("user",)) for text in conditions]
    rows: dict[str, list[tuple[bool, bool, float]]] = {metric: [] for metric in METRICS}
    any_alone, any_star, fails = 0, 0, dict.fromkeys(conditions, 0)
    for _ in range(pairs):
        a, b = (
            [run(chance, case.seconds, load) for _ in range(runs)]
            for load, runs in zip((case.a, case.b), case.runs, strict=True)
        )
        found = compare(a, b)
        for row in found.changes:
            if row.span is not None:
                low, high = row.span.interval
                alone = (row.p or 1.0) <= ALPHA
                rows[row.metric].append((alone, bool(row.significant), (high - low) / 2))
        any_alone += any((row.p or 1.0) <= ALPHA for row in found.changes)
        any_star += any(row.significant for row in found.changes)
        for condition in asked:
            fails[condition.text] += judge(found, [condition])[0].failed
    known = {metric: values for metric, values in rows.items() if values}
    return Found(
        case,
        pairs,
        {metric: _share(row[0] for row in values) for metric, values in known.items()},
        {metric: _share(row[1] for row in values) for metric, values in known.items()},
        {metric: len(values) / pairs for metric, values in known.items()},
        {metric: median(row[2] for row in values) for metric, values in known.items()},
        any_alone / pairs,
        any_star / pairs,
        {text: count / pairs for text, count in fails.items()},
        time.monotonic() - begun,
    )


def _share(values: Any) -> float:
    return float(numpy.mean(list(values)))
