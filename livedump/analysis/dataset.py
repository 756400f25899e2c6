"""A data set: many recordings as one folder of Parquet files, ``TABLE/date=YYYY-MM-DD/ID.parquet``,
which DuckDB, Spark, Polars or pandas read as tables with the partition column ``date``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livedump.analysis.files import ExportError, opened, refuse_recording
from livedump.recording import store
from livedump.recording.about import utc
from livedump.recording.losses import LOSSES
from livedump.recording.schema import TABLES

STEP = "export"

_REMEDY = "Export the recording to the data set once more"


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
    # Last what makes it one of the data set's: half of a recording is none.
    for table in [*(name for name in TABLES if name != "recordings"), "recordings"]:
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
    return next((folder / "recordings").glob("date=*/*.parquet"), None) is not None


def files(folder: Path, table: str, onerror: Callable[[OSError], None]) -> list[Path]:
    """Files of a table, in order; none where there is no folder of the table."""
    top, found = str(folder / table), []

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            onerror(error)

    for where, days, names in os.walk(top, onerror=failed, followlinks=True):
        days[:] = [day for day in days if where == top and day.startswith("date=")]
        found += [Path(where, name) for name in names if where != top and _is_file(name)]
    return sorted(found)


def _is_file(name: str) -> bool:
    """No hidden one: what is still being written."""
    return name.endswith(".parquet") and not name.startswith(".")


@dataclass(frozen=True)
class Member:
    """A recording in a data set, as its row of the table ``recordings`` has it.

    :ivar file: that has the row
    :ivar rows: table -> how many it has, where that is known
    :ivar losses: as :func:`livedump.recording.losses.count_losses` has them
    """

    file: Path
    recording_id: str
    rows: dict[str, int]
    losses: dict[str, int]


def member(file: Path) -> Member:
    """Which recording a file of the table ``recordings`` is about.

    :raises RecordingError: it is damaged
    """
    import pyarrow.parquet

    store.check_file(file, "recordings")
    columns = ["recording_id", "meta", *LOSSES]
    try:
        with pyarrow.parquet.ParquetFile(file) as source:
            [row] = source.read(columns=columns).to_pylist()
        rows = {name: int(rows) for name, rows in json.loads(row["meta"])["tables"].items()}
        losses = {name: int(row[name] or 0) for name in LOSSES}
        return Member(file, str(row["recording_id"]), rows, losses)
    except (OSError, pyarrow.ArrowException) as error:
        raise store.damaged(f"{file} is damaged: {error}", error) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise store.damaged(f"{file} is damaged: it is not the row of a recording") from error


def check(file: Path, table: str, of: Member | None) -> bool:
    """Whether a recording has a file of a table in a data set, which then is whole.

    :param of: the recording; None: the data set does not have it
    :raises RecordingError: the file, or a part of it, is missing
    """
    if of is None:
        raise store.damaged(f"{file} is of a recording that is not whole here", remedy=_REMEDY)
    expected, there = of.rows.get(table), os.path.lexists(file)
    rows = store.check_file(file, table) if there else 0
    if expected is not None and rows != expected:
        found = f"has {rows}" if there else "is missing"
        raise store.damaged(f"{file} {found}: {table} has {expected} rows", remedy=_REMEDY)
    return there
