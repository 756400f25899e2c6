"""The machine, as the self-test needs it; tests hand in fakes."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import livedump
from livedump.errors import SelfTestError
from livedump.selftest.pages import KernelPages, LiveMemory
from livedump.selftest.perf import CycleSampler
from livedump.selftest.record import Features, Identity, Record

#: The load's processes: one for each CPU, so many at most.
_MAX_LOADS = 4
_WARM_UP_S = 0.5
_START_LIMIT_S = 60
#: A load that was forgotten ends by itself.
_LOAD_LIMIT_S = 300


class Host:
    """This machine.

    :param root: /proc, /sys and /var are below it
    :param release: of the kernel, default the running one
    """

    def __init__(self, root: Path = Path("/"), release: str | None = None) -> None:
        self.root = root
        self.release = release or platform.release()

    def require_root(self) -> None:
        """:raises SelfTestError: we are not root"""
        if os.geteuid():
            raise SelfTestError(
                f"running as user {os.geteuid()}, not root",
                step="start self-test",
                remedy="Run as root (sudo livedump selftest)",
            )

    def identity(self) -> Identity:
        """What the result is valid for; the module is loaded."""
        return Identity.of(self.root, self.release)

    def features(self) -> Features:
        """What this machine has."""
        return Features.of(self.root)

    def record(self) -> Record:
        """Where results are kept."""
        return Record(self.root)

    def pages(self) -> KernelPages:
        """Kernel-owned pages."""
        return KernelPages(self.root)

    def live(self) -> LiveMemory:
        """Memory as it is now."""
        return LiveMemory(self.root / "proc/kcore")

    def sampler(self) -> CycleSampler:
        """What makes PMU NMIs."""
        return CycleSampler()

    def nmis(self) -> int:
        """NMIs of all CPUs since boot."""
        try:
            text = (self.root / "proc/interrupts").read_text()
        except OSError:
            return 0
        found = re.search(r"^\s*NMI:((?:\s+\d+)+)", text, re.MULTILINE)
        return sum(map(int, found[1].split())) if found else 0

    def available_bytes(self) -> int:
        """Memory that could be had now."""
        try:
            text = (self.root / "proc/meminfo").read_text()
        except OSError:
            return 0
        found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) << 10 if found else 0

    def sleep(self, seconds: float) -> None:
        """Let the load work."""
        time.sleep(seconds)

    @contextmanager
    def load(self) -> Iterator[None]:
        """Processes that make the kernel write, while the block runs.

        :raises SelfTestError: one of them ended early
        """
        count = min(_MAX_LOADS, len(os.sched_getaffinity(0)))
        package = str(Path(livedump.__file__).parents[1])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        processes: list[_Process] = []
        with tempfile.TemporaryDirectory(prefix="livedump-selftest-") as name:
            folders = [Path(name) / str(number) for number in range(count)]
            try:
                for folder in folders:
                    processes.append(_start(folder, environ))
                _wait_for(folders, processes)
                yield
                _require_alive(processes)
            finally:
                for process in processes:
                    process.popen.kill()
                for process in processes:
                    process.popen.wait()


class _Process(NamedTuple):
    popen: subprocess.Popen[bytes]
    log: Path


def _start(folder: Path, environ: dict[str, str]) -> _Process:
    folder.mkdir()
    log = folder.with_suffix(".log")
    with open(log, "wb") as errors:
        popen = subprocess.Popen(
            [sys.executable, "-m", "livedump.selftest.load", str(folder), str(_LOAD_LIMIT_S)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    return _Process(popen, log)


def _wait_for(folders: list[Path], processes: list[_Process]) -> None:
    """Until each has written its first file, and a little longer."""
    deadline = time.monotonic() + _START_LIMIT_S
    while not all(any(folder.iterdir()) for folder in folders):
        _require_alive(processes)
        if time.monotonic() > deadline:
            raise SelfTestError("the load does not start", step="start load")
        time.sleep(0.05)
    time.sleep(_WARM_UP_S)


def _require_alive(processes: list[_Process]) -> None:
    for process in processes:
        status = process.popen.poll()
        if status is not None:
            words = process.log.read_text(errors="replace").strip().splitlines()
            raise SelfTestError(
                f"the load ended with status {status}" + (f": {words[-1]}" if words else ""),
                step="run load",
            )
