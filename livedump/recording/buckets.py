"""Log-linear buckets: the mirror of ``bpf/loglinear.h``.

16 buckets for each power of two: a bucket is at most 1/16 as wide as its lower bound, so its
bounds are within 6.25 % of every value in it and its middle within 3.2 %. A test compares this
with the C.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

SUB_BITS = 4
SUB = 1 << SUB_BITS
BUCKETS = (64 - SUB_BITS + 1) * SUB


def bucket_of(value: int) -> int:
    """Index of the bucket that holds *value* (0 <= value < 2**64)."""
    if value < SUB:
        return value
    exponent = value.bit_length() - 1
    return (exponent - SUB_BITS + 1) * SUB + ((value >> (exponent - SUB_BITS)) & (SUB - 1))


def bounds(bucket: int) -> tuple[int, int]:
    """Lower bound (included) and upper bound (excluded) of a bucket."""
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"no such bucket: {bucket}")
    group, sub = divmod(bucket, SUB)
    if group == 0:
        return sub, sub + 1
    shift = group - 1
    return (SUB + sub) << shift, (SUB + sub + 1) << shift


def value_at(counts: Mapping[int, int], quantile: Fraction) -> int:
    """The value that *quantile* of all values do not exceed (nearest rank): its bucket's middle.

    :param counts: bucket -> values in it, at least one
    :param quantile: above 0, at most 1
    """
    rank = -(-sum(counts.values()) * quantile.numerator // quantile.denominator)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            break
    low, high = bounds(bucket)
    return (low + high - 1) // 2
