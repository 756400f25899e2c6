"""Look at faults as they happen, without a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from livedump.kinds import Kind, kind_name
from livedump.metrics import QUANTILES
from livedump.recording.buckets import values
from livedump.recording.rows import Place
from livedump.sums import add_up
from livedump.trace.errors import TraceError
from livedump.trace.names import Names
from livedump.trace.probe import loader
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Plan
from livedump.trace.probe.programs import Programs
from livedump.trace.pump import INTERVAL_S, Pump
from livedump.trace.timeline import Timeline, Window

SHOWN = ("p50", "p99")
TOP = 10


@dataclass
class View:
    """The last seconds.

    :ivar seconds: how many
    :ivar kinds: ``{kind, rate, p50_ns, p99_ns, max_ns}``; times are None where faults are counted
        only
    :ivar stacks: ``{kind, comm, stack, rate, stalled_ns_per_s}``, heaviest first
    :ivar losses: what was lost -> how often
    """

    seconds: float
    kinds: list[dict[str, Any]] = field(default_factory=list)
    stacks: list[dict[str, Any]] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def look(window: Window, slice_ns: int, names: Mapping[Place, str], *, by_stalled: bool) -> View:
    """A window in names and rates."""
    seconds = max(window.slices * slice_ns / 1e9, 1e-9)
    view = View(round(seconds, 3), losses=dict(window.losses))
    for kind in Kind:
        if count := window.count(kind):
            view.kinds.append(
                {"kind": kind_name(kind), "rate": count / seconds, **_times(window, kind)}
            )
    totals = add_up(
        (
            (row.kind, row.comm, names[(row.addresses, row.user)]),
            (row.count, row.stalled_ns),
        )
        for row in window.stacks
    )
    heaviest = sorted(totals.items(), key=lambda item: item[1][by_stalled], reverse=True)
    view.stacks = [
        {
            "kind": kind,
            "comm": comm,
            "stack": stack,
            "rate": count / seconds,
            "stalled_ns_per_s": stalled_ns / seconds,
        }
        for (kind, comm, stack), (count, stalled_ns) in heaviest[:TOP]
    ]
    return view


def _times(window: Window, kind: Kind) -> dict[str, int | None]:
    counts = window.buckets.get(kind)
    if not counts:
        return {**{f"{name}_ns": None for name in SHOWN}, "max_ns": None}
    found = values(counts)
    times = {f"{name}_ns": found.quantile_ns(QUANTILES[name]) for name in SHOWN}
    return {**times, "max_ns": found.max_ns}


def watch(
    plan: Plan,
    options: Options,
    show: Callable[[View], None],
    stop: threading.Event,
    *,
    interval_s: float,
    rounds: int | None = None,
    by_stalled: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    load: Callable[[Plan, Options], Programs] = loader.load,
) -> None:
    """Show the last *interval_s* again and again, until *stop* or for so many rounds.

    :raises livedump.errors.LivedumpError: the programs cannot be attached, or not be read
    """
    programs = load(plan, options)
    try:
        timeline, names = Timeline(options.slice_ns, recent_stacks=True), Names()
        pump = Pump(programs, timeline)
        programs.begin()
        on_ready()
        done, shown = 0, -1
        while done != rounds and _drain(pump, stop, interval_s):
            if pump.errors:
                raise TraceError(pump.errors[0], step="watch faults")
            window = timeline.since(shown + 1)
            shown = timeline.last
            show(look(window, options.slice_ns, names, by_stalled=by_stalled))
            done += 1
    finally:
        programs.close()


def _drain(pump: Pump, stop: threading.Event, seconds: float) -> bool:
    """For so long, often enough that no map gets full; False when it is to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stop.wait(min(left, INTERVAL_S)):
            return False
        pump.round()
    return True
