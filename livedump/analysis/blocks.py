"""What a recording might have been: blocks of its time slices, drawn anew.

Faults come in bursts: they are not independent of each other, and neither are slices. So blocks of
slices are drawn with replacement, whole, and every number is computed anew from what was drawn
(Carlstein 1986). A block is at least a second long and, where there are enough, as long as slices
remember each other (their integrated autocorrelation time, Sokal's window); there are at most
:data:`MAX_BLOCKS`, as Schmeiser 1982 advises for batch means. What neighbours among blocks still
have in common, and that they are few, widens the interval: to refuse wherever bursts go on for long
would leave those recordings in which their length was estimated too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livedump.analysis.significance import TOO_SHORT, TooLittle
from livedump.metrics import Bucket

#: Blocks of a recording; with fewer, nothing can be said.
MIN_BLOCKS = 4
MAX_BLOCKS = 30

BLOCK_NS = 1_000_000_000

#: Of the table ``slices``: what :func:`of_kind` reads.
COLUMNS = ("kind", "slice", "bucket_low_ns", "bucket_high_ns", "count", "stalled_ns")

RESAMPLES = 1000

#: A block is so many times as long as slices remember each other, or there are MIN_BLOCKS.
MEMORIES = 2

#: Nor can anything be said if neighbours have so much in common that the resamples have less than
#: this share of the variance.
MIN_VARIANCE = 0.2

#: The autocorrelation is summed up over so many times its own length.
WINDOW = 5


@dataclass(frozen=True)
class Slices:
    """Of one kind: a place for each slice and bucket that has values.

    :ivar number: of the slice
    :ivar bucket: place in *edges*, which rise
    :ivar stalled: how long they took, added up, ns
    :ivar edges: ns, from the first to below the second
    """

    number: Any
    bucket: Any
    count: Any
    stalled: Any
    edges: Sequence[tuple[int, int]]

    @property
    def middles(self) -> Any:
        """Of the buckets, ns."""
        import numpy

        return numpy.array([Bucket(*edges, 0).middle_ns for edges in self.edges], "f8")


@dataclass(frozen=True)
class Drawn:
    """What a recording might have been: a row for each resample.

    :ivar sums: values up to the end of each bucket
    :ivar stalled: sum of all values
    :ivar buckets: what was drawn from
    :ivar blocks: that were drawn from
    :ivar filled: of these, those with any values
    :ivar missed: by how much the variance of the resamples is too small
    """

    sums: Any
    stalled: Any
    buckets: tuple[Bucket, ...]
    blocks: int
    filled: int
    missed: float

    @property
    def count(self) -> int:
        """Values in all blocks."""
        return sum(bucket.count for bucket in self.buckets)


def of_kind(table: Any, kind: str) -> Slices:
    """A kind's part of the table ``slices``, of which it has :data:`COLUMNS`.

    What has no exact sum is taken for the middles of its buckets.
    """
    import numpy
    import pyarrow.compute

    rows = table.filter(pyarrow.compute.equal(table["kind"], kind))
    # Faults without a latency are in a bucket of their own.
    fill = {"slice": 0, "bucket_low_ns": 0, "bucket_high_ns": 1, "count": 0}
    filled = (pyarrow.compute.fill_null(rows[name], value) for name, value in fill.items())
    number, low, high, count = (column.to_numpy() for column in filled)
    lows, at, bucket = numpy.unique(low, return_index=True, return_inverse=True)
    edges = list(zip(lows.tolist(), high[at].tolist(), strict=True))
    middles = numpy.array([Bucket(*each, 0).middle_ns for each in edges], "f8")
    exact = rows["stalled_ns"].cast("float64", safe=False).to_numpy()
    stalled = numpy.where(numpy.isnan(exact), middles[bucket] * count, exact)
    return Slices(number.astype("i8"), bucket, count, stalled, edges)


def resample(slices: Slices, first: int, end: int, least: float, seed: int) -> Drawn:
    """Draw blocks of the slices from *first* to before *end*.

    :param least: slices of a block
    :raises TooLittle: there are too few
    """
    import numpy

    width, length = max(1, len(slices.edges)), end - first
    memory = _memory(slices, first, length)
    apart = max(MIN_BLOCKS, int(length / (MEMORIES * memory)))
    blocks = min(MAX_BLOCKS, apart, int(length / least))
    kept = 1 - memory * blocks / length / 2
    if blocks < MIN_BLOCKS or kept < MIN_VARIANCE:
        raise TooLittle(TOO_SHORT)
    block = (slices.number - first) * blocks // length
    place = block * width + slices.bucket
    table = numpy.bincount(place, slices.count, blocks * width).reshape(blocks, width)
    stalled = numpy.bincount(block, slices.stalled, blocks)
    chosen = numpy.random.default_rng(seed).integers(blocks, size=(RESAMPLES, blocks))
    chosen += blocks * numpy.arange(RESAMPLES)[:, None]
    weights = numpy.bincount(chosen.ravel(), minlength=RESAMPLES * blocks)
    weights = weights.reshape(RESAMPLES, blocks).astype(float)
    drawn = weights @ table
    counts = table.sum(axis=0).astype("i8").tolist()
    return Drawn(
        sums=drawn.cumsum(axis=1),
        stalled=weights @ stalled,
        buckets=tuple(
            Bucket(*edges, count) for edges, count in zip(slices.edges, counts, strict=False)
        ),
        blocks=blocks,
        filled=int((table.sum(axis=1) > 0).sum()),
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
