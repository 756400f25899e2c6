"""How much a number differs between runs of the same: what one recording cannot tell.

A metric's logarithms over the runs are taken for normally distributed. With three runs of A and
three of B, or more, each side has a variance of its own (Welch 1947); with fewer, A and B are
supposed to vary alike (Student 1908). No side varies less than it does inside its runs, as far as
that is known: three runs may be alike by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean, variance

from livedump.analysis import student
from livedump.analysis.chance import log_variance
from livedump.analysis.ogive import Ogive
from livedump.analysis.run import Run
from livedump.analysis.significance import NOT_IN_ALL, TOO_FEW, Span, TooLittle, of_logs
from livedump.metrics import quantile

#: Runs of a side that has a variance of its own.
OWN_VARIANCE = 3

Sides = tuple[Sequence[Run], Sequence[Run]]


@dataclass(frozen=True)
class Sample:
    """A metric in each run of a side, or its logarithm.

    :ivar inside: how it varies inside the runs, on the average of those that tell; 0: none does
    :ivar loose: by how much the mean may be too high, and too low, as buckets are wide
    """

    values: Sequence[float]
    inside: float
    loose: tuple[float, float] = (0.0, 0.0)

    @property
    def mean(self) -> float:
        """Of the values."""
        return fmean(self.values)

    @property
    def freedom(self) -> int:
        """Degrees of it."""
        return len(self.values) - 1

    @property
    def variance(self) -> float:
        """Of the values; of one alone, that inside the run."""
        return max(self.inside, variance(self.values) if self.freedom else 0.0)


def alike(sides: Sides) -> bool:
    """Whether A and B are supposed to vary alike."""
    return min(map(len, sides)) < OWN_VARIANCE


def typical(values: Sequence[float]) -> float:
    """Of a metric of several runs: the geometric mean, the mean where one has none."""
    if len(values) == 1:
        return values[0]
    if min(values) <= 0:
        return fmean(values)
    return math.exp(fmean(map(math.log, values)))


def between(sides: Sides, kind: str, metric: str) -> Span:
    """The change of a metric from the runs of A to those of B, of which one has two or more.

    :raises TooLittle: not all runs have it, or nothing bounds it in any run of a side
    """
    values = [[run.value(kind, metric) for run in side] for side in sides]
    known = [[value for value in side if value is not None] for side in values]
    if known != values:
        raise TooLittle(NOT_IN_ALL)
    if min(map(min, known)) <= 0:
        return _of_values(
            *(_values(*each, kind, metric) for each in zip(sides, known, strict=True))
        )
    a, b = (_logs(*each, kind, metric) for each in zip(sides, known, strict=True))
    reach, change = _reach(a, b), b.mean - a.mean

    def bounds(level: float) -> tuple[float, float]:
        return of_logs(
            change - reach(level) - a.loose[1] - b.loose[0],
            change + reach(level) + a.loose[0] + b.loose[1],
        )

    return Span(math.expm1(change), bounds)


def _of_values(a: Sample, b: Sample) -> Span:
    """Where a run has none there is no logarithm: the difference, as a share of A's mean."""
    reach, change = _reach(a, b), b.mean - a.mean

    def out_of_nothing(level: float) -> tuple[float, float]:
        return (math.inf if change > reach(level) else 0.0), math.inf

    if not a.mean:
        return Span(math.inf if b.mean else 0.0, out_of_nothing)
    return Span(
        change / a.mean,
        lambda level: (
            max(-1.0, (change - reach(level)) / a.mean),
            (change + reach(level)) / a.mean,
        ),
    )


def _reach(a: Sample, b: Sample) -> Callable[[float], float]:
    """Level -> how far an interval goes on each side."""
    counts = len(a.values), len(b.values)
    if min(counts) >= OWN_VARIANCE:
        parts = [each.variance / len(each.values) for each in (a, b)]
        total = sum(parts)
        by_freedom = parts[0] ** 2 / a.freedom + parts[1] ** 2 / b.freedom
        freedom = total**2 / by_freedom if by_freedom else 1.0
    else:
        freedom = a.freedom + b.freedom
        seen = sum(variance(each.values) * each.freedom for each in (a, b) if each.freedom)
        inside = sum(each.inside * len(each.values) for each in (a, b)) / sum(counts)
        total = max(seen / freedom, inside) * (1 / counts[0] + 1 / counts[1])
    return lambda level: student.two_sided(level, freedom) * math.sqrt(total)


# ---- samples ----


def _values(side: Sequence[Run], values: Sequence[float], kind: str, metric: str) -> Sample:
    return Sample(values, _inside(side, kind, metric, [value**2 for value in values]))


def _logs(side: Sequence[Run], values: Sequence[float], kind: str, metric: str) -> Sample:
    inside = _inside(side, kind, metric, [1.0] * len(side))
    share = quantile(metric)
    if share is None:
        return Sample([math.log(value) for value in values], inside)
    places = [Ogive(run.latencies[kind].buckets).place(float(share)) for run in side]
    down, up = (fmean(place.loose[end] for place in places) for end in (0, 1))
    return Sample([place.log for place in places], inside, (down, up))


def _inside(side: Sequence[Run], kind: str, metric: str, weights: Sequence[float]) -> float:
    """The mean variance of a metric inside those runs in which it is known; 0: it is in none.

    :param weights: of each run: what makes its logarithm's variance the one that is wanted
    :raises TooLittle: nothing bounds it in any of them, as when each has a single burst: as many
        runs with one and without one are alike by chance too often
    """
    found = []
    for run, weight in zip(side, weights, strict=True):
        with suppress(TooLittle):
            found.append((log_variance(run.chance, kind, metric), weight))
    bounded = [variance * weight for variance, weight in found if math.isfinite(variance)]
    if found and not bounded:
        raise TooLittle(TOO_FEW)
    return fmean(bounded) if bounded else 0.0
