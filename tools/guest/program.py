"""Loads in the background of something else."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Self


class Program:
    """A Python module that runs from now on until the block ends, as a load.

    :raises RuntimeError: it did not start, or ended by itself
    """

    def __init__(self, *arguments: str) -> None:
        self._name = " ".join(arguments)
        command = [sys.executable, "-m", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def await_ready(self) -> None:
        """Wait until it has said `ready`."""
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self._name} did not start")

    def wait(self, seconds: float) -> None:
        """Let it run for so long."""
        time.sleep(seconds)
        self._require_running()

    def _require_running(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._name} ended by itself ({self._process.returncode})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._require_running()
        finally:
            self._process.terminate()
            output, _ = self._process.communicate(timeout=180)
        if error is None:
            self.judge(output)

    def judge(self, output: str) -> None:
        """Hook: look at what it printed after `ready`."""


class Load(Program):
    """The mixed load of :mod:`tools.guest.load`.

    :raises RuntimeError: one of its generators did nothing
    """

    def __init__(self) -> None:
        super().__init__("tools.guest.load")

    def __enter__(self) -> Self:
        self.await_ready()
        return self

    def judge(self, output: str) -> None:
        """Each generator must have made steps."""
        if self._process.returncode or min(json.loads(output).values(), default=0) == 0:
            raise RuntimeError(f"the load ({self._process.returncode}) did only {output!r}")
