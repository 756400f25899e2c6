"""Recordings by time."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedump.analysis import overtime, pack
from livedump.analysis.overtime import OverTime, over_time
from livedump.recording import store
from livedump.recording.buckets import bounds
from livedump.recording.store import Recording
from tests.unit import samples
from tests.unit.buckets import bucket_of


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """The sample: 12 s of 100 ms."""
    return store.read(samples.write(tmp_path / "r"))


def total(found: OverTime, kind: str) -> int:
    """Faults of a kind."""
    return sum(found.counts(kind))


def test_every_fault_is_in_a_step(recording: Recording) -> None:
    found = over_time(recording)
    assert (found.step_ns, found.steps) == (samples.SLICE_NS, 120)
    counted: dict[str, int] = {}
    for row in recording.tables["histograms"]:
        counted[row["kind"]] = counted.get(row["kind"], 0) + row["count"]
    assert {kind: total(found, kind) for kind in found.heat} == counted
    # The snapshot was held from slice 20 to 80.
    cow = found.counts("cow")
    assert sum(cow[20:80]) == sum(cow) and all(cow[20:80])


def test_steps_are_made_longer_to_fit(recording: Recording) -> None:
    found = over_time(recording, ("user",), steps=50)
    assert (found.step_ns, found.steps) == (3 * samples.SLICE_NS, 40)
    assert list(found.heat) == list(found.stacks) == ["user"]
    assert total(found, "user") == 6000


def test_losses_are_in_their_steps(recording: Recording) -> None:
    row = recording.tables["loss_slices"][0]
    late = {**row, "slice": 900, "probe": "user", "count": 2}  # after the end: in the last step
    recording.tables["loss_slices"] += [{**row, "slice": 22, "count": 1}, late]
    losses = over_time(recording, steps=50).losses
    assert losses.names == ["cow, no stack", "user, no stack"]
    assert losses.cells == [[7, 0, 8], [39, 1, 2]]
    assert sum(losses.counts(40)) == 10


def test_bands_are_buckets_until_they_are_widened(recording: Recording) -> None:
    heat = over_time(recording).heat["user"]
    assert heat.timed and heat.shift == 0
    counts: dict[int, int] = {}
    for _step, band, count in heat.cells:
        counts[band] = counts.get(band, 0) + count
    rows = [row for row in recording.tables["histograms"] if row["kind"] == "user"]
    assert counts == {bucket_of(row["bucket_low_ns"]): row["count"] for row in rows}
    for value in [*range(70), 1000, 4095, 4096, 10**6, 123_456_789, 2**40 + 5]:
        assert overtime._bucket(bounds(bucket_of(value))[0]) == bucket_of(value)
    heat.widen()
    wide = {band: 0 for _step, band, _count in heat.cells}
    for _step, band, count in heat.cells:
        wide[band] += count
    assert heat.shift == 1
    assert wide == {b: counts.get(2 * b, 0) + counts.get(2 * b + 1, 0) for b in wide}


def test_bands_are_as_narrow_as_there_is_room_for(recording: Recording) -> None:
    found = over_time(recording)
    size = found.heat_bytes()
    found.widen(size)
    assert found.heat["user"].shift == 0
    found.widen(size - 1)
    assert found.heat["user"].shift == 1 and found.heat_bytes() < size
    found.widen(0)
    assert found.heat["user"].shift == overtime.COARSEST
    assert total(found, "user") == 6000


def test_stacks_by_step_come_to_the_whole(recording: Recording) -> None:
    found = over_time(recording)
    rows = [row for row in recording.tables["stacks"] if row["kind"] == "cow"]
    cells = found.stacks["cow"].cells
    assert sum(cell[2] for cell in cells) == sum(row["count"] for row in rows)
    assert sum(cell[3] for cell in cells) == sum(row["stalled_ns"] for row in rows)
    paths = found.stacks["cow"].paths
    assert {path[0] for path in paths} == {"fio:1", "stress-ng"}
    assert not any("asm_exc_page_fault" in path for path in paths)


def test_stacks_that_differ_in_the_fault_s_own_functions_are_one() -> None:
    entry = "sys_write;asm_exc_page_fault"
    rows = [(5, 3, "cat", f"{entry};a", 2, 30), (5, 3, "cat", f"{entry};b", 1, 14)]
    found = overtime._stacks(rows)
    assert (found.paths, found.cells) == ([["cat", "sys_write"]], [[5, 0, 3, 44]])


def test_what_is_slow_stays_apart(tmp_path: Path) -> None:
    """In one step: three slices with a mean of 5, 6 and 500 us."""
    tables = samples.tables()
    row = next(row for row in tables["stack_slices"] if row["kind"] == "user")
    tables["stack_slices"] = [
        {**row, "slice": slice_, "count": count, "stalled_ns": count * mean_us * 1000}
        for slice_, count, mean_us in ((0, 10, 5), (1, 20, 6), (2, 2, 500))
    ]
    store.write(tmp_path / "r", samples.meta(), tables)
    found = over_time(store.read(tmp_path / "r"), steps=40).stacks["user"]
    assert found.cells == [[0, 0, 30, 170_000], [0, 0, 2, 1_000_000]]
    found.every = 40
    found.merge()
    assert len(found.cells) == 2


def test_stacks_are_kept_few() -> None:
    """First by longer steps; where that is not enough, rare ones go, and it is said."""
    rows = [(step, 0, "cat", f"a;b{step % 7}", 2, 3) for step in range(1000)]
    names = pack.Names()
    found = overtime._stacks(rows)
    found.shrink(2000, names)
    assert found.every > 1 and found.left_out == 0 and len(found.paths) == 7
    assert sum(cell[2] for cell in found.cells) == 2000
    assert pack.size(found.to_dict(names)) + pack.size(names.to_list()) < 2100
    many = overtime._stacks([(0, 0, "cat", f"a;b{n}", n, 1) for n in range(1000)])
    many.shrink(2000, pack.Names())
    assert 0 < len(many.paths) < 100
    assert many.paths[0] == ["cat", "a", "b999"]
    assert sum(cell[2] for cell in many.cells) + many.left_out == 999 * 500
    many.shrink(0, pack.Names())
    assert many.cells == []


def test_kind_that_is_counted_only(tmp_path: Path) -> None:
    rows = samples.tables()
    rows["slices"] = [
        {
            "slice": 4,
            "start_ns": 4 * samples.SLICE_NS,
            "kind": "kernel",
            "bucket_low_ns": None,
            "bucket_high_ns": None,
            "count": 9,
        }
    ]
    store.write(tmp_path / "r", samples.meta(), rows)
    heat = over_time(store.read(tmp_path / "r")).heat["kernel"]
    assert (heat.timed, heat.cells) == (False, [[4, 0, 9]])


def test_close_up_has_every_slice_around_some_instants(recording: Recording) -> None:
    found, kept = overtime.close_up(
        recording, [2 * 10**9, 5_950_000_000], (), 1_000_000, pack.Names()
    )
    whole = over_time(recording)
    assert (kept, found.step_ns, found.steps) == (2, whole.step_ns, whole.steps)
    near = range(10, 100)  # 1 s before the first to 4 s after the second
    assert found.counts("user") == [
        count if step in near else 0 for step, count in enumerate(whole.counts("user"))
    ]
    taken = [cell for cell in whole.stacks["cow"].cells if cell[0] in near]
    assert sum(c[2] for c in found.stacks["cow"].cells) == sum(c[2] for c in taken)
    assert found.losses == whole.losses
    none, kept = overtime.close_up(recording, [], (), 1_000_000, pack.Names())
    assert (none.heat, none.stacks, none.losses.cells, kept) == ({}, {}, [], 0)


def test_close_up_fits(tmp_path: Path) -> None:
    """The first instants are kept, and the most frequent stacks, by slice."""
    rows = samples.tables()
    rows["stack_slices"] = [
        {**row, "slice": number, "start_ns": number * samples.SLICE_NS, "count": 1 + place}
        for number in range(120)
        for place, row in enumerate(rows["stack_slices"][:20])
    ]
    store.write(tmp_path / "r", samples.meta(), rows)
    recording = store.read(tmp_path / "r")
    instants = [(11 - number) * 10**9 for number in range(8)]
    names = pack.Names()
    found, kept = overtime.close_up(recording, instants, (), 12_000, names)
    assert 0 < kept < 8
    assert found.counts("user")[110] and not found.counts("user")[40]
    assert pack.size(found.to_dict(names)) + pack.size(names.to_list()) <= 12_500
    cow = found.stacks["cow"]
    assert cow.every == 1 and cow.left_out and cow.cells
