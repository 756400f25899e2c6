"""What chance explains: the promise is kept on loads that come in bursts."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
import pytest

from livedump.analysis import blocks, chance
from livedump.analysis.chance import within
from livedump.analysis.run import Run
from livedump.analysis.significance import Span, TooLittle
from livedump.metrics import Bucket
from tests.unit.analysis.bursts import InMemory, bursty
from tools.stats.loads import Load, recording, run

METRICS = ("rate", "p50", "p90", "p99", "mean", "stalled")

PAIRS = 60


def spans(pair: tuple[InMemory, InMemory], metrics: tuple[str, ...] = METRICS) -> dict[str, Span]:
    """Of the changes from one to the other."""
    a, b = Run("A", pair[0], 0), Run("B", pair[1], 1)
    both = a.chance, b.chance
    return {
        metric: within(
            both, "user", metric, (a.value("user", metric) or 0.0, b.value("user", metric) or 0.0)
        )
        for metric in metrics
    }


def intervals(pair: tuple[InMemory, InMemory]) -> dict[str, tuple[float, float]]:
    """Of all metrics."""
    return {metric: span.interval for metric, span in spans(pair).items()}


def interval(pair: tuple[InMemory, InMemory], metric: str) -> tuple[float, float]:
    """Of one metric."""
    return spans(pair, (metric,))[metric].interval


def found(
    seconds: int, slower: float = 1.0, pairs: int = PAIRS, load: Load = Load()
) -> dict[str, int]:
    """How many of the pairs are called different, by metric."""
    hits = dict.fromkeys(METRICS, 0)
    source = numpy.random.default_rng(7)
    for _ in range(pairs):
        a, b = run(source, seconds, load), run(source, seconds, replace(load, slower=slower))
        for metric, span in spans((a, b)).items():
            low, high = span.interval
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
    hits = found(30, load=Load(memory_s=5))
    # Of 360, which are not independent; 3 % were seen in 600. Blocks of a second find a third.
    assert sum(hits.values()) <= 36, hits


def test_slices_taken_as_independent_break_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(chance, "BLOCK_NS", 100_000_000)
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 1_000_000)
    monkeypatch.setattr(blocks, "_memory", lambda *_: 0.5)
    hits = found(60, pairs=20)
    assert sum(hits.values()) > 8, hits


def test_a_fifth_slower_is_found() -> None:
    hits = found(300, slower=1.2, pairs=10)
    assert min(hits["p50"], hits["p90"], hits["mean"]) >= 9, hits
    assert hits["rate"] <= 2, hits


def test_the_interval_holds_the_truth() -> None:
    pair = bursty(numpy.random.default_rng(1), 120), bursty(numpy.random.default_rng(2), 120)
    found = intervals(pair)
    assert all(-0.5 < low < 0 < high < 1 for low, high in found.values()), found
    assert found == intervals(pair), "it is the same each time"


def test_short_recordings_and_few_faults_say_so() -> None:
    pair = bursty(numpy.random.default_rng(1), 3), bursty(numpy.random.default_rng(2), 60)
    with pytest.raises(TooLittle, match="too short to tell"):
        interval(pair, "p50")
    pair = bursty(numpy.random.default_rng(1), 30), bursty(numpy.random.default_rng(2), 30)
    with pytest.raises(TooLittle, match="too few to tell"):
        interval(pair, "p99.9")
    slices = pair[0].columns("slices")
    ends = slices.filter(pyarrow.compute.is_in(slices["slice"], pyarrow.array([0, 299], "u4")))
    rare = InMemory(pair[0].meta, {**pair[0].tables, "slices": ends})
    with pytest.raises(TooLittle, match="too few to tell"):
        interval((rare, pair[1]), "mean")


def test_few_bursts_do_not_tell_how_long_faults_take() -> None:
    """Five bursts in a minute: each of its own, and none like the next five."""
    whole = bursty(numpy.random.default_rng(1), 60)
    slices = whole.columns("slices")
    some = pyarrow.compute.is_in(slices["slice"], pyarrow.array([0, 100, 200, 400, 599], "u4"))
    rare = InMemory(whole.meta, {**whole.tables, "slices": slices.filter(some)})
    for metric in ("p50", "mean"):
        with pytest.raises(TooLittle, match="too few to tell"):
            interval((rare, whole), metric)


def test_memory_of_a_short_series_is_not_estimated_too_low() -> None:
    """Of first-order autoregression, which has 9; without the correction 4.5 are found."""
    source, kept = numpy.random.default_rng(4), 0.8
    times = [blocks._autocorrelation_time(_series(source, 100, kept)) for _ in range(400)]
    assert 6 < numpy.mean(times) < 10


def _series(source: Any, steps: int, kept: float) -> Any:
    found = source.normal(size=steps)
    for step in range(1, steps):
        found[step] += kept * found[step - 1]
    return found


def test_what_goes_on_all_the_time_is_too_short_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = bursty(numpy.random.default_rng(1), 30), bursty(numpy.random.default_rng(2), 30)
    low, high = interval(pair, "rate")
    monkeypatch.setattr(blocks, "_memory", lambda *_: 100.0)
    wider = interval(pair, "rate")
    assert wider[0] < low and wider[1] > 2 * high, (wider, low, high)
    monkeypatch.setattr(blocks, "_memory", lambda *_: 130.0)
    with pytest.raises(TooLittle, match="too short to tell"):
        interval(pair, "rate")


@pytest.mark.parametrize(
    ("before", "after", "variance", "expected"),
    [
        (0, 5, 0.01, (math.inf, math.inf)),
        (0, 5, 1.0, (0, math.inf)),
        (5, 0, 0.01, (-1, -1 + 2.6633 * math.sqrt(0.02))),
    ],
)
def test_nothing_on_one_side(
    before: float, after: float, variance: float, expected: tuple[float, float]
) -> None:
    span = chance._of_numbers(before, after, [chance.Varying(variance, 29)] * 2)
    assert span.interval == pytest.approx(expected, rel=1e-3)


def test_half_an_hour_takes_no_time() -> None:
    source = numpy.random.default_rng(5)
    pair: Any = (bursty(source, 1800), bursty(source, 1800))
    begun = time.monotonic()
    intervals(pair)
    assert time.monotonic() - begun < 4


def test_resamples_of_empty_blocks_say_nothing() -> None:
    """Such a resample has no mean, nor a share below anything; the others have."""
    sums = numpy.array([[5, 10], [0, 0], [4, 10]])
    buckets = (Bucket(1, 2, 9), Bucket(9, 10, 11))
    drawn = blocks.Drawn(sums, numpy.array([50.0, 0.0, 60.0]), buckets, 30, 16, 1)
    assert chance._numbers(drawn, "mean").tolist() == [5.0, 6.0]
    assert chance._below(drawn, 0, 0.5).tolist() == [0.25, 0.2]
    assert chance._below(drawn, 1, 0.5).tolist() == [0.75, 0.7]


def test_a_quantile_between_two_modes_is_not_called_changed() -> None:
    """Minor faults and major ones: p99 is one or the other by chance."""
    hits = found(60, load=Load("two modes"))
    assert hits["p99"] <= 2, hits
    low, high = interval((two_modes(1), two_modes(2)), "p99")
    assert high > 10, "it may as well be hundreds of times as long"


def two_modes(seed: int) -> InMemory:
    """A minute of it."""
    return run(numpy.random.default_rng(seed), 60, Load("two modes"))


def test_a_twentieth_slower_is_found_in_a_minute() -> None:
    """12,000 faults a side; four in five is the goal, for p50 it is nine of ten."""
    hits = found(60, slower=1.05, pairs=40, load=Load("even"))
    assert hits["p50"] >= 32 and hits["mean"] >= 38, hits


def constant(value: int, seed: int) -> InMemory:
    """All faults take the same."""
    number = numpy.sort(numpy.random.default_rng(seed).integers(600, size=12_000))
    return recording(number, numpy.full(12_000, value), 60)


def test_values_that_a_bucket_does_not_tell_apart_have_not_changed() -> None:
    """13,312 is a bucket's edge: 0.2 % more is another bucket, whose middle is 8 % more."""
    low, high = interval((constant(13_300, 1), constant(13_320, 2)), "p50")
    assert low == pytest.approx(0, abs=1e-9) and high > 0.0015
    low, high = interval((constant(12_300, 1), constant(13_300, 2)), "p50")
    assert low < 0.08 < high, "in the same bucket: up to its width"
    low, high = interval((constant(12_300, 1), constant(14_500, 2)), "p50")
    assert 0 < low < 0.18 < high


def test_a_maximum_needs_runs() -> None:
    with pytest.raises(TooLittle, match="replicates needed"):
        interval((constant(12_300, 1), constant(14_500, 2)), "max")


def test_stalled_time_is_exact_where_it_is_known() -> None:
    rows = {"kind": ["user", "user", "cow"], "slice": [0, 1, 0], "bucket_low_ns": [1024, 1024, 0]}
    rows |= {"bucket_high_ns": [1088, 1088, 1], "count": [3, 1, 9], "stalled_ns": [3100, None, 4]}
    found = blocks.of_kind(pyarrow.table(rows), "user")
    assert found.stalled.tolist() == [3100, 1055]
