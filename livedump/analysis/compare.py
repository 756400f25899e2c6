"""Two recordings side by side: what changed, and whether that can be chance.

Percentiles are compared by how many values of each recording lie above the quantile of both
together (a test of two proportions), means by Welch's test. Both take events for independent of
each other, which faults of one burst are not: a small p-value says that noise of *that* kind does
not explain the change. Rates have no p-value for this reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from livedump.analysis import stacks
from livedump.analysis.alike import differences
from livedump.analysis.latency import QUANTILES, Bucket, Latency, kind_order, latencies, percentile
from livedump.analysis.summary import TOP, check_kinds, recorded_kinds
from livedump.conditions import Condition, quantile
from livedump.receipt import format_ns
from livedump.trace.recording import Recording, count_losses, losses_text

#: Below so many values above a quantile in both recordings together, it says nothing.
MIN_TAIL = 10

#: A change counts as one when chance would show it this rarely.
ALPHA = 0.01

#: Stacks are sampled: what rests on fewer than this is wrong by a third, or more, by chance.
FEW_SAMPLES = 10

METRICS = ("rate", *QUANTILES, "max", "mean", "stalled")


@dataclass(frozen=True)
class Change:
    """One metric of one kind in recordings A and B.

    :ivar before: in A, after: in B; ns, ``rate`` in events a second, ``stalled`` in ns a second
    :ivar change: (B - A) / A; None when A is 0
    :ivar p_value: None where no test applies, or too few values
    """

    kind: str
    metric: str
    before: float
    after: float
    p_value: float | None

    @property
    def change(self) -> float | None:
        """(B - A) / A, None when A is 0."""
        return (self.after - self.before) / self.before if self.before else None

    @property
    def significant(self) -> bool | None:
        """None: not known."""
        return None if self.p_value is None else self.p_value < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "change": self.change, "significant": self.significant}


@dataclass(frozen=True)
class Verdict:
    """A condition, judged.

    :ivar failed: it holds, and chance does not explain it (where a test applies)
    :ivar why: in words
    """

    condition: Condition
    failed: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"condition": self.condition.text, "failed": self.failed, "why": self.why}


@dataclass(frozen=True)
class Comparison:
    """Two recordings.

    :ivar differences: why they are not alike, in words
    :ivar only: kinds that only one of them has, with ``A`` or ``B``
    :ivar stacks: kind -> stacks that changed most; ``few``: they rest on few samples
    """

    before: Recording
    after: Recording
    differences: list[str]
    changes: list[Change]
    only: dict[str, str]
    stacks: dict[str, list[dict[str, Any]]]

    @property
    def losses(self) -> list[str]:
        """Of each recording that has any, in words."""
        found = []
        for name, recording in (("A", self.before), ("B", self.after)):
            counts = count_losses(recording.tables["losses"])
            if counts["losses_total"]:
                lost = "LOST in" if counts["events_lost"] else "in"
                found.append(f"{lost} {name}: {losses_text(counts)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "a": self.before.meta,
            "b": self.after.meta,
            "differences": self.differences,
            "losses": self.losses,
            "changes": [change.to_dict() for change in self.changes],
            "only": self.only,
            "stacks": self.stacks,
        }

    def get(self, kind: str, metric: str) -> Change | None:
        """The change of one metric, computed when the table does not have it."""
        for change in self.changes:
            if (change.kind, change.metric) == (kind, metric):
                return change
        pair = _pairs(self.before, self.after, (kind,)).get(kind)
        if pair is None:
            return None
        return _change(kind, metric, *pair, seconds(self.before), seconds(self.after))


def compare(
    before: Recording,
    after: Recording,
    kinds: Sequence[str] = (),
    limit: int = TOP,
    by: str | None = None,
) -> Comparison:
    """Compare recording *after* (B) with *before* (A).

    :param kinds: only these; empty: all
    :param limit: stacks of each kind
    :param by: sort stacks by the change of ``count`` or ``stalled``; default: of what was measured
    :raises livedump.analysis.summary.KindError: a kind that neither has
    """
    if not any(set(kinds) <= recorded_kinds(recording) for recording in (before, after)):
        check_kinds(after, kinds)
    pairs = _pairs(before, after, kinds)
    lasted = seconds(before), seconds(after)
    changes = [
        _change(kind, metric, *pair, *lasted) for kind, pair in pairs.items() for metric in METRICS
    ]
    timed = {r.kind: "A" for r in latencies(before, kinds)}
    for row in latencies(after, kinds):
        timed[row.kind] = "" if row.kind in timed else "B"
    only = {kind: where for kind, where in timed.items() if where}
    return Comparison(
        before,
        after,
        differences(before, after),
        changes,
        only,
        _stack_changes(before, after, kinds, limit, by),
    )


def judge(comparison: Comparison, conditions: Iterable[Condition]) -> list[Verdict]:
    """Judge conditions: on a change, or on the value in B."""
    return [_judge(comparison, condition) for condition in conditions]


def _judge(comparison: Comparison, condition: Condition) -> Verdict:
    change = comparison.get(condition.kind, condition.metric)
    if change is None:
        return Verdict(condition, True, f"{condition.kind} is not in both recordings")
    value = change.change if condition.relative else change.after
    if value is None:
        grown = change.after > 0 and condition.op in (">", ">=")
        text = format_value(condition.metric, change.after)
        return Verdict(condition, grown, f"A has none, B {text}")
    text = f"{value:+.1%}" if condition.relative else format_value(condition.metric, value)
    if not condition.holds(value):
        return Verdict(condition, False, text)
    if condition.relative and change.significant is False:
        return Verdict(condition, False, f"{text}, but chance may explain it: {_p(change.p_value)}")
    p_value = "" if change.p_value is None else f", {_p(change.p_value)}"
    return Verdict(condition, True, f"{text}{p_value}")


def _p(value: float | None) -> str:
    return f"p = {value:.2g}" if value and value >= 0.001 else "p < 0.001"


def seconds(recording: Recording) -> float:
    """How long a recording lasted."""
    clocks = recording.meta["clocks"]
    return float(clocks["end"]["monotonic_ns"] - clocks["start"]["monotonic_ns"]) / 1e9


def _pairs(
    before: Recording, after: Recording, kinds: Sequence[str]
) -> dict[str, tuple[Latency, Latency]]:
    first = {row.kind: row for row in latencies(before, kinds)}
    return {
        row.kind: (first[row.kind], row) for row in latencies(after, kinds) if row.kind in first
    }


def format_value(metric: str, number: float) -> str:
    """``("rate", 12.3)`` -> ``"12.3/s"``; times in a unit that suits."""
    if metric == "rate":
        return f"{number:,.1f}/s"
    if metric == "count":
        return f"{number:,.0f}"
    return format_ns(round(number)) + ("/s" if metric == "stalled" else "")


# ---- metrics ----


def _change(
    kind: str, metric: str, a: Latency, b: Latency, seconds_a: float, seconds_b: float
) -> Change:
    share = quantile(metric)
    p_value: float | None = None
    values: list[float]
    if share is not None:
        values = [_percentile(latency, share) for latency in (a, b)]
        p_value = _tails_p(a, b, share)
    elif metric == "mean":
        values = [a.mean_ns, b.mean_ns]
        p_value = _means_p(a, b)
    elif metric == "max":
        values = [a.max_ns, b.max_ns]
    elif metric == "count":
        values = [a.count, b.count]
    elif metric == "rate":
        values = [a.count / seconds_a, b.count / seconds_b]
    else:
        values = [a.sum_ns / seconds_a, b.sum_ns / seconds_b]
    return Change(kind, metric, values[0], values[1], p_value)


def _percentile(latency: Latency, share: Fraction) -> int:
    return percentile(latency.buckets, share, latency.max_ns)


def _tails_p(a: Latency, b: Latency, share: Fraction) -> float | None:
    """Two proportions: the values above the quantile of both together."""
    together = sorted((*a.buckets, *b.buckets), key=lambda bucket: bucket.low_ns)
    limit = percentile(together, share)
    tails = [_above(latency.buckets, limit) for latency in (a, b)]
    pooled = sum(tails) / (a.count + b.count)
    if sum(tails) < MIN_TAIL or not 0 < pooled < 1:
        return None
    error = math.sqrt(pooled * (1 - pooled) * (1 / a.count + 1 / b.count))
    return _two_sided((tails[1] / b.count - tails[0] / a.count) / error)


def _above(buckets: Iterable[Bucket], limit_ns: int) -> int:
    """Values in buckets that begin above *limit_ns*."""
    return sum(bucket.count for bucket in buckets if bucket.low_ns > limit_ns)


def _means_p(a: Latency, b: Latency) -> float | None:
    """Welch's test, by the normal distribution: there are many values."""
    if min(a.count, b.count) < MIN_TAIL:
        return None
    error = math.sqrt(_variance(a) / a.count + _variance(b) / b.count)
    return _two_sided((b.mean_ns - a.mean_ns) / error) if error else None


def _variance(latency: Latency) -> float:
    mean = latency.mean_ns
    total = sum(
        bucket.count * ((bucket.low_ns + bucket.high_ns - 1) / 2 - mean) ** 2
        for bucket in latency.buckets
    )
    return total / (latency.count - 1)


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


# ---- stacks ----


def _stack_changes(
    before: Recording, after: Recording, kinds: Sequence[str], limit: int, by: str | None
) -> dict[str, list[dict[str, Any]]]:
    sums: dict[str, dict[str, list[int]]] = {}
    for side, recording in enumerate((before, after)):
        for row in stacks.rows(recording, kinds):
            of_stack = sums.setdefault(row["kind"], {}).setdefault(row["stack"], [0] * 6)
            for place, column in enumerate(("count", "stalled_ns", "samples")):
                of_stack[2 * place + side] += int(row[column])
    lasted = seconds(before), seconds(after)
    found = {}
    for kind in sorted(sums, key=kind_order):
        rows = [_stack_change(stack, values, lasted) for stack, values in sums[kind].items()]
        found[kind] = _most_changed(rows, limit, by)
    return found


def _stack_change(stack: str, values: list[int], lasted: tuple[float, float]) -> dict[str, Any]:
    """From counts, stalled time and samples, each of A and of B."""
    counts, stalled, samples = values[:2], values[2:4], values[4:]
    return {
        "stack": stack,
        "rate_a": counts[0] / lasted[0],
        "rate_b": counts[1] / lasted[1],
        "stalled_a": stalled[0] / lasted[0],
        "stalled_b": stalled[1] / lasted[1],
        "samples_a": samples[0],
        "samples_b": samples[1],
        "few": sum(samples) < FEW_SAMPLES and sum(samples) < sum(counts),
    }


def _most_changed(rows: list[dict[str, Any]], limit: int, by: str | None) -> list[dict[str, Any]]:
    """By default of time stalled, where that was measured: a stack that got slower matters at the
    same rate, too, and what only became more frequent has stalled for longer."""
    timed = any(row["stalled_a"] or row["stalled_b"] for row in rows)
    name = "rate" if by == "count" or (by is None and not timed) else "stalled"
    rows.sort(key=lambda row: (-abs(row[f"{name}_b"] - row[f"{name}_a"]), row["stack"]))
    return rows[:limit]


def diff_tree(before: Recording, after: Recording, kind: str) -> dict[str, Any]:
    """A flame graph of B with A's weights beside: ``{n, w: [count, stalled_ns], a: [...], c}``.

    A's weights are scaled to B's duration, so that equal rates are equal weights. Frames that only
    A has weigh nothing in B, and stay in the tree.
    """
    scale = seconds(after) / seconds(before)
    return _merge(stacks.tree(before, kind), stacks.tree(after, kind), scale)


def _merge(a: stacks.Node | None, b: stacks.Node | None, scale: float) -> dict[str, Any]:
    name = (b or a or stacks.Node("")).name
    found: dict[str, Any] = {
        "n": name,
        "w": [b.count, b.stalled_ns] if b else [0, 0],
        "a": [a.count * scale, a.stalled_ns * scale] if a else [0, 0],
    }
    below_a = a.children if a else {}
    below_b = b.children if b else {}
    names = dict.fromkeys([*below_b, *below_a])
    if names:
        found["c"] = [_merge(below_a.get(child), below_b.get(child), scale) for child in names]
    return found
