"""The receipt's numbers and words."""

from __future__ import annotations

import pytest

from livedump import abi, receipt
from tests.unit import images


def test_downtime_line() -> None:
    assert receipt.downtime_line(images.report()) == (
        "downtime 64.7 ms (rendezvous 0.3, save 12.1, protect 50.0, flush 0.2) "
        "after 1.2 s of preparation"
    )


def test_downtime_line_names_retries_and_nmis() -> None:
    line = receipt.downtime_line(images.report(attempts=3, nmis=2))
    assert line.endswith("preparation, at attempt 3, 2 NMIs inside the stop")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 us"),
        (64_700_000, "64.7 ms"),
        (90_000_000_000, "90.0 s"),
    ],
)
def test_format_ns(value: int, text: str) -> None:
    assert receipt.format_ns(value) == text


def test_format_bytes_and_pages() -> None:
    assert receipt.format_bytes(0) == "0 B"
    assert receipt.format_bytes(1 << 31) == "2.0 GiB"
    assert receipt.format_bytes(3 << 40) == "3.0 TiB"
    assert receipt.format_pages(524_288) == "524,288 (2.0 GiB)"


def test_a_stop_of_microseconds_keeps_its_phases() -> None:
    report = images.report(
        stop_ns=2_300, rendezvous_ns=300, save_ns=1_000, protect_ns=900, flush_ns=100
    )
    line = receipt.downtime_line(report)
    assert line.startswith("downtime 2.3 us (rendezvous 0.3, save 1.0, protect 0.9, flush 0.1)")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, abi.Verdict.COMPLETE),
        ({"pages_lost": 1}, abi.Verdict.LOST),
        ({"hooks_missed": 1}, abi.Verdict.UNPROVEN),
        ({"entries_late": 1}, abi.Verdict.UNPROVEN),
        ({"pages_lost": 1, "hooks_missed": 1}, abi.Verdict.LOST),
    ],
)
def test_final_verdict(values: dict[str, int], verdict: abi.Verdict) -> None:
    assert receipt.final_verdict(images.report(**values)) is verdict


@pytest.mark.parametrize("verdict", [*abi.Verdict, 42])
def test_verdict_line(verdict: int) -> None:
    line = receipt.verdict_line(images.report(verdict=int(verdict), pages_lost=7, hooks_missed=9))
    name = verdict.name.lower() if isinstance(verdict, abi.Verdict) else "42"
    assert line.startswith(f"verdict {name}: ")
    assert ("7 pages" in line) == (verdict == abi.Verdict.LOST)


def test_every_class_of_pages_is_shown() -> None:
    """A new pages_* field of the report must get its row."""
    rows = [*receipt.page_rows(images.report()), *receipt.caveat_rows(images.report())]
    shown = {"pages_" + row.name.replace(" ", "_") for row in rows}
    assert shown == {name for name in abi.FIELDS if name.startswith("pages_")}


def test_the_classes_add_up_in_the_example() -> None:
    report = images.report()
    parts = [n for n in abi.FIELDS if n.startswith("pages_")]
    parts = [n for n in parts if n not in ("pages_ram", "pages_live", "pages_unguarded")]
    assert sum(report[name] for name in parts) == report["pages_ram"]


def test_no_snapshot_yet() -> None:
    assert "no snapshot was taken" in receipt.render(abi.empty_report())


def test_one_screen() -> None:
    text = receipt.render(images.report())
    assert len(text.splitlines()) <= 24


def test_late_nmis_make_the_verdict_unproven_settled_ones_do_not() -> None:
    settled = images.report(nmis=4, recopies=1)
    assert receipt.final_verdict(settled) is abi.Verdict.COMPLETE
    late = images.report(nmis=4, recopies=3, nmis_late=1)
    assert receipt.final_verdict(late) is abi.Verdict.UNPROVEN
