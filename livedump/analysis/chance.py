"""How much a number would change by chance alone: a block bootstrap over time slices.

Faults come in bursts: they are not independent of each other, and neither are slices. So blocks of
slices are drawn with replacement, whole, and every number is computed anew from what was drawn
(Carlstein 1986). A block is at least a second long and, where there are enough, as long as slices
remember each other (their integrated autocorrelation time, Sokal's window); there are at most
:data:`MAX_BLOCKS`, as Schmeiser 1982 advises for batch means. What neighbours among blocks still
have in common, and that they are few, widens the interval: to refuse wherever bursts go on for long
would leave those recordings in which their length was estimated too low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import NormalDist
from typing import Any

from livedump.metrics import SUMS, quantile
from livedump.recording.store import Recording

#: A change counts as one when chance would show it this rarely.
ALPHA = 0.01

#: Blocks of a recording; with fewer, nothing can be said.
MIN_BLOCKS = 4
MAX_BLOCKS = 30

#: Blocks that have any faults, or all of them; with fewer, a few bursts may be unlike the next few.
MIN_FILLED = 10

BLOCK_NS = 1_000_000_000

RESAMPLES = 1000

#: A block is so many times as long as slices remember each other, or there are MIN_BLOCKS.
MEMORIES = 2

#: Nor can anything be said if neighbours have so much in common that the resamples have less than
#: this share of the variance.
MIN_VARIANCE = 0.2

#: The autocorrelation is summed up over so many times its own length.
WINDOW = 5

#: With fewer values above it, a quantile is not known well enough to compare.
MIN_TAIL = 10

#: Of the random numbers: the same recordings always give the same intervals.
SEED = 2014

#: A quantile is known as its bucket's middle: the ratio of two is wrong by so much, as a logarithm.
ROUNDING = math.log(1 + 1 / 16)

TOO_SHORT = "too short to tell"
TOO_FEW = "too few to tell"
NO_TEST = ""


class TooLittle(Exception):
    """Nothing can be said; why, in words."""


@dataclass(frozen=True)
class Slices:
    """Of one kind: a place for each slice and bucket that has values.

    :ivar number: of the slice
    :ivar bucket: place in *middles*, which rise
    """

    number: Any
    bucket: Any
    count: Any
    middles: Any


@dataclass(frozen=True)
class Drawn:
    """What a recording might have been: a row for each resample.

    :ivar sums: values up to the end of each bucket
    :ivar stalled: sum of all values, by their buckets' middles
    :ivar middles: of the buckets, ns
    :ivar blocks: that were drawn from
    :ivar filled: of these, those with any values
    :ivar count: values in all blocks
    :ivar missed: by how much the variance of the resamples is too small
    """

    sums: Any
    stalled: Any
    middles: Any
    blocks: int
    filled: int
    count: int
    missed: float


@dataclass
class Chance:
    """Two recordings, and what chance may make of them.

    :param lasted_ns: of each
    """

    recordings: tuple[Recording, Recording]
    lasted_ns: tuple[int, int]
    _tables: dict[int, Any] = field(default_factory=dict)
    _kinds: dict[tuple[int, str], Slices] = field(default_factory=dict)
    _drawn: dict[tuple[int, str, bool], Drawn] = field(default_factory=dict)

    def interval(self, kind: str, metric: str, before: float, after: float) -> tuple[float, float]:
        """Where (B - A) / A lies, but for :data:`ALPHA` of the cases.

        :param before: the metric in A, after: in B; where A has none, infinite
        :raises TooLittle: the recordings do not say
        """
        if metric == "max":
            raise TooLittle(NO_TEST)  # no resample has a greater one
        drawn = [self._draw(side, kind, metric in SUMS) for side in (0, 1)]
        spreads = [_variance(each, metric) for each in drawn]
        reach = _reach(spreads, [each.blocks - 1 for each in drawn])
        if not before or not after:
            return _around(before, after, reach)
        if quantile(metric) is not None:
            reach += ROUNDING
        change = math.log(after / before)
        return math.expm1(change - reach), math.expm1(min(change + reach, 700))

    def _draw(self, side: int, kind: str, whole: bool) -> Drawn:
        """Of all the time, or only of that in which there were such faults."""
        key = (side, kind, whole)
        if key not in self._drawn:
            slice_ns = int(self.recordings[side].meta["slice_ns"])
            slices = self._slices(side, kind)
            first, end = 0, -(-self.lasted_ns[side] // slice_ns)
            if len(slices.number):
                seen = int(slices.number.min()), int(slices.number.max()) + 1
                first, end = (0, max(end, seen[1])) if whole else seen
            self._drawn[key] = _resample(slices, first, end, BLOCK_NS / slice_ns, SEED + side)
        return self._drawn[key]

    def _slices(self, side: int, kind: str) -> Slices:
        if side not in self._tables:
            columns = ["kind", "slice", "bucket_low_ns", "bucket_high_ns", "count"]
            self._tables[side] = self.recordings[side].columns("slices").select(columns)
        if (side, kind) not in self._kinds:
            self._kinds[side, kind] = self._of_kind(self._tables[side], kind)
        return self._kinds[side, kind]

    @staticmethod
    def _of_kind(table: Any, kind: str) -> Slices:
        import numpy
        import pyarrow.compute

        rows = table.filter(pyarrow.compute.equal(table["kind"], kind))
        # Faults without a latency are in a bucket of their own.
        filled = (pyarrow.compute.fill_null(rows[name], 0) for name in rows.column_names[1:])
        number, low, high, count = (column.to_numpy() for column in filled)
        lows, at, bucket = numpy.unique(low, return_index=True, return_inverse=True)
        return Slices(number.astype("i8"), bucket, count, (lows / 2 + (high[at] - 1) / 2))


def _around(before: float, after: float, reach: float) -> tuple[float, float]:
    """Where one of them is 0: there is no ratio of all to nothing."""
    if not before:
        known = after and reach < 1
        return (math.inf if known else 0.0), math.inf
    return -1.0, -1.0 + reach


def _reach(variances: list[float], freedom: list[int]) -> float:
    """How far an interval goes on each side (Welch 1947)."""
    total = sum(variances)
    if not total:
        return 0.0
    parts = sum(variance**2 / free for variance, free in zip(variances, freedom, strict=True))
    return _student(1 - ALPHA / 2, total**2 / parts) * math.sqrt(total)


def _student(share: float, freedom: float) -> float:
    """A quantile of Student's t, for a freedom of 3 and more (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    )


# ---- resamples ----


def _resample(slices: Slices, first: int, end: int, least: float, seed: int) -> Drawn:
    """Draw blocks of the slices from *first* to before *end*.

    :param least: slices of a block
    """
    import numpy

    width, length = max(1, len(slices.middles)), end - first
    memory = _memory(slices, first, length)
    apart = max(MIN_BLOCKS, int(length / (MEMORIES * memory)))
    blocks = min(MAX_BLOCKS, apart, int(length / least))
    kept = 1 - memory * blocks / length / 2
    if blocks < MIN_BLOCKS or kept < MIN_VARIANCE:
        raise TooLittle(TOO_SHORT)
    place = (slices.number - first) * blocks // length * width + slices.bucket
    table = numpy.bincount(place, slices.count, blocks * width).reshape(blocks, width)
    chosen = numpy.random.default_rng(seed).integers(blocks, size=(RESAMPLES, blocks))
    chosen += blocks * numpy.arange(RESAMPLES)[:, None]
    weights = numpy.bincount(chosen.ravel(), minlength=RESAMPLES * blocks)
    drawn = weights.reshape(RESAMPLES, blocks).astype(float) @ table
    middles = slices.middles if len(slices.middles) else numpy.zeros(1)
    return Drawn(
        sums=drawn.cumsum(axis=1),
        stalled=drawn @ middles,
        middles=middles,
        blocks=blocks,
        filled=int((table.sum(axis=1) > 0).sum()),
        count=int(table.sum()),
        missed=blocks / (blocks - 1) / kept,
    )


def _memory(slices: Slices, first: int, length: int) -> float:
    """For how many slices bursts go on: of their faults, or of faults being slow."""
    import numpy

    if not len(slices.number):
        return 1.0
    logs = numpy.log(slices.middles + 1)[slices.bucket]
    logs -= numpy.average(logs, weights=slices.count)
    place = slices.number - first
    return max(
        _autocorrelation_time(numpy.bincount(place, values, length))
        for values in (slices.count, slices.count * logs)
    )


def _autocorrelation_time(series: Any) -> float:
    """Integrated, in steps; at least 1.

    The mean is taken out with the series' own: each correlation is too low by the time over the
    length, summed up on both sides of the window.
    """
    import numpy

    series = series - series.mean()
    power = numpy.abs(numpy.fft.rfft(series, 2 * len(series))) ** 2
    correlation = numpy.fft.irfft(power)[: len(series)]
    if correlation[0] <= 0:
        return 1.0
    times = 2 * numpy.cumsum(correlation / correlation[0]) - 1
    enough = numpy.arange(len(series)) >= WINDOW * times
    found = max(1.0, float(times[numpy.argmax(enough)] if enough.any() else times.max()))
    return found * (1 + 2 * WINDOW * found / len(series))


# ---- metrics ----


def _variance(drawn: Drawn, metric: str) -> float:
    """Of a metric over the resamples, as a share of its mean, squared."""
    values = _numbers(drawn, metric)
    mean = float(values.mean())
    return drawn.missed * float(values.var()) / mean**2 if mean else 0.0


def _numbers(drawn: Drawn, metric: str) -> Any:
    """A metric of each resample."""
    if metric in ("count", "rate"):
        return drawn.sums[:, -1]
    if metric == "stalled":
        return drawn.stalled
    if drawn.filled < min(MIN_FILLED, drawn.blocks):
        raise TooLittle(TOO_FEW)
    if metric == "mean":
        seen = drawn.sums[:, -1] > 0  # a resample may have drawn nothing but empty blocks
        return drawn.stalled[seen] / drawn.sums[seen, -1]
    share = quantile(metric)
    assert share is not None, metric
    return _quantiles(drawn, share)


def _quantiles(drawn: Drawn, share: Fraction) -> Any:
    """Nearest rank, as :func:`livedump.analysis.latency.percentile` has it."""
    if drawn.count * (1 - share) < MIN_TAIL:
        raise TooLittle(TOO_FEW)
    sums = drawn.sums[drawn.sums[:, -1] > 0]
    totals = sums[:, -1].astype("i8")
    rank = -(-totals * share.numerator // share.denominator)
    return drawn.middles[(sums < rank[:, None]).sum(axis=1)]
