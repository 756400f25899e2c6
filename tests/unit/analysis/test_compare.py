"""Two recordings side by side."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from livedump import trace
from livedump.analysis import KINDS, Verdict, compare, judge, render_html
from livedump.analysis.compare import ALPHA, diff_tree
from livedump.analysis.html import render_diff_html
from livedump.analysis.summary import KindError
from livedump.conditions import parse
from livedump.trace.buckets import bounds, bucket_of
from livedump.trace.recording import Recording, Row
from tests.unit import samples


def recording(values: Iterable[int], seconds: int = 10, stacks: Iterable[Row] = ()) -> Recording:
    """One kind, `cow`, with these latencies."""
    numbers = list(values)
    counts: dict[int, int] = {}
    for number in numbers:
        counts[bucket_of(number)] = counts.get(bucket_of(number), 0) + 1
    histograms = [
        {"kind": "cow", "bucket_low_ns": low, "bucket_high_ns": high, "count": counts[bucket]}
        for bucket in sorted(counts)
        for low, high in [bounds(bucket)]
    ]
    counters = [
        {"kind": "cow", "name": "sum_ns", "count": sum(numbers)},
        {"kind": "cow", "name": "max_ns", "count": max(numbers, default=0)},
    ]
    meta = samples.meta()
    meta["clocks"]["end"]["monotonic_ns"] = samples.START_NS + seconds * 10**9
    tables: dict[str, list[Row]] = {name: [] for name in samples.tables()}
    return Recording(
        meta,
        {**tables, "histograms": histograms, "counters": counters, "stacks": list(stacks)},
    )


def latencies(seed: int, count: int, mean: float = 8.0) -> list[int]:
    """Latencies as faults have them."""
    chance = random.Random(seed)
    return [int(chance.lognormvariate(mean, 0.6)) for _ in range(count)]


def verdict(text: str, before: Recording, after: Recording) -> Verdict:
    """One condition, judged."""
    [found] = judge(compare(before, after), [parse(text, tuple(KINDS))])
    return found


def test_metrics_are_those_of_each_recording() -> None:
    found = compare(recording([1000] * 100, seconds=10), recording([2000] * 300, seconds=20))
    rows = {row.metric: row for row in found.changes}
    assert (rows["rate"].before, rows["rate"].after) == (10, 15)
    assert rows["rate"].change == pytest.approx(0.5)
    assert (rows["max"].before, rows["max"].after) == (1000, 2000)
    assert (rows["mean"].before, rows["mean"].after) == (1000, 2000)
    assert (rows["stalled"].before, rows["stalled"].after) == (10_000, 30_000)
    assert rows["p50"].change == pytest.approx(1, rel=0.07)
    assert rows["rate"].p_value is None


def test_a_slower_tail_is_found_and_equal_ones_are_not() -> None:
    base = latencies(1, 5000)
    slower = [
        value * 3 if index % 50 == 0 else value for index, value in enumerate(latencies(2, 5000))
    ]
    found = {row.metric: row for row in compare(recording(base), recording(slower)).changes}
    assert found["p99"].significant
    same = {r.metric: r for r in compare(recording(base), recording(latencies(3, 5000))).changes}
    assert not any(row.significant for row in same.values())


def test_chance_is_found_as_seldom_as_it_should_be() -> None:
    """The test's own promise, on 200 pairs of equal loads."""
    hits = {"p50": 0, "p99": 0, "mean": 0}
    pairs = 200
    for seed in range(pairs):
        pair = recording(latencies(seed, 2000)), recording(latencies(seed + 10_000, 2000))
        for row in compare(*pair).changes:
            if row.metric in hits:
                hits[row.metric] += bool(row.significant)
    # Of 200 at 1 %: more than 9 happens once in 10,000 times.
    assert all(count <= 9 for count in hits.values()), (hits, ALPHA)


def test_too_few_values_prove_nothing() -> None:
    found = {r.metric: r for r in compare(recording([100] * 20), recording([9000] * 20)).changes}
    assert found["p50"].significant
    assert found["p99"].p_value is None


@pytest.mark.parametrize(
    ("text", "failed", "words"),
    [
        ("p99(cow)>+20%", True, "p < 0.001"),
        ("p99(cow)>+900%", False, "+"),
        ("p99(cow)>+20%", True, "+"),
        ("p75(cow)>+1000%", False, "%"),
        ("max(cow)>1us", True, "us"),
        ("count(cow)>6000", False, "5,000"),
        ("p99(stop)>+1%", True, "not in both"),
    ],
)
def test_conditions_are_judged(text: str, failed: bool, words: str) -> None:
    before = recording(latencies(1, 5000))
    after = recording([value * 2 for value in latencies(2, 5000)])
    found = verdict(text, before, after)
    assert found.failed is failed
    assert words in found.why


def test_chance_is_no_regression() -> None:
    before, after = recording(latencies(1, 300)), recording(latencies(2, 300))
    change = compare(before, after).get("cow", "p90")
    assert change and change.change and abs(change.change) > 0.01
    found = verdict(f"p90(cow){'>' if change.change > 0 else '<'}+0%", before, after)
    assert not found.failed
    assert "chance" in found.why


def test_stacks_are_compared_by_rate() -> None:
    def row(stack: str, count: int) -> Row:
        return {
            "kind": "cow",
            "comm": "a",
            "stack": stack,
            "samples": 1,
            "count": count,
            "stalled_ns": count,
        }

    before = recording([1], seconds=10, stacks=[row("f;g", 10), row("f;gone", 100)])
    after = recording([1], seconds=20, stacks=[row("f;g", 20), row("f;new", 400)])
    rows = compare(before, after).stacks["cow"]
    assert [(r["stack"], r["rate_a"], r["rate_b"]) for r in rows] == [
        ("f;new", 0, 20),
        ("f;gone", 10, 0),
        ("f;g", 1, 1),
    ]
    root = diff_tree(before, after, "cow")
    assert (root["w"], root["a"]) == ([420, 420], [220, 220])
    [task] = root["c"]
    [frame] = task["c"]
    assert {c["n"]: (c["w"][0], c["a"][0]) for c in frame["c"]} == {
        "g": (20, 20),
        "gone": (0, 200),
        "new": (400, 0),
    }


def test_stacks_that_got_slower_at_the_same_rate_come_first() -> None:
    def row(stack: str, count: int, stalled_ns: int, samples: int = 5) -> Row:
        sums = {"samples": samples, "count": count, "stalled_ns": stalled_ns}
        return {"kind": "cow", "comm": "a", "stack": stack, **sums}

    before = recording([1], stacks=[row("same", 100, 1000), row("often", 100, 1000)])
    after = recording([1], stacks=[row("same", 100, 9000), row("often", 700, 1700, 99)])

    def order(by: str | None) -> list[str]:
        return [found["stack"] for found in compare(before, after, by=by).stacks["cow"]]

    assert order(None) == order("stalled") == ["same", "often"]
    assert order("count") == ["often", "same"]
    few = {found["stack"]: found["few"] for found in compare(before, after).stacks["cow"]}
    assert few == {"same": False, "often": False}


def test_a_change_by_few_samples_is_marked() -> None:
    def of(samples: int, count: int) -> Recording:
        sums = {"samples": samples, "count": count, "stalled_ns": 0}
        return recording([1], stacks=[{"kind": "cow", "comm": "a", "stack": "f", **sums}])

    def few(before: Recording, after: Recording) -> bool:
        return bool(compare(before, after).stacks["cow"][0]["few"])

    assert few(of(4, 400), of(5, 500))
    assert not few(of(4, 400), of(6, 600))
    assert not few(of(4, 4), of(5, 5)), "all were taken"


def test_kinds_of_one_only_are_named(tmp_path: Path) -> None:
    sample = Recording(samples.meta(), samples.tables())
    found = compare(sample, recording([5]))
    assert found.only == {"user": "A", "cow_demote": "A", "cow_copy": "A", "stop": "A"}
    assert {row.kind for row in found.changes} == {"cow"}
    with pytest.raises(KindError, match="no kind cows"):
        compare(sample, sample, ("cows",))


def test_the_page_holds_its_data_and_nothing_that_ends_it(tmp_path: Path) -> None:
    sample = trace.read(samples.write(tmp_path / "r"))
    page = render_diff_html(compare(sample, sample))
    assert "</script><script>alert(1)" not in page
    assert "plotly" not in page.lower()
    assert len(page) < len(render_html(sample))


def test_what_is_not_alike_comes_first(tmp_path: Path) -> None:
    sample = Recording(samples.meta(), samples.tables())
    killed = Recording({**samples.meta(), "ended_by": "killed"}, samples.tables())
    found = compare(sample, killed).to_dict()
    assert found["differences"][0] == "not comparable: B's recorder was killed before its end"
    assert found["losses"][1] == "in B: 7 events have no stack; 0 events lost"
