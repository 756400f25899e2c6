"""A flight recorder's trigger: when a condition holds, do something, while recording goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from livedump.conditions import Condition, format_value
from livedump.errors import LivedumpError
from livedump.kinds import Kind
from livedump.metrics import SUMS
from livedump.recording.buckets import values
from livedump.trace.timeline import Timeline, Window

#: A condition is judged by the faults of so many seconds, or of more where the recorder was busy:
#: every slice is judged once.
WINDOW_S = 0.5

#: After an action, so long nothing is begun: what it has caused itself is not to be taken for
#: the load's.
REST_S = 2.0


@dataclass
class Fired:
    """What came of one time that a condition held.

    :ivar condition: as it was written
    :ivar value: of its metric, then
    :ivar slice: the last one that was judged
    :ivar done: of the action; empty while it is under way, or when it failed
    :ivar error: why it failed; empty: it did not
    """

    condition: str
    value: float
    slice: int
    done: dict[str, Any]
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For meta.json."""
        return asdict(self)


def measure(window: Window, slice_ns: int, condition: Condition) -> float | None:
    """The condition's metric; None where there is none, as a percentile of nothing.

    Sums are those of a second: a window gets longer where the recorder is late.
    """
    kind = Kind[condition.kind.upper()]
    seconds = window.slices * slice_ns / 1e9
    if not seconds:
        return None
    if condition.metric == "rate":  # also of what is counted only
        return window.count(kind) / seconds
    counts = window.buckets.get(kind)
    if counts:
        return values(counts).metric(condition.metric, seconds)
    return 0.0 if condition.metric in SUMS else None


class Trigger:
    """Watches a timeline; see :data:`livedump.trace.pump.Watcher`.

    :param conditions: any of them is enough
    :param act: what to do the n-th time, from 1 on; its result is kept. Runs in a thread of its own
    :param most: how often, at most
    :ivar fired: what it came to
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        act: Callable[[int], dict[str, Any]],
        *,
        most: int = 1,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.fired: list[Fired] = []
        self._conditions = conditions
        self._act = act
        self._most = most
        self._tell = tell
        self._since: dict[str, int] = {}
        self._judged = -1
        self._rest_until = -1
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, timeline: Timeline) -> None:
        """Judge what is new; begin to act when a condition has held for long enough."""
        first = self._judged + 1
        if (timeline.last + 1 - first) * timeline.slice_ns < WINDOW_S * 1e9:
            return
        window = timeline.since(first)
        self._judged = timeline.last
        if self._busy(timeline):
            self._since.clear()
            return
        for condition in self._conditions:
            value = measure(window, timeline.slice_ns, condition)
            if value is None or not condition.holds(value):
                self._since.pop(condition.text, None)
                continue
            begun = self._since.setdefault(condition.text, window.first)
            held_s = (timeline.last + 1 - begun) * timeline.slice_ns / 1e9
            if held_s >= condition.hold_s:
                self._fire(condition, value)
                return

    def close(self) -> None:
        """Nothing is begun any more; wait until what is under way is done."""
        with self._lock:
            self._most = 0
        if self._thread and self._thread.is_alive():
            self._tell("waiting for what is under way")
        self.wait()

    def wait(self) -> None:
        """Until what is under way is done."""
        if self._thread:
            self._thread.join()

    def _busy(self, timeline: Timeline) -> bool:
        if len(self.fired) >= self._most:
            return True
        if self._thread and self._thread.is_alive():
            self._rest_until = timeline.last + round(REST_S * 1e9 / timeline.slice_ns)
            return True
        return timeline.last <= self._rest_until

    def _fire(self, condition: Condition, value: float) -> None:
        with self._lock:
            if len(self.fired) >= self._most:
                return  # closed meanwhile
            fired = Fired(condition.text, value, self._judged, {})
            self.fired.append(fired)
            self._since.clear()
            found = f"{condition.text} ({format_value(condition.metric, value)})"
            self._tell(f"{found}: action {len(self.fired)} of {self._most}")
            self._thread = threading.Thread(target=self._run, args=(fired,), name="trigger")
            self._thread.start()

    def _run(self, fired: Fired) -> None:
        try:
            fired.done = self._act(len(self.fired))
        except LivedumpError as error:
            fired.error = str(error)
            self._tell(f"error: {error}")
        except Exception as error:  # a recording goes on, whatever became of the action
            fired.error = f"{type(error).__name__}: {error}"
            self._tell(f"error: {fired.error}")
