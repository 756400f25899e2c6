"""Many recordings as one folder, for us and for others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from livedump.analysis import QueryError, ask, dataset, expand, readable
from livedump.analysis.files import ExportError
from livedump.analysis.query import tables_of
from livedump.recording import store
from livedump.recording.errors import RecordingError
from tests.unit import samples
from tests.unit.test_cli_trace import run

SQL = "SELECT recording, kind, sum(count) FROM stacks GROUP BY ALL ORDER BY ALL"


def record(path: Path, number: int, **meta: Any) -> Path:
    """A recording of its own number."""
    own = {"recording_id": f"{number:08}-2222-4333-8444-555555555555", **meta}
    store.write(path, {**samples.meta(), **own}, samples.tables())
    return path


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Of two hosts."""
    (tmp_path / "day").mkdir()
    return [
        record(tmp_path / "day/a", 1),
        record(tmp_path / "day/b", 2, host="other/../host", losses_total=9, events_lost=2),
    ]


@pytest.fixture
def fleet(tmp_path: Path, folders: list[Path]) -> Path:
    """As a data set; adding one twice changes nothing."""
    for folder in (*folders, folders[0]):
        dataset.add(folder, tmp_path / "fleet")
    return tmp_path / "fleet"


def rows(sql: str, *paths: Path) -> list[tuple[Any, ...]]:
    """What is answered."""
    with ask(sql, readable(expand(map(str, paths)).paths, tables_of(sql))) as answer:
        return list(answer)


def test_others_read_it_by_day(fleet: Path) -> None:
    found = duckdb.execute(
        f"SELECT host, date, sum(count) FROM '{fleet}/stacks/**/*.parquet' "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    total = sum(row["count"] for row in samples.tables()["stacks"])
    day = datetime.fromtimestamp(samples.meta()["clocks"]["start"]["realtime_ns"] / 1e9, UTC).date()
    assert found == [("other/../host", day, total), ("sample", day, total)]
    whole = pyarrow.parquet.read_table(fleet / "stops")
    assert whole.schema.field("time").type == pyarrow.timestamp("us", "UTC")


def test_it_knows_what_it_is_of(fleet: Path) -> None:
    """Rates and times need no meta.json."""
    sql = """SELECT r.host, any_value(labels), any_value(kernel), any_value(s.time - r.start_at),
             sum(count / (duration_ns / 1e9)), any_value(meta->>'$.versions.bcc')
             FROM slices s JOIN recordings r USING (recording_id)
             WHERE s.slice = 20 AND kind = 'stop' GROUP BY ALL ORDER BY ALL"""
    found = rows(sql, fleet)
    assert [row[0] for row in found] == ["other/../host", "sample"]
    _host, labels, kernel, since, rate, bcc = found[0]
    assert (labels, kernel, bcc) == ('{"build": "412"}', "6.1.0-56-amd64", "0.26.0")
    assert since.total_seconds() == 2.0 and rate == pytest.approx(1 / 12)


def test_a_data_set_answers_as_its_recordings_do(fleet: Path, folders: list[Path]) -> None:
    """Also both in one, and a folder of recordings for these."""
    own, theirs = rows(SQL, fleet), rows(SQL, *folders)
    assert [row[1:] for row in own] == [row[1:] for row in theirs]
    assert own[0][0] == "00000001-2222-4333-8444-555555555555"
    assert theirs == rows(SQL, folders[0].parent)
    assert len(rows(SQL, fleet, folders[0])) == len(own) + len(own) // 2


def test_tables_without_a_row_have_no_file(fleet: Path) -> None:
    """And can be asked, with the types of their columns."""
    assert not (fleet / "events").exists()
    assert rows("SELECT count(*) FROM events", fleet) == [(0,)]
    described = rows("SELECT typeof(any_value(time)), max(pid) FROM events", fleet)
    assert described == [("TIMESTAMP WITH TIME ZONE", None)]


def test_losses_are_told_of_data_sets_too(fleet: Path) -> None:
    found = dict(readable([fleet], ()).losses())
    assert [counts["losses_total"] for counts in found.values()] == [7, 9]
    assert list(found.values())[1]["events_lost"] == 2


def test_a_damaged_file_is_skipped_and_counted(fleet: Path) -> None:
    [file, _other] = sorted((fleet / "stacks").glob("*/*.parquet"))
    file.write_bytes(b"PAR1")
    sources = readable([fleet], tables_of(SQL))
    assert list(sources.skipped) == [file] and len(sources.files["stacks"]) == 1
    with pytest.raises(RecordingError, match="is damaged"):
        readable([fleet], tables_of(SQL), strict=True)


def parts(fleet: Path, number: int, *tables: str) -> list[Path]:
    """Files of a recording."""
    return [file for table in tables for file in (fleet / table).glob(f"*/{number:08}*")]


def test_half_a_recording_is_skipped_and_counted(fleet: Path) -> None:
    """What the row of `recordings` says is missing, and what is there without a row."""
    sql = "SELECT count(*) FROM stacks JOIN stops USING (recording_id)"
    [missing] = parts(fleet, 1, "stacks")
    missing.unlink()
    sources = readable([fleet], tables_of(sql))
    assert [*sources.skipped] == [missing] and "is missing: stacks has" in str(
        sources.skipped[missing]
    )
    with pytest.raises(RecordingError, match="once more"):
        readable([fleet], tables_of(sql), strict=True)
    [short] = parts(fleet, 2, "stops")
    whole = pyarrow.parquet.read_table(short, partitioning=None)
    pyarrow.parquet.write_table(whole.slice(1), short)
    assert [*readable([fleet], ("stops",)).skipped] == [short]
    [row, left] = parts(fleet, 2, "recordings", "stacks")
    row.unlink()
    sources = readable([fleet], ("stacks", "events"))
    assert {*sources.skipped} == {left, missing}
    assert len(readable([fleet], ()).datasets[fleet]) == 1


def test_what_makes_it_one_of_the_data_set_s_is_written_last(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, file: Path) -> None:
        if "recordings" not in file.parts and "histograms" not in file.parts:
            raise ExportError(f"{file}: No space left on device", step="export")
        copy(_source, file)

    copy = dataset._copy
    monkeypatch.setattr(dataset, "_copy", full)
    with pytest.raises(ExportError):
        dataset.add(folders[0], tmp_path / "half")
    assert not dataset.is_one(tmp_path / "half") and list((tmp_path / "half").iterdir())


def test_a_recording_s_row_says_what_meta_json_does(folders: list[Path]) -> None:
    [(meta,)] = rows("SELECT meta FROM recordings", folders[0])
    assert json.loads(meta) == json.loads((folders[0] / "meta.json").read_text())
    assert json.loads(meta)["tables"]["recordings"] == 1


def not_parquet(file: Path) -> None:
    file.write_bytes(b"PAR1")


def without_row(file: Path) -> None:
    table = pyarrow.parquet.read_table(file, partitioning=None)
    pyarrow.parquet.write_table(table.slice(1), file)


def meta_of(meta: str | None) -> Callable[[Path], None]:
    """Its meta.json is something else."""

    def damage(file: Path) -> None:
        table = pyarrow.parquet.read_table(file, partitioning=None)
        index = table.column_names.index("meta")
        column = pyarrow.array([meta], pyarrow.string())
        pyarrow.parquet.write_table(table.set_column(index, "meta", column), file)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        not_parquet,
        without_row,
        *map(
            meta_of, (None, "{", "[]", "{}", '{"tables": 1}', '{"tables": {"a": []}}', "[" * 9999)
        ),
    ],
)
def test_a_damaged_row_costs_its_recording(
    fleet: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    [row, _stacks] = parts(fleet, 1, "recordings", "stacks")
    damage(row)
    assert run("query", "--csv", "SELECT DISTINCT host FROM stacks", str(fleet)) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["host", "other/../host"]
    assert (
        f"SKIPPED: 1 of 3 recordings, folders or files, e.g. read recording: {row} is damaged"
        in err
    )
    assert run("query", "--strict", "SELECT DISTINCT host FROM stacks", str(fleet)) == 1


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "none/.half").mkdir(parents=True)
    (tmp_path / "none/.half/meta.json").write_text("{}")
    with pytest.raises(RecordingError, match="not a recording"):
        rows(SQL, tmp_path / "none")
    with pytest.raises(QueryError, match="no recording matches"):
        expand([f"{tmp_path}/none/*"])


def older(folder: Path, monkeypatch: pytest.MonkeyPatch, *, drop: str) -> None:
    """As if *drop* had come with the next minor version, and this were of the last one."""
    from livedump.recording import schema
    from livedump.recording.schema import Column

    columns = schema.TABLES["stacks"].columns
    monkeypatch.setitem(columns, drop, Column(columns[drop].type, "new", since=1))
    file = folder / "stacks.parquet"
    table = pyarrow.parquet.read_table(file).drop_columns([drop])
    pyarrow.parquet.write_table(table, file)
    for module in ("livedump.recording.store", "livedump.analysis.query"):
        monkeypatch.setattr(f"{module}.MINOR", 1)


def test_an_older_minor_version_has_nulls(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    older(folders[0], monkeypatch, drop="samples")
    assert {row["samples"] for row in store.read(folders[0]).tables["stacks"]} == {None}
    found = dict(rows("SELECT recording, max(samples) FROM stacks GROUP BY 1", *folders))
    assert found[str(folders[0])] is None and found[str(folders[1])] == 3000


def test_a_newer_minor_version_says_so(tmp_path: Path) -> None:
    folder = record(tmp_path / "r", 3, minor=7)
    file = folder / "stacks.parquet"
    table = pyarrow.parquet.read_table(file)
    pyarrow.parquet.write_table(table.append_column("more", table["count"]), file)
    found = store.read(folder)
    assert "more" not in found.tables["stacks"][0]
    assert "a newer livedump has written this (format 5.7" in found.meta["unmeasured"][-1]
    assert rows("SELECT count(*) FROM stacks", folder)[0][0] == len(found.tables["stacks"])


def test_an_aggregate_over_a_fleet_costs_little_more_than_duckdb(tmp_path: Path) -> None:
    """What is not asked for is not looked at. CPU time, as the machine may be busy."""
    record(tmp_path / "0", 1)
    for number in range(1, 300):
        shutil.copytree(tmp_path / "0", tmp_path / str(number), copy_function=os.link)
    sql = "SELECT kind, sum(count) FROM slices GROUP BY 1 ORDER BY 1"

    def ours() -> Any:
        return rows(sql, tmp_path)

    def theirs() -> Any:
        files = [str(tmp_path / str(number) / "slices.parquet") for number in range(300)]
        view = f"read_parquet({files}, filename = true)"
        with duckdb.connect() as database:
            return database.execute(sql.replace("slices", view)).fetchall()

    assert ours() == theirs()
    costs = [min(_cpu_s(run) for _ in range(3)) for run in (ours, theirs)]
    assert costs[0] < 4 * costs[1], costs


def _cpu_s(run: Any) -> float:
    before = os.times()
    run()
    after = os.times()
    return after.user + after.system - before.user - before.system
