"""From samples to numbers, and which targets they meet: pure functions over the JSON's rows.

A ratio of medians is worth what its denominator is. On a busy host an empty stop waits for a core
far longer than it works, so that lazy/empty comes out small whatever lazy costs. A row whose empty
stops say so is therefore `noisy`, and meets or misses nothing that depends on them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

STRATEGIES = ("empty", "eager", "lazy")
PHASES = ("rendezvous", "save", "protect", "flush", "recopy", "exit")

LAZY_EMPTY = 3.0
LAZY_EMPTY_GROWTH = 1.3  # 16 GiB against 1 GiB
EAGER_LAZY = 50.0  # at 8 GiB
HANDLER_COPY = 3.0
MIN_SAMPLES = 15
#: A quiet machine's stops are alike: their upper quartile is not so many times their minimum.
NOISY = 3.0
#: Nor does some task of the host wait for a CPU most of the time.
BUSY = 0.5


class Check(NamedTuple):
    """A target and what came of it; *met* is None where the samples cannot tell."""

    name: str
    value: float
    target: str
    met: bool | None
    note: str = ""


def median(row: dict[str, Any], name: str) -> float:
    """Of a row's stops, ns."""
    return float(statistics.median(row[f"{name}_stop_ns"]))


def ratio(row: dict[str, Any], over: str, under: str) -> float:
    """Of two medians of one boot."""
    return median(row, over) / median(row, under)


def min_ratio(row: dict[str, Any], over: str, under: str) -> float:
    """Of two minima of one boot: what the host's noise disturbs least."""
    return float(min(row[f"{over}_stop_ns"]) / min(row[f"{under}_stop_ns"]))


def noise(row: dict[str, Any]) -> float:
    """How far the short stops of a row are apart: upper quartile over minimum, the larger of the
    empty and the lazy ones'. Not the median: with some disturbed, it falls on either side."""
    stops = (row["empty_stop_ns"], row["lazy_stop_ns"])
    return float(max(_upper_quartile(each) / min(each) for each in stops))


def _upper_quartile(values: list[int]) -> int:
    return sorted(values)[3 * len(values) // 4]


def why_not(row: dict[str, Any]) -> str:
    """Why a row proves nothing; empty when it does."""
    reasons = []
    if len(row["empty_stop_ns"]) < MIN_SAMPLES:
        reasons.append(f"{len(row['empty_stop_ns'])} samples")
    if noise(row) > NOISY:
        reasons.append(f"noisy: the upper quartile is {noise(row):.0f} x the minimum")
    if (row["host_pressure"] or 0) > BUSY:
        reasons.append(f"the host was busy {row['host_pressure']:.0%} of the time")
    if ratio(row, "lazy", "empty") < 1:
        reasons.append("lazy cannot be shorter than an empty stop")
    return ", ".join(reasons)


def _judged(name: str, value: float, target: str, met: bool, doubt: str) -> Check:
    return Check(name, value, target, None if doubt else met, doubt)


def _plain(rows: Sequence[dict[str, Any]], ram_gib: int) -> dict[str, Any] | None:
    """The row of that size with nothing special in it."""
    return next((row for row in rows if row["name"] == f"{ram_gib}g"), None)


def downtime_checks(rows: Sequence[dict[str, Any]]) -> list[Check]:
    """All targets that the rows can say something about."""
    checks = []
    for row in rows:
        value = ratio(row, "lazy", "empty")
        name = f"{row['name']}: lazy/empty"
        checks.append(_judged(name, value, "<= 3", value <= LAZY_EMPTY, why_not(row)))
    small, large, middle = (_plain(rows, gib) for gib in (1, 16, 8))
    if small and large:
        value = ratio(large, "lazy", "empty") / ratio(small, "lazy", "empty")
        doubt = why_not(small) or why_not(large)
        met = value <= LAZY_EMPTY_GROWTH
        checks.append(_judged("lazy/empty, 16 GiB to 1 GiB", value, "<= 1.3", met, doubt))
    if middle:
        value = ratio(middle, "eager", "lazy")
        met = value >= EAGER_LAZY
        checks.append(_judged("8g: eager/lazy", value, ">= 50", met, why_not(middle)))
    return checks


def phases(row: dict[str, Any], name: str) -> dict[str, float]:
    """The profile of a stop: medians of its phases, ns. They need not add up to its median."""
    samples = row["phases"][name]
    return {
        phase: statistics.median(samples[f"{phase}_ns"])
        for phase in PHASES
        if f"{phase}_ns" in samples
    }


# ---- faults ----


class FaultCosts(NamedTuple):
    """Medians, in cycles without those of reading the counter; *first* is of a 2 MiB region."""

    plain_write: float
    bare_copy: float
    next_write: float
    next_handler: float
    first_write: float
    first_handler: float
    first_demote: float

    @property
    def handler_copy(self) -> float:
        """The handler in a region that is split already, against the copy."""
        return self.next_handler / self.bare_copy


def fault_costs(found: dict[str, Any]) -> FaultCosts:
    """Medians of what :mod:`tools.bench.fault` sampled. What the handler times itself has the
    counter's reading in it and keeps it."""
    cycles, reading = found["cycles"], found["clock"]["empty_cycles"]

    def of(name: str, less: int = 0) -> float:
        return float(statistics.median(cycles[name]) - less)

    return FaultCosts(
        plain_write=of("plain_write", reading),
        bare_copy=of("bare_copy", reading),
        next_write=of("fault_next_write", reading),
        next_handler=of("fault_next_handler"),
        first_write=of("fault_first_write", reading),
        first_handler=of("fault_first_handler"),
        first_demote=of("fault_first_demote"),
    )


def counts_instructions(found: dict[str, Any]) -> bool:
    """The clock really counted: a loop of 2000 instructions took so many cycles, and few more."""
    clock = found["clock"]
    return bool(2000 <= clock["loop_cycles"] <= 2010 + clock["empty_cycles"])


def fault_check(found: dict[str, Any]) -> Check:
    """The handler's target, from a run that counts instructions."""
    value = fault_costs(found).handler_copy
    doubt = "" if counts_instructions(found) else "the clock does not count instructions"
    return _judged("fault handler/copy, instructions", value, "<= 3", value <= HANDLER_COPY, doubt)


# ---- a load under a held snapshot ----


def slowdown(load: dict[str, list[list[int]]], seconds: slice = slice(None)) -> float:
    """Median steps of the free phases over those of the held ones; *seconds* of each phase."""
    free, held = (
        statistics.median(sum(phase[seconds]) for phase in load[kind]) for kind in ("free", "held")
    )
    return free / held if held else float("inf")


# ---- tracers ----

COUNTS_ALONE = 1.5
REALISTIC = 1.05


class Overhead(NamedTuple):
    """What a tracer makes of a load, against no tracer right before and after.

    :ivar touch: of a first touch of a page
    :ivar compile: of a compiler's run
    :ivar drift: the larger of the two first touches without a tracer against the other
    """

    tracer: str
    touch_ns: float
    touch: float
    compile: float
    drift: float


def overheads(found: dict[str, Any]) -> list[Overhead]:
    """One for each tracer, in the order in which they ran."""
    runs = found["runs"]
    result = []
    for before, run, after in zip(runs[::2], runs[1::2], runs[2::2], strict=False):
        alone = {
            load: [statistics.median(each[load]) for each in (before, after)]
            for load in ("touch_ns", "compile_ns")
        }
        touch_ns, compile_ns = (statistics.median(run[load]) for load in alone)
        result.append(
            Overhead(
                run["tracer"],
                touch_ns,
                touch_ns / statistics.mean(alone["touch_ns"]),
                compile_ns / statistics.mean(alone["compile_ns"]),
                max(alone["touch_ns"]) / min(alone["touch_ns"]),
            )
        )
    return result


def tracing_checks(found: dict[str, Any]) -> list[Check]:
    """All targets of tracing."""
    by_name = {each.tracer: each for each in overheads(found)}
    counts, default, events = (
        by_name[name] for name in ("livedump counts", "livedump", "livedump events")
    )
    perf, funclatency = by_name["perf record"], by_name["funclatency"]

    def check(name: str, value: float, target: str, met: bool, *used: Overhead) -> Check:
        drift = max(each.drift for each in used)
        doubt = f"the host drifted by {drift:.2f}" if drift > 1.3 else ""
        return _judged(name, value, target, met, doubt)

    peers = min(perf.touch, funclatency.touch)
    return [
        check(
            "tracing: counts alone",
            counts.touch,
            f"<= {COUNTS_ALONE}",
            counts.touch <= COUNTS_ALONE,
            counts,
        ),
        check(
            "tracing: default against the cheaper peer",
            default.touch / peers,
            "< 1",
            default.touch < peers,
            *(default, perf, funclatency),
        ),
        check(
            "tracing: events against perf record",
            events.touch / perf.touch,
            "< 1",
            events.touch < perf.touch,
            *(events, perf),
        ),
        check(
            "tracing: a compiler under the default",
            default.compile,
            f"<= {REALISTIC}",
            default.compile <= REALISTIC,
            default,
        ),
    ]
