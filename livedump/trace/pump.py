"""While recording goes on: take out what is over, tell those who watch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from livedump.recording.rows import Drained, LossRow
from livedump.trace.probe.programs import Programs
from livedump.trace.scale import Scale
from livedump.trace.timeline import Timeline

#: How often, seconds.
INTERVAL_S = 0.5

#: Called after each round, in the pump's thread.
Watcher = Callable[[Timeline], None]


class Keeper(Protocol):
    """Where goes what was taken out, see :class:`livedump.recording.journal.Journal`."""

    def add(self, drained: Drained) -> None:
        """Time slices that are over."""

    def add_losses(self, slice_: int, losses: list[LossRow]) -> None:
        """What was lost besides."""

    def add_events(self, events: bytes) -> None:
        """Some struct ld_event, one after the other."""


class Pump:
    """A thread that drains the programs.

    What fails in a round is told and tried again in the next one: nothing of it ends the recording.

    :param keeper: None: only the timeline is told
    :param events: hand over single faults, too
    :param watchers: see :data:`Watcher`
    :param tell: something went wrong, in words
    :ivar errors: what has gone wrong, each once
    """

    def __init__(
        self,
        programs: Programs,
        timeline: Timeline,
        *,
        keeper: Keeper | None = None,
        events: bool = False,
        watchers: tuple[Watcher, ...] = (),
        tell: Callable[[str], None] = lambda text: None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._programs = programs
        self._timeline = timeline
        self._keeper = keeper
        self._events = events
        self._watchers = watchers
        self._tell = tell
        self._interval_s = interval_s
        self._scale = Scale()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    @property
    def unscaled(self) -> bool:
        """Some sampled stacks could not be scaled to exact sums."""
        return self._scale.unscaled

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End. Safe to repeat, and before :meth:`start`."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def finish(self) -> None:
        """After the programs' end: take out the rest, and tell no watcher."""
        self.stop()
        self.drain()
        rest = self._scale.rest(max(self._timeline.last, 0))
        if rest and self._keeper:
            self._try("keep the rest", partial(self._keeper.add, Drained(stacks=rest)))

    def round(self) -> None:
        """Once all of it."""
        self.drain()
        for watch in self._watchers:
            self._try("watch", partial(watch, self._timeline))

    def drain(self) -> None:
        """Take out what is over."""
        self._try("take out time slices", self._drain)
        if self._events and self._keeper:
            add = self._keeper.add_events
            self._try("take out events", partial(self._programs.events, add))
        self._try("count losses", self._count_losses)

    def _drain(self) -> None:
        drained = self._scale.add(self._programs.drain())
        self._timeline.add(drained)
        if self._keeper:
            self._keeper.add(drained)

    def _count_losses(self) -> None:
        now = Counter({(row.probe, row.what): row.count for row in self._programs.losses()})
        # What the kernel counts has no time: it is as late as it may have been.
        slice_ = self._programs.now()
        new, self._lost = now - self._lost, now
        rows = [LossRow(probe, what, count) for (probe, what), count in new.items()]
        self._timeline.add_losses(rows)
        if self._keeper:
            self._keeper.add_losses(slice_, rows)

    def _try(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            text = f"{what}: {type(error).__name__}: {error}"
            if text not in self.errors:
                self.errors.append(text)
                self._tell(text)

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            self.round()
