"""The recorder with programs that are not in any kernel."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from livedump import trace
from livedump.cli.trace import main as cli
from livedump.errors import LivedumpError
from livedump.kinds import Kind
from livedump.recording import store
from livedump.recording.buckets import BUCKETS
from livedump.recording.errors import RecordingError
from livedump.recording.layout import CELL_KINDS, Loss
from livedump.recording.rows import (
    Drained,
    Histogram,
    LossRow,
    PageRow,
    RawData,
    ReleaseEvent,
    SnapshotEvent,
    StackRow,
    StopEvent,
    TaskRow,
)
from livedump.recording.to_rows import pair_snapshots
from livedump.trace.names import STACK_LOST
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Attach, Plan, Probe
from livedump.trace.probe.programs import _RELEASE_FIELDS, _SNAPSHOT_FIELDS
from livedump.trace.recorder import Recorder
from tests.unit.buckets import bucket_of

PLAN = Plan(
    ("user",), (Probe("user_latency", "user", Attach.KPROBE_PAIR, "handle_mm_fault", "why"),)
)

CELL = Kind.USER * CELL_KINDS + bucket_of(1000)
LOSS = Kind.USER * CELL_KINDS + BUCKETS + Loss.STACK

SNAPSHOT = {**dict.fromkeys(_SNAPSHOT_FIELDS, 0), "stop_ns": 5, "instant_monotonic_ns": 10}
RELEASE = {**dict.fromkeys(_RELEASE_FIELDS, 0), "release_ns": 7, "faults": 3}


class FakePrograms:
    """Programs that saw what a test wants."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = RawData(
            histograms={"user": Histogram({bucket_of(1000): 2}, 2001, 1001)},
            tasks=[TaskRow("user", 7, "cat", 2, 2001)],
            pages=[PageRow(9, 1, 2), PageRow(7, 1, 5), PageRow(8, 3, 4)],
            stops=[StopEvent(1, 2, 3, "cat", "stop_machine", False, 0)],
            snapshots=[SnapshotEvent(11, 7, "cat", dict(SNAPSHOT))],
            releases=[ReleaseEvent(12, dict(RELEASE))],
            counters={("user", "events"): 2},
            losses=[LossRow("user", "no stack", 2), LossRow("user", "entry without exit", 3)],
            unmeasured=["something"],
        )
        self.drained = [
            Drained(
                4,
                {(0, CELL): 1, (3, CELL): 5, (3, LOSS): 2},
                [
                    StackRow(0, "user", "cat", (), 1, 1, 1000),
                    StackRow(3, "user", "cat", (), 1, 1, 1001),
                    StackRow(3, "user", "cat", (1,), 1, 4, 5),
                ],
                {(0, CELL): 1000, (3, CELL): 1006},
            )
        ]

    def load(self, plan: Plan, options: Options) -> FakePrograms:
        """Stands in for livedump.trace.probe.loader.load."""
        self.calls.append(f"load {','.join(plan.questions)} {dict(options.limits)}")
        return self

    def told(self) -> list[str]:
        """What was called, but for reading: every checkpoint does."""
        return [call for call in self.calls if call != "read"]

    def begin(self) -> int:
        """Counted."""
        self.calls.append("begin")
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def now(self) -> int:
        """Always the fourth one."""
        return 3

    def drain(self) -> Drained:
        """What was made ready; then nothing more."""
        return self.drained.pop(0) if self.drained else Drained()

    def losses(self) -> list[LossRow]:
        """Of the kernel's own: none."""
        return []

    def events(self, keep: Callable[[bytes], None]) -> None:
        """None."""

    def end(self) -> int:
        """Counted."""
        self.calls.append("end")
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def addresses(self, stack: int) -> tuple[int, ...]:
        """Its number."""
        return (stack,)

    def read(self) -> RawData:
        """What was seen."""
        self.calls.append("read")
        return self.data

    def close(self) -> None:
        """Counted."""
        self.calls.append("close")


@pytest.fixture
def fake() -> FakePrograms:
    """Programs that nothing loads."""
    return FakePrograms()


def run(
    fake: FakePrograms, config: trace.RecordConfig, stop: threading.Event
) -> trace.RecordResult:
    """trace.record with fake programs."""
    return trace.record(config, stop, recorder=Recorder(config, load=fake.load, plan=PLAN))


def test_names_that_are_not_utf_8_cost_nothing(
    tmp_path: Path, fake: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a host, a cgroup, a task and a function of user space: the recording is written."""
    bad = "m\udcfcller"
    uname = platform.uname()._replace(node=bad)
    monkeypatch.setattr(platform, "uname", lambda: uname)
    fake.data.tasks = [TaskRow("user", 7, bad, 2, 2001, f"/{bad}")]
    fake.drained[0].stacks.append(StackRow(3, "user", bad, (1,), 1, 1, 1, (bad,)))
    config = trace.RecordConfig(tmp_path / "r", duration_s=0.1)
    run(fake, config, threading.Event())
    found = store.read(tmp_path / "r")
    good = "m\ufffdller"
    assert found.meta["host"] == good
    [task] = found.tables["tasks"]
    assert (task["comm"], task["cgroup"]) == (good, f"/{good}")
    assert any(row["comm"] == good and good in row["stack"] for row in found.tables["stacks"])
    assert found.columns("stack_slices").num_rows == 4


def test_around_a_command(tmp_path: Path, fake: FakePrograms) -> None:
    ready = tmp_path / "ready"
    code = f"import os, sys; sys.exit(3 if os.path.exists({str(ready)!r}) else 4)"
    command = (sys.executable, "-c", code)
    config = trace.RecordConfig(
        tmp_path / "r", command=command, ready_file=ready, options=Options(limits={"pages": 5})
    )
    result = run(fake, config, threading.Event())
    assert (result.status, result.ended_by) == (3, "command")
    assert fake.told() == ["load user {'pages': 5}", "begin", "end", "close"]
    found = store.read(tmp_path / "r")
    meta = found.meta
    assert meta["command"] == {"argv": list(command), "status": 3}
    assert (meta["losses_total"], meta["events_lost"], meta["stacks_lost"]) == (5, 3, 2)
    assert meta["unmeasured"][:1] == ["something"]
    assert meta["boot_id"] and meta["host"]
    assert meta["clocks"]["end"]["monotonic_ns"] > meta["clocks"]["start"]["monotonic_ns"]
    assert meta["probes"][0]["point"] == "handle_mm_fault"
    assert [row["pfn"] for row in found.tables["pages"]] == [8, 7, 9]
    assert [(row["stack"] == STACK_LOST, row["count"]) for row in found.tables["stacks"]] == [
        (False, 4),
        (True, 2),
    ]
    assert sorted(found.columns("stack_slices")["slice"].to_pylist()) == [0, 3, 3]
    slices = found.columns("slices").to_pylist()
    assert [(row["slice"], row["start_ns"], row["count"]) for row in slices] == [
        (0, 0, 1),
        (3, 3 * meta["slice_ns"], 5),
    ]
    assert all(row["bucket_low_ns"] <= 1000 < row["bucket_high_ns"] for row in slices)
    assert [(row["slice"], row["what"], row["count"]) for row in found.tables["loss_slices"]] == [
        (3, "no stack", 2)
    ]
    [row] = found.tables["histograms"]
    assert row["bucket_low_ns"] <= 1000 < row["bucket_high_ns"]
    named = {(row["kind"], row["name"]): row["count"] for row in found.tables["counters"]}
    assert named == {("user", "events"): 2, ("user", "sum_ns"): 2001, ("user", "max_ns"): 1001}
    [snapshot] = found.tables["snapshots"]
    assert (snapshot["stop_ns"], snapshot["release_ns"], snapshot["verdict"]) == (5, 7, 0)


def test_signalled_command_and_duration(tmp_path: Path, fake: FakePrograms) -> None:
    command = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    result = run(fake, trace.RecordConfig(tmp_path / "a", command=command), threading.Event())
    assert result.status == 137
    result = run(fake, trace.RecordConfig(tmp_path / "b", duration_s=0.01), threading.Event())
    assert (result.status, result.ended_by) == (0, "duration")
    assert store.read(tmp_path / "b").meta["command"] is None


def test_interrupt_ends_the_command_and_keeps_the_recording(
    tmp_path: Path, fake: FakePrograms
) -> None:
    stop, running = threading.Event(), tmp_path / "running"

    def interrupt() -> None:
        while not running.exists():
            time.sleep(0.01)
        stop.set()

    threading.Thread(target=interrupt, daemon=True).start()
    command = ("sh", "-c", f"touch {running}; exec sleep 60")
    config = trace.RecordConfig(tmp_path / "r", command=command)
    result = run(fake, config, stop)
    assert (result.status, result.ended_by) == (143, "interrupt")
    assert store.read(tmp_path / "r").meta["ended_by"] == "interrupt"


def test_command_that_cannot_run_fails_before_anything_is_loaded(
    tmp_path: Path, fake: FakePrograms
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    for name, status in (("no-such-command", 127), (str(plain), 126)):
        config = trace.RecordConfig(tmp_path / "r", command=(name,))
        with pytest.raises(trace.CommandError) as caught:
            run(fake, config, threading.Event())
        assert caught.value.status == status
    assert fake.calls == []


def test_existing_output_fails_before_anything_is_loaded(
    tmp_path: Path, fake: FakePrograms
) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(RecordingError, match="exists"):
        run(fake, trace.RecordConfig(tmp_path / "r", duration_s=1), threading.Event())
    assert fake.calls == []


@pytest.mark.parametrize("failing", ["command", "output", "load"])
def test_old_ready_file_is_removed_whatever_fails(
    tmp_path: Path, fake: FakePrograms, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    ready = tmp_path / "ready"
    ready.touch()

    def load(plan: Plan, options: Options) -> FakePrograms:
        assert not ready.exists()
        raise trace.TraceError("no", step="load")

    monkeypatch.setattr(fake, "load", load)
    if failing == "output":
        (tmp_path / "r").mkdir()
    command = ("no-such-command",) if failing == "command" else ("true",)
    config = trace.RecordConfig(tmp_path / "r", command=command, ready_file=ready)
    with pytest.raises(LivedumpError):
        run(fake, config, threading.Event())
    assert not ready.exists()


def test_ready_file_that_cannot_be_removed(tmp_path: Path, fake: FakePrograms) -> None:
    config = trace.RecordConfig(tmp_path / "r", duration_s=1, ready_file=tmp_path)
    with pytest.raises(trace.TraceError, match="remove old ready file"):
        run(fake, config, threading.Event())
    assert fake.calls == []


def test_partial_recording_of_a_dead_process_is_removed(tmp_path: Path, fake: FakePrograms) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    partial = tmp_path / f".old.partial-{dead.pid}"
    partial.mkdir()
    os.utime(partial, (0, 0))
    run(fake, trace.RecordConfig(tmp_path / "r", duration_s=0.01), threading.Event())
    assert os.listdir(tmp_path) == ["r"]


def test_spinner_turns_until_everything_is_attached(
    tmp_path: Path, fake: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not while the command runs; also when loading fails."""

    @contextmanager
    def spinner(what: str) -> Iterator[None]:
        fake.calls.append(f"spinner: {what}")
        yield
        fake.calls.append("spinner off")

    def run_command(command: object, stop: object) -> int:
        fake.calls.append("command")
        return 0

    monkeypatch.setattr(cli, "spinner", spinner)
    monkeypatch.setattr(trace, "Recorder", partial(Recorder, load=fake.load, plan=PLAN))
    monkeypatch.setattr("livedump.trace.recorder.run_command", run_command)
    cli._record(trace.RecordConfig(tmp_path / "r", command=("true",)), threading.Event())
    start = ["spinner: compiling and attaching BPF programs", "load user {}", "begin"]
    assert fake.told() == [*start, "spinner off", "command", "end", "close"]


def test_programs_are_closed_when_reading_fails(
    tmp_path: Path, fake: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> RawData:
        raise trace.TraceError("no", step="read")

    monkeypatch.setattr(fake, "read", broken)
    with pytest.raises(trace.TraceError):
        run(fake, trace.RecordConfig(tmp_path / "r", duration_s=0.01), threading.Event())
    assert fake.calls[-1] == "close"
    assert list(tmp_path.iterdir()) == []


def test_snapshots_and_releases_are_paired() -> None:
    rows = pair_snapshots(
        [SnapshotEvent(20, 1, "a", {"stop_ns": 2}), SnapshotEvent(40, 1, "a", {"stop_ns": 4})],
        [ReleaseEvent(10, {"faults": 1}), ReleaseEvent(30, {"faults": 3})],
    )
    assert [(row.get("stop_ns"), row.get("faults")) for row in rows] == [
        (None, 1),
        (2, 3),
        (4, None),
    ]


def test_recording_does_not_import_what_is_slow() -> None:
    """bcc and pyarrow cost seconds in an emulated guest: not before they are needed."""
    code = (
        "import sys, livedump.trace, livedump.cli.trace.main; "
        "print({'bcc', 'pyarrow', 'duckdb', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
