"""Two recordings side by side: what changed, and whether that can be chance.

Chance is told by :mod:`livedump.analysis.chance`; a maximum has no such test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from livedump.analysis import stacks
from livedump.analysis.alike import GRAVE, differences, measured
from livedump.analysis.chance import Chance, TooLittle
from livedump.analysis.latency import Latency, latencies
from livedump.analysis.summary import TOP, check_kinds, recorded_kinds
from livedump.conditions import Condition, format_value
from livedump.errors import LivedumpError
from livedump.kinds import QUESTION_OF, UNTIMED, kind_order
from livedump.metrics import QUANTILES, SUMS
from livedump.recording.losses import count_losses, losses_text
from livedump.recording.store import Recording

#: Stacks are sampled: what rests on fewer than this is wrong by a third, or more, by chance.
FEW_SAMPLES = 10

METRICS = ("rate", *QUANTILES, "max", "mean", "stalled")


class UnmeasuredError(LivedumpError):
    """A condition on what was not recorded: it would pass for ever."""


@dataclass(frozen=True)
class Change:
    """One metric of one kind in recordings A and B.

    :ivar before: in A, after: in B; ns, ``rate`` in events a second, ``stalled`` in ns a second
    :ivar interval: of *change*, see :class:`livedump.analysis.chance.Chance`; None: not known
    :ivar unknown: why not, in words; empty: there is no test
    """

    kind: str
    metric: str
    before: float
    after: float
    interval: tuple[float, float] | None
    unknown: str = ""

    @property
    def change(self) -> float | None:
        """(B - A) / A, None when A is 0."""
        return (self.after - self.before) / self.before if self.before else None

    @property
    def significant(self) -> bool | None:
        """More than chance; what is shown as +0.0 % never is. None: not known."""
        if self.interval is None:
            return None
        if self.change is not None and abs(self.change) < 0.0005:
            return False
        return self.interval[0] > 0 or self.interval[1] < 0

    @property
    def interval_text(self) -> str:
        """``-1.5..+20.0%``, or why there is none."""
        if self.interval is None:
            return self.unknown or "-"
        low, high = map(percent, self.interval)
        return f"{low.rstrip('%')}..{high}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null."""
        ends = self.interval and [end if math.isfinite(end) else None for end in self.interval]
        found = {**asdict(self), "interval": ends, "interval_text": self.interval_text}
        return {**found, "change": self.change, "significant": self.significant}


def percent(share: float) -> str:
    """``+12.3%``; of what is more than tenfold, whole ones."""
    return f"{share:+.1%}" if abs(share) < 10 or math.isinf(share) else f"{share:+.0%}"


@dataclass(frozen=True)
class Verdict:
    """A condition, judged.

    :ivar failed: it holds, and chance does not explain it (where that is known)
    :ivar why: in words
    :ivar judged: there was something to compare
    """

    condition: Condition
    failed: bool
    why: str
    judged: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"condition": self.condition.text, "failed": self.failed}
        return {**found, "judged": self.judged, "why": self.why}


@dataclass(frozen=True)
class Comparison:
    """Two recordings.

    :ivar differences: why they are not alike, in words
    :ivar only: kinds that only one of them has, with ``A`` or ``B``
    :ivar stacks: kind -> stacks that changed most, none without a change; what was not measured
        is None; ``few``: they rest on few samples
    """

    before: Recording
    after: Recording
    differences: list[str]
    changes: list[Change]
    only: dict[str, str]
    stacks: dict[str, list[dict[str, Any]]]
    latencies: tuple[Mapping[str, Latency], Mapping[str, Latency]]
    chance: Chance

    @property
    def grave(self) -> list[str]:
        """Those of the differences that make the numbers mean something else."""
        return [line.removeprefix(GRAVE) for line in self.differences if line.startswith(GRAVE)]

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
        """The change of one metric; None where a recording has no fault to take it of."""
        before, after = self.value(0, kind, metric), self.value(1, kind, metric)
        if before is None or after is None:
            return None
        try:
            interval = self.chance.interval(kind, metric, before, after)
        except TooLittle as why:
            return Change(kind, metric, before, after, None, str(why))
        return Change(kind, metric, before, after, interval)

    def value(self, side: int, kind: str, metric: str) -> float | None:
        """A metric in A (0) or B (1); None where there is no fault to take it of."""
        recording = (self.before, self.after)[side]
        if kind in UNTIMED:
            count = untimed(recording).get(kind, 0)
            return {"count": count, "rate": count / seconds(recording)}.get(metric)
        latency = self.latencies[side].get(kind)
        if latency is None:
            return 0.0 if metric in SUMS else None
        return latency.metric(metric, seconds(recording))


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
    pair = (before, after)
    had = recorded_kinds(before) | recorded_kinds(after)
    check_kinds(
        after, [k for k in kinds if k not in had and not any(measured(each, k) for each in pair)]
    )
    found = Comparison(
        before,
        after,
        differences(before, after),
        [],
        {},
        _stack_changes(before, after, kinds, limit, by),
        ({row.kind: row for row in latencies(before)}, {row.kind: row for row in latencies(after)}),
        Chance(pair, (before.lasted_ns, after.lasted_ns)),
    )
    counted = [untimed(recording) for recording in pair]
    a, b = ({*timed, *counts} for timed, counts in zip(found.latencies, counted, strict=True))
    for kind in sorted(a | b, key=kind_order):
        if kinds and kind not in kinds:
            continue
        if kind not in a or kind not in b:
            found.only[kind] = "A" if kind in a else "B"
        if all(measured(recording, kind) for recording in pair):
            rows = (found.get(kind, metric) for metric in METRICS)
            found.changes.extend(row for row in rows if row is not None)
    return found


def untimed(recording: Recording) -> dict[str, int]:
    """Faults of the kinds that are counted and have no latency; only kinds that have any."""
    return {
        row["kind"]: int(row["count"])
        for row in recording.tables["counters"]
        if row["kind"] in UNTIMED and row["name"] == "events" and row["count"]
    }


def judge(comparison: Comparison, conditions: Iterable[Condition]) -> list[Verdict]:
    """Judge conditions: on a change, or on the value in B.

    Without faults count, rate and stalled are 0; a percentile, mean or maximum is not there then,
    and nothing is judged: what came anew or went is a matter of the former.

    :raises UnmeasuredError: a kind was not recorded
    """
    return [_judge(comparison, condition) for condition in conditions]


def _judge(comparison: Comparison, condition: Condition) -> Verdict:
    _check_measured(comparison, condition)
    kind, metric = condition.kind, condition.metric
    sides = (0, 1) if condition.relative else (1,)
    none = [side for side in sides if comparison.value(side, kind, metric) is None]
    if none:
        where = " and ".join("AB"[side] for side in none)
        return Verdict(condition, False, f"nothing to compare: no {kind} faults in {where}", False)
    if not condition.relative:
        after = comparison.value(1, kind, metric) or 0.0
        return Verdict(condition, condition.holds(after), format_value(metric, after))
    change = comparison.get(kind, metric)
    assert change is not None
    return _judge_change(change, condition)


def _check_measured(comparison: Comparison, condition: Condition) -> None:
    needed = [("B", comparison.after)]
    if condition.relative:
        needed.insert(0, ("A", comparison.before))
    for name, recording in needed:
        if not measured(recording, condition.kind):
            raise UnmeasuredError(
                f"{condition.text!r}: {name} did not record {condition.kind}",
                step="judge condition",
                remedy=f"Record it with --kind {QUESTION_OF[condition.kind]}",
            )


def _judge_change(change: Change, condition: Condition) -> Verdict:
    value = change.change
    if value is None:
        value = math.inf if change.after else 0.0  # out of nothing: more than by any share
        text = f"A has none, B {format_value(change.metric, change.after)}"
    else:
        text = percent(value)
    if not condition.holds(value):
        return Verdict(condition, False, text)
    if change.significant is False:
        return Verdict(condition, False, f"{text}, may be chance: {change.interval_text}")
    why = change.interval_text
    return Verdict(condition, True, text if why == "-" else f"{text}, {why}")


def seconds(recording: Recording) -> float:
    """How long a recording lasted."""
    return recording.lasted_ns / 1e9


# ---- stacks ----

_RATES = ("rate", "stalled")


def _stack_changes(
    before: Recording, after: Recording, kinds: Sequence[str], limit: int, by: str | None
) -> dict[str, list[dict[str, Any]]]:
    sums: dict[str, dict[str, list[int]]] = {}
    for side, recording in enumerate((before, after)):
        for row in stacks.rows(recording, kinds):
            of_stack = sums.setdefault(row["kind"], {}).setdefault(row["stack"], [0] * 6)
            for place, column in enumerate(("count", "stalled_ns", "samples")):
                of_stack[2 * place + side] += int(row[column])
    found = {}
    for kind in sorted(sums, key=kind_order):
        lasted = [seconds(r) if _took_stacks(r, kind) else None for r in (before, after)]
        timed = kind not in UNTIMED
        rows = [_stack_change(stack, values, lasted, timed) for stack, values in sums[kind].items()]
        changed = [row for row in rows if any(row[f"{n}_a"] != row[f"{n}_b"] for n in _RATES)]
        found[kind] = _most_changed(changed, limit, by)
    return found


def _took_stacks(recording: Recording, kind: str) -> bool:
    return measured(recording, kind) and recording.meta["options"].get("stacks") != "none"


def _stack_change(
    stack: str, values: list[int], lasted: Sequence[float | None], timed: bool
) -> dict[str, Any]:
    """From counts, stalled time and samples, each of A and of B. What was not measured is None.

    :param lasted: seconds; None: that recording has no stacks of the kind
    """
    counts, stalled, samples = values[:2], values[2:4], values[4:]
    return {
        "stack": stack,
        "rate_a": _per_second(counts[0], lasted[0]),
        "rate_b": _per_second(counts[1], lasted[1]),
        "stalled_a": _per_second(stalled[0], lasted[0]) if timed else None,
        "stalled_b": _per_second(stalled[1], lasted[1]) if timed else None,
        "samples_a": samples[0],
        "samples_b": samples[1],
        "few": sum(samples) < FEW_SAMPLES and sum(samples) < sum(counts),
    }


def _per_second(number: int, lasted: float | None) -> float | None:
    return None if lasted is None else number / lasted


def _most_changed(rows: list[dict[str, Any]], limit: int, by: str | None) -> list[dict[str, Any]]:
    """By default of time stalled, where that was measured: a stack that got slower matters at the
    same rate, too, and what only became more frequent has stalled for longer."""
    timed = any(row["stalled_a"] or row["stalled_b"] for row in rows)
    name = "stalled" if timed and by != "count" else "rate"

    def change(row: dict[str, Any]) -> float:
        before, after = (float(row[f"{name}_{side}"] or 0) for side in "ab")
        return abs(after - before)

    return sorted(rows, key=lambda row: (-change(row), row["stack"]))[:limit]


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
