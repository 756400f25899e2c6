"""What p50, mean, max and stalled are: for report, diff, trigger and top alike.

Latencies are kept in log-linear buckets (:mod:`livedump.recording.buckets`). A value of a bucket is
taken for its middle, which is within 3.2 % of it; where the exact sum and maximum are known, these
are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

#: Metrics that are not percentiles, and their unit; `stalled` is of a second.
METRICS = {"mean": "ns", "max": "ns", "count": "", "rate": "/s", "stalled": "ns"}

#: Of these, those that are 0 where there is no event; the others are not there then.
SUMS = frozenset({"count", "rate", "stalled"})

#: Percentiles that are shown, by their usual name.
QUANTILES = {
    "p50": Fraction(1, 2),
    "p90": Fraction(9, 10),
    "p99": Fraction(99, 100),
    "p99.9": Fraction(999, 1000),
}


def quantile(metric: str) -> Fraction | None:
    """``p99.9`` -> 999/1000; None for what is no percentile."""
    if not re.fullmatch(r"p\d+(\.\d+)?", metric):
        return None
    share = Fraction(metric[1:]) / 100
    return share if 0 < share < 1 else None


@dataclass(frozen=True)
class Bucket:
    """Values from *low_ns* to below *high_ns*, and how many."""

    low_ns: int
    high_ns: int
    count: int

    @property
    def middle_ns(self) -> int:
        """What each of its values is taken for."""
        return (self.low_ns + self.high_ns - 1) // 2


@dataclass(frozen=True)
class Values:
    """Latencies.

    :param buckets: not empty, in order; no bucket without a value
    :param exact_sum_ns: None: not known
    :param exact_max_ns: None: not known
    """

    buckets: tuple[Bucket, ...]
    exact_sum_ns: int | None = None
    exact_max_ns: int | None = None

    @classmethod
    def of(cls, counts: Mapping[int, int], bounds: Iterable[tuple[int, int]]) -> Values:
        """From how many values there are in each bucket, by number.

        :param bounds: of the buckets of *counts*, by rising number
        """
        pairs = zip(sorted(counts), bounds, strict=True)
        return cls(tuple(Bucket(*edges, counts[number]) for number, edges in pairs))

    @property
    def count(self) -> int:
        """How many."""
        return sum(bucket.count for bucket in self.buckets)

    @property
    def sum_ns(self) -> int:
        """All of them together."""
        if self.exact_sum_ns is not None:
            return self.exact_sum_ns
        return sum(bucket.count * bucket.middle_ns for bucket in self.buckets)

    @property
    def mean_ns(self) -> float:
        """The sum, shared out."""
        return self.sum_ns / self.count

    @property
    def max_ns(self) -> int:
        """The longest."""
        if self.exact_max_ns is not None:
            return self.exact_max_ns
        return self.buckets[-1].middle_ns

    def quantile_ns(self, share: Fraction) -> int:
        """The value that *share* of all values do not exceed (nearest rank).

        :param share: above 0, at most 1
        :raises ValueError: no such share
        """
        if not 0 < share <= 1:
            raise ValueError(f"no such quantile: {share}")
        total = self.count
        rank = -(-total * share.numerator // share.denominator)
        if rank == total:
            return self.max_ns
        seen = 0
        for bucket in self.buckets:
            seen += bucket.count
            if seen >= rank:
                return min(bucket.middle_ns, self.max_ns)
        raise AssertionError("unreachable")

    def metric(self, metric: str, seconds: float) -> float:
        """By its name in a condition.

        :param seconds: in which they were taken
        :raises KeyError: no such metric
        """
        share = quantile(metric)
        if share is not None:
            return self.quantile_ns(share)
        return {
            "mean": self.mean_ns,
            "max": self.max_ns,
            "count": self.count,
            "rate": self.count / seconds,
            "stalled": self.sum_ns / seconds,
        }[metric]
