"""Saying what set-up does, and how it fails."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.vm.progress import progress


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step that takes a while, and say how long it took."""
    print(f"setup: {title} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(
        f"setup: done in {time.monotonic() - started:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def watched(
    title: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
) -> str:
    """Run a command that takes a while and show its last line.

    :param cwd: where, if not here
    :returns: the end of what it said if it failed, or an empty string
    """
    output: list[str] = []
    shown = progress(title, lambda: "".join(output[-1:]).strip())
    with shown, subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=cwd,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
    if process.returncode == 0:
        return ""
    return "".join(output)[-3000:] or f"exit status {process.returncode}"
