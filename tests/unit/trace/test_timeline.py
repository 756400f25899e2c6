"""Sums by time slice, and the thread that collects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from livedump.kinds import Kind
from livedump.recording.buckets import BUCKETS
from livedump.recording.layout import CELL_KINDS, Loss, cell_what
from livedump.recording.rows import Drained, LossRow, StackRow
from livedump.trace.names import STACK_LOST, Names, fold
from livedump.trace.pump import Pump
from livedump.trace.symbols import Symbols
from livedump.trace.timeline import RECENT_S, Timeline
from tests.unit.buckets import bucket_of

SLICE_NS = 100_000_000
BUCKET = bucket_of(5000)
USER = Kind.USER * CELL_KINDS + BUCKET
KERNEL = Kind.KERNEL * CELL_KINDS + BUCKETS + len(Loss)
LOST = Kind.COW * CELL_KINDS + BUCKETS + Loss.STACK


def test_what_a_cell_is_about() -> None:
    assert (cell_what(USER).kind, cell_what(USER).bucket) == (Kind.USER, BUCKET)
    assert cell_what(KERNEL).kind is Kind.KERNEL and cell_what(KERNEL).untimed
    assert (cell_what(LOST).kind, cell_what(LOST).loss) == (Kind.COW, Loss.STACK)
    for bad in (KERNEL + 1, len(Kind) * CELL_KINDS):
        with pytest.raises(ValueError, match="is not a valid"):
            cell_what(bad)


def test_window_is_the_last_slices_that_are_over() -> None:
    timeline = Timeline(SLICE_NS)
    assert timeline.window(1).slices == 0
    timeline.add(Drained(9, {(0, USER): 1, (5, USER): 2, (9, USER): 4, (9, KERNEL): 8}))
    window = timeline.window(0.5)
    assert (window.first, window.slices) == (5, 5)
    assert window.buckets == {Kind.USER: Counter({BUCKET: 6})}
    assert (window.count(Kind.USER), window.count(Kind.KERNEL), window.count(Kind.COW)) == (6, 8, 0)
    assert timeline.window(1000).count(Kind.USER) == 7


def test_window_has_losses_of_both_kinds() -> None:
    timeline = Timeline(SLICE_NS)
    timeline.add(Drained(4, {(1, LOST): 9}))
    timeline.add_losses([LossRow("ld_program", "program skipped", 5)])
    timeline.add(Drained(9))
    assert timeline.since(0).losses == {"no stack": 9, "program skipped": 5}
    assert timeline.window(0.5).losses == {}


def test_only_the_last_minutes_are_at_hand() -> None:
    timeline = Timeline(SLICE_NS, recent_stacks=True)
    last = RECENT_S * 10 + 50
    row = StackRow(0, "user", "cat", (1,), 1, 1, 1)
    timeline.add(Drained(0, {(0, USER): 1}, [row]))
    timeline.add(Drained(last, {(last, USER): 1}, [replace(row, slice=last)]))
    window = timeline.window(10 * RECENT_S)
    assert window.count(Kind.USER) == len(window.stacks) == 1
    assert window.slices == RECENT_S * 10 + 1  # what rates are divided by


def test_stacks_are_kept_where_they_are_asked_for() -> None:
    row = StackRow(1, "user", "cat", (7, 8), 1, 3, 30)
    for asked in (True, False):
        timeline = Timeline(SLICE_NS, recent_stacks=asked)
        timeline.add(Drained(1, {}, [row]))
        assert timeline.window(1).stacks == [row] * asked


def test_user_space_is_below_the_kernel(tmp_path: Path) -> None:
    table = tmp_path / "kallsyms"
    table.write_text("0000000000001000 T entry\n0000000000002000 T handler\n")
    place = ((0x2004, 0x1004), ("leaf;x", "main"))
    assert fold(place, Symbols(table)) == "main;leaf:x;entry;handler"
    assert fold(((), ()), Symbols(table)) == STACK_LOST


def test_names_are_of_the_moment_they_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is loaded later is known; one that is gone keeps its functions' names."""
    table, loaded = tmp_path / "kallsyms", ["a"]
    table.write_text("0000000000001000 t work\t[first]\n")
    monkeypatch.setattr("livedump.trace.names.modules", lambda: loaded[0])
    names = Names(lambda: Symbols(table))
    assert names[((0x1004,), ())] == "work [first]"
    table.write_text("0000000000005000 t other\t[second]\n")
    loaded[0] = "b"
    assert names[((0x5004,), ())] == "other [second]"
    assert names[((0x1004,), ())] == "work [first]"


class FakePrograms:
    """Hands over the same again and again."""

    def __init__(self) -> None:
        self.rounds = 0
        self.lost = 0

    def now(self) -> int:
        """Two slices after the last one that is over."""
        return self.rounds * 10 + 1

    def drain(self) -> Drained:
        """Ten slices with many faults."""
        last = self.rounds * 10 + 9
        self.rounds += 1
        return Drained(last, {(last, USER): 20_000})

    def losses(self) -> list[LossRow]:
        """One more each time."""
        self.lost += 1
        return [LossRow("ld_program", "skipped", self.lost)]

    def events(self, keep: Callable[[bytes], None]) -> None:
        """One."""
        keep(b"event")


class FakeKeeper:
    """Keeps all of it."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[int, int]] = Counter()
        self.lost = 0
        self.lost_at: list[int] = []
        self.events: list[bytes] = []

    def add(self, drained: Drained) -> None:
        """Added up."""
        self.cells.update(drained.cells)

    def add_losses(self, slice_: int, losses: list[LossRow]) -> None:
        """Added up."""
        self.lost += sum(row.count for row in losses)
        self.lost_at.append(slice_)

    def add_events(self, events: bytes) -> None:
        """Kept."""
        self.events.append(events)


def test_pump_collects_until_the_end() -> None:
    programs, timeline, keeper, seen = FakePrograms(), Timeline(SLICE_NS), FakeKeeper(), Event()

    def watch(found: Timeline) -> None:
        if found.last >= 19:
            seen.set()

    pump = Pump(
        programs,  # type: ignore[arg-type]
        timeline,
        keeper=keeper,
        events=True,
        watchers=(watch,),
        interval_s=0.001,
    )
    pump.start()
    assert seen.wait(10)
    pump.finish()
    assert not pump.errors
    assert sum(keeper.cells.values()) == programs.rounds * 20_000
    # Only what is new each time.
    assert keeper.lost == programs.lost
    assert keeper.lost_at[:2] == [11, 21], "not before they were seen"
    assert len(keeper.events) == programs.rounds


def test_what_fails_is_told_once_and_the_rest_goes_on() -> None:
    programs, timeline, told, rounds = FakePrograms(), Timeline(SLICE_NS), list[str](), list[int]()

    def broken(_found: Timeline) -> None:
        raise ValueError("no more")

    pump = Pump(
        programs,  # type: ignore[arg-type]
        timeline,
        watchers=(broken, lambda found: rounds.append(found.last)),
        tell=told.append,
    )
    for _ in range(3):
        pump.round()
    programs.drain = broken  # type: ignore[assignment]
    pump.finish()
    assert told == pump.errors
    assert told[0] == "watch: ValueError: no more"
    assert len(told) == 2 and told[1].startswith("take out time slices: TypeError")
    assert rounds == [9, 19, 29]
    assert programs.lost == 4
