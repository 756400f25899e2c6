"""What chance explains: the promise is kept on loads that come in bursts."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy
import pyarrow.compute
import pytest

from livedump.analysis import chance
from livedump.analysis.chance import Chance, TooLittle
from livedump.metrics import Bucket, Values
from tests.unit.analysis.bursts import InMemory, bursty

METRICS = ("rate", "p50", "p90", "p99", "mean", "stalled")

PAIRS = 60


def value(recording: InMemory, metric: str, seconds: int) -> float:
    """A metric of the whole recording."""
    table = recording.columns("slices").group_by(["bucket_low_ns", "bucket_high_ns"])
    total = table.aggregate([("count", "sum")]).sort_by("bucket_low_ns")
    rows = zip(*(column.to_pylist() for column in total.columns), strict=True)
    return Values(tuple(Bucket(*row) for row in rows)).metric(metric, seconds)


def intervals(
    pair: tuple[InMemory, InMemory], seconds: int, metrics: tuple[str, ...] = METRICS
) -> dict[str, tuple[float, float]]:
    """Of the changes from one to the other."""
    both = Chance(pair, (seconds * 10**9,) * 2)
    return {
        metric: both.interval("user", metric, *(value(each, metric, seconds) for each in pair))
        for metric in metrics
    }


def interval(pair: tuple[InMemory, InMemory], metric: str, seconds: int) -> tuple[float, float]:
    """Of one metric."""
    return intervals(pair, seconds, (metric,))[metric]


def found(
    seconds: int, slower: float = 1.0, pairs: int = PAIRS, memory_s: float = 0.5
) -> dict[str, int]:
    """How many of the pairs are called different, by metric."""
    hits = dict.fromkeys(METRICS, 0)
    source = numpy.random.default_rng(7)
    for _ in range(pairs):
        factors = (1.0, slower)
        a, b = (bursty(source, seconds, slower=each, memory_s=memory_s) for each in factors)
        for metric, (low, high) in intervals((a, b), seconds).items():
            hits[metric] += low > 0 or high < 0
    return hits


def test_equal_loads_are_equal() -> None:
    hits = found(60)
    # Of 360 at 1 %, which are not independent: 4 expected; of one metric, 6 are 1 in 20,000.
    assert sum(hits.values()) <= 12, hits
    assert max(hits.values()) <= 5, hits


def test_equal_loads_are_equal_in_seconds_too() -> None:
    """8 s, 16 times as long as bursts last: fewer blocks, and wider intervals for it."""
    hits = found(8)
    assert sum(hits.values()) <= 15, hits


def test_bursts_that_last_for_a_sixth_of_the_recording() -> None:
    hits = found(30, memory_s=5)
    # Of 360, which are not independent; 3 % were seen in 600. Blocks of a second find a third.
    assert sum(hits.values()) <= 36, hits


def test_slices_taken_as_independent_break_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(chance, "BLOCK_NS", 100_000_000)
    monkeypatch.setattr(chance, "MAX_BLOCKS", 1_000_000)
    monkeypatch.setattr(chance, "_memory", lambda *_: 0.5)
    hits = found(60, pairs=20)
    assert sum(hits.values()) > 8, hits


def test_a_fifth_slower_is_found() -> None:
    hits = found(300, slower=1.2, pairs=10)
    assert min(hits["p50"], hits["p90"], hits["mean"]) >= 9, hits
    assert hits["rate"] <= 2, hits


def test_the_interval_holds_the_truth() -> None:
    pair = bursty(numpy.random.default_rng(1), 120), bursty(numpy.random.default_rng(2), 120)
    found = intervals(pair, 120)
    assert all(-0.5 < low < 0 < high < 1 for low, high in found.values()), found
    assert found == intervals(pair, 120), "it is the same each time"


def test_short_recordings_and_few_faults_say_so() -> None:
    pair = bursty(numpy.random.default_rng(1), 3), bursty(numpy.random.default_rng(2), 60)
    with pytest.raises(TooLittle, match="too short to tell"):
        interval(pair, "p50", 3)
    pair = bursty(numpy.random.default_rng(1), 30), bursty(numpy.random.default_rng(2), 30)
    with pytest.raises(TooLittle, match="too few to tell"):
        interval(pair, "p99.9", 30)
    slices = pair[0].columns("slices")
    ends = slices.filter(pyarrow.compute.is_in(slices["slice"], pyarrow.array([0, 299], "u4")))
    rare = InMemory(pair[0].meta, {"slices": ends})
    with pytest.raises(TooLittle, match="too few to tell"):
        interval((rare, pair[1]), "mean", 30)


def test_few_bursts_do_not_tell_how_long_faults_take() -> None:
    """Five bursts in a minute: each of its own, and none like the next five."""
    whole = bursty(numpy.random.default_rng(1), 60)
    slices = whole.columns("slices")
    some = pyarrow.compute.is_in(slices["slice"], pyarrow.array([0, 100, 200, 400, 599], "u4"))
    rare = InMemory(whole.meta, {"slices": slices.filter(some)})
    for metric in ("p50", "mean"):
        with pytest.raises(TooLittle, match="too few to tell"):
            interval((rare, whole), metric, 60)


def test_memory_of_a_short_series_is_not_estimated_too_low() -> None:
    """Of first-order autoregression, which has 9; without the correction 4.5 are found."""
    source, kept = numpy.random.default_rng(4), 0.8
    times = [chance._autocorrelation_time(_series(source, 100, kept)) for _ in range(400)]
    assert 6 < numpy.mean(times) < 10


def _series(source: Any, steps: int, kept: float) -> Any:
    found = source.normal(size=steps)
    for step in range(1, steps):
        found[step] += kept * found[step - 1]
    return found


def test_what_goes_on_all_the_time_is_too_short_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = bursty(numpy.random.default_rng(1), 30), bursty(numpy.random.default_rng(2), 30)
    low, high = interval(pair, "rate", 30)
    monkeypatch.setattr(chance, "_memory", lambda *_: 100.0)
    wider = interval(pair, "rate", 30)
    assert wider[0] < low and wider[1] > 2 * high, (wider, low, high)
    monkeypatch.setattr(chance, "_memory", lambda *_: 130.0)
    with pytest.raises(TooLittle, match="too short to tell"):
        interval(pair, "rate", 30)


def test_nothing_on_one_side() -> None:
    assert chance._around(0, 5, 0.5) == (math.inf, math.inf)
    assert chance._around(0, 5, 1.5) == (0, math.inf)
    assert chance._around(5, 0, 0.5) == (-1, -0.5)


@pytest.mark.parametrize(("freedom", "table"), [(3, 5.8409), (9, 3.2498), (58, 2.6633)])
def test_student(freedom: int, table: float) -> None:
    assert chance._student(0.995, freedom) == pytest.approx(table, rel=1e-2)


def test_half_an_hour_takes_no_time() -> None:
    source = numpy.random.default_rng(5)
    pair: Any = (bursty(source, 1800), bursty(source, 1800))
    both, begun = Chance(pair, (1800 * 10**9,) * 2), time.monotonic()
    for metric in METRICS:
        both.interval("user", metric, 1.0, 1.0)
    assert time.monotonic() - begun < 4


def test_resamples_of_empty_blocks_say_nothing() -> None:
    """Such a resample has no mean, nor a median; the others have."""
    sums = numpy.array([[5, 10], [0, 0], [4, 10]])
    drawn = chance.Drawn(
        sums, numpy.array([50.0, 0.0, 60.0]), numpy.array([1.0, 9.0]), 30, 16, 20, 1
    )
    assert chance._numbers(drawn, "mean").tolist() == [5.0, 6.0]
    assert chance._numbers(drawn, "p50").tolist() == [1.0, 9.0]
