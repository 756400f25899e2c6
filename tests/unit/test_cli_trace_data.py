"""The command line of livedump-trace: query and export."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from livedump.analysis import export
from livedump.cli.trace import data
from livedump.recording import store
from livedump.recording.schema import ERRORS
from tests.unit import samples, traces
from tests.unit.test_cli_trace import run


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """The sample recording."""
    return str(samples.write(tmp_path / "rec"))


def test_query_prints_a_table(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", "SELECT kind, sum(count)::INT AS n FROM tasks GROUP BY 1", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["kind", "n"]
    assert ["cow", "675"] in [line.split() for line in lines]
    assert lines[-1] == "2 rows"


def test_query_as_json_and_csv(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT host, NULL AS nothing, DATE '2026-11-24' AS day FROM recordings"
    assert run("query", "--json", sql, folder) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == {
        "columns": ["host", "nothing", "day"],
        "rows": [["sample", None, "2026-11-24"]],
    }
    assert run("query", "--csv", sql, folder) == 0
    assert capsys.readouterr().out.splitlines() == ["host,nothing,day", "sample,,2026-11-24"]


def test_query_s_errors_are_one_line(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", "SELEC", folder) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "syntax error" in err
    assert run("query", "SELECT 1", f"{folder}/nothing*") == 1
    assert run("query", "SELECT 1") == 2


def test_every_format_can_be_asked_for() -> None:
    assert set(data.FORMATS) == {*export.FORMATS, "parquet"}


@pytest.mark.parametrize("form", ["folded", "speedscope", "openmetrics"])
def test_export_of_text_to_standard_output(
    folder: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", folder, "--format", form) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n")
    file = tmp_path / "file"
    assert run("export", folder, "--format", form, "-o", str(file)) == 0
    assert file.read_text() == out
    assert not list(tmp_path.glob(".*")), "what it was written to first is left"


def test_export_of_bytes(folder: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    assert run("export", folder, "--format", "perfetto", "-o", str(file)) == 0
    trace = traces.read(file.read_bytes())
    assert "stop_machine (BPF)" in {packet.track_descriptor.name for packet in trace.packet}


def test_metrics_with_their_time(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    lost = 'livedump_lost{host="sample",probe="cow",what="no stack"} 7.0'
    for arguments, line in ((), lost), (("--timestamps",), f"{lost} 1795454317.000000000"):
        assert run("export", folder, "--format", "openmetrics", *arguments) == 0
        assert line in capsys.readouterr().out.splitlines()


def test_export_to_a_data_set(folder: str, tmp_path: Path) -> None:
    target = tmp_path / "fleet"
    assert run("export", folder, "--format", "parquet", "-o", str(target)) == 0
    assert len(list(target.glob("stacks/date=*/*.parquet"))) == 1


LOSSES = "livedump-trace: note: {}: 7 events have no stack; 0 events lost\n"


@pytest.mark.parametrize("form", data.FORMATS)
def test_every_export_tells_what_was_lost(
    folder: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", folder, "--format", form, "-o", str(tmp_path / "out")) == 0
    assert capsys.readouterr().err.startswith(LOSSES.format(folder))


def test_query_tells_what_was_lost(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = [{"probe": "user", "what": "entry table full", "count": 2}]
    store.write(tmp_path / "b", samples.meta(), {"losses": lost})
    store.write(tmp_path / "c", samples.meta(), {})
    assert run("query", "SELECT 1", folder, str(tmp_path / "b"), str(tmp_path / "c")) == 0
    assert capsys.readouterr().err == LOSSES.format(folder) + (
        f"livedump-trace: LOST: {tmp_path / 'b'}: 0 events have no stack; 2 events lost\n"
    )


def test_a_fleet_s_losses_are_not_told_one_by_one(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "TOLD", 0)
    assert run("query", "SELECT 1", folder) == 0
    assert "1 more have losses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--format", "parquet"), 2, "needs a folder"),
        (("--format", "pdf"), 2, "folded"),
        (("--format", "folded", "--kind", "cows"), 1, "no kind cows"),
        (("--format", "folded", "-o", "/nowhere/x"), 1, "No such file"),
        (("--format", "folded", "--kind", "cow_copy"), 1, "no stacks of cow_copy"),
        (("--format", "perfetto", "--by", "count"), 2, "the trace has no stacks"),
        (("--format", "speedscope", "--by", "stalled"), 2, "a profile for each weight"),
        (("--format", "openmetrics", "--by", "stalled"), 2, "no stacks"),
        (("--format", "perfetto", "--timestamps"), 2, "only openmetrics has them"),
        (("--format", "parquet", "-o", "x", "--kind", "cow"), 2, "--kind and parquet exclude"),
        (("--format", "parquet", "-o", "x", "--by", "count"), 2, "whole recordings"),
        (("--format", "perfetto", "--kind", "cows"), 1, "no kind cows"),
    ],
)
def test_export_s_errors(
    folder: str,
    arguments: tuple[str, ...],
    status: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("export", folder, *arguments) == status
    assert words in capsys.readouterr().err


def test_one_file_holds_one_recording(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", folder, folder, "--format", "folded") == 2
    assert "of one recording" in capsys.readouterr().err


def test_what_changed_comes_first(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = samples.tables()
    for name in ("histograms", "slices"):
        for row in tables[name]:
            row["count"] *= 1 if row["kind"] != "user" else 3
    store.write(tmp_path / "more", samples.meta(), tables)
    assert run("diff", folder, str(tmp_path / "more")) == 0
    first, second = capsys.readouterr().out.split("Changes: ")[1:]
    assert first.startswith("more than chance within this run")
    rows = [line.split() for line in first.splitlines() if line.startswith(" user")]
    assert [row[1] for row in rows] == ["rate", "mean"] and {row[-1] for row in rows} == {"*"}
    assert second.startswith("may be chance, or cannot be told")
    assert " *\n" not in second and "one of each cannot tell" in second


def test_diff_tells_a_regression_by_its_status(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "diff.html"
    assert run("diff", folder, folder, "--html", str(page)) == 0
    assert "Changes" in capsys.readouterr().out
    assert "<title>livedump trace: A and B</title>" in page.read_text()
    assert run("diff", folder, folder, "--fail-on", "p99(user)>+50%") == 0
    assert "ok: p99(user)>+50% (+0.0%, " in capsys.readouterr().out
    conditions = ("--fail-on", "max(stop)>5ms", "--fail-on", "p50(cow)>1s")
    assert run("diff", folder, folder, "--json", *conditions) == 1
    data = json.loads(capsys.readouterr().out)
    assert [row["failed"] for row in data["conditions"]] == [True, False]
    assert data["conditions"][0]["why"] == "64.9 ms"
    assert {row["unknown"] for row in data["changes"] if row["metric"] == "max"} == {
        "replicates needed"
    }
    assert data["scope"] == "within this run" and len(data["a"]) == len(data["b"]) == 1


def test_a_kind_without_faults_is_no_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = samples.tables()
    for name in ("histograms", "slices", "stacks", "counters"):
        tables[name] = [row for row in tables[name] if not row["kind"].startswith("cow")]
    store.write(tmp_path / "b", samples.meta(), tables)
    a, b = str(samples.write(tmp_path / "a")), str(tmp_path / "b")
    assert run("diff", a, b, "--fail-on", "p99(cow)>+20%") == 0
    out = capsys.readouterr().out
    assert "not judged: p99(cow)>+20% (nothing to compare: no cow faults in B)" in out
    assert "only in A: cow" in out


def test_only_a_regression_has_its_status(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("livedump.analysis.compare", broken)
    assert run("diff", folder, folder) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unexpected ZeroDivisionError: by chance" in err


def test_a_full_disk_is_no_regression(folder: str) -> None:
    command = [sys.executable, "-c", "from livedump.cli.trace.main import main; main()"]
    gate = ["diff", folder, folder, "--fail-on", "max(stop)>5ms"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command, *gate], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr


def test_diff_of_one_recording_has_no_stack(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", folder, folder) == 0
    assert "Stacks" not in capsys.readouterr().out
    assert run("diff", folder, folder, "--json") == 0
    stacks = json.loads(capsys.readouterr().out)["stacks"]
    assert stacks == {"user": [], "kernel": [], "cow": []}


def test_diff_orders_stacks_as_asked(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(twice(tmp_path / "other"))
    assert run("diff", folder, other, "--by", "count", "--kind", "cow") == 0
    out = capsys.readouterr().out
    [header] = [line for line in out.splitlines() if "innermost functions" in line]
    assert header.split()[:8] == ["A", "/s", "B", "/s", "A", "us/s", "B", "us/s"]
    assert max(map(len, out.splitlines())) <= 80
    assert run("diff", folder, other, "--by", "samples") == 2


def test_diff_has_a_dash_for_what_is_not_timed(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", folder, str(twice(tmp_path / "other")), "--kind", "kernel") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["7.5", "15.0", "-", "-", "_copy_to_user", "<"] in [row[:6] for row in rows]


def test_diff_shows_what_is_rare(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = samples.tables()
    [stop] = [row for row in tables["histograms"] if row["kind"] == "stop"]
    stop["count"] = 2
    once = {"kind": "stop", "comm": "a", "stack": "f", "samples": 1, "count": 1, "stalled_ns": 500}
    tables["stacks"].append({**once, **dict.fromkeys(ERRORS, 0.0)})
    store.write(tmp_path / "other", samples.meta(), tables)
    assert run("diff", folder, str(tmp_path / "other"), "--kind", "stop") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stop", "rate", "0.0833/s", "0.167/s"] in [row[:4] for row in rows]
    assert ["0", "0.0833", "0", "0.0417", "f"] in rows


def test_strict_refuses_what_cannot_be_told(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["diff", folder, folder, "--fail-on", "max(user)>+20%", "--fail-on", "p50(user)>+50%"]
    assert run(*gate) == 0
    out = capsys.readouterr().out
    assert "cannot tell: max(user)>+20% (+0.0%, replicates needed)" in out
    assert "ok: p50(user)>+50%" in out
    assert run(*gate, "--strict", "--json") == 2
    out, err = capsys.readouterr()
    outcomes = [row["outcome"] for row in json.loads(out)["conditions"]]
    assert outcomes == ["cannot tell", "ok"]
    assert err == "livedump-trace: error: cannot tell: max(user)>+20%\n"
    assert run(*gate, "--strict", "--fail-on", "max(stop)>5ms") == 1, "a regression is one"


def test_diff_of_several_runs(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [folder, *(later(tmp_path, number) for number in range(1, 4))]
    page = str(tmp_path / "diff.html")
    gate = ("--fail-on", "max(user)>+20%", "--strict")
    assert run("diff", *names[:2], "--against", *names[2:], *gate, "--html", page) == 0
    out = capsys.readouterr().out
    assert out.startswith("A1: sample") and "\nB2: sample" in out
    assert "Changes: none is more than chance between runs" in out
    assert "ok: max(user)>+20% (+0.0%, +0.0..+0.0%)" in out
    assert "between runs" in Path(page).read_text()
    assert run("diff", "--json", names[0], "--against", *names[1:]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["scope"] == "between runs"
    assert (len(data["a"]), len(data["b"])) == (1, 3)
    assert {(len(row["before_runs"]), len(row["after_runs"])) for row in data["changes"]} == {
        (1, 3)
    }
    assert run("diff", names[0], "--against", names[1], "--json") == 0
    assert json.loads(capsys.readouterr().out)["scope"] == "within this run"


def later(tmp_path: Path, number: int) -> str:
    """The sample, recorded once more."""
    meta = {**samples.meta(), "recording_id": str(uuid.UUID(int=number))}
    store.write(tmp_path / str(number), meta, samples.tables())
    return str(tmp_path / str(number))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a",), "Name two recordings"),
        (("a", "b", "c"), "Name two recordings"),
        (("--against", "a"), "before --against, and after it"),
        (("a", "--against"), "before --against, and after it"),
        (("a", "--against", "b", "--against", "c"), "--against stands once"),
    ],
)
def test_sides_are_named(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_run_is_named_once(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", folder, folder, "--against", later(tmp_path, 1)) == 2
    err = capsys.readouterr().err
    assert "is given twice. Name each run once" in err and err.count("\n") == 1


def test_strict_refuses_what_is_not_comparable(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = samples.meta()
    meta["options"]["filter"] = {"comm": "nginx"}
    store.write(tmp_path / "other", meta, samples.tables())
    assert run("diff", folder, folder, "--strict") == 0
    assert run("diff", folder, str(tmp_path / "other")) == 0
    capsys.readouterr()
    assert run("diff", folder, str(tmp_path / "other"), "--strict") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "not comparable: " in err and "nginx" in err


def twice(path: Path) -> Path:
    """The sample with twice as many faults on each stack."""
    tables = samples.tables()
    for row in tables["stacks"]:
        row["count"] *= 2
    store.write(path, samples.meta(), tables)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fail-on", "p99(cows)>+5%"), "no kind cows"),
        (("--fail-on", "p99(cow)>5us for 1s"), "no 'for' here"),
        (("--fail-on", "p99(kernel)>+20%"), "kernel faults are counted, not timed"),
        (("--fail-on", "p99(user)<-200%"), "holds never"),
        (("--kind", "cows"), "no kind cows"),
        (("--html", "/nowhere/x"), "No such file"),
    ],
)
def test_trouble_is_no_regression(
    folder: str, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", folder, folder, *arguments) == 2
    assert words in capsys.readouterr().err
    assert run("diff", folder, "/nowhere") == 2
