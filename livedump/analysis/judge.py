"""Conditions on a comparison: a change, or a value of B."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from livedump.analysis.alike import measured
from livedump.analysis.compare import Change, Comparison, percent
from livedump.analysis.run import Run
from livedump.analysis.significance import holm
from livedump.conditions import Condition, format_value
from livedump.errors import LivedumpError
from livedump.kinds import QUESTION_OF

REGRESSION = "REGRESSION"
OK = "ok"
UNTOLD = "cannot tell"
NOTHING = "not judged"


class UnmeasuredError(LivedumpError):
    """A condition on what was not recorded: it would pass for ever."""


@dataclass(frozen=True)
class Verdict:
    """A condition, judged.

    :ivar outcome: :data:`REGRESSION` where it holds, :data:`OK` where it does not,
        :data:`UNTOLD` where chance may decide, :data:`NOTHING` where there is nothing to compare
    :ivar why: in words
    """

    condition: Condition
    outcome: str
    why: str

    @property
    def failed(self) -> bool:
        """It holds, and not by chance."""
        return self.outcome == REGRESSION

    @property
    def judged(self) -> bool:
        """Whether it holds is known."""
        return self.outcome in (REGRESSION, OK)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"condition": self.condition.text, "outcome": self.outcome, "failed": self.failed}
        return {**found, "judged": self.judged, "why": self.why}


def judge(comparison: Comparison, conditions: Iterable[Condition]) -> list[Verdict]:
    """Judge conditions, on changes: all of them together (:func:`holm`).

    A condition on a change holds where the whole interval is beyond the limit. One on a value
    holds where any run of B is beyond it. Without faults count, rate and stalled are 0; a
    percentile, mean or maximum is not there then, and nothing is judged: what came anew or went is
    a matter of the former.

    :raises UnmeasuredError: a kind was not recorded
    """
    asked = list(conditions)
    changes: list[Change | None] = []
    for condition in asked:
        _check_measured(comparison, condition)
        relative = condition.relative
        changes.append(comparison.get(condition.kind, condition.metric) if relative else None)
    known = [
        (place, change.span.p(_limit(condition, change)))
        for place, (condition, change) in enumerate(zip(asked, changes, strict=True))
        if change is not None and change.span is not None
    ]
    sure = dict(zip((place for place, _ in known), holm([p for _, p in known]), strict=True))
    return [
        _judge(comparison, condition, change, sure.get(place, False), len(known))
        for place, (condition, change) in enumerate(zip(asked, changes, strict=True))
    ]


def _limit(condition: Condition, change: Change) -> float:
    """That B has none is no estimate: only that it might have had some can be chance."""
    return 0.0 if condition.limit <= -1 and not change.after else condition.limit


def _check_measured(comparison: Comparison, condition: Condition) -> None:
    for run in comparison.runs if condition.relative else comparison.sides[1]:
        if not measured(run.recording, condition.kind):
            raise UnmeasuredError(
                f"{condition.text!r}: {run.name} did not record {condition.kind}",
                step="judge condition",
                remedy=f"Record it with --kind {QUESTION_OF[condition.kind]}",
            )


def _judge(
    comparison: Comparison, condition: Condition, change: Change | None, sure: bool, among: int
) -> Verdict:
    if not condition.relative:
        return _judge_value(comparison.sides[1], condition)
    if change is None:
        kind, metric = condition.kind, condition.metric
        none = [
            name
            for name, side in zip("AB", comparison.sides, strict=True)
            if all(run.value(kind, metric) is None for run in side)
        ]
        return _nothing(condition, " and ".join(none))
    return judge_change(change, condition, sure, among)


def _nothing(condition: Condition, where: str) -> Verdict:
    return Verdict(condition, NOTHING, f"nothing to compare: no {condition.kind} faults in {where}")


def _judge_value(side: Sequence[Run], condition: Condition) -> Verdict:
    values = {run.name: run.value(condition.kind, condition.metric) for run in side}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return _nothing(condition, "B")
    shown = {name: format_value(condition.metric, value) for name, value in known.items()}
    beyond = [name for name, value in known.items() if condition.holds(value)]
    why = ", ".join(shown[name] if len(values) == 1 else f"{name} {shown[name]}" for name in shown)
    return Verdict(condition, REGRESSION if beyond else OK, why)


def judge_change(change: Change, condition: Condition, sure: bool, among: int) -> Verdict:
    """A condition on a change.

    :param sure: the change is on one side of the limit, for all that chance may do
    :param among: so many conditions were judged together
    """
    value = change.change
    if value is None:
        value = math.inf if change.after else 0.0  # out of nothing: more than by any share
        text = f"A has none, B {format_value(change.metric, change.after)}"
    else:
        text = percent(value)
    if change.after or change.before:
        text = f"{text}, {change.interval_text}"
    elif not condition.holds(value):
        return Verdict(condition, OK, text)
    if sure:
        return Verdict(condition, REGRESSION if condition.holds(value) else OK, text)
    return Verdict(condition, UNTOLD, text + _doubt(change, condition, value, among))


def _doubt(change: Change, condition: Condition, value: float, among: int) -> str:
    """Why an interval does not tell."""
    if change.span is None or not condition.holds(value):
        return ""
    low, high = change.span.interval
    if low <= 0 <= high:
        return ", may be chance"
    if not low <= condition.limit <= high:
        return f", may be chance in one of {among} conditions"
    return ""
