"""SQL over one or many recordings, by DuckDB.

Every table of :data:`livedump.recording.schema.TABLES` is a view over all recordings given, with
their folder as column ``recording``; the view ``recordings`` has what each meta.json says.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.errors import LivedumpError
from livedump.recording import store
from livedump.recording.errors import RecordingError
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


#: Rows that are in memory at a time.
_ROWS = 4096

#: Larger whole numbers are not exact in most readers of JSON.
_EXACT = 1 << 53


@dataclass(frozen=True)
class Folders:
    """Recordings that can be asked.

    :ivar metas: of each
    :ivar skipped: folders that could not be read -> why
    """

    metas: dict[Path, dict[str, Any]]
    skipped: dict[Path, RecordingError]


class Answer:
    """What a question came to; its rows come as they are asked for, once.

    :ivar columns: names
    """

    def __init__(self, database: Any, folders: Folders) -> None:
        self.columns = tuple(column[0] for column in database.description or ())
        self._database = database
        self._folders = folders

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while rows := self._fetch():
            yield from rows

    def _fetch(self) -> list[tuple[Any, ...]]:
        with _own_errors(self._folders):
            rows: list[tuple[Any, ...]] = self._database.fetchmany(_ROWS)
            return rows


def json_row(row: Sequence[Any]) -> list[Any]:
    """For JSON, which knows no timestamps, decimals or blobs: as text; nor NaN: as null. Numbers of
    64 bits are text, too, where they would not be exact."""
    return [_json(value) for value in row]


def _json(value: Any) -> Any:
    """*value* as JSON can have it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _json(part) for key, part in value.items()}
    if isinstance(value, int) and not -_EXACT < value < _EXACT:
        return str(value)
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


def readable(folders: Sequence[Path], sql: str, *, strict: bool = False) -> Folders:
    """Which of the folders have all that *sql* asks for.

    :param strict: all must
    :raises RecordingError: one has not and must; or none has
    """
    tables = _tables(sql)
    metas: dict[Path, dict[str, Any]] = {}
    skipped: dict[Path, RecordingError] = {}
    for folder in folders:
        try:
            metas[folder] = store.check(folder, tables)
        except RecordingError as error:
            if strict:
                raise
            skipped[folder] = error
    if skipped and not metas:
        raise next(iter(skipped.values()))
    return Folders(metas, skipped)


@contextmanager
def ask(sql: str, folders: Folders) -> Iterator[Answer]:
    """Run *sql* over the recordings. It can only select: it writes nothing.

    :raises QueryError: the SQL is wrong, or more than a question
    :raises livedump.recording.errors.RecordingError: a recording is damaged
    """
    with _database(sql, folders) as database:
        with _own_errors(folders):
            database.execute(sql)
        yield Answer(database, folders)


def write_parquet(sql: str, folders: Folders, file: Path) -> int:
    """The answer as a Parquet file, which must not be there yet; returns the number of rows.

    :raises QueryError: see :func:`ask`, or the file is there, or cannot be written
    """
    if os.path.lexists(file):
        raise QueryError(f"{file} exists", step=STEP, remedy="Give another --output")
    partial = file.with_name(f".{file.name}.partial-{os.getpid()}")
    umask = os.umask(0o077)
    try:
        with _database(sql, folders) as database, _own_errors(folders):
            question = f"({sql.strip().rstrip(';')})"
            target = f"{_text(str(partial))} (FORMAT parquet, COMPRESSION zstd)"
            [(rows,)] = database.execute(f"COPY {question} TO {target}").fetchall()
        partial.rename(file)
    except OSError as error:
        raise QueryError(f"{file}: {error.strerror or error}", step=STEP) from error
    finally:
        os.umask(umask)
        partial.unlink(missing_ok=True)
    return int(rows)


@contextmanager
def _database(sql: str, folders: Folders) -> Iterator[Any]:
    """With a view for each table that the SQL names, each of them one scan."""
    import duckdb

    _check_selects(sql)
    with duckdb.connect() as database:
        _add_recordings(database, folders.metas)
        for table in _tables(sql):
            _add_view(database, table, [*folders.metas])
        yield database


def _check_selects(sql: str) -> None:
    """Nothing else than a SELECT: COPY, EXPORT or ATTACH would write files."""
    import duckdb

    if not sql.strip():
        raise QueryError("no SQL", step=STEP, remedy=REMEDY)
    try:
        sql.encode()  # DuckDB's own complaint is about arguments
        statements = duckdb.extract_statements(sql)
    except (duckdb.Error, UnicodeError) as error:
        raise QueryError(str(error), step=STEP, remedy=REMEDY) from error
    for statement in statements:
        if statement.type != duckdb.StatementType.SELECT:
            raise QueryError(
                f"{statement.type.name} is no question: nothing is changed or written here",
                step=STEP,
                remedy="Use SELECT; --csv, --json and --output write what it finds",
            )


def _tables(sql: str) -> list[str]:
    """Tables of recordings whose names are in the SQL; one too many costs a look at a footer."""
    words = {word.lower() for word in re.findall(r"\w+", sql)}
    return [table for table in TABLES if table in words]


@contextmanager
def _own_errors(folders: Folders) -> Iterator[None]:
    """DuckDB's errors as ours."""
    import duckdb

    try:
        yield
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        raise QueryError(str(error), step=STEP, remedy=REMEDY) from error
    except (duckdb.Error, UnicodeError) as error:
        for folder in folders.metas:  # DuckDB does not always say which file is damaged
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
    """A folder's name may hold what a file pattern would not."""
    name = f"/{table}.parquet"
    files = ", ".join(_text(glob.escape(f"{folder}{name}")) for folder in folders)
    database.execute(
        f"CREATE VIEW {table} AS "
        f"SELECT filename[:-{len(name) + 1}] AS recording, * EXCLUDE (filename) "
        f"FROM read_parquet([{files}], union_by_name = true, filename = true)"
    )


def _text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"
