"""The commands, with a fake module behind them: output, errors, exit statuses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from livedump import abi, doctor, units
from livedump.cli import open as open_command
from livedump.cli.common import command_main, emit, json_option, spinner
from livedump.cli.main import cli
from livedump.cli.snapshot import STEPS
from livedump.control import Status
from livedump.dump import open_image
from livedump.dump.opened import OpenResult
from livedump.errors import ControlError, LivedumpError, ModuleError
from tests.unit import images
from tests.unit.fakes import FakeControl, FakeModule, names


class Result(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output, parsed."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def module(tmp_path: Path) -> FakeModule:
    return FakeModule(tmp_path / "proc")


@pytest.fixture
def run(module: FakeModule, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``livedump ARGUMENTS`` the way the console script does."""

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as caught:
            command_main(cli, [str(item) for item in arguments], obj=module.services())
        out, err = capsys.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    return call


def test_snapshot_persists_by_default(run: Run, module: FakeModule) -> None:
    result = run("snapshot", "--pool", "512M")
    assert result.status == 0, result.err
    assert "downtime 3.1 ms (rendezvous 0.3" in result.out
    assert "live " in result.out and "unguarded" in result.out
    (call,) = [call for call in module.calls if call[0] == "snapshot"]
    assert call[2:] == ("lazy", 512 << 20, abi.F_PERSIST, 600_000)
    assert module.now.state == "holding"


@pytest.mark.parametrize("strategy", [item.name.lower() for item in abi.Strategy if item])
def test_every_strategy_of_the_abi_is_offered(run: Run, module: FakeModule, strategy: str) -> None:
    assert run("snapshot", "--strategy", strategy).status == 0
    (call,) = [call for call in module.calls if call[0] == "snapshot"]
    assert call[2] == strategy


def test_snapshot_json(run: Run) -> None:
    data = run("snapshot", "--json", "--max-hold", "0").data
    assert data["state"] == "holding" and data["report"]["stop_ns"] == 3_100_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pool", "lots"), "no size like 512M"),
        (("--max-hold", "forever"), "no time like 90s"),
        (("--max-hold", "50d"), "no time"),
        (("--max-hold", "2000h"), "longer than 49 days"),
        (("--dump", "x", "--foreground"), "exclude each other"),
        (("--force",), "--force needs --dump"),
        (("--strategy", "lazier"), "eager"),
        (("--strategy", "none"), "eager"),
    ],
)
def test_wrong_usage(run: Run, module: FakeModule, arguments: tuple[str], words: str) -> None:
    result = run("snapshot", *arguments)
    assert result.status == 2 and words in result.err
    assert module.calls == []


def test_wrong_usage_json(run: Run) -> None:
    result = run("snapshot", "--json", "--force")
    assert result.status == 2
    assert result.data["error"]["step"] == "usage"


@pytest.mark.parametrize(
    ("text", "value"), [("65536", 65536), ("1.5k", 1536), ("2GiB", 2 << 30), ("1 T", 1 << 40)]
)
def test_sizes(text: str, value: int) -> None:
    assert units.parse_size(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90_000), ("500ms", 500), ("1.5s", 1500), ("10m", 600_000)]
)
def test_durations(text: str, value: int) -> None:
    assert units.parse_duration_ms(text) == value


def test_snapshot_dump_in_one_go(run: Run, module: FakeModule, tmp_path: Path) -> None:
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == 0, result.err
    assert names(module.calls) == ["snapshot", "release"]
    assert module.calls[0][4:] == (0, 0)  # belongs to this process, no limit
    assert "dumped " in result.out and "verdict complete" in result.out
    with open_image(tmp_path / "vmcore") as image:
        assert image.verdict is abi.Verdict.COMPLETE


def test_snapshot_dump_json(run: Run, tmp_path: Path) -> None:
    data = run("snapshot", "--json", "--dump", tmp_path / "vmcore").data
    assert data["complete"] and data["final"]["state"] == "idle"
    assert data["final"]["report"]["release_ns"] == 3_000_000


def test_incomplete_dump_has_its_own_status(run: Run, module: FakeModule, tmp_path: Path) -> None:
    module.values = images.report(pages_lost=3)
    module.write()
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == 3
    assert "verdict lost: 3 pages" in result.out
    assert names(module.calls) == ["snapshot", "release"]
    assert run("info", tmp_path / "vmcore").status == 3


def test_what_only_release_finds_counts(run: Run, module: FakeModule, tmp_path: Path) -> None:
    module.late = {"entries_late": 2}
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == 3
    assert (
        "verdict unproven" in result.out
        and "2 entries were still tagged after release" in result.out
    )
    assert f"release made it unproven; the note in {tmp_path}/vmcore says so, too" in result.out
    info = run("info", tmp_path / "vmcore", "--json")
    assert info.status == 3
    assert info.data["verdict"] == "unproven" and info.data["report"]["entries_late"] == 2


def test_what_only_release_knows_is_in_the_note(run: Run, tmp_path: Path) -> None:
    data = run("snapshot", "--json", "--dump", tmp_path / "vmcore").data
    info = run("info", tmp_path / "vmcore", "--json")
    assert info.status == 0
    assert info.data["report"] == data["report"] == data["final"]["report"]
    assert info.data["report"]["release_ns"] == 3_000_000


def test_a_note_that_cannot_be_amended_is_an_error(
    run: Run, module: FakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file still says complete: the command must not."""
    release = FakeControl.release

    def release_and_lose(control: FakeControl) -> Status:
        (tmp_path / "vmcore").unlink()
        return release(control)

    monkeypatch.setattr(FakeControl, "release", release_and_lose)
    module.late = {"entries_late": 2}
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == 1 and result.out == ""
    assert "amend dump" in result.err and "after release it is 'unproven'" in result.err


def test_failed_dump_still_releases(run: Run, module: FakeModule, tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_text("precious")
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == 1
    assert re.match(r"livedump: error: open output: .*vmcore exists\. .*--force\.\n$", result.err)
    assert open_fds_of(module.image) == []


def open_fds_of(path: Path) -> list[str]:
    """Descriptors of this process that show *path*."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                found.append(name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_release(
    run: Run,
    module: FakeModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    """A signal in the middle of the dump: nothing is left, neither file nor snapshot."""
    real = os.pwritev

    def killed(fd: int, buffers: list[Any], offset: int) -> int:
        os.kill(os.getpid(), number)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", killed)
    result = run("snapshot", "--dump", tmp_path / "vmcore")
    assert result.status == status
    assert sorted(tmp_path.iterdir()) == [module.image]
    assert open_fds_of(module.image) == []


def test_foreground_until_interrupted(
    run: Run, module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    result = run("snapshot", "--foreground")
    assert result.status == 0
    assert "held by this process" in result.err and "released" in result.out
    assert names(module.calls) == ["snapshot", "release"]


def test_foreground_notices_the_end(
    run: Run, module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expire(_seconds: float) -> None:
        from dataclasses import replace

        module.now = replace(module.now, state="idle", reason="timeout")

    monkeypatch.setattr("time.sleep", expire)
    result = run("snapshot", "--foreground", "--max-hold", "1s")
    assert result.status == 1
    assert "released by somebody else (timeout). A longer --max-hold may help." in result.err


def test_dump_keeps_the_snapshot(run: Run, module: FakeModule, tmp_path: Path) -> None:
    module.hold(flags=abi.F_PERSIST)
    result = run("dump", tmp_path / "vmcore")
    assert result.status == 0, result.err
    assert names(module.calls) == [] and module.now.state == "holding"
    assert run("dump", tmp_path / "vmcore").status == 1
    assert run("dump", "--force", "--json", tmp_path / "vmcore").data["complete"]
    assert run("dump", "--verify", tmp_path / "vmcore").status == 0


def test_dump_without_a_snapshot(run: Run, tmp_path: Path) -> None:
    result = run("dump", tmp_path / "vmcore")
    assert result.status == 1
    assert result.err == (
        "livedump: error: check snapshot: no snapshot is held. "
        "Take one with 'livedump snapshot'.\n"
    )


def test_dump_disk_full(run: Run, module: FakeModule) -> None:
    module.hold()
    result = run("dump", "/dev/full")
    assert result.status == 1 and "No space left on device. Free some space" in result.err


def test_info(run: Run, module: FakeModule, tmp_path: Path) -> None:
    module.hold()
    run("dump", tmp_path / "vmcore")
    result = run("info", tmp_path / "vmcore")
    assert result.status == 0
    assert "kernel   6.1.0-56-amd64, 2 CPUs, 1.0 MiB RAM in 1 ranges" in result.out
    data = run("info", "--json", tmp_path / "vmcore").data
    assert data["complete"] and data["release"] == "6.1.0-56-amd64"


def test_info_of_an_unfinished_dump(run: Run, module: FakeModule) -> None:
    result = run("info", module.image)
    assert result.status == 3 and "INCOMPLETE: the dump did not finish" in result.out


@pytest.mark.parametrize(
    ("data", "words"), [(b"nonsense" * 20, "not a livedump image"), (b"", "truncated")]
)
def test_info_of_something_else(run: Run, tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(data)
    result = run("info", tmp_path / "file")
    assert result.status == 1 and words in result.err and result.err.count("\n") == 1


def test_status(run: Run, module: FakeModule) -> None:
    assert "state    idle" in run("status").out
    module.hold(owner_pid=4711)
    result = run("status")
    assert result.status == 0 and "process 4711" in result.out
    assert run("status", "--json").data["owner_pid"] == 4711


def test_not_loaded(run: Run, module: FakeModule) -> None:
    module.loaded = False
    for command in ("status", "snapshot", "release"):
        result = run(command)
        assert result.status == 1
        assert result.err == (
            "livedump: error: reach module: the module is not loaded. Run: livedump load.\n"
        )
    data = run("status", "--json").data
    assert data["error"]["type"] == "NotLoadedError" and data["error"]["remedy"]


def test_status_while_it_is_prepared(run: Run, module: FakeModule) -> None:
    module.now = Status(state="prepared", step="survey", owner_pid=4711)
    assert run("status").out.splitlines() == [
        "state    prepared: looking at all pages",
        "owner    process 4711",
    ]
    data = run("status", "--json").data
    assert (data["state"], data["step"]) == ("prepared", "survey")


def test_every_step_has_its_words() -> None:
    assert set(STEPS) == {step.name.lower() for step in abi.Step}


def test_status_tells_the_last_refusal_and_what_to_do(run: Run, module: FakeModule) -> None:
    module.now = Status(
        state="idle",
        reason="failed",
        error="a pool of 9 MiB does not fit",
        refusal="pool_too_large",
    )
    assert run("status").out.splitlines() == [
        "state    idle",
        "no snapshot was taken",
        "refused  a pool of 9 MiB does not fit (pool_too_large)",
        "         -> Free some memory or ask for a smaller pool (--pool)",
    ]
    assert run("status", "--json").data["refusal"] == "pool_too_large"


def test_status_tells_why_the_machine_would_be_refused(run: Run, module: FakeModule) -> None:
    module.now = Status(state="idle", machine="kvm_guest")
    assert run("status").out.splitlines()[-2:] == [
        "machine  a snapshot would be refused now (kvm_guest)",
        "         -> Stop the virtual machines first, or take the snapshot inside of them",
    ]


def test_the_spinner_tells_the_step(
    run: Run, module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal; elsewhere and with --json there is none."""
    said: list[str] = []

    @contextlib.contextmanager
    def spinner(what: str) -> Iterator[Callable[[str], None]]:
        said.append(what)
        yield said.append

    monkeypatch.setattr("livedump.cli.snapshot.spinner", spinner)
    module.preparing = [Status(state="prepared", step=step) for step in ("reserve", "later")]
    result = run("snapshot")
    assert result.status == 0 and result.err == ""
    begin = "preparing the snapshot"
    assert said == [begin, f"{begin}: reserving the pool of copies", f"{begin}: later"]


def test_a_spinner_on_something_else_than_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with spinner("what") as say:
        say("more")
    assert capsys.readouterr().err == ""


def test_refused_snapshot(run: Run, module: FakeModule) -> None:
    module.refuse = ControlError(
        "guest memory is encrypted", step="take snapshot", remedy="No", refusal="encrypted"
    )
    result = run("snapshot", "--json")
    assert result.status == 1
    assert result.data["error"]["cause"] == "guest memory is encrypted"
    assert result.err == "livedump: error: take snapshot: guest memory is encrypted. No.\n"


def test_release(run: Run, module: FakeModule) -> None:
    assert run("release").status == 1
    module.hold(flags=abi.F_PERSIST)
    result = run("release", "--json")
    assert result.status == 0 and result.data["verdict"] == "complete"


def test_load_and_unload(run: Run, module: FakeModule) -> None:
    module.loaded = False
    assert "loaded x.ko" in run("load").out
    assert run("load", "--json", "--module", "y.ko").data == {
        "loaded": True,
        "already": True,
        "path": "y.ko",
        "origin": "argument",
    }
    module.hold()
    assert "livedump release" in run("unload").err
    run("release")
    assert run("unload").status == 0 and not module.loaded


def test_load_refused(run: Run, module: FakeModule) -> None:
    module.refuse = ModuleError("no signature", step="load x.ko", remedy="Sign it")
    result = run("load")
    assert (result.status, result.err) == (
        1,
        "livedump: error: load x.ko: no signature. Sign it.\n",
    )


def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [doctor.Check("a", doctor.OK, "fine"), doctor.Check("b", doctor.WARN, "so so", "do")]
    monkeypatch.setattr(doctor, "run", lambda machine: checks)
    result = run("doctor")
    assert result.status == 0 and "should work" in result.out
    checks.append(doctor.Check("c", doctor.FAIL, "broken", "mend"))
    result = run("doctor", "--json")
    assert result.status == 1 and not result.data["ok"]
    assert result.data["checks"][2]["remedy"] == "mend"


CRASH_OUTPUT = """\
     RELEASE: 6.1.0-56-amd64
        1       0   0  ffff88ac41214200  IN   0.0     2260       80  init
        2       0   1  ffff88ac41212100  IN   0.0        0        0  [kthreadd]
PID: 1        TASK: ffff88ac41214200  CPU: 0    COMMAND: "init"
 #0 [ffffccb600013c30] __schedule at ffffffffae65271d
 #1 [ffffccb600013cb8] schedule at ffffffffae652e2a
 #2 [ffffccb600013cd0] do_wait at ffffffffadca6684
"""


@pytest.fixture
def fake_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A crash on PATH that prints what is in the file; symbols in the cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    output = folder / "output"
    output.write_text(CRASH_OUTPUT)
    program = folder / "crash"
    program.write_text(f'#!/bin/sh\necho "$@" >{folder}/arguments\ncat {output}\n')
    program.chmod(0o755)
    vmlinux = tmp_path / "cache/livedump/debug/6.1.0-56-amd64/vmlinux"
    vmlinux.parent.mkdir(parents=True)
    vmlinux.touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return output


def test_open(run: Run, module: FakeModule, tmp_path: Path, fake_crash: Path) -> None:
    result = run("open", module.image)
    assert result.status == 0, result.err
    assert "kernel   6.1.0-56-amd64, 2 tasks" in result.out
    assert "of pid 1, 3 frames" in result.out and "do_wait at" in result.out
    vmlinux = tmp_path / "cache/livedump/debug/6.1.0-56-amd64/vmlinux"
    assert f"-s {vmlinux} {module.image} " in (fake_crash.parent / "arguments").read_text()
    data = run("open", "--json", "--vmlinux", "/x", module.image).data
    assert data["ok"] and data["tasks"] == [[1, "init"], [2, "kthreadd"]]
    assert data["vmlinux"] == "/x" and data["path"] == str(module.image)


def test_open_that_finds_only_half(run: Run, module: FakeModule, fake_crash: Path) -> None:
    fake_crash.write_text(CRASH_OUTPUT.replace(" #2", "no "))
    result = run("open", "--with", "crash", module.image)
    assert result.status == 1 and "PROBLEM  a backtrace of only 2 frames (pid 1)" in result.out
    result = run("open", "--with", "crash", "--json", module.image)
    assert result.status == 1 and not result.data["ok"]


def test_drgn_where_crash_cannot(
    run: Run, module: FakeModule, fake_crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drgn(_image: object, _vmlinux: object, *, pid: int) -> OpenResult:
        return OpenResult("drgn", "6.1.0-56-amd64", [(1, "init")], "#0 x", pid, 1.0)

    fake_crash.write_text(CRASH_OUTPUT.replace(" #2", "no "))
    result = run("open", module.image)
    assert result.status == 1 and "PROBLEM  a backtrace" in result.out, "drgn cannot read it either"
    monkeypatch.setattr(open_command, "_OPENERS", {**open_command._OPENERS, "drgn": drgn})
    result = run("open", module.image)
    assert result.status == 0 and "with drgn in" in result.out
    assert "crash    a backtrace of only 2 frames (pid 1)" in result.out
    fake_crash.write_text("crash: seek error")
    data = run("open", "--json", module.image).data
    assert data["ok"] and "seek error" in data["instead_of_crash"][0]


def test_open_failures(run: Run, module: FakeModule, tmp_path: Path, fake_crash: Path) -> None:
    result = run("open", tmp_path / "absent")
    assert result.status == 1 and "No such file" in result.err
    result = run("open", "--with", "drgn", "--vmlinux", tmp_path / "absent", module.image)
    assert result.status == 1 and "of the same kernel?" in result.err
    assert run("open", "--with", "gdb", module.image).status == 2
    os.unlink(tmp_path / "cache/livedump/debug/6.1.0-56-amd64/vmlinux")
    result = run("open", module.image)
    assert result.status == 1 and "apt-get install linux-image-6.1.0-56-amd64-dbg" in result.err


def test_every_command_has_help_json_and_examples(run: Run) -> None:
    for name in cli.commands:
        out = run(name, "--help").out
        assert "--json" in out and "Examples:" in out, name


def test_other_errors_are_not_hidden() -> None:
    """A defect of ours shows its traceback instead of a friendly line."""

    @click.command()
    @json_option
    def broken() -> None:
        emit({}, lambda: str(1 // 0))

    with pytest.raises(ZeroDivisionError):
        command_main(broken, [])


def test_error_text() -> None:
    error = LivedumpError("it\nbroke.", step="do it", remedy="Mend it.")
    assert str(error) == "do it: it broke. Mend it."
    assert str(LivedumpError("no", step="x")) == "x: no."
