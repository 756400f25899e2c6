"""When a trigger goes off, and what it does then."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from livedump.conditions import NOW, parse
from livedump.errors import SessionError
from livedump.kinds import Kind
from livedump.recording.buckets import BUCKETS
from livedump.recording.layout import CELL_KINDS, Loss
from livedump.recording.rows import Drained
from livedump.trace.timeline import Timeline
from livedump.trace.trigger import REST_S, WINDOW_S, Trigger, measure
from tests.unit.buckets import bucket_of

SLICE_NS = 100_000_000
PER_WINDOW = round(WINDOW_S * 10)
FAST, SLOW = 10_000, 5_000_000
KINDS = ("user", "kernel", "cow")


def cell(value_ns: int) -> int:
    """A user fault of so long."""
    return Kind.USER * CELL_KINDS + bucket_of(value_ns)


class Clock:
    """A timeline that goes on window by window."""

    def __init__(self, trigger: Trigger) -> None:
        self.timeline = Timeline(SLICE_NS)
        self._trigger = trigger

    def go(self, value_ns: int | None, windows: int = 1) -> None:
        """So many windows with 100 faults of *value_ns* each, or with none."""
        for _ in range(windows):
            last = self.timeline.last + PER_WINDOW
            cells = {(last, cell(value_ns)): 100} if value_ns else {}
            self.timeline.add(Drained(last, cells))
            self._trigger.watch(self.timeline)
            self._trigger.wait()


def trigger(
    *conditions: str, most: int = 1, act: Any = lambda number: {"number": number}
) -> Trigger:
    """A trigger for users' conditions."""
    return Trigger([parse(text, KINDS, NOW) for text in conditions], act, most=most)


def test_condition_must_hold_all_the_time() -> None:
    found = trigger("p99(user)>2ms for 1.5s")
    clock = Clock(found)
    clock.go(SLOW, 2)
    clock.go(FAST)
    clock.go(SLOW, 2)
    clock.go(None)
    clock.go(SLOW, 2)
    assert not found.fired
    clock.go(SLOW)
    [fired] = found.fired
    assert (fired.condition, fired.done) == ("p99(user)>2ms for 1.5s", {"number": 1})
    assert fired.value == pytest.approx(SLOW, rel=0.032)
    assert fired.slice == clock.timeline.last


def test_what_was_never_judged_does_not_hold() -> None:
    """A recorder that was busy for six seconds judges them all, together."""
    found = trigger("p99(user)>2ms for 5s")
    clock = Clock(found)
    clock.go(SLOW)
    last = clock.timeline.last + 60
    cells = {(clock.timeline.last + 1 + number, cell(FAST)): 100 for number in range(59)}
    clock.timeline.add(Drained(last, {**cells, (last, cell(SLOW)): 10}))
    found.watch(clock.timeline)
    clock.go(SLOW, 9)
    assert not found.fired
    clock.go(SLOW)
    assert len(found.fired) == 1


def test_closed_trigger_begins_nothing() -> None:
    found = trigger("p50(user)>1ms")
    found.close()
    Clock(found).go(SLOW, 4)
    assert not found.fired


def test_any_condition_is_enough_and_nothing_is_judged_twice() -> None:
    found = trigger("rate(kernel)>1", "max(user)>1ms")
    clock = Clock(found)
    clock.go(SLOW)
    found.watch(clock.timeline)
    assert [fired.condition for fired in found.fired] == ["max(user)>1ms"]


def test_rests_after_an_action_and_ends_after_the_last() -> None:
    found = trigger("p50(user)>1ms", most=2)
    clock = Clock(found)
    clock.go(SLOW)
    assert len(found.fired) == 1
    begun = Event()
    busy = trigger("p50(user)>1ms", most=2, act=lambda number: begun.wait(10) and {})
    slow = Clock(busy)
    slow.timeline.add(Drained(4, {(4, cell(SLOW)): 1}))
    busy.watch(slow.timeline)
    slow.timeline.add(Drained(9, {(9, cell(SLOW)): 1}))
    busy.watch(slow.timeline)  # still at it
    begun.set()
    busy.wait()
    slow.go(SLOW, round(REST_S / WINDOW_S))
    assert len(busy.fired) == 1
    slow.go(SLOW, 20)
    assert len(busy.fired) == 2


def test_action_that_fails_is_told() -> None:
    def act(number: int) -> dict[str, Any]:
        raise SessionError("no", step="take snapshot") if number == 1 else ValueError("odd")

    found = trigger("rate(user)>1", most=2, act=act)
    Clock(found).go(SLOW, 30)
    assert [fired.error for fired in found.fired] == ["take snapshot: no.", "ValueError: odd"]
    assert found.fired[0].to_dict()["done"] == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate(user)>0", 8),
        ("mean(user)>0ns", (3 * FAST + SLOW) / 4),
        ("max(user)>0ns", SLOW),
        ("stalled(user)>0ns", (3 * FAST + SLOW) / WINDOW_S),
        ("p75(user)>0ns", FAST),
        ("p99.9(user)>0ns", SLOW),
        ("rate(kernel)>0", 7 / WINDOW_S),
        ("p99(cow)>0ns", None),
    ],
)
def test_metrics(text: str, value: float | None) -> None:
    timeline = Timeline(SLICE_NS)
    untimed = Kind.KERNEL * CELL_KINDS + BUCKETS + len(Loss)
    timeline.add(Drained(4, {(1, cell(FAST)): 3, (4, cell(SLOW)): 1, (4, untimed): 7}))
    found = measure(timeline.window(WINDOW_S), SLICE_NS, parse(text, KINDS))
    assert found == (None if value is None else pytest.approx(value, rel=0.07))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("p99(user)>1ms", "p99(user)>1ms (5.1 ms): action 1 of 1"),
        ("max(user)>1ms for 1s", "max(user)>1ms for 1s (5.1 ms): action 1 of 1"),
        ("rate(user)>1/s", "rate(user)>1/s (200.0/s): action 1 of 1"),
        ("stalled(user)>1s", "stalled(user)>1s (1.0 s/s): action 1 of 1"),
    ],
)
def test_what_was_measured_is_told_with_its_unit(text: str, told: str) -> None:
    said: list[str] = []
    found = Trigger([parse(text, KINDS, NOW)], lambda number: {}, tell=said.append)
    Clock(found).go(SLOW, 2)
    assert said == [told]
