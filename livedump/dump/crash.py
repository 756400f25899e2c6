"""Open an image with crash(8), without a terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from livedump.dump.opened import OpenResult, judge
from livedump.errors import OpenError

_EXTENSION = Path(__file__).with_name("crash_pid.c")
_HEADER = Path("/usr/include/crash/defs.h")

#: The first error is the cause, and its line is enough.
_GCC_SAYS = ("-Wfatal-errors", "-fno-diagnostics-show-caret")

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


def missing_for_extension() -> list[str]:
    """What the extension cannot be built without and is not there, as for a sentence."""
    missing = [] if shutil.which("gcc") else ["gcc"]
    return missing if _HEADER.exists() else [*missing, str(_HEADER)]


def build_extension(folder: Path) -> Path | None:
    """Compile the extension that old versions of crash need (see crash_pid.c) into *folder*.

    None where crash's header or a compiler is missing (:func:`missing_for_extension`): newer crash
    runs without.

    :raises OpenError: it does not compile
    """
    if missing_for_extension():
        return None
    target = folder / "crash_pid.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-DX86_64", "-DGDB_10_2", "-w"]
    done = subprocess.run(
        [*command, *_GCC_SAYS, "-o", str(target), str(_EXTENSION)],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OpenError(
            f"gcc failed: {' '.join(lines[-3:]) or f'exit status {done.returncode}'}",
            step="build crash extension",
            remedy="apt-get install zlib1g-dev gcc",
        )
    return target


def open_with_crash(
    image: str | os.PathLike[str],
    vmlinux: str | os.PathLike[str],
    *,
    pid: int = 1,
    timeout_s: float = 300.0,
    program: str = "crash",
) -> OpenResult:
    """Let crash read release, tasks and the backtrace of task *pid*.

    :raises OpenError: crash is missing, hangs, or cannot open the image; its extension does not
        compile
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
        raise OpenError(
            f"crash did not open {os.fspath(image)}: {_why_not(output)}",
            step=step,
            remedy=f"Is {os.fspath(vmlinux)} of the same kernel? An older crash than the kernel "
            "may say so, too: try --with drgn",
        )
    trace = _BACKTRACE.search(output)
    result = judge(
        "crash",
        release[1],
        parse_tasks(output),
        trace[0].rstrip() if trace else "",
        pid,
        time.monotonic() - begun,
    )
    if result.ok or extension is not None:
        return result
    return replace(result, problems=(*result.problems, _without_extension()))


def _why_not(output: str) -> str:
    """crash's own word for it; help, or addresses, may follow."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line.removeprefix("crash: ") for line in lines if line.startswith("crash: ")]
    return (said or lines[-1:] or ["no output"])[0]


def _without_extension() -> str:
    return (
        f"crash ran without livedump's extension, for want of "
        f"{' and '.join(missing_for_extension())}: older crash needs it to list tasks "
        "(apt-get install crash gcc zlib1g-dev)"
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
