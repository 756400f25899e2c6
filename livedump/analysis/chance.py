"""How much a number would change by chance alone, inside two recordings.

Sums and means vary as they do over resamples (:mod:`livedump.analysis.blocks`). A quantile does
not, where it lies between two kinds of fault, short ones and long ones: so it is the share below it
that is resampled, and the distribution turned around gives the interval (Woodruff 1952). Those of A
and of B make that of their ratio by MOVER (Zou and Donner 2008).

This knows nothing of how runs differ among themselves: :mod:`livedump.analysis.replicates` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from livedump.analysis import student
from livedump.analysis.blocks import BLOCK_NS, COLUMNS, Drawn, Slices, of_kind, resample
from livedump.analysis.ogive import Ogive
from livedump.analysis.significance import NEEDS_RUNS, TOO_FEW, Span, TooLittle, of_logs
from livedump.metrics import SUMS, quantile
from livedump.recording.store import Recording

#: Blocks that have any faults, or all of them; with fewer, a few bursts may be unlike the next few.
MIN_FILLED = 10

#: With fewer values above it, a quantile is not known well enough to compare.
MIN_TAIL = 10

#: The level of an interval that reaches one standard deviation, nearly.
ONE_SIGMA = 0.32

#: Of the random numbers: the same recordings always give the same intervals.
SEED = 2014


@dataclass(frozen=True)
class Varying:
    """A sum or a mean that varies: its variance as a share of its square, and how well that is
    known."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Quantile:
    """A quantile that varies.

    :ivar log: its logarithm
    :ivar loose: by how much that may be too high, and too low, in its bucket
    :ivar bounds: level -> interval of the logarithm, infinite where no value is that far out
    """

    log: float
    loose: tuple[float, float]
    bounds: Callable[[float], tuple[float, float]]


@dataclass
class Chance:
    """A recording, and what it might have been.

    :param number: its place among those compared
    """

    recording: Recording
    number: int = 0
    _tables: list[Any] = field(default_factory=list)
    _kinds: dict[str, Slices] = field(default_factory=dict)
    _drawn: dict[tuple[str, bool], Drawn] = field(default_factory=dict)

    def varying(self, kind: str, metric: str) -> Varying:
        """Of any metric but quantiles and the maximum.

        :raises TooLittle: the recording does not say
        """
        drawn = self._draw(kind, metric in SUMS)
        values = _numbers(drawn, metric)
        mean = float(values.mean())
        share = float(values.var()) / mean**2 if mean else 0.0
        return Varying(drawn.missed * share, drawn.blocks - 1)

    def quantile(self, kind: str, share: Fraction) -> Quantile:
        """Where a quantile lies, by the values below it in each resample.

        :raises TooLittle: the recording does not say
        """
        drawn = self._draw(kind, False)
        _check_filled(drawn)
        if drawn.count * (1 - share) < MIN_TAIL:
            raise TooLittle(TOO_FEW)
        ogive = Ogive(drawn.buckets)
        place = ogive.place(float(share))
        error = math.sqrt(drawn.missed * float(_below(drawn, place.bucket, place.inside).var()))

        def bounds(level: float) -> tuple[float, float]:
            reach = student.two_sided(level, drawn.blocks - 1) * error
            low, high = float(share) - reach, float(share) + reach
            return (
                ogive.place(low).log if low > 0 else -math.inf,
                ogive.place(high).log if high < 1 else math.inf,
            )

        return Quantile(place.log, place.loose, bounds)

    def _draw(self, kind: str, whole: bool) -> Drawn:
        """Of all the time, or only of that in which there were such faults."""
        if (kind, whole) not in self._drawn:
            slice_ns = int(self.recording.meta["slice_ns"])
            slices = self._slices(kind)
            first, end = 0, -(-self.recording.lasted_ns // slice_ns)
            if len(slices.number):
                seen = int(slices.number.min()), int(slices.number.max()) + 1
                first, end = (0, max(end, seen[1])) if whole else seen
            seed = SEED + self.number
            self._drawn[kind, whole] = resample(slices, first, end, BLOCK_NS / slice_ns, seed)
        return self._drawn[kind, whole]

    def _slices(self, kind: str) -> Slices:
        if not self._tables:
            self._tables.append(self.recording.columns("slices", COLUMNS))
        if kind not in self._kinds:
            self._kinds[kind] = of_kind(self._tables[0], kind)
        return self._kinds[kind]


def within(
    pair: tuple[Chance, Chance], kind: str, metric: str, values: tuple[float, float]
) -> Span:
    """The change of a metric from one recording to the other.

    :param values: the metric of each; where A has none, the change is infinite
    :raises TooLittle: the recordings do not say
    """
    if metric == "max":
        raise TooLittle(NEEDS_RUNS)  # no resample has a greater one
    share = quantile(metric)
    if share is not None:
        return _of_quantiles(*(each.quantile(kind, share) for each in pair))
    return _of_numbers(*values, [each.varying(kind, metric) for each in pair])


def log_variance(chance: Chance, kind: str, metric: str) -> float:
    """Of a metric's logarithm, inside a recording; infinite where nothing bounds it, as where all
    values above a quantile are of one burst.

    :raises TooLittle: the recording does not say
    """
    if metric == "max":
        raise TooLittle(NEEDS_RUNS)
    share = quantile(metric)
    if share is None:
        return chance.varying(kind, metric).variance
    low, high = chance.quantile(kind, share).bounds(ONE_SIGMA)
    return ((high - low) / 2) ** 2


# ---- sums and means ----


def _of_numbers(before: float, after: float, varying: list[Varying]) -> Span:
    reach = _reach(varying)
    if not before:

        def out_of_nothing(level: float) -> tuple[float, float]:
            known = after and reach(level) < 1
            return (math.inf if known else 0.0), math.inf

        return Span(math.inf if after else 0.0, out_of_nothing)
    if not after:
        return Span(-1.0, lambda level: (-1.0, -1.0 + reach(level)))
    change = math.log(after / before)
    return Span(
        after / before - 1,
        lambda level: of_logs(change - reach(level), change + reach(level)),
    )


def _reach(varying: list[Varying]) -> Callable[[float], float]:
    """Level -> how far an interval goes on each side (Welch 1947)."""
    total = sum(each.variance for each in varying)
    if not total:
        return lambda _level: 0.0
    freedom = total**2 / sum(each.variance**2 / each.freedom for each in varying)
    return lambda level: student.two_sided(level, freedom) * math.sqrt(total)


def _numbers(drawn: Drawn, metric: str) -> Any:
    """A metric of each resample."""
    if metric in ("count", "rate"):
        return drawn.sums[:, -1]
    if metric == "stalled":
        return drawn.stalled
    assert metric == "mean", metric
    _check_filled(drawn)
    seen = drawn.sums[:, -1] > 0  # a resample may have drawn nothing but empty blocks
    return drawn.stalled[seen] / drawn.sums[seen, -1]


def _check_filled(drawn: Drawn) -> None:
    if drawn.filled < min(MIN_FILLED, drawn.blocks):
        raise TooLittle(TOO_FEW)


# ---- quantiles ----


def _below(drawn: Drawn, bucket: int, inside: float) -> Any:
    """The share of values below a place, of each resample that has any."""
    sums = drawn.sums[drawn.sums[:, -1] > 0]
    lower = sums[:, bucket - 1] if bucket else 0.0
    return (lower + inside * (sums[:, bucket] - lower)) / sums[:, -1]


def _of_quantiles(a: Quantile, b: Quantile) -> Span:
    """MOVER: each side of the interval from one side of each quantile's own."""
    change = b.log - a.log

    def bounds(level: float) -> tuple[float, float]:
        (a_low, a_high), (b_low, b_high) = a.bounds(level), b.bounds(level)
        low = change - math.hypot(a_high - a.log, b.log - b_low)
        high = change + math.hypot(a.log - a_low, b_high - b.log)
        return of_logs(low - a.loose[1] - b.loose[0], high + a.loose[0] + b.loose[1])

    return Span(math.expm1(change), bounds)
