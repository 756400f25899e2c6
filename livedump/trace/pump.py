"""While recording goes on: take out what is over, keep stacks cheap, tell those who watch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from enum import Enum

from livedump.trace.data import LossRow
from livedump.trace.layout import NO_STACKS, Kind, cell_what
from livedump.trace.maps import Programs
from livedump.trace.timeline import Timeline

#: How often, seconds.
INTERVAL_S = 0.5

#: Stacks of one kind that are taken in a second, about. Taking one costs some microseconds.
STACKS_PER_S = 2000

#: Kinds that have stacks.
SAMPLED = (Kind.USER, Kind.UACCESS, Kind.GUP, Kind.KERNEL, Kind.COW)


class Stacks(Enum):
    """Of which faults the stack is taken."""

    SAMPLED = "sampled"
    ALL = "all"
    NONE = "none"


#: Called after each round, in the pump's thread.
Watcher = Callable[[Timeline], None]


class Sampler:
    """One stack of how many faults: as many as it takes to stay at :data:`STACKS_PER_S`."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self.every = dict.fromkeys(SAMPLED, NO_STACKS if stacks is Stacks.NONE else 1)

    def changes(self, events: Counter[Kind], seconds: float) -> dict[Kind, int]:
        """What is to be set anew after *events* in *seconds*."""
        if self._stacks is not Stacks.SAMPLED or seconds <= 0:
            return {}
        wanted = {kind: max(1, round(events[kind] / seconds / STACKS_PER_S)) for kind in SAMPLED}
        found = {kind: every for kind, every in wanted.items() if every != self.every[kind]}
        self.every.update(found)
        return found


class Pump:
    """A thread that drains the programs.

    :param watchers: see :data:`Watcher`
    :ivar error: what has ended the thread early; empty: nothing
    """

    def __init__(
        self,
        programs: Programs,
        timeline: Timeline,
        *,
        stacks: Stacks = Stacks.SAMPLED,
        keep_event: Callable[[bytes], None] | None = None,
        watchers: tuple[Watcher, ...] = (),
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._programs = programs
        self._timeline = timeline
        self._sampler = Sampler(stacks)
        programs.sample(self._sampler.every)
        self._keep_event = keep_event
        self._watchers = watchers
        self._interval_s = interval_s
        self._lost: Counter[tuple[str, str]] = Counter()
        self._over = threading.Event()
        self.error = ""
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End. Safe to repeat."""
        self._over.set()
        self._thread.join()

    def finish(self) -> None:
        """After the programs' end: take out the rest."""
        self.stop()
        self.round(whole=True)

    def round(self, *, whole: bool = False) -> None:
        """Once all of it.

        :param whole: the programs have ended: the last slice is over
        """
        before = self._timeline.last
        drained = self._programs.drain()
        self._timeline.add(drained)
        events: Counter[Kind] = Counter()
        for (_, what), count in drained.cells.items():
            cell = cell_what(what)
            if cell.loss is None:
                events[cell.kind] += count
        seconds = (self._timeline.last - before) * self._timeline.slice_ns / 1e9
        if changes := self._sampler.changes(events, seconds):
            self._programs.sample(changes)
        if self._keep_event:
            self._programs.events(self._keep_event)
        self._timeline.add_losses(max(self._timeline.last, 0), self._new_losses())
        if not whole:
            for watch in self._watchers:
                watch(self._timeline)

    def _new_losses(self) -> list[LossRow]:
        now = Counter({(row.probe, row.what): row.count for row in self._programs.losses()})
        new, self._lost = now - self._lost, now
        return [LossRow(probe, what, count) for (probe, what), count in new.items()]

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            try:
                self.round()
            except Exception as error:  # what was counted is still there, at the end
                self.error = f"{type(error).__name__}: {error}"
                return
