"""What a killed recorder leaves behind, and nobody else would ever remove."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from livedump.recording import store
from livedump.trace.probe.points import NEEDS, Attach

PROC = Path("/proc")

#: A folder that changed this recently may be that of a recorder elsewhere, whose process is not
#: among ours: in a guest or a container that shares the disk.
SETTLED_S = 60.0

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


def remove_partials(parent: Path, proc: Path = PROC) -> list[Path]:
    """Remove half-written recordings in *parent* whose process is gone; returns them.

    A folder with anything else in it is somebody's, whatever it is called.
    """
    own = {store.META, *(f"{name}.parquet" for name in store.TABLES)}
    removed = []
    for folder in sorted(parent.glob(f".*{store.PARTIAL}*")):
        pid = folder.name.rpartition(store.PARTIAL)[2]
        if not pid.isdecimal() or (proc / pid).exists() or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            files = {file.name for file in folder.iterdir()}
            if files <= own and time.time() - folder.stat().st_mtime > SETTLED_S:
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _append(file: Path, text: str) -> None:
    """Not open(..., "a"), which seeks to the end: tracefs cannot; O_TRUNC would remove all."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
