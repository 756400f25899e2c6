"""Percentiles: nearest rank, within the buckets' error of the exact value."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from livedump import analysis
from livedump.metrics import QUANTILES, Bucket, Values
from livedump.recording import store
from livedump.recording.buckets import values
from tests.unit import samples
from tests.unit.buckets import bucket_of


def bucketed(numbers: list[int]) -> Values:
    """The histogram of *numbers*."""
    found = values(Counter(map(bucket_of, numbers)))
    return replace(found, exact_max_ns=numbers[-1])


@pytest.mark.parametrize("count", [1, 2, 9, 1000, 5003])
@pytest.mark.parametrize("quantile", [*QUANTILES.values(), Fraction(1)])
def test_percentile_is_within_the_error(count: int, quantile: Fraction) -> None:
    chance = random.Random(count)
    numbers = sorted(int(chance.lognormvariate(9, 2)) for _ in range(count))
    exact = numbers[max(0, -(-count * quantile.numerator // quantile.denominator) - 1)]
    found = bucketed(numbers).quantile_ns(quantile)
    assert abs(found - exact) <= max(1, exact * 0.0323)
    assert found <= numbers[-1]


def test_maximum_is_exact_and_never_exceeded() -> None:
    some = Values((Bucket(1024, 1088, 3),))
    known = replace(some, exact_max_ns=1030)
    assert known.quantile_ns(Fraction(1)) == known.max_ns == 1030
    assert known.quantile_ns(Fraction(1, 2)) == 1030
    assert some.quantile_ns(Fraction(1, 2)) == some.max_ns == 1055


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError):
        Values((Bucket(1, 2, 1),)).quantile_ns(Fraction(0))
    with pytest.raises(KeyError):
        Values((Bucket(1, 2, 1),)).metric("p100", 1.0)


def test_latencies_of_a_recording(tmp_path: Path) -> None:
    found = analysis.latencies(store.read(samples.write(tmp_path / "r")))
    assert [row.kind for row in found] == ["user", "cow", "cow_demote", "cow_copy", "stop"]
    stop = found[-1]
    assert (stop.count, stop.max_ns, stop.mean_ns) == (1, 64_900_000, 64_900_000)
    assert stop.percentiles_ns["p50"] == 64_900_000
    data = found[1].to_dict()
    assert data["count"] == 1350
    assert data["p50_ns"] <= data["p99.9_ns"] <= data["max_ns"]  # type: ignore[operator]
