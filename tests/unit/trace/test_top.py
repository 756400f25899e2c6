"""Faults as they happen."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from livedump.cli.common import command_main
from livedump.cli.trace import main as cli
from livedump.cli.trace.top import text
from livedump.kinds import Kind
from livedump.recording.buckets import BUCKETS
from livedump.recording.layout import CELL_KINDS, Loss
from livedump.recording.rows import Drained, LossRow, Place, StackRow
from livedump.trace.errors import TraceError
from livedump.trace.names import Names
from livedump.trace.probe.options import Options
from livedump.trace.probe.points import Plan
from livedump.trace.symbols import Symbols
from livedump.trace.timeline import Timeline
from livedump.trace.top import View, look, watch
from tests.unit.buckets import bucket_of
from tests.unit.trace.test_recorder import PLAN, FakePrograms

SLICE_NS = 100_000_000
#: They would be believed more than the terminal.
SIZES = ("COLUMNS", "LINES")
LOST = Kind.USER * CELL_KINDS + BUCKETS + Loss.STACK
UNTIMED = Kind.KERNEL * CELL_KINDS + BUCKETS + len(Loss)


def cell(kind: Kind, value_ns: int) -> int:
    """A fault of so long."""
    return kind * CELL_KINDS + bucket_of(value_ns)


@pytest.fixture
def names(tmp_path: Path) -> Mapping[Place, str]:
    """Two functions."""
    table = tmp_path / "kallsyms"
    table.write_text("0000000000001000 T outer\n0000000000002000 T inner\n")
    return Names(lambda: Symbols(table))


@pytest.fixture
def timeline() -> Timeline:
    """Two seconds; what is asked for is in the second one."""
    found = Timeline(SLICE_NS, recent_stacks=True)
    found.add(Drained(9, {(5, cell(Kind.COW, 900)): 1}))
    found.add(
        Drained(
            19,
            {
                (12, cell(Kind.USER, 1000)): 90,
                (13, cell(Kind.USER, 50_000)): 10,
                (15, UNTIMED): 7,
                (15, LOST): 3,
            },
            [
                StackRow(12, "user", "cat", (0x2004, 0x1004), 1, 60, 70_000),
                StackRow(13, "user", "cat", (0x2004, 0x1004), 1, 30, 20_000),
                StackRow(13, "user", "dog", (0x1004,), 1, 10, 500_000),
            ],
        )
    )
    return found


def test_view_is_rates_of_the_last_second(timeline: Timeline, names: Mapping[Place, str]) -> None:
    view = look(timeline.window(1.0), SLICE_NS, names, by_stalled=False)
    assert [(row["kind"], row["rate"]) for row in view.kinds] == [("user", 100), ("kernel", 7)]
    assert view.kinds[0]["p50_ns"] == pytest.approx(1000, rel=0.04)
    assert view.kinds[0]["p99_ns"] == pytest.approx(50_000, rel=0.04)
    assert view.kinds[1]["p50_ns"] is None
    assert view.losses == {"no stack": 3}
    assert [(row["stack"], row["rate"]) for row in view.stacks] == [
        ("outer;inner", 90),
        ("outer", 10),
    ]
    stalled = look(timeline.window(1.0), SLICE_NS, names, by_stalled=True)
    assert [row["comm"] for row in stalled.stacks] == ["dog", "cat"]
    assert stalled.stacks[0]["stalled_ns_per_s"] == 500_000


def test_screen(timeline: Timeline, names: Mapping[Place, str]) -> None:
    timeline.add_losses([LossRow("user", "entry without exit", 1)])
    shown = text(look(timeline.window(1.0), SLICE_NS, names, by_stalled=False))
    assert shown.startswith("LOST: 3 events have no stack; 1 event lost\n")
    assert "Faults of the last 1.0 s, us" in shown
    assert "inner < outer" in shown
    assert max(map(len, shown.splitlines())) <= 80
    kept = text(View(1.0, losses={"no stack": 1}))
    assert kept.startswith("1 event has no stack; 0 events lost\n")
    json.dumps(look(timeline.window(1.0), SLICE_NS, names, by_stalled=False).to_dict())


def test_rounds_end_and_everything_is_detached() -> None:
    fake, shown = FakePrograms(), list[View]()
    watch(
        PLAN, Options(), shown.append, threading.Event(), interval_s=0.4, rounds=2, load=fake.load
    )
    assert len(shown) == 2
    assert shown[0].kinds[0]["kind"] == "user"
    assert fake.calls == ["load user {}", "begin", "close"]


def test_modules_that_are_loaded_meanwhile_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, table, loaded, shown = FakePrograms(), tmp_path / "kallsyms", ["a"], list[View]()
    table.write_text("0000000000001000 T work\n")
    monkeypatch.setattr("livedump.trace.names.modules", lambda: loaded[0])
    monkeypatch.setattr("livedump.trace.top.Names", partial(Names, lambda: Symbols(table)))
    fake.drained = [
        Drained(last, {}, [StackRow(last, "user", "cat", (address,), 1, 1, 1)])
        for last, address in ((4, 0x1004), (9, 0x5004))
    ]

    def show(view: View) -> None:
        shown.append(view)
        table.write_text("0000000000005000 t late\t[module]\n")
        loaded[0] = "b"

    watch(PLAN, Options(), show, threading.Event(), interval_s=0.1, rounds=2, load=fake.load)
    assert [row["stack"] for view in shown for row in view.stacks] == ["work", "late [module]"]


def test_failure_detaches() -> None:
    fake = FakePrograms()

    def broken(view: View) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        watch(Plan((), ()), Options(), broken, threading.Event(), interval_s=0, load=fake.load)
    assert fake.calls[-1] == "close"


def test_programs_that_cannot_be_read_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else there would be views of nothing."""
    fake, shown = FakePrograms(), list[View]()

    def gone() -> Drained:
        raise OSError("gone")

    monkeypatch.setattr(fake, "drain", gone)
    with pytest.raises(TraceError, match="take out time slices: OSError: gone"):
        watch(
            PLAN,
            Options(),
            shown.append,
            threading.Event(),
            interval_s=0.01,
            rounds=9,
            load=fake.load,
        )
    assert not shown and fake.calls[-1] == "close"


def top_of_two_views() -> None:
    """In a process of its own: ``top`` where no kernel is asked, which is shown two views."""

    def fake(_plan: object, _options: object, show: Any, stop: Any, **given: Any) -> None:
        given["on_ready"]()
        for seconds in (1.0, 2.0):
            stacks = [
                {
                    "kind": "user",
                    "comm": "cat",
                    "stack": "outer;inner",
                    "rate": seconds,
                    "stalled_ns_per_s": 0,
                }
            ]
            show(View(seconds, stacks=stacks))
        stop.wait(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livedump.trace.top.watch", fake)
        patch.setattr("livedump.trace.probe.points.resolve", lambda *args, **kwargs: Plan((), ()))
        command_main(cli.cli, ["top"])


def read_until(terminal: int, end: bytes) -> bytes:
    """What is written to a terminal until *end* is, or everybody has closed it."""
    found = b""
    while end not in found and select.select([terminal], [], [], 30)[0]:
        try:
            found += os.read(terminal, 1 << 16)
        except OSError:  # closed
            break
    return found


def test_terminal_is_drawn_on_and_given_back() -> None:
    """Both views, one over the other, on the second screen; Ctrl-C ends it."""
    code = "from tests.unit.trace.test_top import top_of_two_views; top_of_two_views()"
    child, terminal = pty.fork()
    if not child:
        sizes = {name: value for name, value in os.environ.items() if name not in SIZES}
        os.execve(sys.executable, [sys.executable, "-c", code], {**sizes, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(terminal)
    drawn = read_until(terminal, b"cat        2      -   inner < outer")
    os.write(terminal, b"\x03")  # throws away what is not read yet
    drawn += read_until(terminal, b"\0")
    assert os.waitpid(child, 0)[1] == 0, drawn.decode()
    assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    _, entered, screen = drawn.decode().partition("\x1b[?1049h")
    shown, left, after = screen.partition("\x1b[?1049l")
    assert entered and left and not after
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is hidden"
    _, first, second = shown.split("\x1b[HFaults of the last ")
    for seconds, view in ((1, first), (2, second)):
        lines = [line.rstrip() for line in view.splitlines()]
        assert lines[0] == f"{seconds}.0 s, us"
        assert f" user   cat        {seconds}      -   inner < outer" in lines
