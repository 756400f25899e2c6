"""Recordings on disk: written whole or not at all, read only when whole and ours."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from livedump.recording import store
from livedump.recording.errors import RecordingError
from livedump.recording.schema import LARGE, SCHEMA, TABLES, columns
from tests.unit import samples


def test_round_trip(tmp_path: Path) -> None:
    found = store.read(samples.write(tmp_path / "r"))
    for name, rows in samples.tables().items():
        large = name in LARGE
        kept = found.columns(name).to_pylist() if large else found.tables[name]
        assert len(kept) == len(rows), name
        for row, was in zip(kept, rows, strict=True):
            assert {column: row[column] for column in was} == was, name
            assert set(row) == set(columns(name) if large else TABLES[name].columns), name
    assert found.meta["schema"] == SCHEMA
    assert found.meta["command"]["status"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_others_can_read_it(tmp_path: Path) -> None:
    """DuckDB reads the tables without us."""
    import duckdb

    folder = samples.write(tmp_path / "r")
    query = (
        f"select kind, sum(count) from '{folder}/stacks.parquet' where host = 'sample' group by 1"
    )
    result = duckdb.sql(query)
    assert result is not None
    found = dict(result.fetchall())
    assert found["user"] == 6000


def test_empty_tables_keep_their_columns(tmp_path: Path) -> None:
    store.write(tmp_path / "r", samples.meta(), {})
    assert all(rows == [] for rows in store.read(tmp_path / "r").tables.values())


def test_existing_folder_is_kept(tmp_path: Path) -> None:
    samples.write(tmp_path / "r")
    with pytest.raises(RecordingError, match="exists.*--force"):
        store.write(tmp_path / "r", samples.meta(), {})
    store.write(tmp_path / "r", samples.meta(), {}, force=True)
    assert store.read(tmp_path / "r").tables["stacks"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_force_replaces_recordings_only(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(RecordingError, match="not a recording"):
            store.check_output(tmp_path / name, force=True)
    (tmp_path / "empty").mkdir()
    store.check_output(tmp_path / "empty", force=True)
    with pytest.raises(RecordingError, match="not a folder"):
        store.check_output(tmp_path / "no" / "such", force=False)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_sync", full)
    with pytest.raises(RecordingError, match="No space left"):
        samples.write(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def break_nothing(folder: Path) -> None:
    """Control."""


def drop_meta(folder: Path) -> None:
    """As an interrupted writer would leave it."""
    (folder / "meta.json").unlink()


def cut_meta(folder: Path) -> None:
    """Cut short."""
    (folder / "meta.json").write_text((folder / "meta.json").read_text()[:-50])


def foreign_meta(folder: Path) -> None:
    """Somebody else's."""
    (folder / "meta.json").write_text('{"format": "perf"}')


def later_meta(folder: Path) -> None:
    """From the future."""
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "schema": 99}))


def drop_table(folder: Path) -> None:
    """A table is missing."""
    (folder / "stacks.parquet").unlink()


def cut_table(folder: Path) -> None:
    """A table is cut short."""
    data = (folder / "stacks.parquet").read_bytes()
    (folder / "stacks.parquet").write_bytes(data[: len(data) // 2])


def swap_table(folder: Path) -> None:
    """A table is another one."""
    (folder / "stacks.parquet").write_bytes((folder / "pages.parquet").read_bytes())


def shrink_table(folder: Path) -> None:
    """A table has fewer rows than meta.json says."""
    other = folder.with_name("other")
    store.write(other, samples.meta(), {})
    (folder / "stacks.parquet").write_bytes((other / "stacks.parquet").read_bytes())


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (break_nothing, ""),
        (drop_meta, "not a recording: it has no meta.json"),
        (cut_meta, "meta.json is damaged"),
        (foreign_meta, "not a livedump recording"),
        (later_meta, "has schema 99"),
        (drop_table, "not whole: no stacks.parquet"),
        (cut_table, "stacks.parquet is damaged"),
        (swap_table, "stacks.parquet is damaged: no column"),
        (shrink_table, "not whole: stacks.parquet has 0 rows"),
    ],
)
def test_only_whole_recordings_are_read(tmp_path: Path, damage: object, cause: str) -> None:
    folder = samples.write(tmp_path / "r")
    assert callable(damage)
    damage(folder)
    if not cause:
        store.read(folder)
        return
    with pytest.raises(RecordingError, match=cause) as caught:
        store.read(folder)
    assert "\n" not in str(caught.value)
    if damage not in (drop_meta, foreign_meta):
        assert re.search("Copy the whole|Read it with the livedump that wrote", caught.value.remedy)


def test_what_others_may_not_read_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = samples.write(tmp_path / "r")

    def refuse(*_args: object, **_options: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    with pytest.raises(RecordingError, match="Permission denied. Run as who recorded it"):
        store.read(folder)


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="not a folder"):
        store.read(tmp_path / "nothing")
