"""SQL over recordings."""

from __future__ import annotations

import errno
import glob
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from livedump.analysis import QueryError, ask, dataset, expand, readable
from livedump.analysis.files import ExportError
from livedump.analysis.query import json_row, tables_of, write_parquet
from livedump.analysis.sources import Found
from livedump.recording import store
from livedump.recording.errors import RecordingError
from livedump.recording.losses import LOSSES
from livedump.recording.recover import FILE, folder_of
from tests.unit import samples
from tests.unit.test_cli_trace import run

MAIN = "from livedump.cli.trace.main import main; main()"


class Result(NamedTuple):
    """All of an answer."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def query(sql: str, folders: Sequence[Path]) -> Result:
    """Ask recordings that all can be read."""
    with ask(sql, readable(folders, tables_of(sql), strict=True)) as answer:
        return Result(answer.columns, [*answer])


@pytest.fixture
def fleet(tmp_path: Path) -> list[Path]:
    """Two recordings with the same rows; one folder has a name that bites."""
    folders = []
    for name in ("a", "b'; DROP [x]*"):
        meta = {**samples.meta(), "host": f"host-{name[0]}"}
        store.write(tmp_path / name, meta, samples.tables())
        folders.append(tmp_path / name)
    return folders


def test_rows_of_all_recordings_are_in_one_table(fleet: list[Path]) -> None:
    result = query("SELECT host, recording, count(*) AS n FROM stacks GROUP BY ALL", fleet)
    assert result.columns == ("host", "recording", "n")
    rows = len(samples.tables()["stacks"])
    assert sorted(result.rows) == [
        ("host-a", str(fleet[0]), rows),
        ("host-b", str(fleet[1]), rows),
    ]


def test_tables_join_with_what_meta_says(fleet: list[Path]) -> None:
    result = query(
        "SELECT recording, kernel, losses_total, sum(l.count) FROM recordings "
        "JOIN losses l USING (recording) GROUP BY ALL",
        fleet[:1],
    )
    assert result.rows == [(str(fleet[0]), "6.1.0-56-amd64", 7, 7)]


def test_every_table_can_be_asked(fleet: list[Path]) -> None:
    for table, rows in samples.tables().items():
        assert query(f"SELECT count(*) FROM {table}", fleet).rows == [(2 * len(rows),)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT x FROM stacks", "column"),
        ("SELECT * FROM nothing", "nothing"),
        ("", "no SQL"),
        ("-- nothing", "no SQL"),
        ("SELECT error('own words')", "own words"),
        ("SELECT 1; SELECT 2", "2 questions"),
        ("SELECT * FROM sources", "sources does not exist"),
        ("COPY (SELECT 1) TO '/tmp/written'", "COPY is no question"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/written'", "EXPLAIN is no question"),
        ("SELECT 1; ATTACH '/tmp/written'", "ATTACH is no question"),
        ("DROP VIEW stacks", "DROP is no question"),
        ("SET threads = 1", "SET is no question"),
    ],
)
def test_bad_sql_is_one_line_with_the_tables_names(fleet: list[Path], sql: str, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        query(sql, fleet)
    assert "\n" not in str(caught.value)
    assert "histograms" in str(caught.value) or "SELECT" in str(caught.value)
    assert not Path("/tmp/written").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM enable_logging('QueryLog', storage='file', storage_path='{}')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{}''')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_sql_reaches_nothing_but_the_recordings(
    fleet: list[Path], tmp_path: Path, sql: str
) -> None:
    """Also what a SELECT can do by functions."""
    with pytest.raises(QueryError):
        query(sql.format(tmp_path / "log"), fleet)
    assert sorted(tmp_path.iterdir()) == fleet


def test_recordings_can_be_named_in_many_ways(
    fleet: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the files are elsewhere, as some tools for large files have them."""
    (tmp_path / "l[1]").symlink_to(fleet[1].name)
    table = fleet[1] / "recordings.parquet"
    table.rename(tmp_path / "elsewhere")
    table.symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    up = Path("../", tmp_path.name)
    for name in (Path(fleet[1].name), Path("l[1]"), up / "l[1]", tmp_path / "l[1]"):
        assert query("SELECT host FROM recordings", [name]).rows == [("host-b",)]


def test_what_does_not_fit_into_memory_is_private_and_removed(
    fleet: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(QueryError, match="no folder for temporary files"):
        query("SELECT 1", fleet)
    (tmp_path / "tmp").mkdir()
    sql = "SELECT current_setting('temp_directory')"
    with ask(sql, readable(fleet, ())) as answer:
        [(folder,)] = answer
        assert Path(folder).parent == tmp_path / "tmp"
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "tmp").iterdir())


def test_times_are_utc_wherever_one_reads(fleet: list[Path]) -> None:
    sql = "SELECT start_at AS t, t::VARCHAR, hour(t), date_trunc('day', t) FROM recordings"
    command = [sys.executable, "-c", MAIN, "query", "--csv", sql]
    answers = {
        zone: subprocess.run(
            [*command, str(fleet[0])],
            env={**os.environ, "TZ": zone},
            check=True,
            capture_output=True,
        ).stdout
        for zone in ("UTC", "Asia/Tokyo")
    }
    assert answers["UTC"] == answers["Asia/Tokyo"] and b"+00" in answers["UTC"]


def test_a_folder_that_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="not a recording"):
        query("SELECT 1", [tmp_path])


def no_file(file: Path) -> None:
    file.unlink()


def half_a_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def noise_in_the_middle(file: Path) -> None:
    """The footer, which says what is where, stays."""
    data = bytearray(file.read_bytes())
    data[4:200] = b"noise " * 32 + b"all!"
    file.write_bytes(data)


def columns_of_another_type(file: Path) -> None:
    duckdb.execute(f"COPY (SELECT * REPLACE (count::VARCHAR AS count) FROM '{file}') TO '{file}'")


@pytest.mark.parametrize(
    "damage", [no_file, half_a_file, noise_in_the_middle, columns_of_another_type]
)
def test_a_damaged_table_is_named(fleet: list[Path], damage: Callable[[Path], None]) -> None:
    damage(fleet[0] / "stacks.parquet")
    with pytest.raises(RecordingError) as caught:
        query("SELECT sum(count), max(stack), max(host) FROM stacks", fleet)
    text = str(caught.value)
    assert str(fleet[0]) in text and "stacks.parquet" in text and "CREATE VIEW" not in text
    assert "\n" not in text and len(text) < 400


def test_json_has_no_numbers_that_it_does_not_know(fleet: list[Path]) -> None:
    sql = "SELECT 'inf'::FLOAT, ['nan'::FLOAT, 1], {'a': '-inf'::FLOAT}, 1.5::FLOAT, '1s'::INTERVAL"
    [row] = query(sql, fleet).rows
    assert json_row(row) == [None, [None, 1.0], {"a": None}, 1.5, "0:00:01"]


def test_addresses_survive_json() -> None:
    """jq and JavaScript have 53 bits."""
    assert json_row([0xFFFFFFFF81000EFD, 1 << 52, -1, True]) == [
        "18446744071578849021",
        1 << 52,
        -1,
        True,
    ]


def test_text_that_is_no_unicode(fleet: list[Path]) -> None:
    with pytest.raises(QueryError, match="surrogate"):
        query("SELECT '\udcff'", fleet)


def test_patterns_stand_for_recordings_only(fleet: list[Path], tmp_path: Path) -> None:
    (tmp_path / "neither").mkdir()
    assert expand([f"{tmp_path}/*", str(fleet[0])]).paths == fleet
    assert expand([str(fleet[1])]).paths == [fleet[1]]
    with pytest.raises(QueryError, match="no recording matches"):
        expand([f"{tmp_path}/n*"])


def test_a_folder_stands_for_all_below_it(fleet: list[Path], tmp_path: Path) -> None:
    """Data sets, too, and what links point to, but each of them once."""
    top = tmp_path / "top"
    (top / "deep").mkdir(parents=True)
    (top / "loop").symlink_to(top)
    (top / "a").symlink_to(fleet[0])
    dataset.add(fleet[0], top / "deep" / "set")
    dataset.add(fleet[0], top / ".hidden" / "set")
    own = fleet[1].rename(top / "deep" / "b")
    (top / "latest").symlink_to(own)
    assert expand([str(top)]) == Found([own, top / "deep/set", top / "a"])
    assert expand([str(top / "latest"), f"{top}/*"]).paths == [
        *(top / "latest", top / "a", top / "deep/set")
    ]


def deny(folder: Path, names: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another user's: root, as who tests may run, can read everything.

    :param names: what raises for the folder itself
    """

    def denied(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            within = not isinstance(path, int) and Path(path).is_relative_to(folder)
            if within and (Path(path) != folder or real.__name__ in names):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "scandir", denied(os.scandir))
    monkeypatch.setattr(Path, "stat", denied(Path.stat))


@pytest.mark.parametrize("listed", [False, True])
def test_what_may_not_be_read_is_skipped_and_counted(
    listed: bool,
    fleet: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether one names it, a folder that it is in, or a pattern that it matches."""
    deny(fleet[0], set() if listed else {"scandir"}, monkeypatch)
    for names in ([*map(str, fleet)], [str(tmp_path)], [f"{tmp_path}/*"]):
        found = expand(names)
        assert found.paths == fleet[1:] and list(found.skipped) == fleet[:1]
        assert run("query", "--csv", "SELECT DISTINCT host FROM stops", *names) == 0
        out, err = capsys.readouterr()
        assert out.split() == ["host", "host-b"]
        words = f"e.g. read recording: {fleet[0]}: Permission denied"
        assert f"SKIPPED: 1 of 2 recordings or folders, {words}" in err
        assert run("query", "--strict", "SELECT 1", *names) == 1
    with pytest.raises(RecordingError, match="Permission denied"):
        readable([], (), skipped=expand([str(fleet[0])]).skipped)


def test_what_a_killed_recorder_has_left_may_be_damaged(
    fleet: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of many then is skipped."""
    left = folder_of(tmp_path / "c", 1 << 22)
    left.mkdir()
    (left / FILE).write_text("{}")
    assert run("query", "SELECT 1", *map(str, fleet), str(tmp_path / "c")) == 0
    assert "SKIPPED: 1 of 3 recordings or folders" in capsys.readouterr().err


def test_what_cannot_be_read_is_skipped_and_counted(fleet: list[Path], tmp_path: Path) -> None:
    sql = "SELECT DISTINCT host FROM stops"
    half_a_file(fleet[1] / "stops.parquet")
    (tmp_path / "empty").mkdir()
    folders = readable([*fleet, tmp_path / "empty"], tables_of(sql))
    assert [*folders.recordings] == fleet[:1]
    assert set(folders.skipped) == {fleet[1], tmp_path / "empty"}
    with ask(sql, folders) as answer:
        assert [*answer] == [("host-a",)]
    # A table that nobody asks for may be anything.
    assert len(query("SELECT * FROM losses", fleet).rows) == 2 * len(samples.tables()["losses"])
    with pytest.raises(RecordingError, match="stops.parquet"):
        readable(fleet, tables_of(sql), strict=True)
    with pytest.raises(RecordingError, match="not a recording"):
        readable([tmp_path / "empty"], tables_of(sql))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_are_no_numbers(fleet: list[Path], name: str) -> None:
    meta = fleet[0] / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), name: "x"}))
    with pytest.raises(RecordingError, match=f"{name} is 'x'"):
        list(readable(fleet[:1], ()).losses())


def test_an_answer_as_parquet(fleet: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "out's.parquet"
    sql = "SELECT host, sum(count) AS n FROM stacks GROUP BY host;"
    assert write_parquet(sql, readable(fleet, tables_of(sql)), file) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    found = duckdb.read_parquet(glob.escape(str(file))).fetchall()
    assert sorted(found) == sorted(query(sql, fleet).rows)
    with pytest.raises(QueryError, match="exists"):
        write_parquet(sql, readable(fleet, tables_of(sql)), file)
    for bad in ("SELECT error('own words') FROM stacks", "COPY (SELECT 1) TO 'x'"):
        with pytest.raises(QueryError):
            write_parquet(bad, readable(fleet, tables_of(bad)), tmp_path / "other")
    assert not list(tmp_path.glob("*other*")) and not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("end", ["", ";", " -- c", "; -- c", "; /* c; */ ;", " -- c;"])
def test_an_answer_as_parquet_whatever_the_sql_ends_with(
    fleet: list[Path], tmp_path: Path, end: str
) -> None:
    file = tmp_path / "out[1]*.parquet"
    assert write_parquet(f"SELECT 'it''s' AS word{end}", readable(fleet, ()), file) == 1
    assert duckdb.read_parquet(glob.escape(str(file))).fetchall() == [("it's",)]


def test_no_answer_lies_in_a_recording(fleet: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(fleet[0])
    before = sorted(fleet[0].iterdir())
    for folder in (fleet[0], tmp_path / "link"):
        with pytest.raises(ExportError, match="into the recording"):
            write_parquet("SELECT 1", readable(fleet, ()), folder / "out.parquet")
    assert sorted(fleet[0].iterdir()) == before
