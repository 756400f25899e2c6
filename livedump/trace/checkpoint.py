"""A recording that is being made, on disk: what there is of it when its recorder is killed.

It is kept in a folder beside the recording's (``.NAME.recording-PID``): a journal that grows, and
the totals as JSON every few seconds, so that nothing heavy is imported while a load is measured.
:func:`livedump.recording.recover.recover` makes a recording of it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from livedump.recording.errors import RecordingError
from livedump.recording.journal import Journal
from livedump.recording.recover import FILE, folder_of, identity
from livedump.recording.schema import SCHEMA, Row
from livedump.trace.names import Names
from livedump.trace.timeline import Timeline

#: At least so far apart, and so many times what the last one took.
INTERVAL_S = 5.0
_REST = 20

#: meta.json, the tables that no journal has, and names of the events' stacks by number.
Content = tuple[dict[str, Any], Mapping[str, list[Row]], Mapping[int, str]]


class Checkpoints:
    """The folder, and what is written to it.

    :param content: what there is to write now and then
    :param force: the recording may replace an older one
    :ivar failed: why the last checkpoint could not be written; empty: it was
    :raises RecordingError: the folder cannot be made
    """

    def __init__(
        self,
        path: Path,
        content: Callable[[], Content],
        *,
        names: Names,
        events: bool,
        force: bool = False,
    ) -> None:
        self.folder = folder_of(path)
        self.failed = ""
        self._content = content
        self._who = {"schema": SCHEMA, "recorder": identity(), "force": force}
        self._next = 0.0
        try:
            self.folder.mkdir(mode=0o700)
            self.journal = Journal(self.folder, names, events=events)
        except OSError as error:
            raise RecordingError(
                f"{self.folder}: {error.strerror}", step="write recording"
            ) from error

    @property
    def exists(self) -> bool:
        """Whether there is one that can be recovered."""
        return (self.folder / FILE).exists()

    def watch(self, _timeline: Timeline) -> None:
        """Called again and again while recording goes on."""
        self.journal.flush()
        begun = time.monotonic()
        if begun >= self._next:
            self.write(self._content())
            took = time.monotonic() - begun
            self._next = time.monotonic() + max(INTERVAL_S, _REST * took)

    def write(self, content: Content) -> None:
        """One checkpoint, in place of the last one; when the disk is full that one stays."""
        meta, tables, names = content
        data = {**self._who, "meta": meta, "tables": dict(tables), "stack_names": dict(names)}
        fresh = self.folder / f"{FILE}.new"
        try:
            fresh.write_text(json.dumps(data))
            fresh.replace(self.folder / FILE)
            self.failed = ""
        except OSError as error:
            fresh.unlink(missing_ok=True)
            self.failed = error.strerror or str(error)

    def end(self) -> None:
        """Nothing more comes: all of it is in the files. Safe to repeat."""
        self.journal.flush()
        self.journal.close()

    def close(self, *, remove: bool) -> None:
        """Safe to repeat.

        :param remove: the recording is whole, or there is none
        """
        self.journal.close()
        if remove or not self.exists:
            shutil.rmtree(self.folder, ignore_errors=True)
