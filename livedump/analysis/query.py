"""SQL over one or many recordings, by DuckDB.

Every table of :data:`livedump.recording.schema.TABLES` is a view over all recordings given, with
the column ``recording``: their folder, or in a data set their number.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from livedump.analysis.files import refuse_recording
from livedump.analysis.sources import STEP, QueryError, Sources
from livedump.recording import store
from livedump.recording.schema import FLAG, FLOAT, INT, MINOR, TABLES, TEXT, TIME, columns

REMEDY = f"Tables: {', '.join(TABLES)}; DESCRIBE TABLE shows the columns of one"

_SQL_TYPES = {
    **{INT: "BIGINT", FLOAT: "DOUBLE", TEXT: "VARCHAR", FLAG: "BOOLEAN"},
    TIME: "TIMESTAMP WITH TIME ZONE",
}

#: No code comes from elsewhere, no table from our own variables.
_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}

#: Rows that are in memory at a time.
_ROWS = 4096

#: Larger whole numbers are not exact in most readers of JSON.
_EXACT = 1 << 53


class Answer:
    """What a question came to; its rows come as they are asked for, once.

    :ivar columns: names
    """

    def __init__(self, database: Any, sources: Sources) -> None:
        self.columns = tuple(column[0] for column in database.description or ())
        self._database = database
        self._sources = sources

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while rows := self._fetch():
            yield from rows

    def _fetch(self) -> list[tuple[Any, ...]]:
        with _own_errors(self._sources):
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


@contextmanager
def ask(sql: str, sources: Sources) -> Iterator[Answer]:
    """Run *sql* over the recordings. It can only select: it writes nothing.

    :raises QueryError: the SQL is wrong, or more than a question
    :raises livedump.recording.errors.RecordingError: a recording is damaged
    """
    statement = _question(sql)
    with _database(sql, sources) as database:
        with _own_errors(sources):
            database.execute(statement)
        yield Answer(database, sources)


def write_parquet(sql: str, sources: Sources, file: Path) -> int:
    """The answer as a Parquet file, which must not be there yet; returns the number of rows.

    :raises QueryError: see :func:`ask`, or the file is there, or cannot be written
    :raises livedump.analysis.files.ExportError: it would lie in a recording
    """
    for folder in (file.parent, Path(os.path.realpath(file)).parent):
        refuse_recording(folder, file, step=STEP)
    if os.path.lexists(file):
        raise QueryError(f"{file} exists", step=STEP, remedy="Give another --output")
    partial = file.with_name(f".{file.name}.partial-{os.getpid()}")
    umask = os.umask(0o077)
    try:
        question = _text(_question(sql).query)  # query() knows about a last semicolon or comment
        target = f"{_text(str(partial))} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        with _database(sql, sources, partial) as database, _own_errors(sources):
            copy = f"COPY (FROM query({question})) TO {target}"
            [(rows,)] = database.execute(copy).fetchall()
        partial.rename(file)
    except OSError as error:
        raise QueryError(f"{file}: {error.strerror or error}", step=STEP) from error
    finally:
        os.umask(umask)
        partial.unlink(missing_ok=True)
    return int(rows)


@contextmanager
def _database(sql: str, sources: Sources, output: Path | None = None) -> Iterator[Any]:
    """With a view for each table that the SQL names, each of them one scan."""
    import duckdb

    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(TemporaryDirectory(prefix="livedump-query-"))
        except OSError as error:
            raise QueryError(f"no folder for temporary files: {error}", step=STEP) from error
        config = {**_CONFIG, "temp_directory": temporary}
        database = stack.enter_context(duckdb.connect(config=config))
        tables = tables_of(sql)
        files = [file for table in tables for file in _files(table, sources)]
        with _own_errors(sources):
            _confine(database, files, output)
        for table in tables:
            _add_view(database, table, sources)
        yield database


def _files(table: str, sources: Sources) -> list[str]:
    own = [f"{folder}/{table}.parquet" for folder in sources.recordings]
    return [*own, *map(str, sources.files[table])]


def _confine(database: Any, files: list[str], output: Path | None) -> None:
    """Nothing but *files* can be read, and nothing but *output* written, whatever functions DuckDB
    has; and a time is the same whoever reads it, wherever."""
    # By file, as DuckDB would not follow links out of a folder; and as :func:`_scan` has them.
    paths = [*files, *map(glob.escape, files), *([] if output is None else [str(output)])]
    database.execute(f"SET allowed_paths = {_list(paths)}")
    database.execute("SET enable_external_access = false")
    database.execute("SET TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")


def _question(sql: str) -> Any:
    """The statement, which must be one, and a SELECT: COPY, EXPORT or ATTACH would write files."""
    import duckdb

    try:
        sql.encode()  # DuckDB's own complaint is about arguments
        statements = duckdb.extract_statements(sql)
    except (duckdb.Error, UnicodeError) as error:
        raise QueryError(str(error), step=STEP, remedy=REMEDY) from error
    if not statements:
        raise QueryError("no SQL", step=STEP, remedy=REMEDY)
    for statement in statements:
        if statement.type != duckdb.StatementType.SELECT:
            raise QueryError(
                f"{statement.type.name} is no question: nothing is changed or written here",
                step=STEP,
                remedy="Use SELECT; --csv, --json and --output write what it finds",
            )
    if len(statements) > 1:
        raise QueryError(
            f"{len(statements)} questions", step=STEP, remedy="Ask one SELECT at a time"
        )
    return statements[0]


def tables_of(sql: str) -> list[str]:
    """Tables of recordings whose names are in the SQL; one too many costs a look at a footer."""
    words = {word.lower() for word in re.findall(r"\w+", sql)}
    return [table for table in TABLES if table in words]


@contextmanager
def _own_errors(sources: Sources) -> Iterator[None]:
    """DuckDB's errors as ours."""
    import duckdb

    try:
        yield
    except (
        *(duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException),
        duckdb.PermissionException,
    ) as error:
        raise QueryError(str(error), step=STEP, remedy=REMEDY) from error
    except (duckdb.Error, UnicodeError) as error:
        for folder in sources.recordings:  # DuckDB does not always say which file is damaged
            store.check(folder, whole=True)
        raise QueryError(str(error), step=STEP, remedy=REMEDY) from error


def _add_view(database: Any, table: str, sources: Sources) -> None:
    """A folder's name may hold what a file pattern would not."""
    name = f"/{table}.parquet"
    minors = {meta["minor"] for meta in sources.recordings.values()}
    parts = [
        _scan(
            table,
            f"filename[:-{len(name) + 1}]",
            [f"{folder}{name}" for folder in sources.recordings],
            # To find the columns of each file is a second look at all of them.
            by_name=bool(minors - {MINOR}),
        ),
        _scan(table, "recording_id", map(str, sources.files[table]), by_name=True),
    ]
    database.execute(
        f"CREATE VIEW {table} AS " + (" UNION ALL ".join(filter(None, parts)) or _no_rows(table))
    )


def _scan(table: str, recording: str, files: Iterable[str], *, by_name: bool) -> str:
    """A SELECT of the table's columns; empty where there is no file."""
    patterns = [glob.escape(file) for file in files]
    if not patterns:
        return ""
    return (
        f"SELECT {recording} AS recording, {', '.join(columns(table))} FROM read_parquet("
        f"{_list(patterns)}, union_by_name = {by_name}, filename = true, hive_partitioning = false)"
    )


def _no_rows(table: str) -> str:
    """Of a table of which no data set has a row."""
    nulls = ", ".join(
        f"NULL::{_SQL_TYPES[about.type]} AS {name}" for name, about in columns(table).items()
    )
    return f"SELECT NULL::VARCHAR AS recording, {nulls} WHERE false"


def _list(values: Iterable[str]) -> str:
    """An SQL list of strings."""
    return f"[{', '.join(map(_text, values))}]"


def _text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"
