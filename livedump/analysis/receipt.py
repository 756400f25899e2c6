"""The downtime receipt: the module's own phases beside BPF's measure of the same stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from livedump.receipt import phases_ns
from livedump.recording.schema import Row
from livedump.recording.store import Recording


@dataclass(frozen=True)
class Receipt:
    """One snapshot.

    :param snapshot: its row of the table ``snapshots``
    :param phases_ns: of the module's stop, see :func:`livedump.receipt.phases_ns`
    :param stop: the row of ``stops`` for the same stop; None when BPF saw none
    """

    snapshot: Row
    phases_ns: dict[str, int]
    stop: Row | None

    @property
    def difference_ns(self) -> int | None:
        """BPF's measure minus the module's; None when BPF saw no such stop."""
        if self.stop is None:
            return None
        return int(self.stop["duration_ns"]) - int(self.snapshot["stop_ns"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.snapshot,
            "phases_ns": self.phases_ns,
            "bpf_stop_ns": self.stop["duration_ns"] if self.stop else None,
            "bpf_stop_symbol": self.stop["symbol"] if self.stop else None,
            "difference_ns": self.difference_ns,
        }


def receipts(recording: Recording) -> list[Receipt]:
    """All snapshots that were taken while recording, in order."""
    stops = [row for row in recording.tables["stops"] if not row["nested"]]
    found = []
    for row in recording.tables["snapshots"]:
        if row["stop_ns"] is None:
            continue  # taken before the recording began
        found.append(Receipt(row, phases_ns(row), match_stop(row, stops)))
    return found


def match_stop(snapshot: Row, stops: list[Row]) -> Row | None:
    """The stop that holds the snapshot's instant, else its task's last one before the receipt."""
    instant = int(snapshot["instant_monotonic_ns"])
    for stop in stops:
        start = int(stop["start_monotonic_ns"])
        if start <= instant <= start + int(stop["duration_ns"]):
            return stop
    before: list[Row] = [
        stop
        for stop in stops
        if stop["pid"] == snapshot["pid"]
        and stop["start_monotonic_ns"] + stop["duration_ns"] <= snapshot["snapshot_monotonic_ns"]
    ]
    return sorted(before, key=_start)[-1] if before else None


def _start(stop: Row) -> int:
    return int(stop["start_monotonic_ns"])


def fault_check(recording: Recording) -> dict[str, int] | None:
    """The module's count of its faults beside what BPF saw of them.

    None unless every snapshot of the recording was taken and released inside it, and CoW faults
    were recorded, everybody's.
    """
    rows = recording.tables["snapshots"]
    whole = rows and all(row["stop_ns"] is not None and row["faults"] is not None for row in rows)
    if not whole or "cow" not in recording.meta.get("questions", ()):
        return None
    if recording.meta["options"].get("filter"):
        return None
    outcomes = ("saved", "already", "lost", "releasing", "other_outcome")
    seen = sum(
        int(row["count"])
        for row in recording.tables["counters"]
        if row["kind"] == "cow" and row["name"] in outcomes
    )
    counted = sum(int(row["faults"]) for row in rows)
    skipped = sum(int(row["trace_skipped"]) for row in rows)
    return {
        "module": counted,
        "seen": seen,
        "unseen": counted - seen,
        "not_traced_by_module": skipped,
    }
