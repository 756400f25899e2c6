"""SQL over one or many recordings, by DuckDB.

Every table of :data:`livedump.recording.schema.TABLES` is a view over all recordings given, with
their folder as column ``recording``; the view ``recordings`` has what each meta.json says.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.errors import LivedumpError
from livedump.recording import store
from livedump.recording.schema import META, TABLES

STEP = "query"
REMEDY = f"Tables: recordings, {', '.join(TABLES)}; DESCRIBE TABLE shows the columns of one"

#: Columns of the view ``recordings``.
META_COLUMNS = {
    "recording": "VARCHAR",
    "host": "VARCHAR",
    "boot_id": "VARCHAR",
    "kernel": "VARCHAR",
    "start_realtime_ns": "BIGINT",
    "start_monotonic_ns": "BIGINT",
    "duration_ns": "BIGINT",
    "command": "VARCHAR",
    "command_status": "INTEGER",
    "losses_total": "BIGINT",
}


class QueryError(LivedumpError):
    """The SQL is wrong, or there is nothing to ask."""


@dataclass(frozen=True)
class Result:
    """Names of the columns, and the rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no timestamps, decimals or blobs: as text; nor NaN: as null."""
        return {"columns": list(self.columns), "rows": [[_json(v) for v in r] for r in self.rows]}


def _json(value: Any) -> Any:
    """*value* as JSON can have it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _json(part) for key, part in value.items()}
    return value if isinstance(value, str | int | None) else str(value)


def expand(names: Iterable[str]) -> list[Path]:
    """Folders by name; a pattern that the shell left alone stands for all recordings it matches.

    :raises QueryError: a pattern matches nothing
    """
    found: list[Path] = []
    for name in names:
        if not glob.has_magic(name) or Path(name).exists():
            found.append(Path(name))
            continue
        matches = [Path(match) for match in sorted(glob.glob(name))]
        matches = [match for match in matches if (match / META).is_file()]
        if not matches:
            raise QueryError(f"no recording matches {name}", step=STEP)
        found += matches
    return list(dict.fromkeys(found))


def query(sql: str, folders: Sequence[Path]) -> Result:
    """Run *sql* over the recordings in *folders*.

    :raises QueryError: the SQL is wrong
    :raises livedump.trace.errors.RecordingError: a folder is no recording, or a damaged one
    """
    import duckdb

    metas = {folder: store.check(folder) for folder in folders}
    if not sql.strip():
        raise QueryError("no SQL", step=STEP, remedy=REMEDY)
    with duckdb.connect() as database:
        try:
            _add_recordings(database, metas)
            for table in TABLES:
                _add_view(database, table, folders)
            database.execute(sql)
            columns = tuple(column[0] for column in database.description or ())
            return Result(columns, database.fetchall())
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise QueryError(str(error), step=STEP, remedy=REMEDY) from error
        except (duckdb.Error, UnicodeError) as error:
            for folder in folders:  # DuckDB does not always say which file is damaged
                store.check(folder, whole=True)
            raise QueryError(str(error), step=STEP, remedy=REMEDY) from error


def _add_recordings(database: Any, metas: dict[Path, dict[str, Any]]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in META_COLUMNS.items())
    database.execute(f"CREATE TABLE recordings ({columns})")
    places = ", ".join("?" * len(META_COLUMNS))
    database.executemany(
        f"INSERT INTO recordings VALUES ({places})",
        [_meta_row(folder, meta) for folder, meta in metas.items()],
    )


def _meta_row(folder: Path, meta: dict[str, Any]) -> list[Any]:
    start, end = meta["clocks"]["start"], meta["clocks"]["end"]
    command = meta["command"]
    return [
        str(folder),
        meta["host"],
        meta["boot_id"],
        meta["kernel"]["release"],
        start["realtime_ns"],
        start["monotonic_ns"],
        end["monotonic_ns"] - start["monotonic_ns"],
        " ".join(command["argv"]) if command else None,
        command["status"] if command else None,
        meta["losses_total"],
    ]


def _add_view(database: Any, table: str, folders: Sequence[Path]) -> None:
    """One SELECT for each recording: a folder's name may hold what a file pattern would not."""
    parts = [
        f"SELECT {_text(str(folder))} AS recording, * "
        f"FROM read_parquet({_text(glob.escape(str(folder / f'{table}.parquet')))})"
        for folder in folders
    ]
    database.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(parts)}")


def _text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"
