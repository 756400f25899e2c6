"""Log-linear buckets: the mirror of ``bpf/loglinear.h``.

16 buckets for each power of two: a bucket is at most 1/16 as wide as its lower bound, so its
bounds are within 6.25 % of every value in it and its middle within 3.2 %. A test compares this
with the C.
"""

from __future__ import annotations

from collections.abc import Mapping

from livedump.metrics import Values

SUB_BITS = 4
SUB = 1 << SUB_BITS
BUCKETS = (64 - SUB_BITS + 1) * SUB


def bounds(bucket: int) -> tuple[int, int]:
    """Lower bound (included) and upper bound (excluded) of a bucket."""
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"no such bucket: {bucket}")
    group, sub = divmod(bucket, SUB)
    if group == 0:
        return sub, sub + 1
    shift = group - 1
    return (SUB + sub) << shift, (SUB + sub + 1) << shift


def values(counts: Mapping[int, int]) -> Values:
    """Of so many values in each bucket, by number; at least one."""
    seen = {bucket: count for bucket, count in counts.items() if count}
    return Values.of(seen, map(bounds, sorted(seen)))
