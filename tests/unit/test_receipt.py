"""The receipt's numbers and words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedump import abi, receipt
from livedump.units import format_bytes, format_ns
from tests.unit import images


def test_downtime_line() -> None:
    assert receipt.downtime_line(images.report()) == (
        "downtime 3.1 ms (rendezvous 0.3, protect 0.4, flush 0.1, recopy 1.9, exit 0.4) "
        "after 1.2 s of preparation (reserve 0.8, hooks 0.1, survey 0.1, plan 0.2)"
    )
    assert receipt.downtime_line(images.eager_report()) == (
        "downtime 64.7 ms (rendezvous 0.3, save 12.1, protect 50.0, flush 0.2, recopy 0.6, "
        "exit 1.5) after 1.2 s of preparation (reserve 0.8, hooks 0.1, survey 0.1, plan 0.2)"
    )


@pytest.mark.parametrize(
    ("save_ns", "shown"), [(0, False), (49_999, False), (50_001, True), (1_000_000, True)]
)
def test_save_is_shown_unless_it_would_show_as_nothing(save_ns: int, shown: bool) -> None:
    line = receipt.downtime_line(images.report(save_ns=save_ns))
    assert ("save" in line) == shown
    # The exact value is there in any case.
    assert f"save {save_ns}" in " ".join(receipt.ns_lines(images.report(save_ns=save_ns)).split())


def test_the_phases_add_up_to_the_stop() -> None:
    """Nothing of the downtime is hidden: what the module's phases leave is `exit`."""
    for report in (images.report(), images.eager_report()):
        assert sum(receipt.phases_ns(report).values()) == report["stop_ns"]
    assert receipt.exit_ns(images.report(stop_ns=1)) == 0  # clocks of two CPUs


def test_every_phase_of_the_abi_is_one() -> None:
    """Between prepare_ns and stop_ns, in the header's order."""
    fields = list(abi.FIELDS)
    phases = fields[fields.index("prepare_ns") + 1 : fields.index("stop_ns")]
    assert [f"{name}_ns" for name in (*receipt.PREPARATION, *receipt.PHASES)] == phases


def test_every_step_of_preparation_is_one() -> None:
    steps = [step.name.lower() for step in abi.Step if step not in (abi.Step.NONE, abi.Step.STOP)]
    assert list(receipt.PREPARATION) == steps
    report = images.report()
    assert sum(receipt.preparation_ns(report).values()) == report["prepare_ns"]


def test_ns_lines_are_exact_and_fit() -> None:
    report = images.eager_report(prepare_ns=9_876_543_210, stop_ns=1_234_567_890)
    lines = receipt.ns_lines(report).splitlines()
    assert max(map(len, lines)) <= 80
    numbers = dict(
        item.rsplit(" ", 1) for item in " ".join(lines)[9:].replace("  ", " ").split(", ")
    )
    found = {name.strip(): int(value) for name, value in numbers.items()}
    assert found == {
        "prepare": 9_876_543_210,
        **receipt.phases_ns(report),
        "stop": 1_234_567_890,
    }


def test_entries_by_level_attempts_and_nmis() -> None:
    line = receipt.entries_line(images.report(attempts=3, nmis=2))
    assert "2,040 x 4K, 509 x 2M, 1 x 1G changed by the stop" in line
    assert " ".join(line.split()).endswith("attempts 3, NMIs 2")


def test_leaves_before_held_and_after() -> None:
    held = receipt.leaves_lines(images.report())
    assert "before 512 x 4K, 511 x 2M, 1 x 1G; held 2,048 x 4K, 508 x 2M, 1 x 1G" in held
    assert "after release: not known yet; 154 demoted so far" in held
    done = receipt.leaves_lines(images.released(images.report()))
    assert "after 512 x 4K, 511 x 2M, 1 x 1G; 154 demoted, all given back" in done


@pytest.mark.parametrize("verdict", abi.Verdict)
def test_tables_left_are_told_whatever_the_verdict(verdict: abi.Verdict) -> None:
    report = images.released(images.report(), tables_left=3, verdict=int(verdict))
    for text in (receipt.render(report), receipt.render_full(report)):
        assert "3 NOT given back" in text and "all given back" not in text
        assert f"verdict {verdict.name.lower()}" in text


def test_downtime_line_names_retries_and_nmis() -> None:
    line = receipt.downtime_line(images.report(attempts=3, nmis=2, stops_ns=4_100_000))
    assert line.endswith(
        "plan 0.2), 3 attempts stopped the machine for 4.1 ms together, 2 NMIs inside the stop"
    )
    assert "attempt" not in receipt.downtime_line(images.report())


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
    assert format_ns(value) == text


def test_format_bytes_and_pages() -> None:
    assert format_bytes(0) == "0 B"
    assert format_bytes(1 << 31) == "2.0 GiB"
    assert format_bytes(3 << 40) == "3.0 TiB"
    assert receipt.format_pages(524_288) == "524,288 (2.0 GiB)"


def test_a_stop_of_microseconds_keeps_its_phases() -> None:
    report = images.report(
        stop_ns=2_500, rendezvous_ns=300, save_ns=1_000, protect_ns=800, flush_ns=100, recopy_ns=200
    )
    line = receipt.downtime_line(report)
    assert line.startswith(
        "downtime 2.5 us (rendezvous 0.3, save 1.0, protect 0.8, flush 0.1, recopy 0.2, exit 0.1)"
    )


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, abi.Verdict.COMPLETE),
        ({"pages_lost": 1}, abi.Verdict.LOST),
        ({"hooks_missed": 1}, abi.Verdict.UNPROVEN),
        ({"entries_late": 1}, abi.Verdict.UNPROVEN),
        ({"mappings_unseen": 1}, abi.Verdict.UNPROVEN),
        ({"nmis_running": 1}, abi.Verdict.UNPROVEN),
        ({"pages_vanished": 1}, abi.Verdict.LOST),
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


def test_complete_says_what_it_cannot_know() -> None:
    report = images.report(verdict=int(abi.Verdict.COMPLETE), flags=abi.F_NOT_ZEROED)
    assert receipt.verdict_line(report) == (
        "verdict complete: every covered page is as it was at the instant, but for those that a "
        "device was handed since, to write (init_on_alloc=0)"
    )


def test_the_verdict_names_what_it_is_from_and_nothing_else() -> None:
    lost = images.report(verdict=2, pages_vanished=3, hooks_missed=9)
    assert receipt.verdict_line(lost) == (
        "verdict lost: 3 pages were unmapped or poisoned before they were read, zeros instead"
    )
    unproven = images.report(verdict=3, mappings_unseen=2, nmis_running=1)
    assert receipt.verdict_line(unproven) == (
        "verdict unproven: 2 mappings were made in a way that cannot be followed, "
        "1 CPUs were inside an NMI at the instant"
    )


def test_verdicts_are_from_the_counts_that_the_module_takes() -> None:
    source = (Path(__file__).parents[2] / "kmod" / "session.c").read_text()
    body = source.partition("static u32 verdict(")[2].partition("\n}")[0]
    lost, _, unproven = body.partition("LIVEDUMP_VERDICT_LOST")
    assert set(re.findall(r"report->(\w+)", lost)) == set(receipt.LOST)
    assert set(re.findall(r"report->(\w+)", unproven)) == set(receipt.UNPROVEN)


def test_counts_that_are_not_finished_are_told() -> None:
    def told(report: abi.ReportDict) -> list[bool]:
        words = ("still counting", "NOT all")
        texts = (receipt.render(report), receipt.render_full(report))
        return [any(word in text for text in texts) for word in words]

    assert told(images.report()) == [False, False]
    assert told(images.report(pages_counted=9)) == [True, False]
    assert told(images.released(images.report(pages_counted=9))) == [False, True]


def test_every_class_of_pages_is_shown() -> None:
    """A new pages_* field of the report must get its row."""
    rows = [row for title, rows in receipt.tables(images.report())[1:3] for row in rows]
    shown = ["pages_" + row.name.replace(" ", "_") for row in rows]
    assert sorted(shown) == sorted(name for name in abi.FIELDS if name.startswith("pages_"))


def test_the_classes_are_what_the_module_subtracts() -> None:
    """pages_in_place is what the others leave: see update_report() in kmod/session.c."""
    source = (Path(__file__).parents[2] / "kmod" / "session.c").read_text()
    formula = source.partition("report->pages_in_place =")[2].partition(";")[0]
    names = re.findall(r"report->(\w+)", formula)
    assert names[0] == "pages_ram"
    assert set(names[1:]) == set(receipt.CLASSES) - {"pages_in_place"}


def test_no_snapshot_yet() -> None:
    assert "no snapshot was taken" in receipt.render(abi.empty_report())


def test_one_screen() -> None:
    for report in (images.report(pages_counted=9), images.released(images.eager_report())):
        assert len(receipt.render(report).splitlines()) <= 23


def test_every_counter_of_page_tables_has_its_row() -> None:
    """Also those that the lines above the tables tell."""
    report = images.released(images.report(), demotions=4_711, tables_left=815, recopied=1_234)
    values = {row.name: row.value for _, rows in receipt.tables(report) for row in rows}
    assert (values["demotions"], values["tables left"]) == ("4,711", "815")
    assert values["recopied"] == "1,234"
    leaves = [values[f"leaves {when}"] for when in ("before", "held", "after")]
    assert leaves == [
        "512 x 4K, 511 x 2M, 1 x 1G",
        "2,048 x 4K, 508 x 2M, 1 x 1G",
        "512 x 4K, 511 x 2M, 1 x 1G",
    ]


def test_every_number_of_the_report_is_in_the_full_receipt() -> None:
    """A new field must get its row: each one that is counted shows in the text when it changes."""
    head = {"abi", "size", "state", "flags", "instant_boottime_ns", "instant_monotonic_ns"}
    base = images.released(images.report())
    text = receipt.render_full(base)
    for name in set(abi.FIELDS) - head:
        value = base[name]
        other = [n + 7_000 for n in value] if isinstance(value, list) else value + 70_000_000
        assert receipt.render_full({**base, name: other}) != text, name


def test_late_nmis_make_the_verdict_unproven_settled_ones_do_not() -> None:
    settled = images.report(nmis=4, recopies=1)
    assert receipt.final_verdict(settled) is abi.Verdict.COMPLETE
    late = images.report(nmis=4, recopies=3, nmis_late=1)
    assert receipt.final_verdict(late) is abi.Verdict.UNPROVEN
