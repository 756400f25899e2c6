"""What a tool saw in an image, and where the debug symbols that it needs may lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livedump.errors import OpenError

_FRAME = re.compile(r"^\s*#\d+\s", re.MULTILINE)


@dataclass(frozen=True)
class OpenResult:
    """What crash or drgn saw in an image.

    :ivar ok: release, tasks and a backtrace of at least three frames were found
    :ivar tasks: (pid, comm) of every task, threads included, idle tasks (pid 0) not; ascending
    :ivar backtrace: as the tool prints it, of the task ``traced_pid``
    :ivar problems: what is missing, empty when *ok*
    """

    tool: str
    release: str
    tasks: list[tuple[int, str]]
    backtrace: str
    traced_pid: int
    seconds: float
    problems: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Everything that was looked for was found."""
        return not self.problems

    @property
    def frames(self) -> int:
        """How many frames the backtrace has."""
        return len(_FRAME.findall(self.backtrace))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for ``--json`` and summaries."""
        return {
            "tool": self.tool,
            "ok": self.ok,
            "release": self.release,
            "tasks": [list(task) for task in self.tasks],
            "traced_pid": self.traced_pid,
            "frames": self.frames,
            "backtrace": self.backtrace,
            "seconds": round(self.seconds, 3),
            "problems": list(self.problems),
        }


def judge(
    tool: str,
    release: str,
    tasks: Iterable[tuple[int, str]],
    backtrace: str,
    traced_pid: int,
    seconds: float,
    *,
    min_frames: int = 3,
) -> OpenResult:
    """Build the result and say what is missing in it."""
    known = sorted(task for task in tasks if task[0] != 0)
    frames = len(_FRAME.findall(backtrace))
    problems = []
    if not release:
        problems.append("no kernel release")
    if not known:
        problems.append("no tasks")
    if frames < min_frames:
        problems.append(f"a backtrace of only {frames} frames (pid {traced_pid})")
    return OpenResult(tool, release, known, backtrace, traced_pid, seconds, tuple(problems))


def find_vmlinux(
    release: str, *, root: Path = Path("/"), environ: Mapping[str, str] | None = None
) -> Path:
    """The vmlinux with debug information of kernel *release*.

    Looked for in livedump's cache, then where Debian's -dbg package puts it.

    :raises OpenError: there is none
    """
    environ = os.environ if environ is None else environ
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/root")) / ".cache")
    places = (
        cache / "livedump/debug" / release / "vmlinux",
        root / f"usr/lib/debug/boot/vmlinux-{release}",
        root / f"usr/lib/debug/lib/modules/{release}/vmlinux",
    )
    for place in places:
        if place.is_file():
            return place
    raise OpenError(
        f"no vmlinux with debug information for kernel {release or 'unknown'}",
        step="find vmlinux",
        remedy=f"apt-get install linux-image-{release}-dbg, or name one",
    )
