"""Whatever is typed, and whatever a recording holds: one clear answer, no traceback, nothing that a
terminal obeys. The same examples each time; ``make fuzz`` tries others, and more of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livedump.cli.common import command_main
from livedump.cli.main import cli as livedump_cli
from livedump.cli.trace.main import cli as trace_cli
from livedump.recording import store
from livedump.recording.schema import TABLES, columns
from tests.unit import samples

EXAMPLES = int(os.environ.get("LIVEDUMP_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """So many examples; ``make fuzz`` says how many itself."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


#: Any bytes, as Python has them in arguments and names: what is no UTF-8 is a lone surrogate.
anything = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=20).map(os.fsdecode),
    st.sampled_from(["", "\x1b[2J", "\u202e", "a;b", "__proto__", "=1+1", "-", "'", "x" * 300]),
)


def without_nul(text: str) -> str:
    """No argument of a process has one."""
    return text.replace("\0", "")


def run(cli: Any, arguments: list[str]) -> tuple[Any, str]:
    """Exit status and both outputs of a command."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, "utf-8", "surrogateescape", write_through=True)
    status: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            command_main(cli, arguments)
        except SystemExit as end:
            status = end.code
    return status, raw.getvalue().decode("utf-8", "surrogateescape")


def check(status: Any, text: str) -> None:
    """An answer, not a bug."""
    assert isinstance(status, int) and 0 <= status < 126
    assert "Traceback" not in text and "This is a bug" not in text, text
    assert all(c.isprintable() or c in "\n\t" for c in text), ascii(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where commands run, with a recording."""
    folder = tmp_path_factory.mktemp("fuzz")
    samples.write(folder / "rec")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def options(command: Any) -> list[str]:
    """All that a command takes."""
    return [name for parameter in command.params for name in parameter.opts if name[:1] == "-"]


def command_lines(cli: Any, names: list[str]) -> st.SearchStrategy[list[str]]:
    """Of commands that need no kernel."""

    def of(name: str) -> st.SearchStrategy[list[str]]:
        word = st.one_of(
            st.sampled_from(options(cli.commands[name])),
            st.sampled_from(["rec", "none", "SELECT 1", "p99(user)>+20%", "user", "json", "1"]),
            anything.map(without_nul),
        )
        return st.lists(word, max_size=6).map(lambda words: [name, *words])

    return st.sampled_from(names).flatmap(of)


def clean(place: Path) -> None:
    """What --output and the like have made."""
    for path in place.iterdir():
        if path.name != "rec":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@fuzz(400)
@given(line=command_lines(trace_cli, ["report", "diff", "query", "export", "annotate"]))
def test_any_command_line_of_livedump_trace(place: Path, line: list[str]) -> None:
    check(*run(trace_cli, line))
    clean(place)


@fuzz(200)
@given(line=command_lines(livedump_cli, ["info", "open"]))
def test_any_command_line_of_livedump(place: Path, line: list[str]) -> None:
    check(*run(livedump_cli, line))
    clean(place)


#: Columns of text of the small tables, and what they may hold: anything.
NAMES = [
    (table, column)
    for table in ("stacks", "tasks", "pages", "stops", "counters", "losses", "histograms")
    for column, about in TABLES[table].columns.items()
    if about.type == "string" and column != "part_of"
]


@fuzz(40)
@given(
    names=st.dictionaries(st.sampled_from(NAMES), anything, min_size=1, max_size=5),
    host=anything,
    depth=st.sampled_from([1, 5, 3000]),
    command=st.sampled_from(
        [
            ["report", "r"],
            ["report", "--json", "r"],
            ["report", "--html", "page.html", "r"],
            ["diff", "r", "rec"],
            ["diff", "--html", "page.html", "rec", "r"],
            ["query", "SELECT * FROM tasks", "r"],
            ["export", "--format", "folded", "r"],
            ["export", "--format", "speedscope", "-o", "file", "r"],
            ["export", "--format", "openmetrics", "-o", "file", "r"],
            ["export", "--format", "perfetto", "-o", "file", "r"],
            ["export", "--format", "parquet", "-o", "set", "r"],
        ]
    ),
)
def test_any_name_in_a_recording(
    place: Path,
    names: dict[tuple[str, str], str],
    host: str,
    depth: int,
    command: list[str],
) -> None:
    rows = samples.tables()
    for (table, column), name in names.items():
        rows[table][0][column] = ";".join([name] * depth) if column == "stack" else name
    store.write(place / "r", {**samples.meta(), "host": host}, rows)
    status, text = run(trace_cli, command)
    check(status, text)
    if "--json" in command:
        assert json.loads(text[: text.rindex("}") + 1])["meta"]["host"] is not None
    clean(place)


values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@fuzz(200)
@given(
    key=st.sampled_from(sorted(samples.meta())),
    value=values,
    command=st.sampled_from([["report", "r"], ["diff", "rec", "r"], ["query", "SELECT 1", "r"]]),
)
def test_any_value_in_meta(place: Path, key: str, value: Any, command: list[str]) -> None:
    shutil.copytree(place / "rec", place / "r")
    file = place / "r" / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    check(*run(trace_cli, command))
    clean(place)


#: All columns of numbers.
NUMBERS = [
    (table, column)
    for table in TABLES
    for column, about in columns(table).items()
    if about.type in ("int64", "float64")
]

EVENT = {"time_monotonic_ns": samples.START_NS + 5, "kind": "user", "latency_ns": 3, "stack": "f;g"}
EVENT |= {"address": -1, "pid": 1, "tid": 1, "cpu": 0, "detail": 0, "weight": 1}

numbers = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([-1, 0, 1, -(10**6), 1 << 50, 1 << 60, (1 << 63) - 1, -(1 << 63)]),
)


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with a row in each table."""
    folder = tmp_path_factory.mktemp("whole") / "r"
    store.write(folder, samples.meta(), {**samples.tables(), "events": [EVENT]})
    return folder


def put(file: Path, column: str, value: int | None, row: int) -> None:
    """Another value, as somebody else would write it."""
    table = pyarrow.parquet.read_table(file)
    values = table[column].to_pylist()
    place = table.schema.get_field_index(column)
    kind = table.schema.field(place).type
    values[row % len(values)] = value if value is None or kind == pyarrow.int64() else float(value)
    changed = table.set_column(place, column, pyarrow.array(values, kind))
    pyarrow.parquet.write_table(changed, file)


@fuzz(60)
@given(
    where=st.sampled_from(NUMBERS),
    value=numbers,
    row=st.sampled_from([0, 1, -1]),
    command=st.sampled_from(
        [
            ["report", "r"],
            ["diff", "rec", "r"],
            ["diff", "r", "rec"],
            ["report", "--html", "page.html", "r"],
            ["export", "--format", "perfetto", "-o", "file", "r"],
        ]
    ),
)
def test_any_number_in_a_recording(
    place: Path,
    whole: Path,
    where: tuple[str, str],
    value: int | None,
    row: int,
    command: list[str],
) -> None:
    shutil.copytree(whole, place / "r")
    put(place / "r" / f"{where[0]}.parquet", where[1], value, row)
    check(*run(trace_cli, command))
    clean(place)
