"""Names that others chose, on the way to a terminal: none of them is obeyed there."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from pathlib import Path

import pytest

from livedump.cli.common import command_main
from livedump.cli.trace.main import cli
from livedump.recording import store
from tests.unit import samples

#: Clears the screen; hides what follows; removes the line above; turns the direction; two lines.
HOSTILE = ["\x1b[2J\x1b[H", "\x1b]0;x", "\x1b[1A\x1b[2K", "\u202egpj", "a\nlosses: none"]


@pytest.fixture(params=HOSTILE, ids=ascii)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A recording in which everything is called so, and the name."""
    name = str(request.param)
    rows = samples.tables()
    for table in ("tasks", "stops", "stacks", "snapshots", "losses", "pages"):
        for row in rows[table]:
            for column in ("comm", "cgroup", "stack", "symbol", "probe", "name", "was"):
                if row.get(column):
                    row[column] = name
    meta = {**samples.meta(), "host": name, "command": {"argv": [name], "status": 0}}
    meta["absent"] = [{"name": name, "reason": name}]
    store.write(tmp_path / "rec", meta, rows)
    return tmp_path / "rec", name


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, on both streams."""
    with pytest.raises(SystemExit):
        command_main(cli, [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return out + err


@pytest.mark.parametrize("command", ["report", "diff", "query", "missing"])
def test_no_name_is_obeyed(
    hostile: tuple[Path, str], command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, name = hostile
    commands = {
        "report": ("report", folder),
        "diff": ("diff", folder, folder),
        "query": ("query", "SELECT * FROM tasks", folder),
        "missing": ("report", folder / name),
    }
    text = run(capfd, *commands[command])
    assert all(c.isprintable() or c == "\n" for c in text)
    if command != "diff":
        assert name[:1].encode("unicode_escape").decode()[:2] in text or name.startswith("a")
    assert "losses: none" not in text.splitlines(), "a line of its own"


def test_csv_and_json_are_exact(
    hostile: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, name = hostile
    sql = "SELECT DISTINCT comm FROM tasks"
    assert [name] in csv.reader(io.StringIO(run(capfd, "query", "--csv", sql, folder), newline=""))
    assert [name] in json.loads(run(capfd, "query", "--json", sql, folder).splitlines()[0])["rows"]


LONG = "a" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", LONG),
        ("export", LONG, "--format", "folded"),
        ("query", "SELECT 1", LONG),
        ("diff", LONG, LONG),
        ("record", "-o", LONG, "--", "true"),
        ("record", "--cgroup", LONG, "--", "true"),
        ("record", "--comm", "\udcff\udcfe" * 9, "--", "true"),
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_what_cannot_be_a_name_is_one_line(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    text = run(capfd, *arguments)
    assert "error: " in text and text.count("\n") <= 2, text
    assert "Traceback" not in text and "This is a bug" not in text


@pytest.mark.parametrize("command", ["report", "diff", "query", "export"])
def test_what_may_not_be_read_is_one_line(
    command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's folder: looking at what is in it raises, however one looks."""

    def denied(path: Path, **_options: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    commands = {
        "report": ("report", "/root/rec"),
        "diff": ("diff", "/root/rec", "/root/rec"),
        "query": ("query", "SELECT 1", "/root/rec"),
        "export": ("export", "/root/rec", "--format", "folded"),
    }
    text = run(capfd, *commands[command])
    assert text.count("\n") == 1 and "Permission denied. Run as who" in text, text
