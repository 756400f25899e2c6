"""Run one machine: prepare its folder, start QEMU, carry CMD's output, judge how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from tools.paths import BUILD, ROOT, VENV
from tools.vm import bytecode, kernels
from tools.vm.accel import choose
from tools.vm.command import qemu_command
from tools.vm.config import NOT_READY_SECONDS, VmConfig, VmResult
from tools.vm.errors import DirtyLog, GuestDied, GuestTimeout, NotReady, VmError
from tools.vm.kernels import Kernel
from tools.vm.log import cause_of_death, excerpt, scan

#: Where CMD's output goes.
Sink = BinaryIO | io.RawIOBase

_EXCERPT_LINES = 40


def run(
    config: VmConfig,
    argv: Sequence[str],
    stdout: Sink | None = None,
    stderr: Sink | None = None,
) -> VmResult:
    """Boot a machine, run `argv` in it as root, and return what came of it.

    CMD's output is streamed to `stdout` and `stderr` (default: ours). A CMD that fails is no error:
    see VmResult.status. Raises GuestDied, GuestTimeout, DirtyLog (CMD succeeded, the kernel log
    does not look it) and VmError (never started).
    """
    kernel = kernels.fetch(kernels.resolve(config.kernel))
    if config.build_kmod:
        build_kmod(kernel, config.test_kmod)
    accelerator, reason = choose(config.accelerator, probe_boot)
    note(f"Linux {kernel.release}, {config.cpus} CPUs, {config.memory}, {accelerator}: {reason}")
    with claim_folder(config.name or config.kernel) as run_dir:
        boot = partial(_boot, config, kernel, argv, run_dir, accelerator, stdout, stderr)
        try:
            return boot()
        except NotReady as error:
            # Seen once in some hundred boots, while two others ran: CMD has not begun, so nothing
            # is judged twice. The log of the boot that hung stays beside the other.
            with contextlib.suppress(FileNotFoundError):
                (run_dir / "kernel.log").rename(run_dir / "kernel.log.1")
            note(f"{str(error).splitlines()[0]} Booting once more")
            return boot()


def note(message: str) -> None:
    """A line about the machine, on stderr, told apart from CMD's own."""
    print(f"vm: {message}", file=sys.stderr, flush=True)


def build_kmod(kernel: Kernel, test: bool = False) -> None:
    """Build the module, and those that tests need, for `kernel`; quick when nothing changed."""
    kernels.require_headers(kernel)
    command = ["make", "-s", "-C", str(ROOT / "tests" / "kmod"), "STRICT=1"]
    command += [f"KRELEASE={kernel.release}", f"O={module_dir(kernel, test)}"]
    command += ["TEST=1"] if test else []
    lock_file = BUILD / "kmod" / "lock"
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with open(lock_file, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two machines may be started at once
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise VmError(f"building the module failed:\n{made.stdout}{made.stderr}")


def module_dir(kernel: Kernel, test: bool = False) -> Path:
    """Where the modules for `kernel` are built; test builds have a folder of their own."""
    return BUILD / ("kmod-test" if test else "kmod") / kernel.release


def disk_environment(config: VmConfig) -> dict[str, str]:
    """Where the first disk is, in the guest and on the host."""
    if not config.disks:
        return {}
    path = config.disks[0].path.resolve()
    return {"LIVEDUMP_DISK": "/dev/vda", "LIVEDUMP_DISK_FILE": str(path)}


def guest_environment(config: VmConfig, kernel: Kernel) -> dict[str, str]:
    """The whole environment of CMD."""
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": f"{VENV}/bin:{system}",
        "HOME": "/root",
        "USER": "root",
        "TERM": os.environ.get("TERM", "dumb"),
        "LANG": "C.UTF-8",
        "PYTHONPYCACHEPREFIX": str(bytecode.PYCACHE),
        "LIVEDUMP_VM": "1",
        "LIVEDUMP_KO": str(module_dir(kernel, config.test_kmod)),
        **disk_environment(config),
        **config.env,
    }


@contextlib.contextmanager
def claim_folder(name: str) -> Iterator[Path]:
    """A folder below build/vm that is ours alone: NAME, or NAME-2, ... while others are in use."""
    number = 1
    while True:
        path = BUILD / "vm" / (name if number == 1 else f"{name}-{number}")
        path.mkdir(parents=True, exist_ok=True)
        with open(path / "lock", "w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            yield path
            return


def write_inputs(run_dir: Path, env: Mapping[str, str], argv: Sequence[str]) -> None:
    """What guest.sh reads: lists of NUL-terminated strings, so that nothing needs quoting."""
    lists = {
        "env": [f"{key}={value}" for key, value in env.items()],
        "argv": list(argv),
    }
    for name, values in lists.items():
        (run_dir / name).write_bytes(b"".join(os.fsencode(value) + b"\0" for value in values))
    for name in ("kernel.log", "ready", "ret"):
        (run_dir / name).unlink(missing_ok=True)


def make_disks(config: VmConfig) -> None:
    for disk in config.disks:
        if disk.size_bytes is not None:
            disk.path.parent.mkdir(parents=True, exist_ok=True)
            disk.path.unlink(missing_ok=True)
            with open(disk.path, "wb") as file:
                file.truncate(disk.size_bytes)
        elif not disk.path.exists():
            raise VmError(f"disk {disk.path} does not exist: give it a size (FILE:SIZE)")


def _boot(
    config: VmConfig,
    kernel: Kernel,
    argv: Sequence[str],
    run_dir: Path,
    accelerator: str,
    stdout: Sink | None,
    stderr: Sink | None,
) -> VmResult:
    bytecode.ensure()
    make_disks(config)
    write_inputs(run_dir, guest_environment(config, kernel), argv)
    command = qemu_command(config, kernel, run_dir, accelerator)
    started = time.time()
    with qemu(command, subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE) as process:
        outputs = (stdout or sys.stdout.buffer, stderr or sys.stderr.buffer)
        pumps = [
            threading.Thread(target=pump, args=pair, daemon=True)
            for pair in zip((process.stdout, process.stderr), outputs, strict=True)
        ]
        for thread in pumps:
            thread.start()
        timed_out = not wait(process, run_dir / "ready", config.timeout_s)
        process.kill()
        for thread in pumps:
            thread.join()
    if timed_out and not (run_dir / "ready").exists():
        raise NotReady(f"the guest did not come up:\n{tail_of(run_dir)}")
    return judge(run_dir, kernel, accelerator, started, process.returncode, timed_out)


def wait(process: subprocess.Popen[bytes], ready: Path, timeout_s: float | None) -> bool:
    """Wait for the end of QEMU; False when time is up, or the guest never came up."""
    up_s = min(NOT_READY_SECONDS, timeout_s or NOT_READY_SECONDS)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(up_s)
        return True
    if not ready.exists():
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s and timeout_s - up_s)
        return True
    return False


def tail_of(run_dir: Path) -> str:
    """The last lines of the kernel log."""
    log = run_dir / "kernel.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return f"{log} says:\n" + "\n".join(excerpt(lines))


@contextlib.contextmanager
def qemu(
    command: Sequence[str], stdin: int | None, stdout: int | None, stderr: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start QEMU; when the block is left, however that happens, QEMU is gone.

    If we are killed, the kernel kills QEMU (PR_SET_PDEATHSIG).
    """
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=stdin is not None,  # a shell keeps its terminal; else Ctrl-C is ours
        preexec_fn=_die_with_parent,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def pump(source: IO[bytes], sink: Sink) -> None:
    """Copy until the end; a sink that went away does not stop the guest."""
    broken = False
    while chunk := os.read(source.fileno(), 1 << 16):
        with contextlib.suppress(BrokenPipeError):
            if not broken:
                broken = True
                sink.write(chunk)
                sink.flush()
                broken = False


def judge(
    run_dir: Path,
    kernel: Kernel,
    accelerator: str,
    started: float,
    qemu_status: int,
    timed_out: bool,
) -> VmResult:
    """Turn what a finished machine left in its folder into a result or an error."""
    log = run_dir / "kernel.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    ready = run_dir / "ready"
    ret = run_dir / "ret"
    status = ret.read_text().strip() if ret.exists() else ""
    tail = tail_of(run_dir)
    if timed_out:
        state = "still running" if ready.exists() else "not ready"
        raise GuestTimeout(f"time is up: the guest is {state} and has been stopped\n{tail}")
    if status.isdigit() and not ready.exists():
        raise VmError(f"the guest is up, but CMD never started (status {status})\n{tail}")
    if not status.isdigit():
        state = "died while CMD ran" if ready.exists() else "died before CMD started"
        cause = cause_of_death(lines) or f"QEMU ended with status {qemu_status}"
        raise GuestDied(f"the guest {state}: {cause}\n{tail}")
    result = VmResult(
        status=int(status),
        kernel_log=log,
        seconds_to_ready=round(ready.stat().st_mtime - started, 1),
        accelerator=accelerator,
        release=kernel.release,
    )
    note(f"ready after {result.seconds_to_ready} s, CMD's status {status}, kernel log {log}")
    if findings := scan(lines):
        message = "\n".join([f"{len(findings)} bad lines in {log}:", *findings[:_EXCERPT_LINES]])
        if result.status == 0:
            raise DirtyLog(f"CMD succeeded, but the kernel complains: {message}", findings)
        note(f"the kernel complains too: {message}")
    return result


def probe_boot(accelerator: str, timeout_s: float) -> None:
    """Boot the default machine and run `true` in it; raises VmError if that does not work."""
    config = VmConfig(timeout_s=timeout_s)
    kernel = kernels.fetch(kernels.resolve(config.kernel))
    with claim_folder(f"probe-{accelerator}") as run_dir, open(os.devnull, "wb") as null:
        result = _boot(config, kernel, ["true"], run_dir, accelerator, null, null)
    if result.status:
        raise VmError(f"'true' ended with status {result.status}")
