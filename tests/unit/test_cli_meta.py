"""A damaged or foreign meta.json: every command works, or says what is wrong in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from livedump.recording import store
from livedump.recording.errors import RecordingError
from tests.unit import samples
from tests.unit.test_cli_trace import run

ABSENT = object()

VALUES = {
    "absent": ABSENT,
    "null": None,
    "text": "text",
    "negative": -1,
    "zero": 0,
    "huge": 10**30,
    "large": (1 << 63) - 1,
    "fraction": 0.5,
    "true": True,
    "list": [],
    "list of null": [None],
    "object": {},
    "foreign object": {"foreign": [1]},
}

COMMANDS = [
    ("report", "rec"),
    ("report", "rec", "--json"),
    ("report", "rec", "--html", "report.html"),
    ("diff", "rec", "rec", "--html", "diff.html"),
    ("query", "SELECT * FROM recordings", "rec"),
    ("export", "rec", "--format", "folded"),
    ("export", "rec", "--format", "speedscope"),
    ("export", "rec", "--format", "perfetto", "-o", "trace"),
    ("export", "rec", "--format", "openmetrics"),
    ("export", "rec", "--format", "parquet", "-o", "fleet"),
]

TRIGGER = {
    "condition": "p99(user)>1ms for 1s",
    "value": 1.5,
    "slice": 30,
    "done": {"file": "vmcore", "verdict": "complete"},
    "error": "",
}

#: What there is in a recording with everything, beside the sample.
MORE = {
    "absent": [{"name": "cow", "question": "cow", "reason": "no tracepoint"}],
    "options": {"filter": {"pids": [7], "comm": "x", "cgroup": "/"}, "events": False},
    "triggers": [TRIGGER],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recording ``rec`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    store.write(Path("rec"), {**samples.meta(), **MORE}, samples.tables())
    return Path("rec")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every member of JSON, at any depth."""
    members = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else members:
        yield (*path, key)
        yield from places(part, (*path, key))


def put(meta: dict[str, Any], place: tuple[Any, ...], value: Any) -> None:
    """Replace one member, where it still is."""
    inside: Any = meta
    with suppress(KeyError, IndexError, TypeError):
        for key in place[:-1]:
            inside = inside[key]
        if value is ABSENT:
            del inside[place[-1]]
        else:
            inside[place[-1]] = value


def why_refused(folder: Path, meta: dict[str, Any]) -> str:
    """Empty: the recording can be read."""
    (folder / "meta.json").write_text(json.dumps(meta))
    try:
        store.check(folder)
    except RecordingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", VALUES)
def test_a_value_in_every_place(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other; then all that are let through at once, for every command."""
    text = (folder / "meta.json").read_text()
    together = json.loads(text)
    refused = set()
    for place in sorted(places(json.loads(text)), key=len, reverse=True):
        alone, more = json.loads(text), copy.deepcopy(together)
        put(alone, place, VALUES[name])
        put(more, place, VALUES[name])
        if why := why_refused(folder, alone):
            refused.add(place[0])
            assert "rec" in why and "\n" not in why and len(why) < 200
        elif not why_refused(folder, more):
            together = more
    assert {"clocks", "kernel", "tables", "triggers"} <= refused
    assert not why_refused(folder, together)
    for command in COMMANDS:
        assert run(*command) == 0, (command, capsys.readouterr().err)
        for line in capsys.readouterr().err.splitlines():
            assert line.startswith(("livedump-trace: note: rec: 7 events", "exported: "))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_so_in_one_line(
    folder: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    assert why_refused(folder, {**meta, "slice_ns": 0})
    assert run(*command) == (2 if command[0] == "diff" else 1)
    err = capsys.readouterr().err
    assert "rec/meta.json is damaged: slice_ns is 0. Copy the whole folder" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("clocks", ABSENT, "no clocks"),
        ("kernel", {}, "no kernel.release"),
        ("cpus", float("nan"), "NaN is no number"),
        ("slice_ns", 1, "slice_ns is 1, far too little"),
        ("command", {"argv": ["x"] * 9 + [1], "status": 0}, "command.argv[9] is 1"),
        ("triggers", [{**TRIGGER, "value": "5 ms"}], "triggers[0].value is '5 ms'"),
        ("options", {"filter": {"uid": 0}}, "options.filter has uid"),
        (
            "clocks",
            {"start": {"realtime_ns": 0, "monotonic_ns": 1}, "end": {"monotonic_ns": 0}},
            "clocks.end does not lie behind clocks.start",
        ),
    ],
)
def test_what_is_wrong_is_named(folder: Path, key: str, value: Any, words: str) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    put(meta, (key,), value)
    assert words in why_refused(folder, meta)


def test_a_command_s_arguments_may_be_any_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    assert not why_refused(folder, {**meta, "command": {"argv": ["\udcff"], "status": None}})
    for command in COMMANDS:
        assert run(*command) == 0, capsys.readouterr().err
