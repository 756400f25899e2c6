"""Recordings side by side: what changed, and whether that can be chance.

With one recording of A and one of B chance is told inside them (:mod:`livedump.analysis.chance`),
with more between runs (:mod:`livedump.analysis.replicates`), which is what a question about the
program, and not about these two minutes of it, needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from livedump.analysis.alike import GRAVE, differences, measured
from livedump.analysis.chance import within
from livedump.analysis.replicates import OWN_VARIANCE, alike, between, typical
from livedump.analysis.run import Run
from livedump.analysis.significance import Span, TooLittle, benjamini_hochberg
from livedump.analysis.stack_changes import stack_changes
from livedump.analysis.summary import TOP, check_kinds, recorded_kinds
from livedump.errors import LivedumpError
from livedump.kinds import kind_order
from livedump.metrics import QUANTILES
from livedump.recording.store import Recording

METRICS = ("rate", *QUANTILES, "max", "mean", "stalled")

WITHIN = "within this run"
BETWEEN = "between runs"


class RunsError(LivedumpError):
    """Recordings that cannot be runs of A and B."""


@dataclass(frozen=True)
class Change:
    """One metric of one kind in A and B.

    :ivar before: in A, after: in B; ns, ``rate`` in events a second, ``stalled`` in ns a second;
        of several runs the geometric mean
    :ivar runs: in each run of A, and of B; None: it has no such fault
    :ivar span: where the change lies; None: not known
    :ivar unknown: why not, in words
    :ivar significant: more than chance, all rows of the comparison taken together; what is shown
        as +0.0 % never is. None: not known
    """

    kind: str
    metric: str
    before: float
    after: float
    runs: tuple[list[float | None], list[float | None]]
    span: Span | None
    unknown: str = ""
    significant: bool | None = None

    @property
    def change(self) -> float | None:
        """(B - A) / A, None when A is 0; of percentiles finer than the two, which are buckets'
        middles."""
        if not self.before:
            return None
        return self.span.change if self.span else (self.after - self.before) / self.before

    @property
    def p(self) -> float | None:
        """How often chance shows as much; 1 for what is not rare."""
        if self.span is None:
            return None
        shown = self.change is None or abs(self.change) >= 0.0005
        return self.span.p(0.0) if shown else 1.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where *change* lies, in 99 % of cases; None: not known."""
        return self.span.interval if self.span else None

    @property
    def interval_text(self) -> str:
        """``-1.5..+20.0%``, or why there is none."""
        if self.interval is None:
            return self.unknown
        low, high = map(percent, self.interval)
        return f"{low.rstrip('%')}..{high}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null."""
        ends = self.interval and [end if math.isfinite(end) else None for end in self.interval]
        return {
            "kind": self.kind,
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            "before_runs": self.runs[0],
            "after_runs": self.runs[1],
            "change": self.change,
            "interval": ends,
            "interval_text": self.interval_text,
            "unknown": self.unknown,
            "significant": self.significant,
        }


def percent(share: float) -> str:
    """``+12.3%``; of what is more than tenfold, whole ones."""
    text = f"{share:+.1%}" if abs(share) < 10 or math.isinf(share) else f"{share:+.0%}"
    return "+0.0%" if text == "-0.0%" else text


@dataclass(frozen=True)
class Comparison:
    """Recordings of A and of B.

    :ivar differences: why they are not alike, in words
    :ivar stacks: see :func:`livedump.analysis.stack_changes.stack_changes`
    :ivar only: kinds that only one of them has, with ``A`` or ``B``
    """

    sides: tuple[tuple[Run, ...], tuple[Run, ...]]
    differences: list[str]
    stacks: dict[str, list[dict[str, Any]]]
    changes: list[Change] = field(default_factory=list)
    only: dict[str, str] = field(default_factory=dict)

    @property
    def recordings(self) -> tuple[list[Recording], list[Recording]]:
        """Those of A, and those of B."""
        a, b = ([run.recording for run in side] for side in self.sides)
        return a, b

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them."""
        return (*self.sides[0], *self.sides[1])

    @property
    def scope(self) -> str:
        """What chance is: within this run, or between runs."""
        return WITHIN if len(self.runs) == 2 else BETWEEN

    @property
    def grave(self) -> list[str]:
        """Those of the differences that make the numbers mean something else."""
        return [line.removeprefix(GRAVE) for line in self.differences if line.startswith(GRAVE)]

    @property
    def losses(self) -> list[str]:
        """Of each recording that has any, in words."""
        return [run.losses for run in self.runs if run.losses]

    @property
    def legend(self) -> list[str]:
        """What the numbers mean, and what they do not."""
        tests = sum(row.span is not None for row in self.changes)
        many = f"all {tests} rows taken together (Benjamini-Hochberg)"
        lines = [f"*: more than chance {self.scope}, {many}"]
        if self.scope == WITHIN:
            lines[0] += "; bursts are taken into account"
            lines.append(
                "Runs differ among themselves, too, which one of each cannot tell: "
                "diff A1 A2 A3 --against B1 B2 B3 can"
            )
        else:
            lines.append("A and B are the geometric means of their runs")
        if self.scope == BETWEEN and alike(self.sides):
            lines.append(
                f"A's runs and B's are supposed to vary alike; with {OWN_VARIANCE} of each or more "
                "they need not"
            )
        lines.append(
            "A percentile is shown as its bucket's middle (within 3.2 %); its change and interval "
            "are taken inside the bucket"
        )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "a": [recording.meta for recording in self.recordings[0]],
            "b": [recording.meta for recording in self.recordings[1]],
            "scope": self.scope,
            "legend": self.legend,
            "differences": self.differences,
            "losses": self.losses,
            "changes": [change.to_dict() for change in self.changes],
            "only": self.only,
            "stacks": self.stacks,
        }

    def get(self, kind: str, metric: str) -> Change | None:
        """The change of one metric; None where a side has no fault to take it of."""
        values = [[run.value(kind, metric) for run in side] for side in self.sides]
        known = [[value for value in side if value is not None] for side in values]
        if not all(known):
            return None
        before, after = map(typical, known)
        row = Change(kind, metric, before, after, (values[0], values[1]), None)
        try:
            return replace(row, span=self._span(kind, metric, (before, after)))
        except TooLittle as why:
            return replace(row, unknown=str(why))

    def _span(self, kind: str, metric: str, values: tuple[float, float]) -> Span:
        if self.scope == BETWEEN:
            return between(self.sides, kind, metric)
        a, b = self.runs
        return within((a.chance, b.chance), kind, metric, values)


def compare(
    before: Recording | Sequence[Recording],
    after: Recording | Sequence[Recording],
    kinds: Sequence[str] = (),
    limit: int = TOP,
    by: str | None = None,
) -> Comparison:
    """Compare B with A, of each a recording, or one for each run.

    :param kinds: only these; empty: all
    :param limit: stacks of each kind
    :param by: sort stacks by the change of ``count`` or ``stalled``; default: of what was measured
    :raises RunsError: one is given twice
    :raises livedump.analysis.summary.KindError: a kind that none has
    """
    before, after = ([each] if isinstance(each, Recording) else each for each in (before, after))
    recordings = [*before, *after]
    _check_runs(recordings)
    _check_kinds(recordings, kinds)
    sides = _runs("A", before, 0), _runs("B", after, len(before))
    found = Comparison(
        sides,
        differences({run.name: run.recording for run in (*sides[0], *sides[1])}),
        stack_changes((before, after), kinds, limit, by),
    )
    a, b = (set().union(*(run.kinds for run in side)) for side in sides)
    for kind in sorted(a | b, key=kind_order):
        if kinds and kind not in kinds:
            continue
        if kind not in a or kind not in b:
            found.only[kind] = "A" if kind in a else "B"
        if all(measured(recording, kind) for recording in recordings):
            rows = (found.get(kind, metric) for metric in METRICS)
            found.changes.extend(row for row in rows if row is not None)
    found.changes[:] = _starred(found.changes)
    return found


def _runs(name: str, recordings: Sequence[Recording], first: int) -> tuple[Run, ...]:
    """``A``, or ``A1``, ``A2``..."""
    several = len(recordings) > 1
    return tuple(
        Run(f"{name}{number + 1}" if several else name, recording, first + number)
        for number, recording in enumerate(recordings)
    )


def _check_runs(recordings: Sequence[Recording]) -> None:
    """A recording beside itself would be two runs that are alike."""
    if len(recordings) == 2:
        return
    seen: dict[str, Recording] = {}
    for recording in recordings:
        key = recording.meta["recording_id"]
        if key in seen:
            same = recording.path == seen[key].path
            other = "is given twice" if same else f"is the same recording as {seen[key].path}"
            raise RunsError(
                f"{recording.path} {other}", step="compare", remedy="Name each run once"
            )
        seen[key] = recording


def _check_kinds(recordings: Sequence[Recording], kinds: Sequence[str]) -> None:
    had = set().union(*map(recorded_kinds, recordings))
    new = [kind for kind in kinds if kind not in had]
    check_kinds(
        recordings[-1], [k for k in new if not any(measured(each, k) for each in recordings)]
    )


def _starred(changes: Sequence[Change]) -> list[Change]:
    """With what is found significant among all of them."""
    known = [p for p in (row.p for row in changes) if p is not None]
    stars = iter(benjamini_hochberg(known))
    return [row if row.span is None else replace(row, significant=next(stars)) for row in changes]
