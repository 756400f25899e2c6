"""What recording costs: the arithmetic, the loads, and that nothing lost is shown as a price."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from livedump.cli.trace import bench as command
from livedump.cli.trace.main import cli
from livedump.recording.rows import LossRow
from livedump.trace import TraceError, bench
from livedump.trace.probe.options import Options
from livedump.trace.recorder import RecordConfig, Recorder
from tests.unit.trace.test_recorder import PLAN, FakePrograms

MAIN = [sys.executable, "-c"]


class Machine:
    """A load that takes 100 ns, 110 later, and under a tracer what that adds."""

    def __init__(self) -> None:
        self.added = 0.0
        self.runs = 0

    @contextmanager
    def tracer(self, cost: float) -> Iterator[None]:
        """Makes everything dearer while it runs."""
        self.added = cost
        yield
        self.added = 0.0

    def load(self) -> Mapping[str, list[float]]:
        """Three rounds."""
        self.runs += 1
        alone = 110.0 if self.runs > 3 else 100.0
        return {"ns": [alone + self.added] * 2 + [1e9]}


def test_each_tracer_is_compared_with_its_neighbours() -> None:
    machine, told = Machine(), list[str]()
    tracers = [("a", lambda: machine.tracer(50)), ("b", lambda: machine.tracer(100))]
    rows = bench.measure(machine.load, tracers, told.append)
    assert told == ["none", "a", "none", "b", "none"]
    assert [row["tracer"] for row in rows] == told
    a, b = bench.overheads(rows, "ns")
    assert (a.tracer, a.median_ns, a.ratio, a.drift) == ("a", 150, 150 / 105, 1.1)
    assert (b.tracer, b.median_ns, b.ratio, b.drift) == ("b", 210, 210 / 110, 1.0)


def test_first_touches_are_timed() -> None:
    found = bench.first_touches(200, 3)
    assert len(found) == 3 and all(10 < ns < 1e6 for ns in found)


def test_memory_that_is_not_there() -> None:
    with pytest.raises(TraceError, match="cannot touch 1,000,000,000,000 pages: MemoryError"):
        bench.first_touches(1_000_000_000_000, 1)


def test_commands_are_timed(capfd: pytest.CaptureFixture[str]) -> None:
    [first, second] = bench.durations([*MAIN, "import time; print('x'); time.sleep(0.05)"], 2)
    assert min(first, second) > 5e7
    assert not capfd.readouterr().out
    with pytest.raises(TraceError, match="no-such: No such file"):
        bench.durations(["no-such"], 1)
    with pytest.raises(TraceError, match=r"failed \(3\)"):
        bench.durations([*MAIN, "raise SystemExit(3)"], 1)


def fake_recorder(fake: FakePrograms) -> Callable[[RecordConfig], Recorder]:
    """With programs that are in no kernel."""
    return partial(Recorder, load=fake.load, plan=PLAN)


def test_lost_faults_are_no_price() -> None:
    fake = FakePrograms()
    fake.data.losses = [LossRow("user", "entry without exit", bench.MOST_LOST + 1)]
    recording = bench.recorded(Options(), fake_recorder(fake))
    with pytest.raises(TraceError, match="faults were lost"), recording:
        pass
    assert fake.calls[-1] == "close"
    fake = FakePrograms()
    fake.data.losses = [
        LossRow("user", "no stack", 99),
        LossRow("user", "exit without entry", bench.MOST_LOST),
    ]
    with bench.recorded(Options(), fake_recorder(fake)):
        assert "begin" in fake.calls
    assert fake.calls[-1] == "close"


def test_modes_of_the_command_line_are_those_that_there_are() -> None:
    assert command.MODES == tuple(bench.MODES)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Nothing is attached; what would have been."""
    found: list[Options] = []

    @contextmanager
    def fake(options: Options) -> Iterator[None]:
        found.append(options)
        yield

    monkeypatch.setattr(bench, "recorded", fake)
    return found


def test_command_line(recorded: list[Options], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = ["bench", "--mode", "counts", "--mode", "events", "--rounds", "2", "--json", "--"]
    done = CliRunner().invoke(cli, [*command, "sh", "-c", f"echo >> {runs}"])
    assert done.exit_code == 0, done.output
    data: dict[str, Any] = json.loads(done.stdout)
    assert recorded == [bench.MODES["counts"], bench.MODES["events"]]
    assert [row["tracer"] for row in data["overheads"]] == ["counts", "events"]
    assert [len(row["ns"]) for row in data["runs"]] == [2] * 5
    assert len(runs.read_text().splitlines()) == 12  # the first two are not kept


def test_text_says_when_the_machine_was_not_quiet() -> None:
    quiet = bench.Overhead("counts", 1234.5, 1.25, 1.1)
    text = command._text([quiet], ())
    assert "first touch of a small page, medians" in text
    assert "counts" in text and "1.25" in text and "not quiet" not in text
    assert "not quiet" in command._text([quiet, quiet._replace(drift=1.4)], ("make",))
