"""Between runs: chance is how runs of the same differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy
import pytest

from livedump.analysis import compare, judge
from livedump.analysis.chance import log_variance
from livedump.analysis.compare import METRICS, Change, Comparison, RunsError
from livedump.analysis.run import Run
from livedump.conditions import parse
from tools.stats.loads import InMemory, Load, run

EVEN = Load("even")


def runs(seed: int, number: int, load: Load, seconds: int = 20) -> list[InMemory]:
    """So many recordings."""
    source = numpy.random.default_rng(seed)
    return [run(source, seconds, load) for _ in range(number)]


def compared(seed: int, counts: tuple[int, int], a: Load, b: Load | None = None) -> Comparison:
    """So many runs of each."""
    before, after = runs(seed, counts[0], a), runs(seed + 1000, counts[1], b or a)
    return compare(before, after)


def alone(row: Change) -> bool:
    """Whether its own interval leaves out 0."""
    low, high = row.interval or (0.0, 0.0)
    return low > 0 or high < 0


def hits(counts: tuple[int, int], pairs: int = 10) -> int:
    """Of equal programs whose runs differ by 5 %."""
    load = replace(EVEN, run_sd=0.05)
    found = (compared(seed, counts, load) for seed in range(pairs))
    return sum(alone(row) for each in found for row in each.changes)


@pytest.mark.parametrize("counts", [(1, 3), (2, 2), (3, 3)])
def test_runs_that_differ_are_not_called_changed(counts: tuple[int, int]) -> None:
    # Of 80 rows at 1 %, which are not independent.
    assert hits(counts) <= 4


def test_one_run_of_each_calls_them_changed() -> None:
    """So the test above can fail."""
    assert hits((1, 1)) > 10


def test_a_third_slower_is_found_in_three_runs_of_each() -> None:
    found = compared(1, (3, 3), replace(EVEN, run_sd=0.02), replace(EVEN, slower=1.3, run_sd=0.02))
    stars = {row.metric for row in found.changes if row.significant}
    assert {"p50", "mean"} <= stars and "rate" not in stars
    assert found.scope == "between runs" and "vary alike" not in str(found.legend)
    two = compared(1, (2, 2), EVEN)
    assert "A's runs and B's are supposed to vary alike" in str(two.legend)


def test_each_metric_has_a_test_also_the_maximum() -> None:
    found = compared(1, (3, 3), EVEN, replace(EVEN, slower=30))
    rows = {row.metric: row for row in found.changes}
    assert set(rows) == set(METRICS)
    assert all(row.interval is not None for row in rows.values())
    assert rows["max"].significant and rows["p99.9"].significant
    assert [len(side) for side in rows["max"].runs] == [3, 3]
    [verdict] = judge(found, [parse("max(user)>+100%", ("user",))])
    assert verdict.failed


def test_what_is_shown_is_the_geometric_mean() -> None:
    a, b = maxima(runs(1, 2, EVEN), [100, 400]), maxima(runs(2, 2, EVEN), [300, 300])
    row = compare(a, b).get("user", "max")
    assert row is not None
    assert (row.before, row.after) == pytest.approx((200, 300))
    assert row.change == pytest.approx(0.5)
    low, high = row.interval or (0.0, 0.0)
    # Logs: half their difference is log 2, so s^2 = log(2)^2 of two degrees of freedom for both.
    reach = 9.9248 * numpy.log(2)
    assert (low, high) == pytest.approx(
        (1.5 * numpy.exp(-reach) - 1, 1.5 * numpy.exp(reach) - 1), rel=1e-3
    )


def test_three_of_each_have_variances_of_their_own() -> None:
    """Welch: B's runs are alike, so that A's two degrees of freedom are all there are."""
    a = maxima(runs(1, 3, EVEN), [100, 200, 400])
    b = maxima(runs(2, 3, EVEN), [300, 300, 300])
    low, high = (compare(a, b).get("user", "max") or pytest.fail()).interval or (0.0, 0.0)
    reach = 9.9248 * numpy.log(2) / numpy.sqrt(3)
    assert (low, high) == pytest.approx(
        (1.5 * numpy.exp(-reach) - 1, 1.5 * numpy.exp(reach) - 1), rel=1e-3
    )


def maxima(recordings: list[InMemory], values: list[int]) -> list[InMemory]:
    """The same with other maxima."""
    for recording, value in zip(recordings, values, strict=True):
        [row] = [row for row in recording.tables["counters"] if row["name"] == "max_ns"]
        row["count"] = value
    return recordings


def test_few_events_that_happen_to_be_alike_have_not_changed() -> None:
    """A count of 1 in each run of A and 2 in each of B: no variance between, much inside."""
    a, b = ([events(seed, number) for seed in range(3)] for number in (1, 2))
    row = compare(a, b).get("user", "rate")
    assert row is not None and row.change == pytest.approx(1)
    assert not alone(row)


def events(seed: int, number: int) -> InMemory:
    """A minute with so many faults."""
    from tools.stats.loads import recording

    source = numpy.random.default_rng(1000 * number + seed)
    slices: Any = numpy.sort(source.integers(600, size=number))
    return recording(slices, source.lognormal(9, 0.7, number), 60)


def without(recording: InMemory) -> InMemory:
    """The same without a fault."""
    tables = {**recording.tables, "histograms": [], "counters": []}
    tables["slices"] = recording.tables["slices"].slice(0, 0)  # type: ignore[attr-defined]
    return InMemory(recording.meta, tables)


def test_runs_without_faults() -> None:
    a, b = [without(each) for each in runs(1, 3, EVEN)], runs(2, 3, EVEN)
    found = compare(a, b)
    rate = found.get("user", "rate")
    assert rate is not None and rate.significant is None
    assert rate.interval == (float("inf"), float("inf")) and rate.change is None
    [verdict] = judge(found, [parse("rate(user)>+20%", ("user",))])
    assert verdict.failed
    back = compare(b, a).get("user", "rate")
    assert back is not None and back.interval is not None
    assert back.interval[0] == -1 and -1 < back.interval[1] < -0.8
    assert found.get("user", "p50") is None
    mixed = compare([*a[:1], *runs(3, 2, EVEN)], b).get("user", "p50")
    assert mixed is not None and mixed.unknown == "not in every run"


def test_a_value_is_judged_in_each_run_of_b() -> None:
    a, b = runs(1, 1, EVEN), maxima(runs(2, 2, EVEN), [100, 400])
    [verdict] = judge(compare(a, b), [parse("max(user)>300ns", ("user",))])
    assert verdict.failed and verdict.why == "B1 100 ns, B2 400 ns"


def test_a_recording_is_one_run() -> None:
    a, b = runs(1, 2, EVEN), runs(2, 1, EVEN)
    with pytest.raises(RunsError, match="is given twice. Name each run once"):
        compare([*a, a[0]], b)
    assert compare(a[0], a[0]).scope == "within this run"


def bursts(seed: int, number: int) -> Comparison:
    """Three runs of each; of B so many have a single burst."""
    loads = [Load("one burst" if place < number else "even") for place in range(3)]
    after = [runs(seed + 1000 + place, 1, load, 60)[0] for place, load in enumerate(loads)]
    return compare(runs(seed, 3, EVEN, 60), after)


def test_a_burst_in_one_run_is_no_regression() -> None:
    """Inside that run nothing bounds p99.9: the other runs say how it varies."""
    asked = [parse("p99.9(user)>+20%", ("user",))]
    found = [judge(bursts(seed, 1), asked)[0] for seed in range(6)]
    assert not any(verdict.failed for verdict in found)
    assert all("nan" not in verdict.why for verdict in found)


def test_what_nothing_bounds_in_any_run_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livedump.analysis.replicates.log_variance", lambda *_: numpy.inf)
    for before, after in [(3, 3), (1, 2)]:
        row = compared(1, (before, after), EVEN).get("user", "p99")
        assert row is not None and row.unknown == "too few to tell"


def test_what_nothing_bounds_has_infinite_variance() -> None:
    [single] = runs(1, 1, Load("one burst"), 60)
    chance = Run("A", single, 0).chance
    assert log_variance(chance, "user", "p99.9") == numpy.inf
    assert log_variance(chance, "user", "p50") < 0.01
