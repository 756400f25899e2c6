"""Values that no recorder writes are refused, whether they are read or only in a footer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from livedump.recording import store
from livedump.recording.errors import RecordingError
from livedump.recording.schema import TABLES, columns
from livedump.recording.values import LATE_SLICES
from tests.unit import samples


def put(folder: Path, where: str, value: Any, *, statistics: bool = True) -> None:
    """Another value in the first row."""
    name, column = where.split(".")
    file = folder / f"{name}.parquet"
    table = pyarrow.parquet.read_table(file)
    place = table.schema.get_field_index(column)
    values = pyarrow.array([value, *table[column].to_pylist()[1:]], table.schema.field(place).type)
    changed = table.set_column(place, table.schema.field(place), values)
    pyarrow.parquet.write_table(changed, file, write_statistics=statistics, row_group_size=1000)


REFUSED = [
    ("slices.slice", -(10**6), "slice has -1000000"),
    ("slices.slice", 1 << 50, "slice has 1125899906842624"),
    ("slices.count", -3, "count has -3"),
    ("slices.count", None, "count has null"),
    ("slices.kind", None, "kind has null"),
    ("slices.bucket_low_ns", -1, "bucket_low_ns has -1"),
    ("stack_slices.stalled_ns", None, "stalled_ns has null"),
    ("histograms.count", -1, "count has -1"),
    ("histograms.bucket_high_ns", None, "bucket_high_ns has null where bucket_low_ns has not"),
    ("loss_slices.slice", -1, "slice has -1"),
    ("stops.pid", -1, "pid has -1"),
    ("stacks.count_error", float("nan"), "count_error has nan"),
    ("tasks.comm", None, "comm has null"),
    ("tasks.count", (1 << 60) + 1, "count has 1152921504606846977"),
    ("snapshots.faults", None, "faults has null where release_monotonic_ns has not"),
    ("recordings.slice_ns", None, "slice_ns has null"),
]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(("where", "value", "cause"), REFUSED)
def test_a_value_is_refused(
    tmp_path: Path, where: str, value: Any, cause: str, statistics: bool
) -> None:
    folder = samples.write(tmp_path / "r")
    put(folder, where, value, statistics=statistics)
    with pytest.raises(RecordingError, match=rf"parquet is damaged: column {cause}") as caught:
        store.read(folder)
    assert where.split(".")[0] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("slices.slice", 120 + LATE_SLICES),
        ("slices.stalled_ns", None),
        ("pages.was", None),
        ("tasks.stalled_ns", None),
        ("recordings.command_status", -9),
        ("recordings.command", None),
    ],
)
@pytest.mark.parametrize("statistics", [True, False])
def test_what_may_be_is_read(tmp_path: Path, where: str, value: Any, statistics: bool) -> None:
    folder = samples.write(tmp_path / "r")
    put(folder, where, value, statistics=statistics)
    store.read(folder)


def test_statistics_that_lie_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the column is read."""
    folder = samples.write(tmp_path / "r")
    put(folder, "slices.count", -3)
    with monkeypatch.context() as patch:
        patch.setattr("livedump.recording.values._of_footer", lambda *_: iter(()))
        found = store.read(folder)
        for read in (found.columns, found.batches):
            with pytest.raises(RecordingError, match="column count has -3"):
                list(read("slices", ["kind", "count"]))
        found.columns("slices", ["kind"])


@pytest.mark.parametrize("table", TABLES)
def test_texts_say_what_null_means_where_it_may_be(table: str) -> None:
    halves = {name for name in TABLES[table].columns if table == "snapshots"}
    assert not halves or "a half that was outside the recording is null" in TABLES[table].text
    for name, about in columns(table).items():
        assert about.null == ("null" in about.text or name in halves), name
