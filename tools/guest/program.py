"""The mixed load of tools/guest/load, in the background of a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType


class Load:
    """A context manager that runs the load; it must have done something when it ends."""

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.guest.load"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        return self

    def wait(self, seconds: float) -> None:
        """Let it run for so long."""
        time.sleep(seconds)
        assert self._process.poll() is None, "the load ended by itself"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        output, _ = self._process.communicate(timeout=180)
        assert self._process.returncode == 0
        steps = json.loads(output)
        assert error or min(steps.values()) > 0, steps
