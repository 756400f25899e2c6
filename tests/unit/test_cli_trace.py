"""The command line of livedump-trace."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from livedump import flight, trace
from livedump.analysis import assets
from livedump.cli.common import command_main
from livedump.cli.trace import main as cli
from livedump.control import Status
from livedump.errors import SessionError
from livedump.trace.probe.points import Absent, Plan
from livedump.trace.trigger import Trigger
from tests.unit import samples
from tests.unit.fakes import FakeModule


def run(*arguments: str) -> int:
    """Exit status of livedump-trace."""
    with pytest.raises(SystemExit) as caught:
        command_main(cli.cli, list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


class FakeRecorder:
    """Records nothing; remembers what it was asked."""

    config: trace.RecordConfig
    trigger: Trigger | None = None
    status = 0
    error: Exception | None = None
    triggers: list[dict[str, object]] = []

    def __init__(
        self,
        config: trace.RecordConfig,
        trigger: Trigger | None = None,
        tell: object = None,
    ) -> None:
        FakeRecorder.config = config
        FakeRecorder.trigger = trigger
        absent = (Absent("cow", "cow", "no tracepoint: the module is not loaded"),)
        self.plan = Plan(("user",), (), absent)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeRecorder]:
    """livedump.trace without a kernel."""

    def record(
        config: trace.RecordConfig,
        stop: threading.Event,
        on_ready: object,
        *,
        recorder: FakeRecorder,
    ) -> trace.RecordResult:
        assert callable(on_ready)
        on_ready(recorder.plan)
        if FakeRecorder.error:
            raise FakeRecorder.error
        meta = {"losses_total": 3, "questions": ["user"], "absent": []}
        meta["triggers"] = FakeRecorder.triggers
        return trace.RecordResult(config.output, FakeRecorder.status, "command", meta)

    monkeypatch.setattr(FakeRecorder, "status", 0)
    monkeypatch.setattr(FakeRecorder, "error", None)
    monkeypatch.setattr(trace, "Recorder", FakeRecorder)
    monkeypatch.setattr(trace, "record", record)
    return FakeRecorder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-p", "7,8,7"), {"pids": [7, 8]}),
        (("-p", "7", "--pid", "8,9"), {"pids": [7, 8, 9]}),
        (("--comm", "nginx", "--pid", "9"), {"pids": [9], "comm": "nginx"}),
        ((), {}),
    ],
)
def test_record_of_chosen_tasks(
    fake: type[FakeRecorder], arguments: tuple[str, ...], expected: dict[str, object]
) -> None:
    assert run("record", "--duration", "1", *arguments) == 0
    assert fake.config.options.chosen.to_dict() == expected


@pytest.mark.parametrize("pids", ["x", "", "0", "7,-1"])
def test_record_of_impossible_processes(fake: type[FakeRecorder], pids: str) -> None:
    assert run("record", "-p", pids) == 2


@pytest.mark.parametrize("option", ["--comm", "--cgroup"])
def test_a_second_filter_is_not_dropped_in_silence(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("record", option, "a", option, "b") == 2
    assert "2 of them are given, there can be one" in capsys.readouterr().err


def test_record_returns_the_command_s_status(
    fake: type[FakeRecorder], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.status = 42
    assert run("record", "-o", "out", "--kind", "cow,stop", "--", "make", "-j8", "--json") == 42
    assert fake.config.command == ("make", "-j8", "--json")
    assert fake.config.questions == ("cow", "stop")
    assert fake.config.explicit == {"cow", "stop"}
    out, err = capfd.readouterr()
    assert out == ""
    assert "recording: user\n" in err
    assert "not recorded: cow: no tracepoint" in err
    assert "recorded: out (3 losses)" in err


def test_options_after_the_command_are_its_own(fake: type[FakeRecorder]) -> None:
    assert run("record", "--events", "gcc", "-o", "out", "-p", "1", "--json") == 0
    assert fake.config.command == ("gcc", "-o", "out", "-p", "1", "--json")
    assert fake.config.options.events
    assert str(fake.config.output).startswith("recording-20")
    assert not fake.config.options.chosen.to_dict()


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("500ms", 0.5), ("10m", 600)])
def test_duration(fake: type[FakeRecorder], text: str, seconds: float) -> None:
    assert run("record", "--duration", text) == 0
    assert fake.config.duration_s == seconds


@pytest.mark.parametrize("chosen", [("cow,stop",), ("cow", "stop"), ("cow, stop", "cow")])
def test_kinds_come_in_one_list_or_in_many(
    fake: type[FakeRecorder],
    chosen: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = [part for kind in chosen for part in ("--kind", kind)]
    assert run("record", "--duration", "1", *options) == 0
    assert fake.config.questions == ("cow", "stop")
    capfd.readouterr()
    assert run("report", str(samples.write(tmp_path / "r")), "--json", *options) == 0
    kinds = [row["kind"] for row in json.loads(capfd.readouterr().out)["latencies"]]
    assert kinds == ["cow", "stop"]


def test_record_json(fake: type[FakeRecorder], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("record", "--json", "--duration", "2.5") == 0
    assert fake.config.duration_s == 2.5
    assert fake.config.explicit == frozenset()
    found = json.loads(capfd.readouterr().out)
    assert found["recording"].startswith("recording-20")
    assert found["losses_total"] == 3


def test_own_failures_have_their_own_status(
    fake: type[FakeRecorder], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.error = trace.TraceError("no headers", step="load BPF programs", remedy="Install them")
    assert run("record", "--json", "--", "true") == cli.EXIT_RECORD == 125
    out, err = capfd.readouterr()
    assert "livedump-trace: error: load BPF programs: no headers. Install them.\n" in err
    assert json.loads(out)["error"]["step"] == "load BPF programs"
    fake.error = trace.CommandError("nope: command not found", step="run command", status=127)
    assert run("record", "--", "nope") == 127


def test_trigger_is_armed_before_anything_is_compiled(
    fake: type[FakeRecorder],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(flight, "check_module", lambda: None)
    when = ("record", "--duration", "1", "-o", str(tmp_path / "r"), "--snapshot-when")
    assert run(*when, "p99(user)>2ms for 1s", "--max-snapshots", "2") == 0
    assert fake.trigger
    assert run(*when, "p99(user)>+20%") == 125
    assert run(*when, "count(user)>1000") == 125
    assert "the limit must be a value like 2ms" in capfd.readouterr().err
    assert run(*when, "p99(user)>1ms for a while") == 125
    assert "LIMIT [for TIME], e.g. p99(user)>2ms for 1s" in capfd.readouterr().err
    assert run(*when, "p99(cow)>1ms", "--kind", "user") == 125
    assert "no kind cow" in capfd.readouterr().err
    (tmp_path / "r.vmcore").touch()
    assert run(*when, "p99(user)>2ms") == 125
    assert f"{tmp_path}/r.vmcore exists" in capfd.readouterr().err
    assert run(*when, "p99(user)>2ms", "--dump", str(tmp_path / "no" / "vmcore")) == 125
    monkeypatch.undo()
    assert run(*when, "p99(user)>2ms", "--dump", str(tmp_path / "other")) == 125
    assert "the module is not loaded" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("done", "status"), [({"verdict": "complete"}, 0), ({"verdict": "lost"}, 3), ({}, 3)]
)
def test_dump_that_failed_is_in_the_exit_status(
    fake: type[FakeRecorder], monkeypatch: pytest.MonkeyPatch, done: dict[str, str], status: int
) -> None:
    monkeypatch.setattr(fake, "triggers", [{"done": done}])
    assert run("record", "--duration", "1") == status
    fake.status = 7
    assert run("record", "--", "false") == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "--duration", "1", "--dump", "vmcore"),
        ("record", "--duration", "1", "--max-snapshots", "2"),
        ("record", "--duration", "1", "--", "true"),
        ("record", "--kind", "disk"),
        ("record", "--kind", ","),
        ("record", "--duration", "0"),
        ("record", "--duration", "nan"),
        ("record", "--duration", "inf"),
        ("record", "--duration", "1e10"),
        ("record", "--duration", "10000h"),
        ("record", "--evnts", "true"),
        ("report",),
        ("report", "recording", "--kind", ","),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], fake: type[FakeRecorder]) -> None:
    assert run(*arguments) == 2


def test_help_has_examples(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("record", "report"):
        assert run(command, "--help") == 0
        assert "Examples:" in capfd.readouterr().out


def test_report_writes_what_is_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = samples.write(tmp_path / "r")
    assert run("report", str(folder), "--kind", "cow", "--by", "stalled") == 0
    assert "downtime: 65.1 ms" in capfd.readouterr().out
    assert run("report", str(folder), "--json") == 0
    assert json.loads(capfd.readouterr().out)["losses_total"] == 7


def test_report_of_something_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("report", str(tmp_path)) == 1
    err = capfd.readouterr().err
    assert err.startswith("livedump-trace: error: read recording:") and err.count("\n") == 1


def test_report_kind_that_was_not_recorded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = samples.write(tmp_path / "r")
    assert run("report", str(folder), "--kind", "disk") == 1
    assert "no kind disk" in capfd.readouterr().err


def test_report_html_without_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise assets.AssetMissingError(f"{name} is not installed", step="write HTML report")

    monkeypatch.setattr(assets, "text", missing)
    folder = samples.write(tmp_path / "r")
    assert run("report", str(folder), "--html", str(tmp_path / "x.html")) == 1
    assert not os.path.exists(tmp_path / "x.html")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Status(state="idle"), ""),
        (Status(state="prepared"), "the module is prepared already. Run: livedump release"),
        (
            Status(state="idle", machine="nohz_full"),
            r"would refuse a snapshot of this machine \(nohz_full\). Boot without nohz_full=",
        ),
    ],
)
def test_a_trigger_that_could_take_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: Status, words: str
) -> None:
    """Better said before the moment than at it."""
    module = FakeModule(tmp_path / "proc")
    module.now = now
    monkeypatch.setattr(flight, "Control", module.control)
    if not words:
        flight.check_module()
        return
    with pytest.raises(SessionError, match=words):
        flight.check_module()
