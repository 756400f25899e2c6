"""Quantiles inside buckets: the distribution is known at the buckets' edges, and straight between.

The straight line is right where a bucket is one of many alike. Where its neighbours hold much less
(all faults take nearly the same time) its values may be anywhere in it: :attr:`Place.loose`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from livedump.metrics import Bucket


@dataclass(frozen=True)
class Place:
    """Where a quantile lies.

    :ivar bucket: which, from 0
    :ivar inside: share of the bucket's values below it
    :ivar log: the quantile's logarithm
    :ivar loose: by how much that may be too high, and too low
    """

    bucket: int
    inside: float
    log: float
    loose: tuple[float, float]


@dataclass(frozen=True)
class Ogive:
    """A cumulated histogram.

    :ivar buckets: in order, none without a value
    """

    buckets: Sequence[Bucket]

    @cached_property
    def sums(self) -> list[int]:
        """Values up to the end of each bucket."""
        return list(accumulate(bucket.count for bucket in self.buckets))

    def place(self, share: float) -> Place:
        """Of the quantile that *share* of all values do not exceed.

        :param share: above 0, below 1
        """
        rank = share * self.sums[-1]
        number = min(bisect_left(self.sums, rank), len(self.sums) - 1)
        bucket = self.buckets[number]
        inside = 1 - (self.sums[number] - rank) / bucket.count
        low, high = bucket.low_ns, bucket.high_ns
        log = math.log(max(low + (high - low) * inside, 0.5))
        unsure = self._unsure(number)
        down, up = log - math.log(max(low, 0.5)), math.log(high) - log
        return Place(number, inside, log, (unsure * down, unsure * up))

    def _unsure(self, number: int) -> float:
        """Share of a bucket's values that its neighbours do not make likely to be spread evenly."""
        return max(
            0.0, 1 - (self._density(number - 1, number) + self._density(number + 1, number)) / 2
        )

    def _density(self, number: int, beside: int) -> float:
        """Of a bucket, as a share of its neighbour's."""
        if not 0 <= number < len(self.buckets):
            return 0.0
        bucket, other = self.buckets[number], self.buckets[beside]
        if bucket.high_ns != other.low_ns and bucket.low_ns != other.high_ns:
            return 0.0
        widths = bucket.high_ns - bucket.low_ns, other.high_ns - other.low_ns
        return bucket.count / widths[0] / (other.count / widths[1])
