"""What a killed recorder leaves behind, and nobody else would ever remove."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from livedump.trace.probe.points import NEEDS, Attach

PROC = Path("/proc")

#: BCC's name for a probe in tracefs: p or r, the function, the process.
_EVENT = re.compile(r"^[pr]\d*:(kprobes/[pr]_(\w+)_bcc_(\d+)) ", re.MULTILINE)

_POINTS = {
    candidate.point
    for need in NEEDS
    if need.attach is Attach.KPROBE_PAIR
    for candidate in need.candidates
}


def remove_kprobe_events(tracefs: Path, proc: Path = PROC) -> list[str]:
    """Remove BCC's probes on our functions whose process is gone; returns their names.

    Other tools' probes stay, and those that are still in use: the kernel does not let them go.
    """
    file = tracefs / "kprobe_events"
    try:
        text = file.read_text()
    except OSError:
        return []  # none, or not ours to see: attaching will tell
    removed = []
    for name, function, pid in _EVENT.findall(text):
        if function in _POINTS and not (proc / pid).exists():
            with contextlib.suppress(OSError):
                _append(file, f"-:{name}\n")
                removed.append(name)
    return removed


def _append(file: Path, text: str) -> None:
    """Not open(..., "a"), which seeks to the end: tracefs cannot; O_TRUNC would remove all."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
