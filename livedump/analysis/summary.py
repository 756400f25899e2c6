"""Everything a report says, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livedump.analysis import stacks
from livedump.analysis.latency import Latency, latencies
from livedump.analysis.overtime import OverTime, over_time
from livedump.analysis.receipt import Receipt, fault_check, receipts
from livedump.errors import LivedumpError
from livedump.kinds import UNTIMED, kind_order
from livedump.recording.losses import count_losses, losses_text
from livedump.recording.meta import suspended_ns
from livedump.recording.schema import Row
from livedump.recording.store import Recording

TOP = 10

#: Columns of a terminal that are left for a timeline.
STEPS = 56


class KindError(LivedumpError):
    """A kind was asked for that was not recorded."""


@dataclass(frozen=True)
class Summary:
    """The content of a report.

    :param counters: kind -> name -> count, without the histograms' sums
    :param loss_slices: the losses of which the time is known, by slice; only slices with losses
    :param top_stacks: kind -> heaviest stacks
    :param samples: kind -> stacks that were taken, and faults that they stand for
    :param cpus: faults by kind and CPU, the busiest CPU of a kind first
    :param pages: hottest pages, of copy-on-write faults
    :param page_classes: of all pages that were annotated: what they were -> how many, most first
    :param totals: how many ``tasks`` and ``pages`` the lists above are the top of
    :param stack_totals: kind -> how many stacks there are
    :param stack_errors: kind -> standard error of the heaviest stack's count, and of its stalled
        time, as shares of these
    :param timeline: faults over time
    :param cow_check: the module's fault count beside BPF's; None when they cannot be compared
    """

    meta: dict[str, Any]
    duration_ns: int
    losses: list[Row]
    loss_slices: list[Row]
    latencies: list[Latency]
    counters: dict[str, dict[str, int]]
    top_stacks: dict[str, list[dict[str, Any]]]
    samples: dict[str, tuple[int, int]]
    tasks: list[Row]
    cpus: list[Row]
    pages: list[Row]
    page_classes: dict[str, int]
    stops: list[Row]
    receipts: list[Receipt]
    timeline: OverTime
    cow_check: dict[str, int] | None
    totals: dict[str, int]
    stack_totals: dict[str, int]
    stack_errors: dict[str, tuple[float, float]]

    @property
    def loss_counts(self) -> dict[str, int]:
        """See :func:`livedump.recording.losses.count_losses`."""
        return count_losses(self.losses)

    @property
    def losses_text(self) -> str:
        """``66 events have no stack; 0 events lost``"""
        return losses_text(self.loss_counts)

    @property
    def suspended_ns(self) -> int:
        """How long the machine slept meanwhile, which is in no other time here."""
        return suspended_ns(self.meta)

    @property
    def unmeasured(self) -> list[str]:
        """Losses that could not be counted, in words."""
        return list(self.meta["unmeasured"])

    @property
    def absent(self) -> list[dict[str, str]]:
        """What was not recorded, see :class:`livedump.trace.probe.points.Absent`."""
        return list(self.meta["absent"])

    @property
    def untimed(self) -> dict[str, int]:
        """kind -> faults, of kinds that are counted and have no latency."""
        counts = {kind: self.counters.get(kind, {}).get("events", 0) for kind in UNTIMED}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def longest_stops(self) -> list[Row]:
        """Longest first, without those inside another one."""
        outer = [row for row in self.stops if not row["nested"]]
        return sorted(outer, key=lambda row: -int(row["duration_ns"]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "meta": self.meta,
            "duration_ns": self.duration_ns,
            "suspended_ns": self.suspended_ns,
            **self.loss_counts,
            "losses": self.losses,
            "loss_slices": self.loss_slices,
            "unmeasured": self.unmeasured,
            "absent": self.absent,
            "latencies": [latency.to_dict() for latency in self.latencies],
            "counters": self.counters,
            "top_stacks": self.top_stacks,
            "samples": {kind: list(counts) for kind, counts in self.samples.items()},
            "tasks": self.tasks,
            "cpus": self.cpus,
            "pages": self.pages,
            "page_classes": self.page_classes,
            "stops": self.stops,
            "receipts": [receipt.to_dict() for receipt in self.receipts],
            "timeline": {
                "step_ns": self.timeline.step_ns,
                "counts": {kind: self.timeline.counts(kind) for kind in self.timeline.heat},
            },
            "cow_check": self.cow_check,
            "totals": self.totals,
            "stack_totals": self.stack_totals,
            "stack_errors": self.stack_errors,
        }


def summarize(
    recording: Recording,
    kinds: Sequence[str] = (),
    weight: str = "count",
    limit: int = TOP,
    *,
    steps: int = STEPS,
    with_stacks: bool = False,
) -> Summary:
    """Sum a recording up.

    :param kinds: only these kinds of latencies, stacks, tasks, counters, and pages, which are of
        kind ``cow``; empty: all
    :param weight: order of stacks and tasks, ``count`` or ``stalled_ns``
    :param limit: rows of each top list
    :param steps: of the timeline, at most
    :param with_stacks: the timeline has stacks, too
    :raises KindError: a kind that was not recorded
    """
    check_kinds(recording, kinds)
    seen = {row["kind"] for row in recording.tables["stacks"]}
    shown = sorted((kind for kind in seen if not kinds or kind in kinds), key=kind_order)
    counters: dict[str, dict[str, int]] = {}
    for row in recording.tables["counters"]:
        if row["name"] not in ("sum_ns", "max_ns") and (not kinds or row["kind"] in kinds):
            counters.setdefault(row["kind"], {})[row["name"]] = row["count"]
    tasks = [row for row in recording.tables["tasks"] if not kinds or row["kind"] in kinds]
    tasks.sort(key=lambda row: (-int(row[weight]), row["kind"], row["pid"]))
    pages = recording.tables["pages"] if not kinds or "cow" in kinds else []
    every = len(recording.tables["stacks"])
    ranked = {kind: stacks.top(recording, kind, weight, every) for kind in shown}
    return Summary(
        meta=recording.meta,
        duration_ns=recording.lasted_ns,
        losses=recording.tables["losses"],
        loss_slices=recording.tables["loss_slices"],
        latencies=latencies(recording, kinds),
        counters=counters,
        samples={kind: _samples(recording, kind) for kind in shown},
        top_stacks={kind: rows[:limit] for kind, rows in ranked.items()},
        tasks=tasks[:limit],
        cpus=_busiest(recording, kinds),
        pages=pages[:limit],
        page_classes=dict(Counter(row["was"] for row in pages if row["was"]).most_common()),
        stops=recording.tables["stops"],
        receipts=receipts(recording),
        timeline=over_time(recording, kinds, steps, with_stacks=with_stacks),
        cow_check=fault_check(recording),
        totals={"tasks": len(tasks), "pages": len(pages)},
        stack_totals={kind: len(rows) for kind, rows in ranked.items()},
        stack_errors={kind: _errors(rows[0]) for kind, rows in ranked.items()},
    )


def _busiest(recording: Recording, kinds: Sequence[str]) -> list[Row]:
    rows = [row for row in recording.tables["cpus"] if not kinds or row["kind"] in kinds]
    return sorted(rows, key=lambda row: (kind_order(row["kind"]), -int(row["count"]), row["cpu"]))


def _errors(stack: Mapping[str, Any]) -> tuple[float, float]:
    pairs = (("count_error", "count"), ("stalled_error_ns", "stalled_ns"))
    count, stalled = (stack[error] / stack[sum_] if stack[sum_] else 0.0 for error, sum_ in pairs)
    return round(count, 4), round(stalled, 4)


def _samples(recording: Recording, kind: str) -> tuple[int, int]:
    rows = [row for row in recording.tables["stacks"] if row["kind"] == kind]
    return sum(row["samples"] for row in rows), sum(row["count"] for row in rows)


def recorded_kinds(recording: Recording) -> set[str]:
    """Kinds of which something was recorded."""
    tables = ("histograms", "stacks", "tasks", "counters")
    return {row["kind"] for name in tables for row in recording.tables[name]}


def check_kinds(recording: Recording, kinds: Sequence[str], step: str = "report") -> None:
    """Raise :class:`KindError` unless something of each kind was recorded."""
    known = recorded_kinds(recording)
    for kind in kinds:
        if kind not in known:
            names = ", ".join(sorted(known, key=kind_order)) or "nothing"
            raise KindError(
                f"no kind {kind} in this recording", step=step, remedy=f"It has: {names}"
            )
