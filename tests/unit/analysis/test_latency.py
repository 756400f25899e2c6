"""Percentiles: nearest rank, within the buckets' error of the exact value."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis.latency import QUANTILES, Bucket, percentile
from livedump.recording import store
from livedump.recording.buckets import bounds, bucket_of
from tests.unit import samples


def bucketed(values: list[int]) -> list[Bucket]:
    """The histogram of *values*."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return [Bucket(*bounds(bucket), count) for bucket, count in sorted(counts.items())]


@pytest.mark.parametrize("count", [1, 2, 9, 1000, 5003])
@pytest.mark.parametrize("quantile", [*QUANTILES.values(), Fraction(1)])
def test_percentile_is_within_the_error(count: int, quantile: Fraction) -> None:
    chance = random.Random(count)
    values = sorted(int(chance.lognormvariate(9, 2)) for _ in range(count))
    exact = values[max(0, -(-count * quantile.numerator // quantile.denominator) - 1)]
    found = percentile(bucketed(values), quantile, values[-1])
    assert abs(found - exact) <= max(1, exact * 0.0323)
    assert found <= values[-1]


def test_maximum_is_exact_and_never_exceeded() -> None:
    buckets = [Bucket(1024, 1088, 3)]
    assert percentile(buckets, Fraction(1), 1030) == 1030
    assert percentile(buckets, Fraction(1, 2), 1030) == 1030
    assert percentile(buckets, Fraction(1, 2)) == 1055


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError):
        percentile([], Fraction(1, 2))
    with pytest.raises(ValueError):
        percentile([Bucket(1, 2, 1)], Fraction(0))


def test_latencies_of_a_recording(tmp_path: Path) -> None:
    found = analysis.latencies(store.read(samples.write(tmp_path / "r")))
    assert [row.kind for row in found] == ["user", "cow", "cow_demote", "cow_copy", "stop"]
    stop = found[-1]
    assert (stop.count, stop.max_ns, stop.mean_ns) == (1, 64_900_000, 64_900_000)
    assert stop.percentiles_ns["p50"] == 64_900_000
    data = found[1].to_dict()
    assert data["count"] == 1350
    assert data["p50_ns"] <= data["p99.9_ns"] <= data["max_ns"]  # type: ignore[operator]
