"""Two recordings side by side."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from livedump.analysis import KINDS, Verdict, compare, judge
from livedump.analysis.compare import Change
from livedump.analysis.html import render_diff_html
from livedump.analysis.judge import UnmeasuredError, judge_change
from livedump.analysis.significance import LEAST_P, Span
from livedump.analysis.stack_changes import diff_tree
from livedump.analysis.summary import KindError
from livedump.conditions import parse
from livedump.kinds import UNTIMED
from livedump.recording import store
from livedump.recording.buckets import bounds
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from livedump.units import format_rate
from tests.unit import samples
from tests.unit.analysis.bursts import InMemory
from tests.unit.buckets import bucket_of


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
    tables |= {"histograms": histograms, "counters": counters, "stacks": list(stacks)}
    return InMemory(meta, {**tables, "slices": evenly(histograms, seconds)})


def evenly(histograms: list[Row], seconds: int) -> list[Row]:
    """The histograms' faults, each in any of the slices: one does not remember another."""
    found: dict[tuple[int, int, int], int] = {}
    chance = random.Random(3)
    for row in histograms:
        for _ in range(row["count"]):
            key = (chance.randrange(seconds * 10), row["bucket_low_ns"], row["bucket_high_ns"])
            found[key] = found.get(key, 0) + 1
    names = ("slice", "bucket_low_ns", "bucket_high_ns", "count", "kind")
    return [dict(zip(names, (*key, n, "cow"), strict=True)) for key, n in found.items()]


def latencies(seed: int, count: int, mean: float = 8.0) -> list[int]:
    """Latencies as faults have them."""
    chance = random.Random(seed)
    return [int(chance.lognormvariate(mean, 0.6)) for _ in range(count)]


def verdict(text: str, before: Recording, after: Recording) -> Verdict:
    """One condition, judged."""
    [found] = judge(compare(before, after), [parse(text, tuple(KINDS))])
    return found


def counted(number: int, seed: int, seconds: int = 60) -> InMemory:
    """A recording with so many faults that are counted only, at any time."""
    found = recording([1000] * 100, seconds=seconds)
    chance = random.Random(seed)
    per_slice = Counter(chance.randrange(seconds * 10) for _ in range(number))
    columns = {"kind": "kernel", "bucket_low_ns": None, "bucket_high_ns": None}
    rows = [{**columns, "slice": slice_, "count": n} for slice_, n in per_slice.items()]
    tables = {**found.tables, "slices": [*found.tables["slices"], *rows]}
    tables["counters"] = [
        *tables["counters"],
        {"kind": "kernel", "name": "events", "count": number},
        {"kind": "kernel", "name": "not_present", "count": number},
    ]
    return InMemory(found.meta, tables)


def test_faults_that_are_only_counted_are_compared() -> None:
    before, after = counted(3000, 1), counted(3900, 2)
    rows = {row.metric: row for row in compare(before, after).changes if row.kind == "kernel"}
    assert {*rows} == {"rate"}
    assert (rows["rate"].before, rows["rate"].after) == (50.0, 65.0)
    low, high = rows["rate"].interval or (0.0, 0.0)
    assert 0.1 < low < 0.3 < high < 0.5
    assert verdict("rate(kernel)>+20%", before, after).failed
    assert verdict("count(kernel)>3500", before, after).failed
    assert not verdict("rate(kernel)>+20%", before, counted(3010, 3)).failed


def test_metrics_are_those_of_each_recording() -> None:
    found = compare(recording([1000] * 100, seconds=10), recording([2000] * 300, seconds=20))
    rows = {row.metric: row for row in found.changes}
    assert (rows["rate"].before, rows["rate"].after) == (10, 15)
    assert rows["rate"].change == pytest.approx(0.5)
    assert (rows["max"].before, rows["max"].after) == (1000, 2000)
    assert (rows["mean"].before, rows["mean"].after) == (1000, 2000)
    assert (rows["stalled"].before, rows["stalled"].after) == (10_000, 30_000)
    assert rows["p50"].change == pytest.approx(1, rel=0.07)
    assert rows["max"].interval is None


@pytest.mark.parametrize(
    ("text", "failed", "words"),
    [
        ("p99(cow)>+20%", True, "%"),
        ("p99(cow)>+900%", False, "+"),
        ("p75(cow)>+1000%", False, "%"),
        ("max(cow)>1us", True, "us"),
        ("count(cow)>6000", False, "5,000"),
        ("rate(cow)>+0%", False, "+0.0%"),
    ],
)
def test_conditions_are_judged(text: str, failed: bool, words: str) -> None:
    before = recording(latencies(1, 5000))
    after = recording([value * 2 for value in latencies(2, 5000)])
    found = verdict(text, before, after)
    assert found.failed is failed
    assert words in found.why


@pytest.mark.parametrize(
    ("text", "a", "b", "failed", "words"),
    [
        ("p99(cow)>+20%", 10, 0, False, "nothing to compare: no cow faults in B"),
        ("p99(cow)<-20%", 10, 0, False, "nothing to compare"),
        ("p99(cow)>+20%", 0, 10, False, "nothing to compare: no cow faults in A"),
        ("max(cow)>+20%", 0, 0, False, "nothing to compare: no cow faults in A and B"),
        ("p99(cow)>5us", 10, 0, False, "nothing to compare: no cow faults in B"),
        ("p99(cow)>5us", 0, 10, True, "9.0 us"),
        ("rate(cow)>+20%", 10, 0, False, "-100.0%"),
        ("count(cow)<-20%", 10_000, 0, True, "-100.0%"),
        ("stalled(cow)<=-100%", 10_000, 0, True, "-100.0%"),
        ("rate(cow)>+20%", 0, 10_000, True, "A has none, B 1,000.0/s"),
        ("rate(cow)<-20%", 0, 10_000, False, "A has none"),
        ("rate(cow)>+20%", 0, 0, False, "A has none"),
        ("count(cow)<100", 10, 0, True, "0"),
        ("count(cow)>5", 10, 0, False, "0"),
    ],
)
def test_without_faults(text: str, a: int, b: int, failed: bool, words: str) -> None:
    found = verdict(text, recording([9000] * a), recording([9000] * b))
    assert found.failed is failed
    assert words in found.why
    assert found.judged is ("nothing" not in words)


@pytest.mark.parametrize("side", [0, 1])
def test_what_was_not_recorded_is_not_judged(side: int) -> None:
    pair = [recording([1]), recording([1])]
    pair[side].meta["questions"] = ["user"]
    with pytest.raises(UnmeasuredError, match=f"{'AB'[side]} did not record cow.*--kind cow"):
        verdict("p99(cow)>+5%", *pair)
    if side == 0:
        assert not verdict("p99(cow)>5us", *pair).failed


def test_a_stray_fault_is_no_regression() -> None:
    found = verdict("rate(cow)>+20%", recording([]), recording([9000]))
    assert not found.failed
    assert "may be chance" in found.why


def change(before: float, after: float, interval: tuple[float, float]) -> Change:
    """With the same interval at every level."""
    ratio = after / before - 1 if before else math.inf
    span = Span(ratio, lambda _level: interval)
    return Change("cow", "rate", before, after, ([before], [after]), span)


@pytest.mark.parametrize(
    ("text", "interval", "outcome", "words"),
    [
        ("p50(cow)>+20%", (0.21, 0.5), "REGRESSION", "+30.0%, +21.0..+50.0%"),
        ("p50(cow)>+20%", (0.01, 0.55), "cannot tell", "+30.0%, +1.0..+55.0%"),
        ("p50(cow)>+20%", (-0.1, 0.55), "cannot tell", "-10.0..+55.0%, may be chance"),
        ("p50(cow)>+40%", (0.21, 0.5), "cannot tell", "+21.0..+50.0%"),
        ("p50(cow)>+60%", (0.21, 0.5), "ok", "+21.0..+50.0%"),
        ("p50(cow)<+60%", (0.21, 0.5), "REGRESSION", "+21.0..+50.0%"),
        ("p50(cow)<-20%", (0.21, 0.5), "ok", "+21.0..+50.0%"),
    ],
)
def test_a_condition_holds_where_the_whole_interval_does(
    text: str, interval: tuple[float, float], outcome: str, words: str
) -> None:
    condition = parse(text, tuple(KINDS))
    row = change(100, 130, interval)
    assert row.span is not None
    found = judge_change(row, condition, row.span.p(condition.limit) < 1, 1)
    assert (found.outcome, found.failed) == (outcome, outcome == "REGRESSION")
    assert found.judged is (outcome != "cannot tell")
    assert words in found.why


def test_conditions_are_corrected_among_those_that_are_named() -> None:
    """p is 0.006: enough alone, not as one of two of which the other is nothing."""
    before = recording(latencies(1, 5000))
    after = recording([round(value * 1.05) for value in latencies(2, 5000)])
    found = compare(before, after)
    row = found.get("cow", "p50")
    assert row is not None and row.span is not None and row.interval is not None
    limit = row.interval[0] - 0.0005
    assert 0.005 < row.span.p(limit) < 0.01
    edge = parse(f"p50(cow)>+{100 * limit:.4f}%", tuple(KINDS))
    other = parse("p90(cow)>+5%", tuple(KINDS))
    assert [each.outcome for each in judge(found, [edge])] == ["REGRESSION"]
    together = judge(found, [edge, other])
    assert [each.outcome for each in together] == ["cannot tell", "cannot tell"]
    assert "may be chance in one of 2 conditions" in together[0].why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max(cow)>+20%", "+99.9%, replicates needed"),
        ("p99.9(cow)>+20%", "too few to tell"),
    ],
)
def test_what_has_no_test_does_not_fail(text: str, words: str) -> None:
    before = recording(latencies(1, 5000))
    after = recording([value * 2 for value in latencies(1, 5000)])
    found = verdict(text, before, after)
    assert found.outcome == "cannot tell" and not found.failed and not found.judged
    assert words.split(", ")[-1] in found.why


def test_each_kind_that_conditions_take_has_rows() -> None:
    sample = InMemory(samples.meta(), samples.tables())
    per_kind = {"bucket_low_ns": 100, "bucket_high_ns": 101, "count": 5}
    sample.tables["histograms"][:] = [
        {"kind": kind, **per_kind} for kind in KINDS if kind not in UNTIMED
    ]
    sample.tables["counters"][:] = [
        {"kind": kind, "name": "events", "count": 5} for kind in UNTIMED
    ]
    assert {row.kind for row in compare(sample, sample).changes} == set(KINDS)


def test_what_is_shown_as_nothing_is_never_significant() -> None:
    assert change(1e6, 1e6 + 1, (1e-7, 1e-5)).p == 1
    assert change(100, 110, (0.05, 0.15)).p == pytest.approx(LEAST_P, rel=1e-3)
    assert change(100, 110, (-0.05, 0.15)).p == 1
    infinite = change(0, 5, (math.inf, math.inf))
    assert infinite.p == pytest.approx(LEAST_P, rel=1e-3)
    assert infinite.to_dict()["interval"] == [None, None]


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
    ], "f;g is as often in both"
    root = diff_tree(([before], [after]), "cow")
    assert (root["w"], root["a"]) == ([420, 420], [220, 220])
    [task] = root["c"]
    [frame] = task["c"]
    assert {c["n"]: (c["w"][0], c["a"][0]) for c in frame["c"]} == {
        "g": (20, 20),
        "gone": (0, 200),
        "new": (400, 0),
    }


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (1636.84, "1,636.8"),
        (1.0, "1.0"),
        (0.9996, "1.000"),
        (0.1, "0.100"),
        (0.04567, "0.0457"),
        (0.00001157, "0.0000116"),
    ],
)
def test_rare_is_not_nothing(number: float | None, text: str) -> None:
    assert format_rate(number) == text


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
    before = recording([1], stacks=[row("a", 100, 0), row("b", 100, 0)])
    after = recording([1], stacks=[row("a", 101, 0), row("b", 900, 0)])
    assert order("stalled") == ["b", "a"], "nothing was stalled"


def test_what_was_not_measured_is_not_0() -> None:
    def of(count: int, **meta: object) -> Recording:
        """Faults in kernel mode, which are not timed."""
        sums = {"samples": count, "count": count, "stalled_ns": 0}
        found = recording([], stacks=[{"kind": "kernel", "comm": "a", "stack": "f", **sums}])
        found.meta.update(meta)
        return found

    def columns(before: Recording, after: Recording) -> list[float | None]:
        [row] = compare(before, after).to_dict()["stacks"]["kernel"]
        return [row[name] for name in ("rate_a", "rate_b", "stalled_a", "stalled_b")]

    none = of(0)
    none.tables["stacks"].clear()
    assert columns(of(10), of(20)) == [1, 2, None, None]
    assert columns(of(10), none) == [1, 0, None, None]
    none.meta["questions"] = ["user"]
    assert columns(none, of(20)) == [None, 2, None, None]
    none.meta.update(questions=["kernel"], options={"stacks": "none"})
    assert columns(of(10), none) == [1, None, None, None]


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
    sample = InMemory(samples.meta(), samples.tables())
    found = compare(sample, recording([5]))
    assert found.only == {"user": "A", "cow_demote": "A", "cow_copy": "A", "stop": "A"}
    assert {row.metric for row in found.changes if row.kind == "user"} == {"rate", "stalled"}
    with pytest.raises(KindError, match="no kind cows"):
        compare(sample, sample, ("cows",))


def test_the_page_holds_its_data_and_nothing_that_ends_it(tmp_path: Path) -> None:
    sample = store.read(samples.write(tmp_path / "r"))
    page = render_diff_html(compare(sample, sample))
    assert "</script><script>alert(1)" not in page


def test_what_is_not_alike_comes_first(tmp_path: Path) -> None:
    sample = InMemory(samples.meta(), samples.tables())
    killed = InMemory({**samples.meta(), "ended_by": "killed"}, samples.tables())
    found = compare(sample, killed).to_dict()
    assert found["differences"][0] == "not comparable: B's recorder was killed before its end"
    assert found["losses"][1] == "in B: 7 events have no stack; 0 events lost"
