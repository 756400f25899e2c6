"""A recording that is being made, on disk: what there is of it when its recorder is killed.

It is kept in a folder beside the recording's (``.NAME.recording-PID``): a journal that grows, and
the totals as JSON every few seconds, so that nothing heavy is imported while a load is measured.
Reading a recording that is not there looks for such a folder and makes the recording of it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from livedump.recording import journal, store
from livedump.recording.journal import Journal
from livedump.recording.store import Row
from livedump.trace.errors import RecordingError
from livedump.trace.tables import Names, journal_tables
from livedump.trace.timeline import Timeline

FILE = "checkpoint.json"
MADE = ".recording-"

#: At least so far apart, and so many times what the last one took.
INTERVAL_S = 5.0
_REST = 20

#: A folder that has changed this recently may be in use, by a process that is not among ours: in a
#: guest or a container that shares the disk.
SETTLED_S = 60.0

_STEP = "recover recording"

#: meta.json, the tables that no journal has, and names of the events' stacks by number.
Content = tuple[dict[str, Any], Mapping[str, list[Row]], Mapping[int, str]]


def folder_of(path: Path, pid: int | None = None) -> Path:
    """Where a recorder keeps the recording *path* while it makes it."""
    return path.with_name(f".{path.name}{MADE}{pid or os.getpid()}")


def identity(pid: int | None = None) -> dict[str, Any] | None:
    """Which process this is, or *pid*, among all machines; None: there is none."""
    where = Path("/proc") / (str(pid) if pid else "self")
    try:
        return {
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "pid_namespace": os.stat(where / "ns/pid").st_ino,
            "pid": pid or os.getpid(),
            "started": int((where / "stat").read_text().rpartition(")")[2].split()[19]),
        }
    except OSError:
        return None


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
        self._who = {"recorder": identity(), "force": force}
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
        """Whether there is one that :func:`recover` finds."""
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


def leftovers(path: Path) -> Iterator[Path]:
    """Folders of the recording *path* that recorders have left, or still write to."""
    prefix = f".{path.name}{MADE}"
    if not path.parent.is_dir():
        return
    for folder in sorted(path.parent.glob(f"{prefix}*")):
        if not folder.name.removeprefix(prefix).isdecimal() or folder.is_symlink():
            continue
        if folder.is_dir() and folder.stat().st_uid in (0, os.geteuid()):
            yield folder


def check_output(path: Path, *, force: bool) -> None:
    """Raise where the recording *path* was begun before and did not get to its end.

    :param force: then what is left of it is removed
    :raises RecordingError: it did not, or a recorder is still at it
    """
    for folder in leftovers(path):
        who = _who(folder)
        _check_dead(path, folder, who)
        if not force and (folder / FILE).exists():
            raise RecordingError(
                f"{path} was begun before, and its recorder was killed",
                step="write recording",
                remedy=f"Look at it: livedump-trace report {path}; or replace it with --force",
            )
        shutil.rmtree(folder, ignore_errors=True)


def recover(path: Path) -> bool:
    """Make the recording *path* of what a killed recorder has left; False when there is nothing.

    An older recording of that name is replaced where the killed one was to replace it.

    :raises RecordingError: a recorder is still at it, or what is left cannot be read
    """
    for folder in leftovers(path):
        if not (folder / FILE).is_file():
            continue
        who = _who(folder)
        if os.path.lexists(path) and (not who.get("force") or _why_alive(folder, who)):
            continue
        _check_dead(path, folder, who)
        _finish(path, folder, force=bool(who.get("force")))
        return True
    return False


def _who(folder: Path) -> dict[str, Any]:
    try:
        data = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _check_dead(path: Path, folder: Path, who: Mapping[str, Any]) -> None:
    if why := _why_alive(folder, who):
        raise RecordingError(f"{path} is still being recorded {why}", step=_STEP)


def _why_alive(folder: Path, who: Mapping[str, Any]) -> str:
    """By whom the folder is in use; empty: by nobody."""
    recorder, own = who.get("recorder") or {}, identity() or {}
    if all(recorder.get(key) == own.get(key) for key in ("boot_id", "pid_namespace")):
        pid = recorder.get("pid")
        if isinstance(pid, int) and identity(pid) == recorder:
            return f"by process {pid}"
        return ""
    changed = max((file.stat().st_mtime for file in folder.iterdir()), default=0.0)
    if time.time() - changed < SETTLED_S:
        return "elsewhere, or was until a moment ago: ask again in a minute"
    return ""


def _finish(path: Path, folder: Path, *, force: bool) -> None:
    try:
        data = json.loads((folder / FILE).read_text())
        meta, tables = data["meta"], data["tables"]
        names = {int(number): name for number, name in data["stack_names"].items()}
        slice_ns, clocks = int(meta["slice_ns"]), meta["clocks"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{folder / FILE} is damaged: {error}", step=_STEP) from error
    # The journal goes on after the last checkpoint.
    end_ns = clocks["start"]["monotonic_ns"] + (journal.last_slice(folder) + 1) * slice_ns
    clocks["end"]["monotonic_ns"] = max(clocks["end"]["monotonic_ns"], end_ns)
    rows = {**tables, **journal_tables(folder, slice_ns, names)}
    store.write(path, meta, rows, force=force)
    shutil.rmtree(folder, ignore_errors=True)
