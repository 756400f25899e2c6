"""Open an image with crash(8), without a terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from livedump.dump.opened import OpenResult, judge
from livedump.errors import OpenError

_EXTENSION = Path(__file__).with_name("crash_pid.c")
_HEADER = Path("/usr/include/crash/defs.h")

_RELEASE = re.compile(r"^\s*RELEASE: (\S+)", re.MULTILINE)
_TASK = re.compile(
    r"^[> ]\s*(?P<pid>\d+)\s+\d+\s+\d+\s+[0-9a-f]{16}\s+\S+\s+[\d.]+\s+(?P<vsz>\d+)\s+\d+\s+"
    r"(?P<comm>.+?)\s*$",
    re.MULTILINE,
)
_BACKTRACE = re.compile(r"^PID: \d+\s+TASK: .*?\Z", re.MULTILINE | re.DOTALL)


def parse_tasks(output: str) -> list[tuple[int, str]]:
    """(pid, comm) from the output of ``ps``; kernel threads come in brackets there."""
    tasks = []
    for found in _TASK.finditer(output):
        comm = found["comm"]
        if found["vsz"] == "0" and comm.startswith("[") and comm.endswith("]"):
            comm = comm[1:-1]
        tasks.append((int(found["pid"]), comm))
    return tasks


def build_extension(folder: Path) -> Path | None:
    """Compile the extension that old versions of crash need (see crash_pid.c) into *folder*.

    None where crash's header or a compiler is missing: then crash runs without.
    """
    if not _HEADER.exists() or shutil.which("gcc") is None:
        return None
    target = folder / "crash_pid.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-DX86_64", "-DGDB_10_2", "-w"]
    done = subprocess.run(
        [*command, "-o", str(target), str(_EXTENSION)], capture_output=True, check=False
    )
    return target if done.returncode == 0 else None


def open_with_crash(
    image: str | os.PathLike[str],
    vmlinux: str | os.PathLike[str],
    *,
    pid: int = 1,
    timeout_s: float = 300.0,
    program: str = "crash",
) -> OpenResult:
    """Let crash read release, tasks and the backtrace of task *pid*.

    :raises OpenError: crash is missing, hangs, or cannot open the image
    """
    step = "open with crash"
    if shutil.which(program) is None:
        raise OpenError(f"no {program} on PATH", step=step, remedy="apt-get install crash")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="livedump-crash-") as name:
        folder = Path(name)
        extension = build_extension(folder)
        commands = [f"extend {extension}"] if extension else []
        commands += ["sys", "ps", f"bt {pid}", "quit"]
        script = folder / "commands"
        script.write_text("".join(f"{line}\n" for line in commands))
        output = _run(
            [program, "-s", os.fspath(vmlinux), os.fspath(image), "-i", str(script)],
            folder,
            timeout_s,
            step,
        )
    release = _RELEASE.search(output)
    if release is None:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
        raise OpenError(
            f"crash did not open {os.fspath(image)}: {last.strip()}",
            step=step,
            remedy=f"Is {os.fspath(vmlinux)} of the same kernel?",
        )
    trace = _BACKTRACE.search(output)
    return judge(
        "crash",
        release[1],
        parse_tasks(output),
        trace[0].rstrip() if trace else "",
        pid,
        time.monotonic() - begun,
    )


def _run(command: list[str], home: Path, timeout_s: float, step: str) -> str:
    # An empty home: no ~/.crashrc of the user's, no pager.
    environ = {**os.environ, "HOME": str(home), "TERM": "dumb"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OpenError(f"crash did not end within {timeout_s:.0f} s", step=step) from error
    except OSError as error:
        raise OpenError(f"cannot run {command[0]}: {error.strerror}", step=step) from error
    return done.stdout.decode("utf-8", "replace")
