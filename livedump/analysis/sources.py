"""What can be asked in SQL: recordings, folders of them, and data sets."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    :ivar datasets: folders
    :ivar files: table -> its files in data sets
    :ivar skipped: recording, or file of a data set, that could not be read -> why
    """

    recordings: dict[Path, dict[str, Any]]
    datasets: tuple[Path, ...] = ()
    files: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[Path, RecordingError] = field(default_factory=dict)

    def losses(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Of each recording, as its recorder has added them up: its name, and what it has lost."""
        for folder, meta in self.recordings.items():
            known = all(name in meta for name in LOSSES)
            counts = {name: int(meta[name]) for name in LOSSES} if known else None
            yield str(folder), counts or store.read_losses(folder)
        for folder in self.datasets:
            for number, counts in dataset.losses(folder, LOSSES):
                yield f"{folder}: {number}", counts


def expand(names: Iterable[str]) -> list[Path]:
    """Recordings and data sets by name: a folder that is neither stands for all recordings below
    it, and so does a pattern that the shell left alone for those that it matches.

    :raises QueryError: a pattern matches nothing
    """
    found: list[Path] = []
    for name in names:
        if not glob.has_magic(name) or Path(name).exists():
            found += _below(Path(name)) or [Path(name)]
            continue
        matches = [path for match in sorted(glob.glob(name)) for path in _below(Path(match))]
        if not matches:
            raise QueryError(f"no recording matches {name}", step=STEP)
        found += matches
    return list(dict.fromkeys(found))


def _below(path: Path) -> list[Path]:
    """What a name stands for; a recorder's own folders are hidden."""
    if (path / META).is_file() or dataset.is_one(path):
        return [path]
    metas = sorted(path.rglob(META)) if path.is_dir() else []
    folders = [file.parent for file in metas if file.is_file()]
    return [
        folder
        for folder in folders
        if not any(part.startswith(".") for part in folder.relative_to(path).parts)
    ]


def readable(paths: Sequence[Path], tables: Sequence[str], *, strict: bool = False) -> Sources:
    """Which of them have all of *tables*.

    :param strict: all must
    :raises RecordingError: one has not and must; or none has
    """
    found = Sources({}, tuple(filter(dataset.is_one, paths)), {table: [] for table in tables})
    for path in paths:
        if path in found.datasets:
            _look_at_files(found, path, strict=strict)
            continue
        try:
            found.recordings[path] = store.check(path, tables)
        except RecordingError as error:
            _skip(found, path, error, strict=strict)
    if found.skipped and not found.recordings and not found.datasets:
        raise next(iter(found.skipped.values()))
    return found


def _look_at_files(found: Sources, folder: Path, *, strict: bool) -> None:
    for table, files in found.files.items():
        for file in dataset.files(folder, table):
            try:
                store.check_file(file, table)
                files.append(file)
            except RecordingError as error:
                _skip(found, file, error, strict=strict)


def _skip(found: Sources, path: Path, error: RecordingError, *, strict: bool) -> None:
    if strict:
        raise error
    found.skipped[path] = error
