"""One of the recordings that are compared, and its metrics by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from livedump.analysis.chance import Chance
from livedump.analysis.latency import Latency, latencies
from livedump.kinds import UNTIMED
from livedump.metrics import SUMS
from livedump.recording.losses import count_losses, losses_text
from livedump.recording.store import Recording


@dataclass(frozen=True)
class Run:
    """A recording.

    :ivar name: ``A``, or ``A2`` where there are several
    :ivar number: its place among all that are compared
    """

    name: str
    recording: Recording
    number: int

    @cached_property
    def chance(self) -> Chance:
        """What it might have been."""
        return Chance(self.recording, self.number)

    @cached_property
    def latencies(self) -> dict[str, Latency]:
        """By kind."""
        return {row.kind: row for row in latencies(self.recording)}

    @cached_property
    def untimed(self) -> dict[str, int]:
        """Faults of the kinds that are counted and have no latency; only kinds that have any."""
        return {
            row["kind"]: int(row["count"])
            for row in self.recording.tables["counters"]
            if row["kind"] in UNTIMED and row["name"] == "events" and row["count"]
        }

    @property
    def kinds(self) -> set[str]:
        """Those of which there were any."""
        return {*self.latencies, *self.untimed}

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.recording.lasted_ns / 1e9

    def value(self, kind: str, metric: str) -> float | None:
        """A metric by its name in a condition; None where there is no fault to take it of."""
        if kind in UNTIMED:
            count = self.untimed.get(kind, 0)
            return {"count": count, "rate": count / self.seconds}.get(metric)
        latency = self.latencies.get(kind)
        if latency is None:
            return 0.0 if metric in SUMS else None
        return latency.metric(metric, self.seconds)

    @property
    def losses(self) -> str | None:
        """In words; None: nothing was lost."""
        counts = count_losses(self.recording.tables["losses"])
        if not counts["losses_total"]:
            return None
        lost = "LOST in" if counts["events_lost"] else "in"
        return f"{lost} {self.name}: {losses_text(counts)}"
