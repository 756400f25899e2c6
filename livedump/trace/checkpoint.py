"""A recording that is being made, on disk: what there is of it when its recorder is killed.

It is kept in a folder beside the recording's (``.NAME.recording-PID``) as JSON, so that nothing
heavy is imported while a load is measured. Reading a recording that is not there looks for such a
folder and makes the recording of it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from livedump.trace import recording
from livedump.trace.errors import RecordingError
from livedump.trace.events import EventFile
from livedump.trace.recording import Table
from livedump.trace.timeline import Timeline

FILE = "checkpoint.json"
MADE = ".recording-"

#: At least so far apart, and so many times what the last one took.
INTERVAL_S = 5.0
_REST = 20

_STEP = "recover recording"

#: meta.json, the tables, and names of the events' stacks by number.
Content = tuple[dict[str, Any], Mapping[str, Table], Mapping[int, str]]


def folder_of(path: Path, pid: int | None = None) -> Path:
    """Where a recorder keeps the recording *path* while it makes it."""
    return path.with_name(f".{path.name}{MADE}{pid or os.getpid()}")


class Checkpoints:
    """The folder, as a context manager, and what is written to it now and then.

    :param content: what there is to write
    :ivar failed: why the last one could not be written; empty: it was
    """

    def __init__(self, path: Path, content: Callable[[], Content], *, events: bool) -> None:
        self.folder = folder_of(path)
        self.failed = ""
        self._content = content
        self._next = 0.0
        try:
            self.folder.mkdir()
            self.events = EventFile(self.folder) if events else None
        except OSError as error:
            raise RecordingError(
                f"{self.folder}: {error.strerror}", step="write recording"
            ) from error

    def watch(self, _timeline: Timeline) -> None:
        """Called again and again while recording goes on."""
        if self.events:
            self.events.flush()
        begun = time.monotonic()
        if begun >= self._next:
            self.write(self._content())
            took = time.monotonic() - begun
            self._next = time.monotonic() + max(INTERVAL_S, _REST * took)

    def write(self, content: Content) -> None:
        """One checkpoint, in place of the last one; when the disk is full that one stays."""
        meta, tables, names = content
        data = {"meta": meta, "tables": dict(tables), "stack_names": dict(names)}
        fresh = self.folder / f"{FILE}.new"
        try:
            fresh.write_text(json.dumps(data, default=list))
            fresh.replace(self.folder / FILE)
            self.failed = ""
        except OSError as error:
            fresh.unlink(missing_ok=True)
            self.failed = error.strerror or str(error)

    def end(self) -> None:
        """No more events come: all of them are in the file. Safe to repeat."""
        if self.events:
            self.events.__exit__(None, None, None)

    def close(self, *, remove: bool) -> None:
        """Safe to repeat.

        :param remove: the recording is whole, or there is none
        """
        self.end()
        if remove or not (self.folder / FILE).exists():
            shutil.rmtree(self.folder, ignore_errors=True)


def recover(path: Path, proc: Path = Path("/proc")) -> bool:
    """Make the recording *path* of what a killed recorder has left; False when there is nothing.

    :raises RecordingError: a recorder is still at it, or what is left cannot be read
    """
    prefix = f".{path.name}{MADE}"
    if os.path.lexists(path) or not path.parent.is_dir():
        return False
    for folder in sorted(path.parent.glob(f"{prefix}*")):
        pid = folder.name.removeprefix(prefix)
        if not (folder / FILE).is_file() or not pid.isdecimal():
            continue
        if (proc / pid).exists():
            raise RecordingError(
                f"{path} is still being recorded by process {pid}",
                step=_STEP,
                remedy=f"End it: kill -INT {pid}",
            )
        _finish(path, folder)
        return True
    return False


def _finish(path: Path, folder: Path) -> None:
    try:
        data = json.loads((folder / FILE).read_text())
        meta, tables = data["meta"], data["tables"]
        names = {int(number): name for number, name in data["stack_names"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{folder / FILE} is damaged: {error}", step=_STEP) from error
    recording.write(path, meta, tables, events=(folder, names))
    shutil.rmtree(folder, ignore_errors=True)
