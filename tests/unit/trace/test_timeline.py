"""Sums by time slice, and the thread that collects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

import pytest

from livedump.trace.buckets import BUCKETS, bounds, bucket_of
from livedump.trace.data import Drained, LossRow, StackRow
from livedump.trace.layout import CELL_KINDS, NO_STACKS, Kind, Loss, cell_what
from livedump.trace.pump import SAMPLED, STACKS_PER_S, Pump, Sampler, Stacks
from livedump.trace.symbols import Symbols
from livedump.trace.tables import STACK_LOST, fold
from livedump.trace.timeline import RECENT_S, Timeline

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


def test_tables_have_everything_that_was_drained() -> None:
    timeline = Timeline(SLICE_NS)
    timeline.add(Drained(1, {(0, USER): 3, (1, KERNEL): 2}))
    timeline.add(Drained(3, {(1, USER): 4, (3, LOST): 9}))
    timeline.add_losses(3, [LossRow("ld_program", "program skipped", 5)])
    slices = timeline.slices()
    low, high = bounds(BUCKET)
    assert dict(slices) == {
        "slice": [0, 1, 1],
        "start_ns": [0, SLICE_NS, SLICE_NS],
        "kind": ["user", "kernel", "user"],
        "bucket_low_ns": [low, None, low],
        "bucket_high_ns": [high, None, high],
        "count": [3, 2, 4],
    }
    assert [tuple(row.values())[2:] for row in timeline.losses()] == [
        ("cow", "no stack", 9),
        ("ld_program", "program skipped", 5),
    ]


def test_window_is_the_last_slices_that_are_over() -> None:
    timeline = Timeline(SLICE_NS)
    assert timeline.window(1).slices == 0
    timeline.add(Drained(9, {(0, USER): 1, (5, USER): 2, (9, USER): 4, (9, KERNEL): 8}))
    window = timeline.window(0.5)
    assert (window.first, window.slices) == (5, 5)
    assert window.buckets == {Kind.USER: Counter({BUCKET: 6})}
    assert (window.count(Kind.USER), window.count(Kind.KERNEL), window.count(Kind.COW)) == (6, 8, 0)
    assert timeline.window(1000).count(Kind.USER) == 7


def test_only_the_last_minutes_are_at_hand() -> None:
    timeline = Timeline(SLICE_NS)
    last = RECENT_S * 10 + 50
    timeline.add(Drained(0, {(0, USER): 1}))
    timeline.add(Drained(last, {(last, USER): 1}))
    assert timeline.window(10 * RECENT_S).count(Kind.USER) == 1
    assert sum(int(str(count)) for count in timeline.slices()["count"]) == 2


def test_stacks_of_a_slice_are_added_up() -> None:
    timeline = Timeline(SLICE_NS)
    for _ in range(2):
        timeline.add(Drained(2, {}, [StackRow(2, "user", "cat", (7, 8), 1, 3, 30)]))
    timeline.add(Drained(3, {}, [StackRow(2, "user", "cat", (7, 8), 1, 1, 1, ("main",))]))
    assert list(timeline.stacks()) == [
        StackRow(2, "user", "cat", (7, 8), 2, 6, 60),
        StackRow(2, "user", "cat", (7, 8), 1, 1, 1, ("main",)),
    ]


def test_user_space_is_below_the_kernel(tmp_path: Path) -> None:
    table = tmp_path / "kallsyms"
    table.write_text("0000000000001000 T entry\n0000000000002000 T handler\n")
    row = StackRow(0, "user", "cat", (0x2004, 0x1004), 1, 1, 1, ("leaf;x", "main"))
    assert fold(row, Symbols(table)) == "main;leaf:x;entry;handler"
    lost = StackRow(0, "user", "cat", (), 1, 1, 1)
    assert fold(lost, Symbols(table)) == STACK_LOST


def test_sampler_follows_the_rate() -> None:
    sampler = Sampler(Stacks.SAMPLED)
    busy = Counter({Kind.USER: 10 * STACKS_PER_S, Kind.COW: STACKS_PER_S})
    assert sampler.changes(busy, 1.0) == {Kind.USER: 10}
    assert sampler.changes(busy, 1.0) == {}
    assert sampler.changes(Counter(), 1.0) == {Kind.USER: 1}
    assert sampler.changes(busy, 0.0) == {}
    assert Sampler(Stacks.ALL).changes(busy, 1.0) == {}
    assert set(Sampler(Stacks.NONE).every.values()) == {NO_STACKS}


class FakePrograms:
    """Hands over the same again and again."""

    def __init__(self) -> None:
        self.rounds = 0
        self.lost = 0
        self.sampled: dict[Kind, int] = {}

    def drain(self) -> Drained:
        """Ten slices with many faults."""
        last = self.rounds * 10 + 9
        self.rounds += 1
        return Drained(last, {(last, USER): 10 * STACKS_PER_S})

    def sample(self, every: Mapping[Kind, int]) -> None:
        """Kept."""
        self.sampled.update(every)

    def losses(self) -> list[LossRow]:
        """One more each time."""
        self.lost += 1
        return [LossRow("ld_program", "skipped", self.lost)]

    def events(self, keep: Callable[[bytes], None]) -> None:
        """One."""
        keep(b"event")


def test_pump_collects_until_the_end() -> None:
    programs, timeline, seen = FakePrograms(), Timeline(SLICE_NS), Event()
    kept: list[bytes] = []

    def watch(found: Timeline) -> None:
        if found.last >= 19:
            seen.set()

    pump = Pump(
        programs,  # type: ignore[arg-type]
        timeline,
        keep_event=kept.append,
        watchers=(watch,),
        interval_s=0.001,
    )
    pump.start()
    assert seen.wait(10)
    pump.finish()
    assert not pump.error
    assert programs.sampled == {**dict.fromkeys(SAMPLED, 1), Kind.USER: 10}
    assert sum(int(str(count)) for count in timeline.slices()["count"]) == (
        programs.rounds * 10 * STACKS_PER_S
    )
    # Only what is new each time, at the slice of that time.
    assert sum(int(str(row["count"])) for row in timeline.losses()) == programs.lost
    assert len(kept) == programs.rounds


def test_what_ends_the_pump_is_told_and_the_rest_is_kept() -> None:
    programs, timeline = FakePrograms(), Timeline(SLICE_NS)

    def watch(_found: Timeline) -> None:
        raise ValueError("no more")

    pump = Pump(programs, timeline, watchers=(watch,), interval_s=0.001)  # type: ignore[arg-type]
    pump.start()
    pump._thread.join(10)
    assert pump.error == "ValueError: no more"
    pump.finish()
    assert programs.rounds == 2
