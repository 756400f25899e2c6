"""What is kept of a long run: docs/tested.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools import keep

LINES = [
    "vm: Linux 7.3.4+deb13-amd64, 2 CPUs, 1G, tcg: no KVM",
    "======= 28 passed in 155.79s (0:02:35) ========",
    "vm: Linux 7.3.4+deb13-amd64, 2 CPUs, 1G, tcg: no KVM",
    "rounds: 7 lazy: no problems",
    "oracle: 20 of 20 as they must be",
    "anything else | that has passed",
]


def test_a_run_in_a_row() -> None:
    row = keep.describe("test-race", LINES, 0, 170.4, "abc")
    assert row.target == "`test-race`"
    assert row.kernels == "7.3.4+deb13-amd64"
    assert row.result == "28 passed; rounds: 7 lazy: no problems; oracle: 20 of 20 as they must be"
    assert row.seconds == "170"


def test_a_failure_is_kept() -> None:
    lines = ["=== 1 failed, 27 passed, 1 error in 209.35s (0:03:29) ==="]
    row = keep.describe("test-race", lines, 2, 1.0, "abc")
    assert row.result == "**failed**, exit status 2; 1 failed, 27 passed, 1 error"


def test_a_later_run_takes_the_place_of_the_one_before() -> None:
    row = keep.describe("test-race", LINES, 0, 170.4, "abc")
    other = replace(row, debian="99")
    text = keep.merge(keep.parse(keep.merge([row], other)), replace(row, result="new"))
    assert {(kept.debian, kept.result) for kept in keep.parse(text)} == {
        (row.debian, "new"),
        ("99", row.result),
    }


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert keep.main([]) == 2
    assert keep.main(["--help"]) == 2
    assert keep.main(["matrix", "MATRIX=--full"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_document_is_as_it_would_be_written() -> None:
    rows = keep.parse(keep.DOCUMENT.read_text(encoding="utf-8"))
    assert rows and keep.DOCUMENT.read_text(encoding="utf-8") == keep.merge(rows[:-1], rows[-1])
