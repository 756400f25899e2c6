"""What can be asked in SQL: recordings, folders of them, and data sets."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from livedump.analysis import dataset
from livedump.errors import LivedumpError
from livedump.recording import store
from livedump.recording.errors import RecordingError
from livedump.recording.losses import LOSSES
from livedump.recording.schema import META

STEP = "query"


class QueryError(LivedumpError):
    """The SQL is wrong, or there is nothing to ask."""


@dataclass(frozen=True)
class Sources:
    """What can be asked.

    :ivar recordings: folder -> its meta.json
    :ivar datasets: folder -> the recordings in it
    :ivar files: table -> its files in data sets
    :ivar skipped: recording, folder, or file of a data set, that could not be read -> why
    """

    recordings: dict[Path, dict[str, Any]]
    datasets: dict[Path, list[dataset.Member]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[Path, RecordingError] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """How many recordings, and files of data sets, are read."""
        files = {file for files in self.files.values() for file in files}
        members = [member.file for members in self.datasets.values() for member in members]
        return len(self.recordings) + len(files.union(members))

    def losses(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Of each recording, as its recorder has added them up: its name, and what it has lost."""
        for folder, meta in self.recordings.items():
            known = all(name in meta for name in LOSSES)
            counts = {name: int(meta[name]) for name in LOSSES} if known else None
            yield str(folder), counts or store.read_losses(folder)
        for folder, members in self.datasets.items():
            for member in members:
                yield f"{folder}: {member.recording_id}", member.losses


@dataclass(frozen=True)
class Found:
    """What names stand for.

    :ivar paths: recordings and data sets, each of them once
    :ivar skipped: what could not be looked into -> why
    """

    paths: list[Path] = field(default_factory=list)
    skipped: dict[Path, RecordingError] = field(default_factory=dict)


def expand(names: Iterable[str]) -> Found:
    """Recordings and data sets by name: a folder that is neither stands for all that are below it,
    and so does a pattern that the shell left alone for those that it matches.

    A link below a folder stands for what it points to if that is one of them: other folders are
    not searched through links.

    :raises QueryError: a pattern matches nothing
    """
    paths: list[Path] = []
    skipped: dict[Path, RecordingError] = {}
    for name in names:
        if not glob.has_magic(name) or os.path.lexists(name):
            before = len(skipped)
            below = _below(Path(name), skipped)
            paths += below or ([Path(name)] if len(skipped) == before else [])
            continue
        before = len(paths) + len(skipped)
        for match in sorted(glob.glob(name)):
            paths += _below(Path(match), skipped)
        if len(paths) + len(skipped) == before:
            raise QueryError(f"no recording matches {name}", step=STEP)
    once: dict[str, Path] = {}
    for path in paths:
        once.setdefault(os.path.realpath(path), path)
    return Found([*once.values()], skipped)


def _below(path: Path, skipped: dict[Path, RecordingError]) -> list[Path]:
    """What a name stands for; a recorder's own folders are hidden."""

    def failed(error: OSError) -> None:
        where = Path(error.filename)
        if where != path or path.is_dir():
            skipped[where] = _unreadable(where, error)

    if _is_source(path, skipped):
        return [path]
    own: list[Path] = []
    linked: list[Path] = []
    for where, folders, files in os.walk(path, onerror=failed) if path not in skipped else ():
        here = Path(where)
        if here != path and _is_source(here, skipped):
            own.append(here)
        if here in skipped or here in own[-1:]:
            folders.clear()
            continue
        visible = [here / name for name in (*folders, *files) if not name.startswith(".")]
        linked += [each for each in visible if os.path.islink(each) and _is_source(each, skipped)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(own) + sorted(linked)


def _is_source(path: Path, skipped: dict[Path, RecordingError]) -> bool:
    try:
        return (path / META).is_file() or dataset.is_one(path)
    except OSError as error:
        skipped[path] = _unreadable(path, error)
        return False


def _unreadable(path: Path, error: OSError) -> RecordingError:
    return store.damaged(f"{path}: {error.strerror or error}", error)


def readable(
    paths: Sequence[Path],
    tables: Sequence[str],
    *,
    strict: bool = False,
    skipped: Mapping[Path, RecordingError] = MappingProxyType({}),
) -> Sources:
    """Which of them have all of *tables*.

    :param strict: all must
    :param skipped: what has been left out already
    :raises RecordingError: one has not and must; or none has
    """
    found = Sources({}, files={table: [] for table in tables})
    for path, error in skipped.items():
        _skip(found, path, error, strict=strict)
    for path in paths:
        try:
            if dataset.is_one(path):
                _look_at_dataset(found, path, strict=strict)
            else:
                found.recordings[path] = store.check(path, tables)
        except RecordingError as error:
            _skip(found, path, error, strict=strict)
        except OSError as error:
            _skip(found, path, _unreadable(path, error), strict=strict)
    if found.skipped and not found.recordings and not any(found.datasets.values()):
        raise next(iter(found.skipped.values()))
    return found


def _look_at_dataset(found: Sources, folder: Path, *, strict: bool) -> None:
    """Which of its recordings, and which files of theirs, are whole."""

    def failed(error: OSError) -> None:
        where = Path(error.filename)
        _skip(found, where, _unreadable(where, error), strict=strict)

    def names(table: str) -> list[Path]:
        return [file.relative_to(folder / table) for file in dataset.files(folder, table, failed)]

    members: dict[Path, dataset.Member | None] = {}
    for name in names("recordings"):
        file = folder / "recordings" / name
        members[name] = None
        try:
            members[name] = dataset.member(file)
        except RecordingError as error:
            _skip(found, file, error, strict=strict)
    found.datasets[folder] = list(filter(None, members.values()))
    for table, files in found.files.items():
        for name in sorted({*names(table), *members}):
            file = folder / table / name
            if name in members and members[name] is None:
                continue  # its recording is left out, and counted, already
            try:
                if dataset.check(file, table, members.get(name)):
                    files.append(file)
            except RecordingError as error:
                _skip(found, file, error, strict=strict)


def _skip(found: Sources, path: Path, error: RecordingError, *, strict: bool) -> None:
    if strict:
        raise error
    found.skipped[path] = error
