"""Recordings whose recorder did not get to their end, and faults one by one."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livedump import trace
from livedump.trace import checkpoint, events, recording
from livedump.trace.checkpoint import Checkpoints, folder_of, recover
from livedump.trace.errors import RecordingError
from livedump.trace.layout import Kind
from livedump.trace.recorder import Recorder
from tests.unit import samples
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


def left(path: Path, pid: int, *, with_events: bool = False) -> Path:
    """What a recorder *pid* leaves when it is killed."""
    content = ({**samples.meta(), "ended_by": "killed"}, samples.tables(), {7: "a;b"})
    kept = Checkpoints(path, lambda: content, events=with_events)
    if kept.events:
        for each in (event(), event(stack=9), event(Kind.KERNEL, -1, 0, 0)):
            kept.events.add(each)
    kept.write(content)
    kept.close(remove=False)
    folder = folder_of(path, pid)
    return kept.folder.rename(folder) if folder != kept.folder else folder


def test_killed_recording_opens(tmp_path: Path, dead: int) -> None:
    left(tmp_path / "r", dead, with_events=True)
    found = trace.read(tmp_path / "r")
    assert found.meta["ended_by"] == "killed"
    assert len(found.tables["stacks"]) == len(samples.tables()["stacks"])
    assert found.columns("slices").num_rows == len(samples.tables()["slices"])
    assert found.columns("events").num_rows == 3
    assert os.listdir(tmp_path) == ["r"]


def test_recorder_that_is_killed(tmp_path: Path, dead: int) -> None:
    """As far as the disk can tell: checkpoints are there from the beginning on."""
    fake, path = FakePrograms(), tmp_path / "r"
    with Recorder(trace.RecordConfig(path), load=fake.load, plan=PLAN) as recorder:
        recorder.start()
        folder = folder_of(path)
        for _ in range(200):
            if (folder / checkpoint.FILE).exists():
                break
            threading.Event().wait(0.05)
        with pytest.raises(RecordingError, match=f"still being recorded by process {os.getpid()}"):
            trace.read(path)
        folder.rename(folder_of(path, dead))
    found = trace.read(path)
    assert found.meta["ended_by"] == "killed"
    assert sum(row["count"] for row in found.tables["histograms"]) == 2


def test_nothing_to_recover(tmp_path: Path, dead: int) -> None:
    assert not recover(tmp_path / "r")
    assert not recover(tmp_path / "no" / "r")
    folder_of(tmp_path / "r", dead).mkdir()
    assert not recover(tmp_path / "r")
    left(tmp_path / "s", dead)
    (tmp_path / "s").mkdir()  # somebody's
    assert not recover(tmp_path / "s")


@pytest.mark.parametrize("text", ["{", "[]", '{"meta": {}}'])
def test_damaged_checkpoint(tmp_path: Path, dead: int, text: str) -> None:
    folder = left(tmp_path / "r", dead)
    (folder / checkpoint.FILE).write_text(text)
    with pytest.raises(RecordingError, match="is damaged"):
        trace.read(tmp_path / "r")
    assert folder.exists()


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content: checkpoint.Content = (samples.meta(), {}, {})
    kept = Checkpoints(tmp_path / "r", lambda: content, events=False)
    kept.write(content)

    def full(self: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    kept.write(content)
    assert kept.failed == "No space left on device"
    assert (kept.folder / checkpoint.FILE).exists()
    kept.close(remove=True)
    assert os.listdir(tmp_path) == []


def test_recording_that_cannot_be_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, path = FakePrograms(), tmp_path / "r"

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with Recorder(trace.RecordConfig(path), load=fake.load, plan=PLAN) as recorder:
        recorder.start()
        recorder.keep()
        monkeypatch.setattr(recording, "_sync", full)
        with pytest.raises(RecordingError, match=r"No space left.*Make room") as error:
            recorder.finish(ended_by="interrupt")
        assert str(folder_of(path)) in str(error.value)
        monkeypatch.undo()
    assert not path.exists()
    folder_of(path).rename(folder_of(path, 1 << 29))
    assert trace.read(path).meta["ended_by"] == "interrupt"


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
    folder_of(path).rename(folder_of(path, 1 << 29))
    assert trace.read(path).meta["ended_by"] == "killed"


def test_event_is_the_header_s() -> None:
    """events.LAYOUT is struct ld_event."""
    header = (ROOT / "bpf" / "common.h").read_text()
    body = re.search(r"struct ld_event \{(.*?)\n\};", header, re.DOTALL)
    assert body
    sizes = {"u64": "<u8", "u32": "<u4", "s32": "<i4", "u16": "<u2"}
    found = re.findall(r"^\t(\w+) (\w+);", body[1], re.MULTILINE)
    assert tuple((name, sizes[kind]) for kind, name in found) == events.LAYOUT
    assert sum(int(kind[-1]) for _, kind in events.LAYOUT) == events.EVENT_BYTES
    assert len(event()) == events.EVENT_BYTES
    assert event(stack=77)[events._STACK] == (77).to_bytes(4, "little")


def test_events_become_rows(tmp_path: Path) -> None:
    with events.EventFile(tmp_path) as file:
        for each in (event(), event(stack=9, weight=4), event(Kind.KERNEL, 9, 0, 0)):
            file.add(each + b"padding!")
        assert file.stacks() == [7, 9]
    with file.path.open("ab") as raw:
        raw.write(event()[:20])  # cut short
    names = {7: "root;leaf", 9: "root;other"}
    [table] = events.batches(file.path, names, {"host": "h"})
    rows = table.to_pylist()
    assert [(row["kind"], row["stack"], row["latency_ns"]) for row in rows] == [
        ("user", "root;leaf", 900),
        ("user", "root;other", 900),
        ("kernel", None, None),
    ]
    assert rows[1] == {
        "host": "h",
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


def test_checkpoints_import_nothing_heavy() -> None:
    code = (
        "import sys, livedump.trace.checkpoint, livedump.trace.recorder;"
        "sys.exit(bool({'pyarrow', 'numpy', 'duckdb'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
