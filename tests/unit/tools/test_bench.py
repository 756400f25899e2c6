"""What tools.bench makes of samples: numbers, verdicts, chart. No machine is booted."""

from __future__ import annotations

import os
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tools.bench import chart, report, summary, tracing
from tools.bench.__main__ import merge
from tools.bench.fault import sort_touches
from tools.bench.guest import add_sample
from tools.bench.module import Clock, Touch
from tools.bench.rows import BY_NAME, ROWS

MS = 1_000_000


def make_row(
    ram_gib: int, empty: int = 1, lazy: int = 2, eager: int = 200, samples: int = 15, **more: Any
) -> dict[str, Any]:
    """A row of a quiet machine; times in ms."""
    stops = {"empty": empty, "lazy": lazy, "eager": eager}
    phases = {
        name: {f"{phase}_ns": [value * MS] for phase in summary.PHASES}
        for name, value in stops.items()
    }
    return {
        "name": f"{ram_gib}g",
        "kernel": "6.1",
        "ram_gib": ram_gib,
        **{f"{name}_stop_ns": [value * MS] * samples for name, value in stops.items()},
        "phases": phases,
        "host_pressure": 0.1,
        **more,
    }


def verdicts(*rows: dict[str, Any]) -> dict[str, bool | None]:
    """By the target's name."""
    return {check.name: check.met for check in summary.downtime_checks(rows)}


def test_targets_met() -> None:
    rows = [make_row(gib) for gib in (1, 8, 16)]
    found = verdicts(*rows)
    assert len(found) == 5
    assert set(found.values()) == {True}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (make_row(8, lazy=4), "8g: lazy/empty"),
        (make_row(8, eager=99), "8g: eager/lazy"),
    ],
)
def test_target_missed(row: dict[str, Any], name: str) -> None:
    assert verdicts(row)[name] is False


def test_growth_missed() -> None:
    found = verdicts(make_row(1, lazy=2), make_row(16, lazy=3))
    assert found["16g: lazy/empty"] is True
    assert found["lazy/empty, 16 GiB to 1 GiB"] is False


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": 14}, "14 samples"),
        ({"empty_stop_ns": [MS] * 11 + [4 * MS] * 4}, "4 x the minimum"),
        ({"lazy_stop_ns": [2 * MS] * 11 + [20 * MS] * 4}, "10 x the minimum"),
        ({"host_pressure": 0.8}, "busy 80%"),
        ({"lazy": 0.5}, "cannot be shorter"),
    ],
)
def test_what_proves_nothing(change: dict[str, Any], reason: str) -> None:
    row = make_row(8, **change)
    checks = summary.downtime_checks([row])
    assert [check.met for check in checks] == [None, None]
    assert reason in checks[0].note


def test_unknown_pressure_is_no_noise() -> None:
    assert summary.why_not(make_row(1, host_pressure=None)) == ""


def found_faults(handler: int, loop_cycles: int = 2005) -> dict[str, Any]:
    """What a guest that counts instructions says; reading the counter takes 4."""
    clock = Clock(1_000_000, 4, loop_cycles)
    cycles: dict[str, Any] = {"plain_write": [6], "bare_copy": [104]}
    touches = [Touch(0, 904, 500, 100, 800), Touch(1, 504, 0, 100, handler), Touch(2, 6, 0, 0, 0)]
    sort_touches(cycles, "fault", touches, clock)
    return {"clock": clock._asdict(), "cycles": cycles}


def test_fault_costs_leave_out_the_clock() -> None:
    found = found_faults(300)
    costs = summary.fault_costs(found)
    assert (costs.plain_write, costs.bare_copy, costs.next_write) == (2, 100, 500)
    assert (costs.next_handler, costs.first_handler, costs.first_demote) == (300, 800, 500)
    assert found["cycles"]["without_fault"] == 1


@pytest.mark.parametrize(("handler", "met"), [(300, True), (301, False)])
def test_fault_target(handler: int, met: bool) -> None:
    assert summary.fault_check(found_faults(handler)).met is met


def test_a_clock_that_does_not_count_proves_nothing() -> None:
    assert summary.fault_check(found_faults(300, loop_cycles=900)).met is None


def test_cycles_of_a_slow_counter() -> None:
    cycles: dict[str, Any] = {}
    sort_touches(cycles, "fault", [Touch(1, 10, 0, 20, 40)], Clock(2_500_000, 4, 2005))
    assert cycles["fault_next_copy"] == [50]
    assert cycles["fault_next_handler"] == [100]


def found_preparation(last_ms: float, loop_cycles: int = 2005) -> dict[str, Any]:
    """preparation.json: 300 ms at 2 GiB, so much at 16."""
    clock = {"tsc_khz": 1_000_000, "empty_cycles": 4, "loop_cycles": loop_cycles}
    rows = [
        {"ram_gib": gib, "clock": clock, "prepare_ns": {"whole": [1, ms * 1e6, 9e9]}}
        for gib, ms in ((2, 300), (16, last_ms))
    ]
    return {"time": rows, "instructions": rows}


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (found_preparation(440), [True, True, True]),
        (found_preparation(441), [True, False, False]),
        (found_preparation(501), [False, False, False]),
        (found_preparation(440, loop_cycles=900), [True, True, None]),
    ],
)
def test_targets_of_preparation(found: dict[str, Any], met: list[bool | None]) -> None:
    assert [check.met for check in summary.preparation_checks(found)] == met


def found_hooks(armed: float, again: float = 1010, loop_cycles: int = 2005) -> dict[str, Any]:
    """hooks.json: first touches of 990 instructions without the module, before it was loaded."""
    states = {"unloaded": 990, "armed": armed, "released": armed - 1, "unloaded_again": again}
    return {
        "clock": {"tsc_khz": 1_000_000, "empty_cycles": 4, "loop_cycles": loop_cycles},
        "states": {
            state: {what: [cost] * 3 for what in summary.TOUCHED} for state, cost in states.items()
        },
    }


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (found_hooks(1030), True),
        (found_hooks(1031), False),
        (found_hooks(1030, again=1030), None),
        (found_hooks(1030, loop_cycles=900), None),
    ],
)
def test_target_of_hooks(found: dict[str, Any], met: bool | None) -> None:
    assert [check.met for check in summary.hooks_checks(found)] == [met] * len(summary.TOUCHED)


def test_slowdown() -> None:
    load = {"free": [[10, 10], [12, 12]], "held": [[5, 10], [7, 12]]}
    assert summary.slowdown(load) == 22 / 17
    assert summary.slowdown(load, slice(1)) == 11 / 6
    assert summary.slowdown(load, slice(-1, None)) == 1


def test_slowdown_to_nothing() -> None:
    assert summary.slowdown({"free": [[1]], "held": [[0]]}) == float("inf")


def test_add_sample_sorts() -> None:
    row: dict[str, Any] = {}
    for stop_ns in (5, 6):
        add_sample(row, "lazy", {"stop_ns": stop_ns, "save_ns": stop_ns - 4, "pages_ram": 9})
    assert row == {
        "lazy_stop_ns": [5, 6],
        "covered": {"lazy": {"pages_ram": 9}},
        "phases": {"lazy": {"save_ns": [1, 2]}},
    }


def test_merge_replaces_the_same_row_and_keeps_the_order() -> None:
    old, small, other = make_row(8), make_row(1), make_row(8, kernel="6.12")
    new = make_row(8, lazy=9)
    rows = merge(merge(merge([old], other), small), new)
    assert rows == [small, new, other]


def test_rows() -> None:
    assert len(BY_NAME) == len(ROWS)
    assert [row.ram_gib for row in ROWS[:5]] == [1, 2, 4, 8, 16]
    assert BY_NAME["4g-5000-threads"].extra_threads == 5000
    assert BY_NAME["8g-vmalloc-2g"].vmalloc_gib == 2
    assert BY_NAME["4g-4-cpus"].cpus == 4


def test_chart_is_well_formed_and_to_scale() -> None:
    rows = [make_row(16), make_row(1), make_row(4, name="4g-4-cpus")]
    root = ET.fromstring(chart.svg(rows))
    space = "{http://www.w3.org/2000/svg}"
    circles = root.findall(f"{space}circle")
    assert len(circles) == 6  # of three stops, the two rows that differ by size only
    empty, _, eager = circles[0], circles[1], circles[2]
    assert float(empty.attrib["cy"]) > float(eager.attrib["cy"])  # longer is higher
    assert float(empty.attrib["cx"]) < float(circles[1].attrib["cx"])  # by size


def test_chart_of_nothing() -> None:
    assert chart.svg([make_row(4, name="4g-4-cpus")]) == ""


def test_tables_have_all_rows() -> None:
    rows = [make_row(1), make_row(2, host_pressure=None)]
    assert report.downtime(rows).row_count == 2
    assert report.profile(rows).row_count == 6
    assert report.targets(summary.downtime_checks(rows)).row_count == 2
    faults = found_faults(300)
    assert report.faults({"time": faults, "instructions": faults}).row_count == 8


def test_slowdown_table_shows_spread_and_share() -> None:
    load = {"free": [[4, 6], [20, 10]], "held": [[3, 3]], "fault_total_ns": [20 * MS]}
    table = report.slowdown(
        {"phase_seconds": 2, **dict.fromkeys(("process", "file", "network"), load)}
    )
    cells = [list(column.cells)[0] for column in table.columns]
    assert cells == ["process", "10.0", "5.0 - 15.0", "3.0", "3.33", "4.00", "1.00%"]


def found_tracing(costs: dict[str, float], drift: float = 1.0) -> dict[str, Any]:
    """tracing.json: what a first touch costs under each tracer, against 1000 ns."""
    none: dict[str, list[float]] = {
        f"{name}_extra_ns": [0] for name in ("touch", "compile", "request")
    }
    realistic = {"compile_ns": [2e8], "request_ns": [3e6]}
    alone = {
        "tracer": "none",
        "touch_ns": [900, 1000, 5000],
        **realistic,
        **none,
        "idle_share": [0],
    }
    later = {**alone, "touch_ns": [1000 * drift]}
    runs: list[dict[str, Any]] = [alone]
    for name, cost in costs.items():
        slower = {what: [known * (0.9 + cost / 10)] for what, (known,) in realistic.items()}
        slower |= {**none, "idle_share": [0]}
        runs += [{"tracer": name, "touch_ns": [1000 * cost], **slower}, later]
    kept = {
        "perf record": {"user": 4000, "missing": 0},
        "perf record, latencies": {"user": 4000, "return": 4100, "missing": 0},
    }
    return {"kernel": "6.1", "pages": 4000, "runs": runs, "kept": kept}


COSTS = {
    "livedump counts": 1.4,
    "livedump": 1.5,
    "livedump all stacks": 2.0,
    "livedump events": 2.5,
    "perf record": 2.4,
    "perf record, latencies": 3.0,
    "funclatency": 1.8,
}


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, set()),
        ({"livedump counts": 1.6}, {"tracing: counts alone"}),
        ({"funclatency": 1.45}, {"tracing: default against the cheaper peer"}),
        (
            {"livedump events": 3.1},
            {"tracing: events against perf record with the same data"},
        ),
        (
            {"livedump": 1.7, "perf record": 1.6},
            {
                "tracing: default against the cheaper peer",
                "tracing: a compiler under the default",
                "tracing: a web server under the default",
            },
        ),
    ],
)
def test_tracing_targets(changed: dict[str, float], missed: set[str]) -> None:
    checks = summary.tracing_checks(found_tracing({**COSTS, **changed}))
    assert {check.name for check in checks if check.met is False} == missed
    assert len(checks) == 5


def test_drift_of_the_host_proves_nothing() -> None:
    checks = summary.tracing_checks(found_tracing(COSTS, drift=1.4))
    # Between the first two runs without a tracer it drifted, not later.
    assert [check.met for check in checks] == [None, True, True, True, True]
    assert report.tracing(found_tracing(COSTS)).row_count == len(COSTS)


@pytest.mark.parametrize(
    "kept",
    [
        {"user": 4000, "return": 3999, "missing": 0},
        {"user": 9999, "return": 9999, "missing": 1},
        {},
    ],
)
def test_a_peer_that_has_not_kept_all_proves_nothing(kept: dict[str, int]) -> None:
    """What it loses costs it nothing; each of its events has to be there."""
    found = found_tracing(COSTS)
    found["kept"]["perf record, latencies"] = kept
    unproven = [check for check in summary.tracing_checks(found) if check.met is None]
    assert [check.name for check in unproven] == [
        "tracing: events against perf record with the same data"
    ]
    assert "samples of 4,000 faults" in unproven[0].note


def test_compiler_in_a_root_of_its_own(tmp_path: Path) -> None:
    """With all that it reads; two rounds, as the second finds the first one's files."""
    if os.geteuid():
        pytest.skip("needs root: chroot(2)")
    tracing.compiler_in(tmp_path)
    assert all(ns > 1e6 for ns in tracing.cpu_times(tracing.COMPILE, tmp_path, 2))
    assert b"f29" in (tmp_path / "compiled.o").read_bytes()
    assert not list((tmp_path / "tmp").iterdir())


def test_what_perf_has_kept() -> None:
    """As perf 6.1 says it: an event without a sample has no line of its own."""
    stats = """
Aggregated stats:
           TOTAL events:       1186
            MMAP events:         16  ( 8.6%)
          SAMPLE events:        300  ( 1.1%)
            LOST events:          2  ( 1.1%)
        THROTTLE events:          3  ( 1.1%)
      UNTHROTTLE events:          3  ( 1.1%)
    LOST_SAMPLES events:          1  ( 1.1%)
exceptions:page_fault_user stats:
          SAMPLE events:        300
probe:handle_mm_fault__return stats:
"""
    assert tracing.perf_kept(stats) == {
        "exceptions:page_fault_user": 300,
        "probe:handle_mm_fault__return": 0,
        "missing": 6,
    }
    with pytest.raises(ValueError, match="not perf's statistics"):
        tracing.perf_kept("")


def test_what_a_recorder_takes_is_in_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a CPU here, all of it besides what it takes while nothing happens; then half of that."""
    done = threading.Event()

    def record() -> None:
        while not done.wait(0.002):
            end = time.thread_time() + 0.002
            while time.thread_time() < end:
                pass

    def work(rounds: int) -> list[float]:
        time.sleep(0.3)
        return [1000.0] * rounds

    monkeypatch.setattr(tracing, "SETTLE_S", 0.1)
    assert tracing.with_recorder("touch", work, 2, 10, 0.0) == {
        "touch_ns": [1000, 1000],
        "touch_extra_ns": [0],
    }
    recorder = threading.Thread(target=record)
    recorder.start()
    with tracing.recording_by(os.getpid()):
        [extra] = tracing.with_recorder("touch", work, 2, 10, 0.0)["touch_extra_ns"]
        [none] = tracing.with_recorder("touch", work, 2, 10, 1.0)["touch_extra_ns"]
    done.set()
    recorder.join()
    assert 0.1 < extra * 20 / 4e8 < 0.9
    assert none == 0


def test_costs_have_the_recorder_s_part() -> None:
    run = {
        "tracer": "x",
        "touch_ns": [2, 3],
        "request_ns": [5],
        "compile_ns": [6],
        "idle_share": [0.5],
    }
    extra = {"touch_extra_ns": [1], "request_extra_ns": [0], "compile_extra_ns": [4]}
    [cost] = summary.tracing_costs({"runs": [run | extra]})
    assert [cost[what] for what in summary.TRACED] == [[6, 8], [20], [10]]
