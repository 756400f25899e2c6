"""Recordings whose recorder did not get to their end, and faults one by one."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from livedump import trace
from livedump.kinds import Kind
from livedump.recording import journal, recover, store
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.errors import RecordingError
from livedump.recording.journal import Journal
from livedump.recording.layout import CELL_KINDS, Loss
from livedump.recording.losses import (
    NOT_WRITTEN_EVENTS,
    NOT_WRITTEN_SLICES,
    count_losses,
    losses_text,
)
from livedump.recording.recover import folder_of, identity, open_recording
from livedump.recording.rows import Drained, LossRow, Place, StackRow
from livedump.recording.schema import SCHEMA
from livedump.recording.to_rows import journal_tables
from livedump.trace import checkpoint
from livedump.trace.checkpoint import Checkpoints
from livedump.trace.names import Names
from livedump.trace.probe.options import Options
from livedump.trace.recorder import Recorder
from tests.unit import samples
from tests.unit.buckets import bucket_of
from tests.unit.trace.test_recorder import PLAN, FakePrograms

ROOT = Path(__file__).resolve().parents[3]


def event(kind: Kind = Kind.USER, stack: int = 7, weight: int = 1, latency_ns: int = 900) -> bytes:
    """One struct ld_event."""
    return struct.pack("<QQQIIiIIHH", 5000, latency_ns, 0xF000, 10, 11, stack, weight, 3, 1, kind)


@pytest.fixture
def dead() -> int:
    """Number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


BUCKET = bucket_of(5000)
USER = Kind.USER * CELL_KINDS + BUCKET
UNTIMED = Kind.KERNEL * CELL_KINDS + BUCKETS + len(Loss)
LOST = Kind.COW * CELL_KINDS + BUCKETS + Loss.STACK
SLICE_NS = samples.SLICE_NS

DRAINED = (
    Drained(
        4,
        {(0, USER): 3, (1, UNTIMED): 2},
        [
            StackRow(0, "user", "cat", (), 1, 3, 30, variance=4, stalled_variance=9),
            StackRow(1, "kernel", "cat", (), 2, 2, 0, ("main",)),
        ],
        {(0, USER): 30},
    ),
    Drained(9, {(7, USER): 1, (7, LOST): 9}, [StackRow(7, "user", "dog", (), 1, 1, 5)]),
)


def content() -> checkpoint.Content:
    """Of a checkpoint: everything but what the journal has."""
    own = {"slices", "stack_slices", "loss_slices", "events"}
    tables = {name: rows for name, rows in samples.tables().items() if name not in own}
    return {**samples.meta(), "ended_by": "killed"}, tables, {7: "a;b"}


def left(path: Path, pid: int, *, force: bool = False, who: dict[str, Any] | None = None) -> Path:
    """What a recorder *pid* leaves when it is killed.

    :param who: what is different about it
    """
    kept = Checkpoints(path, content, names=Names(), events=True, force=force)
    for drained in DRAINED:
        kept.journal.add(drained)
    for each in (event(), event(stack=9), event(Kind.KERNEL, -1, 0, 0)):
        kept.journal.add_events(each)
    kept.write(content())
    kept.end()
    file = kept.folder / recover.FILE
    data = json.loads(file.read_text())
    data["recorder"] = {**data["recorder"], "pid": pid, "started": 1, **(who or {})}
    file.write_text(json.dumps(data))
    folder = folder_of(path, pid)
    return kept.folder.rename(folder) if folder != kept.folder else folder


def test_killed_recording_opens(tmp_path: Path, dead: int) -> None:
    left(tmp_path / "r", dead)
    found = open_recording(tmp_path / "r")
    assert found.meta["ended_by"] == "killed"
    assert len(found.tables["stacks"]) == len(samples.tables()["stacks"])
    assert found.columns("slices").num_rows == 3
    assert found.columns("events").num_rows == 3
    assert os.listdir(tmp_path) == ["r"]
    assert os.stat(tmp_path / "r").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("schema", [None, SCHEMA - 1])
def test_what_another_version_has_left_is_not_taken_for_ours(
    tmp_path: Path, dead: int, schema: int | None
) -> None:
    """The records of its journal have other lengths."""
    folder = left(tmp_path / "r", dead)
    data = json.loads((folder / recover.FILE).read_text())
    data["schema"] = schema
    (folder / recover.FILE).write_text(json.dumps(data))
    with pytest.raises(RecordingError, match="has schema .*reads 5.*wrote it"):
        open_recording(tmp_path / "r")
    assert folder.exists()


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path, dead: int) -> None:
    folder = left(tmp_path / "r", dead)
    data = json.loads((folder / recover.FILE).read_text())
    data["meta"]["recording_id"] = "../../elsewhere/x"
    (folder / recover.FILE).write_text(json.dumps(data))
    with pytest.raises(RecordingError, match="is damaged: recording_id is"):
        open_recording(tmp_path / "r")


def test_a_name_is_no_pattern(tmp_path: Path, dead: int) -> None:
    left(tmp_path / "run[1]", dead)
    assert open_recording(tmp_path / "run[1]").meta["ended_by"] == "killed"


def test_what_was_drained_after_the_last_checkpoint_is_within_the_recording(
    tmp_path: Path, dead: int
) -> None:
    folder = left(tmp_path / "r", dead)
    data = json.loads((folder / recover.FILE).read_text())
    data["meta"]["clocks"]["end"]["monotonic_ns"] = samples.START_NS + 1
    (folder / recover.FILE).write_text(json.dumps(data))
    clocks = open_recording(tmp_path / "r").meta["clocks"]
    assert clocks["end"]["monotonic_ns"] - clocks["start"]["monotonic_ns"] == 8 * SLICE_NS


def await_checkpoint(path: Path) -> None:
    """The first one comes with the first round."""
    for _ in range(200):
        if (folder_of(path) / recover.FILE).exists():
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


@pytest.mark.parametrize("events", [True, False])
def test_recorder_that_is_killed(tmp_path: Path, events: bool) -> None:
    """As far as the disk can tell: it is copied while the recorder is at work."""
    fake, path = FakePrograms(), tmp_path / "r"
    config = trace.RecordConfig(path, options=Options(events=events))
    with Recorder(config, load=fake.load, plan=PLAN) as recorder:
        recorder.start()
        await_checkpoint(path)
        assert folder_of(path).stat().st_mode & 0o777 == 0o700
        with pytest.raises(RecordingError, match=f"still being recorded by process {os.getpid()}"):
            open_recording(path)
        shutil.copytree(folder_of(path), tmp_path / "copy")
    assert os.listdir(tmp_path) == ["copy"]
    copy = folder_of(path, 1 << 29)
    (tmp_path / "copy").rename(copy)
    pretend(copy, pid=1 << 29)
    found = open_recording(path)
    assert found.meta["ended_by"] == "killed"
    assert sum(row["count"] for row in found.tables["histograms"]) == 2
    # What CPUs had not handed over.
    assert any("single events" in text for text in found.meta["unmeasured"]) == events


def settle(folder: Path) -> None:
    """Nothing has changed for a while."""
    then = time.time() - recover.SETTLED_S - 10
    for file in folder.iterdir():
        os.utime(file, (then, then))


def pretend(folder: Path, **changes: object) -> None:
    """That somebody else has left it."""
    data = json.loads((folder / recover.FILE).read_text())
    data["recorder"].update(changes)
    (folder / recover.FILE).write_text(json.dumps(data))


@pytest.mark.parametrize("where", ["boot_id", "pid_namespace"])
def test_recorder_elsewhere_is_taken_for_alive_while_its_files_change(
    tmp_path: Path, dead: int, where: str
) -> None:
    """In a guest or a container that shares the disk, whose processes are not among ours."""
    folder = left(tmp_path / "r", dead, who={where: 1})
    with pytest.raises(RecordingError, match="still being recorded elsewhere"):
        open_recording(tmp_path / "r")
    settle(folder)
    assert open_recording(tmp_path / "r").meta["ended_by"] == "killed"


def test_reused_process_number_is_another_process(tmp_path: Path) -> None:
    own = identity()
    assert own and identity(1 << 29) is None
    left(tmp_path / "r", os.getpid(), who={"started": own["started"] - 1})
    assert open_recording(tmp_path / "r").meta["ended_by"] == "killed"


def test_nothing_to_recover(tmp_path: Path, dead: int) -> None:
    assert not recover.recover(tmp_path / "r")
    assert not recover.recover(tmp_path / "no" / "r")
    folder_of(tmp_path / "r", dead).mkdir()
    assert not recover.recover(tmp_path / "r")
    left(tmp_path / "s", dead)
    (tmp_path / "s").mkdir()  # somebody's
    assert not recover.recover(tmp_path / "s")
    left(tmp_path / "t", dead).rename(tmp_path / "elsewhere")
    folder_of(tmp_path / "t", dead).symlink_to(tmp_path / "elsewhere")
    assert not recover.recover(tmp_path / "t")


def test_killed_one_replaces_an_older_one_only_where_it_was_to(tmp_path: Path, dead: int) -> None:
    samples.write(tmp_path / "r")
    left(tmp_path / "r", dead, force=True)
    assert open_recording(tmp_path / "r").meta["ended_by"] == "killed"
    samples.write(tmp_path / "s")
    left(tmp_path / "s", dead)
    assert open_recording(tmp_path / "s").meta["ended_by"] == "command"


def test_leftovers_are_not_hidden_by_a_new_recording(tmp_path: Path, dead: int) -> None:
    fake, path = FakePrograms(), tmp_path / "r"
    left(path, dead)
    for force in (False, True):
        config = trace.RecordConfig(path, force=force, duration_s=0.01)
        with Recorder(config, load=fake.load, plan=PLAN) as recorder:
            if force:
                recorder.start()
            else:
                with pytest.raises(RecordingError, match="begun before.*Look at it"):
                    recorder.start()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 5, "meta": {}}'])
def test_damaged_checkpoint(tmp_path: Path, dead: int, text: str) -> None:
    folder = left(tmp_path / "r", dead)
    (folder / recover.FILE).write_text(text)
    settle(folder)
    with pytest.raises(RecordingError, match="is damaged"):
        open_recording(tmp_path / "r")
    assert folder.exists()


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path / "r", content, names=Names(), events=False)
    kept.write(content())

    def full(self: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    kept.write(content())
    assert kept.failed == "No space left on device"
    assert kept.exists
    kept.close(remove=True)
    assert os.listdir(tmp_path) == []


def test_full_disk_loses_events_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before stays whole, and what comes when there is room again follows it."""
    kept, room, write = Journal(tmp_path, Names(), events=True), True, os.write

    def sometimes(fd: int, data: Any) -> int:
        if room:
            return write(fd, data)
        if len(data) > 10:
            return write(fd, data[:10])  # the last bytes of the disk
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", sometimes)
    for room in (True, False, True):
        for drained in DRAINED:
            kept.add(drained)
        kept.add_events(event())
        kept.flush()
    kept.close()
    assert kept.failed == "No space left on device"
    lost = {row.what: row.count for row in kept.losses()}
    assert lost[NOT_WRITTEN_EVENTS] == 1
    assert lost[NOT_WRITTEN_SLICES] == 15 + 6
    [table] = journal.events(tmp_path, {7: "a"})
    assert table["stack"].to_pylist() == ["a", "a"]
    [table] = journal.slices(tmp_path, SLICE_NS)
    assert sum(table["count"].to_pylist()) == 2 * 6
    counts = count_losses([{"what": what, "count": n} for what, n in lost.items()])
    assert (counts["events_lost"], counts["rows_lost"]) == (0, 1)
    assert "1 not kept as rows" in losses_text(counts)


def test_name_that_is_not_written_shifts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are known by their place in the file: without theirs, rows go, until there is room."""
    names: dict[Place, str] = {((1,), ()): "first", ((2,), ()): "second"}
    rows = [StackRow(0, "user", "cat", (number,), 1, 1, 1) for number in (1, 2)]
    with closing(Journal(tmp_path, names, events=False)) as kept:
        with monkeypatch.context() as patched:
            patched.setattr(kept._files[journal.NAMES], "append", lambda data: "no room")
            kept.add(Drained(0, {}, rows[:1]))
        kept.add(Drained(1, {}, rows[1:]))
    assert [(row.what, row.count) for row in kept.losses()] == [(NOT_WRITTEN_SLICES, 1)]
    [table] = journal.stack_slices(tmp_path, SLICE_NS)
    assert table["stack"].to_pylist() == ["second"]


def test_recording_that_cannot_be_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, path = FakePrograms(), tmp_path / "r"

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with Recorder(trace.RecordConfig(path), load=fake.load, plan=PLAN) as recorder:
        recorder.start()
        recorder.keep()
        monkeypatch.setattr(store, "_sync", full)
        with pytest.raises(
            RecordingError, match=r"No space left.*what was recorded is in"
        ) as error:
            recorder.finish(ended_by="interrupt")
        assert str(folder_of(path)) in str(error.value)
        monkeypatch.undo()
    assert not path.exists()
    pretend(folder_of(path), pid=1 << 29)
    assert open_recording(path).meta["ended_by"] == "interrupt"


def test_no_place_for_anything_promises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, path = FakePrograms(), tmp_path / "r"

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Recorder(trace.RecordConfig(path), load=fake.load, plan=PLAN) as recorder:
        monkeypatch.setattr(Path, "write_text", full)
        recorder.start()
        recorder.keep()
        monkeypatch.setattr(store, "_sync", full)
        with pytest.raises(RecordingError) as error:
            recorder.finish(ended_by="interrupt")
        assert "recorded is in" not in str(error.value)
        monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_recording_survives_its_recorder_s_own_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, path = FakePrograms(), tmp_path / "r"

    def broken() -> None:
        raise KeyError("bug")

    monkeypatch.setattr(fake, "end", broken)
    config = trace.RecordConfig(path, duration_s=1.2)
    with pytest.raises(KeyError):
        trace.record(
            config, threading.Event(), recorder=Recorder(config, load=fake.load, plan=PLAN)
        )
    pretend(folder_of(path), pid=1 << 29)
    assert open_recording(path).meta["ended_by"] == "killed"


def test_event_is_the_header_s() -> None:
    """EVENT_LAYOUT is struct ld_event."""
    header = (ROOT / "bpf" / "abi.h").read_text()
    body = re.search(r"struct ld_event \{(.*?)\n\};", header, re.DOTALL)
    assert body
    sizes = {"u64": "<u8", "u32": "<u4", "s32": "<i4", "u16": "<u2"}
    found = re.findall(r"^\t(\w+) (\w+);", body[1], re.MULTILINE)
    assert tuple((name, sizes[kind]) for kind, name in found) == journal.EVENT_LAYOUT
    assert sum(int(kind[-1]) for _, kind in journal.EVENT_LAYOUT) == journal.EVENT_BYTES
    assert len(event()) == journal.EVENT_BYTES
    assert memoryview(event(stack=77)).cast("i")[journal._EVENT_STACK] == 77


def test_events_become_rows(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, Names(), events=True)) as kept:
        kept.add_events(event() + event(stack=9, weight=4))
        kept.add_events(event(Kind.KERNEL, 9, 0, 0))
        kept.flush()
        assert kept.event_stacks() == [7, 9]
    with (tmp_path / journal.EVENTS).open("ab") as raw:
        raw.write(event()[:20])  # cut short
    [table] = journal.events(tmp_path, {7: "root;leaf", 9: "root;other"})
    rows = table.to_pylist()
    assert [(row["kind"], row["stack"], row["latency_ns"]) for row in rows] == [
        ("user", "root;leaf", 900),
        ("user", "root;other", 900),
        ("kernel", None, None),
    ]
    assert rows[1] == {
        "time_monotonic_ns": 5000,
        "kind": "user",
        "latency_ns": 900,
        "address": 0xF000,
        "pid": 10,
        "tid": 11,
        "cpu": 1,
        "detail": 3,
        "weight": 4,
        "stack": "root;other",
    }


def test_stacks_are_added_up_over_slices(tmp_path: Path) -> None:
    """By task's name and functions; what differs only in offsets is the same."""
    names: dict[Place, str] = {
        ((7, 8), ()): "a;b",
        ((7, 9), ()): "a;b",
        ((7, 8), ("main",)): "main;a;b",
    }
    with closing(Journal(tmp_path, names, events=False)) as kept:
        for number, addresses in enumerate(((7, 8), (7, 9))):
            row = StackRow(number, "user", "cat", addresses, 1, 3, 30)
            kept.add(Drained(number, {}, [row]))
        kept.add(Drained(3, {}, [StackRow(2, "user", "cat", (7, 8), 1, 1, 1, ("main",))]))
    assert kept.stacks == {
        ("user", "cat", "a;b"): [2, 6, 60, 0, 0],
        ("user", "cat", "main;a;b"): [1, 1, 1, 0, 0],
    }


def test_tables_have_everything_that_was_drained(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, Names(), events=False)) as kept:
        for drained in DRAINED:
            kept.add(drained)
        kept.add_losses(9, [LossRow("ld_program", "program skipped", 5)])
    with (tmp_path / journal.LOSSES).open("a") as lines:
        lines.write('[9, "cut')
    assert journal.last_slice(tmp_path) == 7
    low, high = bounds(BUCKET)
    [table] = journal.slices(tmp_path, SLICE_NS)
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (0, 0, "user", low, high, 3, 30),
        (1, SLICE_NS, "kernel", None, None, 2, None),
        (7, 7 * SLICE_NS, "user", low, high, 1, 0),
    ]
    [table] = journal.stack_slices(tmp_path, SLICE_NS)
    lost = "[stack lost]"
    assert [tuple(row.values())[2:] for row in table.to_pylist()] == [
        ("user", "cat", lost, 1, 3, 30, 2, 3),
        ("kernel", "cat", f"main;{lost}", 2, 2, 0, 0, 0),
        ("user", "dog", lost, 1, 1, 5, 0, 0),
    ]
    assert [tuple(row.values()) for row in journal.loss_slices(tmp_path, SLICE_NS)] == [
        (7, 7 * SLICE_NS, "cow", "no stack", 9),
        (9, 9 * SLICE_NS, "ld_program", "program skipped", 5),
    ]
    assert journal.last_slice(tmp_path / "none") == -1
    store.write(tmp_path / "r", samples.meta(), journal_tables(tmp_path, SLICE_NS, {}))
    assert open_recording(tmp_path / "r").columns("stack_slices").num_rows == 3


def test_checkpoints_import_nothing_heavy() -> None:
    code = (
        "import sys, livedump.trace.checkpoint, livedump.trace.recorder;"
        "sys.exit(bool({'pyarrow', 'numpy', 'duckdb'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
