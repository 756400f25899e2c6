"""Command lines, inputs for the guest, and the judgement on what a machine left behind."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.vm import DirtyLog, GuestDied, GuestTimeout, VmConfig, VmError, accel, kernels, machine
from tools.vm.__main__ import parse_disk
from tools.vm.command import insert_init, redirect, virtme_command
from tools.vm.config import Disk
from tools.vm.errors import NotReady
from tools.vm.kernels import Kernel

KERNEL = Kernel("6.1", "6.1.0-9-amd64")


def folder(tmp_path: Path, log: str = "", ret: str | None = "0\n", ready: bool = True) -> Path:
    """What a finished machine leaves."""
    (tmp_path / "kernel.log").write_text(log)
    if ret is not None:
        (tmp_path / "ret").write_text(ret)
    if ready:
        (tmp_path / "ready").touch()
    return tmp_path


def judge(run_dir: Path, timed_out: bool = False) -> int:
    return machine.judge(run_dir, KERNEL, "tcg", time.time(), 0, timed_out).status


def test_status_is_passed_on(tmp_path: Path) -> None:
    assert judge(folder(tmp_path, ret="3\n")) == 3


def test_dirty_log_fails_a_command_that_succeeded(tmp_path: Path) -> None:
    with pytest.raises(DirtyLog, match="WARNING: CPU: 0") as caught:
        judge(folder(tmp_path, log="ok\nWARNING: CPU: 0 PID: 1\n"))
    assert len(caught.value.findings) == 1


def test_dirty_log_does_not_hide_the_status(tmp_path: Path) -> None:
    assert judge(folder(tmp_path, log="WARNING: x", ret="7")) == 7


@pytest.mark.parametrize("ret", ["", None])
def test_no_status_is_a_dead_guest(tmp_path: Path, ret: str | None) -> None:
    log = "[ 1.0] Kernel panic - not syncing: Fatal exception\n"
    with pytest.raises(GuestDied, match="died while CMD ran: Kernel panic.*Fatal exception"):
        judge(folder(tmp_path, log=log, ret=ret))


def test_death_before_the_command(tmp_path: Path) -> None:
    with pytest.raises(GuestDied, match="died before CMD started: QEMU ended with status 0"):
        judge(folder(tmp_path, ret=None, ready=False))


def test_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(GuestTimeout, match="still running"):
        judge(folder(tmp_path, ret=None), timed_out=True)


def test_each_error_has_its_own_status() -> None:
    kinds: list[type[VmError]] = [VmError, GuestDied, GuestTimeout, DirtyLog]
    assert len({kind.exit_status for kind in kinds}) == len(kinds)


def test_arguments_reach_the_guest_as_they_are(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo \"a b\" '$HOME' `id` \n é", "", "*"]
    machine.write_inputs(tmp_path, {"A": "b c\n"}, argv)
    read = 'mapfile -d "" -t a < "$1"; exec "$2" -c "import sys; print(sys.argv[1:])" "${a[@]}"'
    command = ["bash", "-c", read, "bash", str(tmp_path / "argv"), sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == repr(argv)
    assert (tmp_path / "env").read_bytes() == b"A=b c\n\0"


def test_stale_results_are_removed(tmp_path: Path) -> None:
    folder(tmp_path, log="WARNING: old")
    machine.write_inputs(tmp_path, {}, ["true"])
    assert not any((tmp_path / name).exists() for name in ("kernel.log", "ready", "ret"))


def test_virtme_gets_our_kernel_options_last(tmp_path: Path) -> None:
    config = VmConfig(memory="4G", cpus=3, append=("nopti", "loglevel=8"))
    command = virtme_command(config, KERNEL, tmp_path, script=True)
    options = [arg for arg in command if arg.startswith("--kopt=")]
    assert options[-2:] == ["--kopt=nopti", "--kopt=loglevel=8"]
    assert command[command.index("--memory") + 1] == "4G"
    assert command[command.index("--cpus") + 1] == "3"
    assert any(arg.startswith("--kopt=modprobe.blacklist=kvm,") for arg in options)


def test_redirect(tmp_path: Path) -> None:
    qemu = [
        "-chardev",
        "file,id=console,path=/proc/self/fd/2",
        "-chardev",
        "file,id=x,path=/x",
    ]
    log = tmp_path / "a,b"
    assert redirect(qemu, {"console": log}) == [
        "-chardev",
        f"file,id=console,path={tmp_path}/a,,b",
        "-chardev",
        "file,id=x,path=/x",
    ]
    with pytest.raises(VmError, match="lacks the chardev ret"):
        redirect(qemu, {"console": log, "ret": log})


def test_insert_init() -> None:
    changed = insert_init(["-append", "virtme_hostname=h quiet init=/v/virtme-ng-init"])
    assert changed[1].startswith("virtme_hostname=h quiet livedump_init=/v/virtme-ng-init init=/")
    with pytest.raises(VmError, match="lacks init="):
        insert_init(["-append", "quiet"])


@pytest.mark.parametrize(
    "text, disk",
    [
        ("a.img", Disk(Path("a.img"))),
        ("a.img:4G", Disk(Path("a.img"), 4 << 30)),
        ("a:b:512", Disk(Path("a:b"), 512)),
    ],
)
def test_disk_option(text: str, disk: Disk) -> None:
    assert parse_disk(text) == disk


def test_disks_are_made_sparse_and_anew(tmp_path: Path) -> None:
    path = tmp_path / "new" / "disk"
    machine.make_disks(VmConfig(disks=(Disk(path, 1 << 30),)))
    assert path.stat().st_size == 1 << 30
    assert path.stat().st_blocks == 0
    with pytest.raises(VmError, match="does not exist"):
        machine.make_disks(VmConfig(disks=(Disk(tmp_path / "absent"),)))


def test_two_runs_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BUILD", tmp_path)
    with machine.claim_folder("6.1") as first, machine.claim_folder("6.1") as second:
        assert (first.name, second.name) == ("6.1", "6.1-2")
    with machine.claim_folder("6.1") as again:
        assert again == first


def test_qemu_ends_with_the_block() -> None:
    with pytest.raises(KeyboardInterrupt):
        with machine.qemu(["sleep", "60"], subprocess.DEVNULL, None, None) as process:
            raise KeyboardInterrupt
    assert process.returncode == -signal.SIGKILL


def test_output_goes_on_after_a_closed_pipe() -> None:
    class Closed(io.BytesIO):
        """A pipe whose reader went away."""

        def write(self, data: object) -> int:
            raise BrokenPipeError

    with subprocess.Popen(["head", "-c", "10000000", "/dev/zero"], stdout=-1) as process:
        assert process.stdout is not None
        machine.pump(process.stdout, Closed())
    assert process.returncode == 0


class TestAccelerator:
    """KVM only if a probe boot works; the verdict is remembered."""

    @pytest.fixture(autouse=True)
    def _host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(os, "access", lambda path, mode: True)

    def test_probe_that_works(self) -> None:
        assert accel.choose(None, lambda name, limit: None)[0] == "kvm"

    def test_probe_that_hangs_is_asked_once(self) -> None:
        calls = []

        def hang(name: str, limit: float) -> None:
            calls.append(name)
            raise GuestTimeout("time is up")

        for _ in range(2):
            accelerator, reason = accel.choose(None, hang)
            assert accelerator == "tcg"
            assert "does not boot within 20 s" in reason
        assert calls == ["kvm"]

    def test_probe_that_fails(self) -> None:
        def fail(name: str, limit: float) -> None:
            raise GuestDied("failed to set MSR\nmore")

        assert accel.choose(None, fail) == (
            "tcg",
            "/dev/kvm exists, but a guest fails: failed to set MSR",
        )

    @pytest.mark.parametrize("error", [VmError("no qemu\nmore"), DirtyLog("complains", ["x"])])
    def test_our_own_failure_is_not_remembered(self, error: VmError) -> None:
        def fail(name: str, limit: float) -> None:
            raise error

        accelerator, reason = accel.choose(None, fail)
        assert accelerator == "tcg"
        assert reason.endswith(f"went wrong: {str(error).splitlines()[0]}")
        assert accel.choose(None, lambda name, limit: None)[0] == "kvm"

    def test_no_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert accel.choose(None, lambda name, limit: None) == (
            "tcg",
            "no access to /dev/kvm",
        )

    def test_as_asked(self) -> None:
        assert accel.choose("kvm", lambda name, limit: None) == ("kvm", "as asked")
        with pytest.raises(VmError, match="unknown accelerator"):
            accel.choose("xen", lambda name, limit: None)


@pytest.mark.parametrize(("came_up", "limit"), [(False, 5.0), (True, 0.4)])
def test_a_guest_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, came_up: bool, limit: float
) -> None:
    monkeypatch.setattr(machine, "NOT_READY_SECONDS", 0.2)
    if came_up:
        (tmp_path / "ready").touch()
    with machine.qemu(["sleep", "30"], None, None, None) as process:
        started = time.monotonic()
        assert not machine.wait(process, tmp_path / "ready", limit)
    assert time.monotonic() - started < 3


def test_a_guest_that_ends_is_not_late(tmp_path: Path) -> None:
    with machine.qemu(["true"], None, None, None) as process:
        assert machine.wait(process, tmp_path / "ready", 5.0)


def test_a_boot_that_hangs_is_repeated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = []

    def hang(*_arguments: object) -> None:
        boots.append(1)
        (tmp_path / "kernel.log").touch()
        raise NotReady("the guest did not come up:")

    @contextlib.contextmanager
    def claim(_name: str) -> Iterator[Path]:
        yield tmp_path

    monkeypatch.setattr(machine, "_boot", hang)
    monkeypatch.setattr(machine, "claim_folder", claim)
    monkeypatch.setattr(machine, "choose", lambda *_: ("tcg", "test"))
    monkeypatch.setattr(kernels, "resolve", lambda _series: None)
    monkeypatch.setattr(kernels, "fetch", lambda _kernel: SimpleNamespace(release="6.1"))
    with pytest.raises(NotReady):
        machine.run(VmConfig(build_kmod=False), ["true"])
    assert len(boots) == 2
