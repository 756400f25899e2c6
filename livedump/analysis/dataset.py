"""A data set: many recordings as one folder of Parquet files, ``TABLE/date=YYYY-MM-DD/ID.parquet``,
which DuckDB, Spark, Polars or pandas read as tables with the partition column ``date``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from livedump.analysis.files import ExportError, opened, refuse_recording
from livedump.recording import store
from livedump.recording.about import utc
from livedump.recording.schema import TABLES

STEP = "export"


def add(folder: Path, target: Path) -> list[Path]:
    """Add a recording. Adding it twice changes nothing; a table without a row has no file.

    :param folder: the recording
    :returns: the files
    :raises ExportError: a file could not be written
    """
    meta = store.check(folder)
    refuse_recording(target, target, step=STEP)
    day = utc(meta["clocks"]["start"]["realtime_ns"]).date().isoformat()
    written = []
    for table in TABLES:
        file = target / table / f"date={day}" / f"{meta['recording_id']}.parquet"
        if meta["tables"][table]:
            _copy(folder / f"{table}.parquet", file)
            written.append(file)
    return written


def _copy(source: Path, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as content, opened(file, step=STEP) as out:
            shutil.copyfileobj(content, out)
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror}", step=STEP) from error


def is_one(folder: Path) -> bool:
    """Whether a folder is a data set."""
    return next(files(folder, "recordings"), None) is not None


def files(folder: Path, table: str) -> Iterator[Path]:
    """Files of a table, in order."""
    return iter(sorted((folder / table).glob("date=*/*.parquet")))


def losses(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Of each recording in a data set: its number, and what it has lost.

    :param names: columns of the table ``recordings``
    """
    import pyarrow.parquet

    for file in files(folder, "recordings"):
        table = pyarrow.parquet.ParquetFile(file).read(columns=["recording_id", *names])
        for row in table.to_pylist():
            yield row.pop("recording_id"), {name: int(row[name] or 0) for name in names}
