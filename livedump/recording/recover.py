"""What a killed recorder has left, made a recording.

It is kept in a folder beside the recording's (``.NAME.recording-PID``), see
:mod:`livedump.trace.checkpoint`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from livedump.recording import journal, store
from livedump.recording.errors import RecordingError
from livedump.recording.meta import problem
from livedump.recording.schema import META, MINOR, PARTIAL, SCHEMA, TABLES
from livedump.recording.store import Recording
from livedump.recording.to_rows import journal_tables

FILE = "checkpoint.json"
MADE = ".recording-"

#: A folder that has changed this recently may be in use, by a process that is not among ours: in a
#: guest or a container that shares the disk.
SETTLED_S = 60.0

_STEP = "recover recording"


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


def open_recording(path: Path) -> Recording:
    """Read a recording; what a killed recorder has left of it is made one first.

    :raises RecordingError: see :func:`recover` and :func:`livedump.recording.store.read`
    """
    recover(path)
    return store.read(path)


def leftovers(path: Path) -> Iterator[Path]:
    """Folders of the recording *path* that recorders have left, or still write to."""
    prefix = f".{path.name}{MADE}"
    if not path.parent.is_dir():
        return
    for folder in sorted(path.parent.glob(f"{glob.escape(prefix)}*")):
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
        if data.get("schema") != SCHEMA:
            raise store.other_schema(folder, data.get("schema"))
        meta, tables = data["meta"], data["tables"]
        names = {int(number): name for number, name in data["stack_names"].items()}
        slice_ns, clocks = int(meta["slice_ns"]), meta["clocks"]
        # The journal goes on after the last checkpoint.
        end_ns = clocks["start"]["monotonic_ns"] + (journal.last_slice(folder) + 1) * slice_ns
        clocks["end"]["monotonic_ns"] = max(clocks["end"]["monotonic_ns"], end_ns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{folder / FILE} is damaged: {error}", step=_STEP) from error
    if wrong := problem({**meta, "minor": MINOR, "tables": {}}):
        raise RecordingError(f"{folder / FILE} is damaged: {wrong}", step=_STEP)
    rows = {**tables, **journal_tables(folder, slice_ns, names)}
    store.write(path, meta, rows, force=force)
    shutil.rmtree(folder, ignore_errors=True)


def remove_partials(parent: Path, proc: Path = Path("/proc")) -> list[Path]:
    """Remove half-written recordings in *parent* whose process is gone; returns them.

    A folder with anything else in it is somebody's, whatever it is called.
    """
    own = {META, *(f"{name}.parquet" for name in TABLES)}
    removed = []
    for folder in sorted(parent.glob(f".*{PARTIAL}*")):
        pid = folder.name.rpartition(PARTIAL)[2]
        if not pid.isdecimal() or (proc / pid).exists() or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            files = {file.name for file in folder.iterdir()}
            if files <= own and time.time() - folder.stat().st_mtime > SETTLED_S:
                shutil.rmtree(folder)
                removed.append(folder)
    return removed
