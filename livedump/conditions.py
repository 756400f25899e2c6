"""Conditions on what was recorded, as users write them: ``p99(user)>2ms for 1s``,
``p99(cow)>+20%``.

The grammar is ``METRIC(KIND) OP LIMIT [for TIME]``: a limit with a sign and ``%`` is a change
against another recording, any other one a value. Where a condition is judged, only one of the two
may make sense, and ``for`` may not: see :class:`Form`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from livedump.errors import LivedumpError
from livedump.kinds import UNTIMED
from livedump.metrics import METRICS, SUMS, quantile
from livedump.units import TIMES_MS, format_ns, format_rate

STEP = "read condition"

_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

_GRAMMAR = re.compile(
    r"""\s*(?P<metric>[a-z]+\d*(?:\.\d+)?)\s*\(\s*(?P<kind>[a-z_]+)\s*\)
        \s*(?P<op>>=|<=|>|<)
        \s*(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ns|us|ms|s|/s)?
        (?:\s+for\s+(?P<hold>\d+(?:\.\d+)?)\s*(?P<hold_unit>ms|s|m|h|))?\s*""",
    re.VERBOSE,
)


class ConditionError(LivedumpError):
    """A condition that cannot be read, or makes no sense where it stands."""


@dataclass(frozen=True)
class Form:
    """What a condition may be where it stands.

    :ivar grammar: for who has written something else
    :ivar relative: whether the limit must be a change, or a value; None: either
    :ivar hold: whether ``for TIME`` makes sense
    """

    grammar: str
    relative: bool | None
    hold: bool


#: On what goes on now.
NOW = Form(
    "METRIC(KIND)>LIMIT [for TIME], e.g. p99(user)>2ms for 1s; TIME is 500ms, 5s, 1m or 1h",
    relative=False,
    hold=True,
)

#: On a recording, and another one before it.
COMPARED = Form(
    "METRIC(KIND)>LIMIT or METRIC(KIND)>+N%, e.g. p99(user)>2ms or p99(cow)>+20%",
    relative=None,
    hold=False,
)


@dataclass(frozen=True)
class Condition:
    """A condition.

    :ivar text: as it was written
    :ivar metric: ``p50``, ``p99.9``, or one of :data:`METRICS`
    :ivar limit: a value in ns, events or events a second; a share (0.2) when *relative*
    :ivar hold_s: for how long it must be so
    """

    text: str
    metric: str
    kind: str
    op: str
    limit: float
    relative: bool
    hold_s: float = 0.0

    def holds(self, value: float) -> bool:
        """True when *value*, or a change as a share, is beyond the limit."""
        return _OPERATORS[self.op](value, self.limit)

    def check(self, *, relative: bool | None, hold: bool) -> None:
        """Raise unless the condition suits the place where it is judged.

        :param relative: whether changes, or values, make sense there; None: both do
        :param hold: whether ``for TIME`` does
        :raises ConditionError: it does not
        """
        if relative is not None and self.relative != relative:
            wanted = "a change like +20%" if relative else "a value like 2ms"
            raise ConditionError(f"{self.text!r}: the limit must be {wanted}", step=STEP)
        if self.hold_s and not hold:
            raise ConditionError(f"{self.text!r}: no 'for' here", step=STEP)
        if self.kind in UNTIMED and METRICS.get(self.metric, "ns") == "ns":
            raise ConditionError(
                f"{self.text!r}: {self.kind} faults are counted, not timed",
                step=STEP,
                remedy=f"Use rate({self.kind})",
            )
        self._check_edge()

    def _check_edge(self) -> None:
        """No value is below 0, no change below -100 %."""
        lowest = -1.0 if self.relative else 0.0
        if self.limit > lowest:
            return
        beyond = self.limit < lowest
        if self.op == "<" or (self.op == "<=" and beyond):
            raise ConditionError(f"{self.text!r}: holds never", step=STEP)
        # max(user)>=0ns asks whether there is any fault: it may be false.
        if (self.op == ">=" or beyond) and (self.relative or self.metric in SUMS):
            raise ConditionError(f"{self.text!r}: holds always", step=STEP)


def format_value(metric: str, number: float) -> str:
    """``("rate", 12.3)`` -> ``"12.3/s"``; times in a unit that suits."""
    if metric == "rate":
        return f"{format_rate(number)}/s"
    if metric == "count":
        return f"{number:,.0f}"
    return format_ns(round(number)) + ("/s" if metric == "stalled" else "")


def parse(text: str, kinds: tuple[str, ...], form: Form = COMPARED) -> Condition:
    """Read one condition.

    :param kinds: that exist
    :param form: what is taken
    :raises ConditionError: with what is wrong
    """
    found = _GRAMMAR.fullmatch(text)
    if not found:
        raise ConditionError(f"{text!r} is no condition", step=STEP, remedy=f"Write {form.grammar}")
    metric, kind, unit = found["metric"], found["kind"], found["unit"] or ""
    if metric not in METRICS and quantile(metric) is None:
        raise ConditionError(
            f"{text!r}: no metric {metric}", step=STEP, remedy=f"Use p99, {', '.join(METRICS)}"
        )
    if kind not in kinds:
        raise ConditionError(
            f"{text!r}: no kind {kind}", step=STEP, remedy=f"Use: {', '.join(kinds)}"
        )
    hold_s = float(found["hold"] or 0) * TIMES_MS[found["hold_unit"] or ""] / 1000
    relative = unit == "%" or bool(found["sign"])
    number = float(found["sign"] + found["number"])
    if not relative:
        number = _value(text, metric, number, unit)
    elif unit == "%" and found["sign"]:
        number /= 100
    elif form.relative is not False:
        raise ConditionError(
            f"{text!r}: a change has a sign and %", step=STEP, remedy="Write +20% or -20%"
        )
    condition = Condition(text.strip(), metric, kind, found["op"], number, relative, hold_s)
    condition.check(relative=form.relative, hold=form.hold)
    return condition


def _value(text: str, metric: str, number: float, unit: str) -> float:
    """A limit that is no change."""
    if METRICS.get(metric, "ns") == "ns":
        if unit not in _NS:
            raise ConditionError(
                f"{text!r}: {metric} is a time", step=STEP, remedy=f"Add {', '.join(_NS)}"
            )
        return number * _NS[unit]
    if unit not in ("", METRICS[metric]):
        raise ConditionError(
            f"{text!r}: {metric} is not in {unit}",
            step=STEP,
            remedy=f"Write {number:g}{METRICS[metric]}",
        )
    return number
