"""A recording on disk: a folder with ``meta.json`` and one Parquet file for each table.

DuckDB, pandas or Spark read it without us; every table says which recording, machine and boot it
is of, so that many can be joined. A folder gets its final name only when it is whole: without a
readable meta.json it is no recording.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.recording import arrow, values
from livedump.recording.about import about
from livedump.recording.errors import RecordingError
from livedump.recording.losses import count_losses
from livedump.recording.meta import lasted_ns, problem
from livedump.recording.schema import (
    FORMAT,
    LARGE,
    META,
    MINOR,
    PARTIAL,
    SCHEMA,
    TABLES,
    Row,
    Table,
)

#: Of a recording's name: beside it lie folders whose names are somewhat longer, of 255 at most.
MOST_BYTES = 220

_WRITE = "write recording"
_READ = "read recording"


@dataclass(frozen=True)
class Recording:
    """A recording in memory: meta.json, and the rows of each table but those of :data:`LARGE` and
    ``recordings``, whose one row says what *meta* says. Rows have no columns of
    :data:`livedump.recording.schema.WHERE`, which are the same in all of them, and times as text.
    """

    meta: dict[str, Any]
    tables: dict[str, list[Row]]
    path: Path | None = None

    @property
    def lasted_ns(self) -> int:
        """How long it lasted."""
        return lasted_ns(self.meta)

    def columns(self, name: str, only: Sequence[str] | None = None) -> Any:
        """A table of :data:`LARGE`, as pyarrow has it.

        :param only: these columns, in this order; None: all
        :raises RecordingError: it is missing, damaged, or not all there
        """
        if self.path is None:
            raise RecordingError(f"no table {name} in memory", step=_READ)
        return _read_table(self.path, name, self.meta, only)

    def batches(self, name: str, only: Sequence[str]) -> Iterator[Any]:
        """Some columns of a table of :data:`LARGE`, in parts as pyarrow has them, in this order.

        :raises RecordingError: it is missing, damaged, or not all there
        """
        if self.path is None:
            raise RecordingError(f"no table {name} in memory", step=_READ)
        yield from _read_batches(self.path, name, self.meta, only)


def check_output(path: Path, *, force: bool) -> None:
    """Raise unless a recording may be written to *path*.

    With *force* an empty folder or an older recording may be replaced, and nothing else.

    :raises RecordingError: with the reason
    """
    if not path.parent.is_dir():
        raise RecordingError(f"{path.parent} is not a folder", step=_WRITE)
    if len(os.fsencode(path.name)) > MOST_BYTES:
        raise RecordingError(
            f"{path.name} is too long for a name",
            step=_WRITE,
            remedy=f"Give one of at most {MOST_BYTES} bytes",
        )
    if not os.path.lexists(path):
        return
    if not force:
        raise RecordingError(
            f"{path} exists", step=_WRITE, remedy="Choose another -o, or replace it with --force"
        )
    replaceable = path.is_dir() and not path.is_symlink()
    if not replaceable or (any(path.iterdir()) and not looks_like_one(path)):
        raise RecordingError(f"{path} exists and is not a recording", step=_WRITE)


def write(
    path: Path,
    meta: Mapping[str, Any],
    tables: Mapping[str, Table],
    *,
    force: bool = False,
) -> None:
    """Write a recording; *path* appears when everything is on disk.

    :param meta: ``format``, ``schema``, ``minor`` and ``tables`` are added
    :param tables: without the columns that say where it is from, or that follow from others; a
        table that is left out is written empty
    :raises RecordingError: nothing is left behind then
    """
    check_output(path, force=force)
    partial = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    try:
        partial.mkdir(mode=0o700)  # addresses of the kernel are in there
        rows = {"recordings": 1}
        whole = {"format": FORMAT, "schema": SCHEMA, "minor": MINOR, **meta, "tables": rows}
        for name in [name for name in TABLES if name != "recordings"]:
            rows[name] = _write_table(
                partial / f"{name}.parquet", name, tables.get(name, ()), whole
            )
        # Its row has meta.json, with the rows of all tables: a data set is checked by them.
        _write_table(partial / "recordings.parquet", "recordings", [about(whole)], whole)
        with (partial / META).open("w") as out:
            json.dump(whole, out, indent=2)
            out.write("\n")
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        if path.exists():
            old = path.with_name(f".{path.name}.old-{os.getpid()}")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}", step=_WRITE) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_table(path: Path, name: str, content: Sequence[Row]) -> None:
    """Write one table of a recording anew, with as many rows.

    :raises RecordingError: it cannot be written; the old one stays then
    """
    meta = read_meta(path)
    if len(content) != meta["tables"].get(name):
        raise ValueError(f"{name} has {meta['tables'].get(name)} rows, not {len(content)}")
    fresh = path / f".{name}.parquet.new"
    try:
        _write_table(fresh, name, content, meta)
        _sync(fresh)
        fresh.replace(path / f"{name}.parquet")
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise RecordingError(f"{path}: {error.strerror or error}", step=_WRITE) from error


def read(path: Path) -> Recording:
    """Read and check a recording.

    :raises RecordingError: it is missing, foreign, cut short, or of another schema
    """
    meta = read_meta(path)
    tables = {}
    for name in TABLES:
        if name in LARGE or name == "recordings":
            _look_at_table(path, name, meta)
        else:
            tables[name] = _read_rows(path, name, meta)
    return Recording(meta, tables, path)


def check(
    path: Path, tables: Iterable[str] = tuple(TABLES), *, whole: bool = False
) -> dict[str, Any]:
    """meta.json of a recording whose tables are there, with all their columns and rows.

    :param tables: these; the others may be anything
    :param whole: read every value, too
    :raises RecordingError: names the table that is not
    """
    meta = read_meta(path)
    for name in tables:
        _look_at_table(path, name, meta, whole=whole)
    return meta


def read_losses(path: Path) -> dict[str, int]:
    """:func:`count_losses` of a recording on disk.

    :raises RecordingError: it cannot be read
    """
    return count_losses(_read_rows(path, "losses", read_meta(path)))


def check_file(file: Path, name: str) -> int:
    """That a file of a data set is a table with its columns, by its footer alone.

    :returns: the number of its rows
    :raises RecordingError: it is not
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as found:
            columns, rows = found.schema_arrow, found.metadata.num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(f"{file} is damaged: {error}", error) from error
    _check_columns(file, columns, arrow.schema(name, 0))
    return int(rows)


def looks_like_one(path: Path) -> bool:
    """Whether a folder is a recording of ours, be it damaged or of another schema."""
    try:
        return FORMAT in (path / META).read_text(errors="replace")
    except OSError:
        return False


def read_meta(path: Path) -> dict[str, Any]:
    """meta.json alone, checked.

    :raises RecordingError: there is none, or it is foreign, damaged or of another schema
    """
    if not path.is_dir():
        raise RecordingError(f"{path} is not a folder", step=_READ)
    try:
        meta = _parse((path / META).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordingError(f"{path} is not a recording: it has no {META}", step=_READ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(f"{path / META} is damaged: {error}", error) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise RecordingError(f"{path} is not a livedump recording", step=_READ)
    if meta.get("schema") != SCHEMA:
        raise other_schema(path, meta.get("schema"))
    if wrong := problem(meta):
        raise damaged(f"{path / META} is damaged: {wrong}")
    if meta["minor"] > MINOR:
        meta["unmeasured"].append(
            f"a newer livedump has written this (format {SCHEMA}.{meta['minor']}, this one reads "
            f"{SCHEMA}.{MINOR}): what it has besides is not shown"
        )
    return meta


def other_schema(path: Path, schema: object) -> RecordingError:
    """Of a recording that this version cannot read."""
    return RecordingError(
        f"{path} has schema {schema}, this livedump reads {SCHEMA}",
        step=_READ,
        remedy="Read it with the livedump that wrote it, or record again",
    )


def damaged(
    cause: str,
    error: Exception | None = None,
    *,
    remedy: str = "Copy the whole folder once more, or record again",
) -> RecordingError:
    """With what to do; what may not be read need not be damaged."""
    if isinstance(error, PermissionError):
        remedy = "Run as who recorded it, e.g. with sudo"
    return RecordingError(cause, step=_READ, remedy=remedy)


def _parse(text: str) -> Any:
    """JSON, without the numbers that JSON does not know, and with text that can be printed: a
    command's arguments may be any bytes."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    printable = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace")
    return json.loads(printable, parse_constant=refuse)


def _read_table(
    path: Path, name: str, meta: Mapping[str, Any], only: Sequence[str] | None = None
) -> Any:
    """The table, as pyarrow has it."""
    import pyarrow.parquet

    if only is not None:
        _look_at_table(path, name, meta)

    def read(source: Any) -> Any:
        return pyarrow.parquet.read_table(source, columns=only and list(only))

    return _filled(_checked(path, name, meta, read, only), name, only)


def _read_batches(
    path: Path, name: str, meta: Mapping[str, Any], only: Sequence[str]
) -> Iterator[Any]:
    import pyarrow.parquet

    _look_at_table(path, name, meta)
    file = path / f"{name}.parquet"
    try:
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as source:
            for part in source.iter_batches(columns=list(only)):
                _check_values(file, name, part, meta)
                yield part.select(only)
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(f"{file} is damaged: {error}", error) from error


def _read_rows(path: Path, name: str, meta: Mapping[str, Any]) -> list[Row]:
    try:
        table = _read_table(path, name, meta)
        rows: list[Row] = table.select([*TABLES[name].columns]).to_pylist()
    except (ValueError, OverflowError) as error:  # no UTF-8, or no time of ours
        raise damaged(f"{path / name}.parquet is damaged: {error}") from error
    for row in rows if "time" in TABLES[name].columns else ():
        row["time"] = row["time"] and row["time"].isoformat()
    return rows


def _look_at_table(path: Path, name: str, meta: Mapping[str, Any], *, whole: bool = False) -> None:
    """That it is there and has all its rows: by its footer alone, or by reading them."""
    import pyarrow.parquet

    def look(source: Any) -> Any:
        file = pyarrow.parquet.ParquetFile(source)
        for _part in file.iter_batches() if whole else ():
            pass
        return file

    _checked(path, name, meta, look)


def _checked(
    path: Path,
    name: str,
    meta: Mapping[str, Any],
    read: Callable[[Any], Any],
    only: Sequence[str] | None = None,
) -> Any:
    import pyarrow

    file = path / f"{name}.parquet"
    try:
        found = read(pyarrow.OSFile(str(file)))
    except FileNotFoundError as error:
        raise damaged(f"{path} is not whole: no {file.name}") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise damaged(f"{file} is damaged: {error}", error) from error
    schema = getattr(found, "schema_arrow", None) or found.schema
    rows = found.num_rows if hasattr(found, "num_rows") else found.metadata.num_rows
    if only is None:
        _check_columns(file, schema, arrow.schema(name, meta["minor"]))
    if rows != meta["tables"].get(name):
        raise damaged(
            f"{path} is not whole: {file.name} has {rows} rows, "
            f"{META} says {meta['tables'].get(name)}"
        )
    _check_values(file, name, found, meta)
    return found


def _check_values(file: Path, name: str, found: Any, meta: Mapping[str, Any]) -> None:
    import pyarrow

    try:
        wrong = values.problem(name, found, meta)
    except (OSError, pyarrow.ArrowException) as error:
        wrong = str(error)
    if wrong:
        raise damaged(f"{file} is damaged: {wrong}")


def _check_columns(file: Path, found: Any, expected: Any) -> None:
    for column in expected:
        if column.name not in found.names:
            raise damaged(f"{file} is damaged: no column {column.name}")
        if (kind := found.field(column.name).type) != column.type:
            raise damaged(f"{file} is damaged: column {column.name} is {kind}, not {column.type}")


def _filled(table: Any, name: str, only: Sequence[str] | None) -> Any:
    """With the columns of our own version: those that came since are null."""
    import pyarrow

    types = arrow.schema(name)
    names = list(only or types.names)
    columns = [
        (
            table[column]
            if column in table.column_names
            else pyarrow.nulls(table.num_rows, types.field(column).type)
        )
        for column in names
    ]
    return pyarrow.table(columns, names)


def _write_table(file: Path, name: str, content: Table, meta: Mapping[str, Any]) -> int:
    """Part by part; returns the number of rows."""
    import pyarrow.parquet

    rows = 0
    with pyarrow.parquet.ParquetWriter(file, arrow.schema(name), compression="zstd") as writer:
        for part in content() if callable(content) else [arrow.of_rows(name, content)]:
            writer.write_table(arrow.whole(name, part, meta))
            rows += part.num_rows
    return rows


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
