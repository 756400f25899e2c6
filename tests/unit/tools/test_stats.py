"""What `make stats` counts."""

from __future__ import annotations

import pytest

from tools.stats import __main__ as stats
from tools.stats.loads import Load
from tools.stats.study import Case, study


def test_a_load_that_doubles_is_found_and_fails_its_condition() -> None:
    a, b = Load("even"), Load("even", slower=2)
    found = study(Case("twice", a, b, seconds=20), 2, ("p50(user)>+20%", "p50(user)<-20%"))
    assert found.alone["p50"] == found.stars["p50"] == found.any_star == found.told["p50"] == 1
    assert found.alone["rate"] == 0 and "max" not in found.alone
    assert found.fails == {"p50(user)>+20%": 1, "p50(user)<-20%": 0}
    assert 0 < found.half_width["p50"] < 0.5


def test_several_runs_have_maxima() -> None:
    load = Load("even", run_sd=0.02)
    found = study(Case("runs", load, load, seconds=5, runs=(2, 2)), 2)
    assert found.told["max"] == 1


def test_tables_have_a_row_for_each_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.setattr(stats, "BUILD", tmp_path)
    arguments = ["stats", "--pairs", "1", "--only", "equal", "--case", "even, 10 s"]
    monkeypatch.setattr("sys.argv", arguments)
    stats.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == ["| case", "| ---", "| even, 10 s"]
    assert len({row.count("|") for row in rows}) == 1
