"""SQL over recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from livedump.analysis import QueryError, expand, query
from livedump.recording import store
from livedump.recording.errors import RecordingError
from tests.unit import samples


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
        ("SELECT 1/0; SELECT error('own words')", "own words"),
    ],
)
def test_bad_sql_is_one_line_with_the_tables_names(fleet: list[Path], sql: str, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        query(sql, fleet)
    assert "\n" not in str(caught.value)
    assert "histograms" in str(caught.value)


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
    assert query(sql, fleet).to_dict()["rows"] == [[None, [None, 1.0], {"a": None}, 1.5, "0:00:01"]]


def test_text_that_is_no_unicode(fleet: list[Path]) -> None:
    with pytest.raises(QueryError, match="surrogate"):
        query("SELECT '\udcff'", fleet)


def test_patterns_stand_for_recordings_only(fleet: list[Path], tmp_path: Path) -> None:
    (tmp_path / "neither").mkdir()
    assert expand([f"{tmp_path}/*", str(fleet[0])]) == fleet
    assert expand([str(fleet[1])]) == [fleet[1]]
    with pytest.raises(QueryError, match="no recording matches"):
        expand([f"{tmp_path}/n*"])
