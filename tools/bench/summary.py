"""From samples to numbers, and which targets they meet: pure functions over the JSON's rows.

A ratio of medians is worth what its denominator is. On a busy host an empty stop waits for a core
far longer than it works, so that lazy/empty comes out small whatever lazy costs. A row whose empty
stops say so is therefore `noisy`, and meets or misses nothing that depends on them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from livedump import receipt
from livedump.trace.bench import Overhead, overheads

STRATEGIES = ("empty", "eager", "lazy")
PHASES = (*receipt.PHASES, "exit")

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


def clock_doubt(*found: dict[str, Any]) -> str:
    """Why runs prove nothing that were to count instructions; empty if they do."""
    counted = all(map(counts_instructions, found))
    return "" if counted else "the clock does not count instructions"


def fault_check(found: dict[str, Any]) -> Check:
    """The handler's target, from a run that counts instructions."""
    value = fault_costs(found).handler_copy
    doubt = clock_doubt(found)
    return _judged("fault handler/copy, instructions", value, "<= 3", value <= HANDLER_COPY, doubt)


# ---- a load under a held snapshot ----


def slowdown(load: dict[str, list[list[int]]], seconds: slice = slice(None)) -> float:
    """Median steps of the free phases over those of the held ones; *seconds* of each phase."""
    free, held = (
        statistics.median(sum(phase[seconds]) for phase in load[kind]) for kind in ("free", "held")
    )
    return free / held if held else float("inf")


# ---- hooks while nothing is held ----

#: What is touched, in hooks.json.
TOUCHED = ("anonymous", "shared")

HOOKS_IDLE = 1.03


def hooks_costs(found: dict[str, Any], what: str) -> dict[str, float]:
    """Instructions of a first touch in each state: medians."""
    return {state: statistics.median(costs[what]) for state, costs in found["states"].items()}


def hooks_idle(found: dict[str, Any], what: str) -> tuple[float, float]:
    """A first touch with hooks armed and nothing held, to the mean of those without the module
    before and after; and how far these two are apart, the larger to the smaller."""
    costs = hooks_costs(found, what)
    without = costs["unloaded"], costs["unloaded_again"]
    armed = max(costs["armed"], costs["released"])
    return armed / statistics.mean(without), max(without) / min(without)


def hooks_checks(found: dict[str, Any]) -> list[Check]:
    """The targets of hooks."""
    checks = []
    for what in TOUCHED:
        value, drift = hooks_idle(found, what)
        doubt = clock_doubt(found)
        if drift > HOOKS_IDLE:
            doubt = f"without the module it drifted by {drift:.2f}"
        name = f"hooks, nothing held: a first touch ({what})"
        checks.append(_judged(name, value, f"<= {HOOKS_IDLE}", value <= HOOKS_IDLE, doubt))
    return checks


# ---- preparation ----

PREPARATION_S = 0.5  # at 16 GiB
PREPARATION_GROWTH_MS = 10  # for each further GiB


def preparation_ms(row: dict[str, Any]) -> float:
    """Of one machine, ms."""
    return float(statistics.median(row["prepare_ns"]["whole"])) / 1e6


def preparation_growth(rows: Sequence[dict[str, Any]]) -> float:
    """From the smallest to the largest machine, ms for each GiB."""
    first, last = rows[0], rows[-1]
    more_ms = preparation_ms(last) - preparation_ms(first)
    return more_ms / float(last["ram_gib"] - first["ram_gib"])


def preparation_checks(found: dict[str, Any]) -> list[Check]:
    """The targets of preparation, in time; growth also in instructions, where no noise is."""
    last = found["time"][-1]
    seconds = preparation_ms(last) / 1e3
    name = f"preparation, {last['ram_gib']} GiB, s"
    checks = [_judged(name, seconds, f"<= {PREPARATION_S}", seconds <= PREPARATION_S, "")]
    doubts = {"time": "", "instructions": clock_doubt(*found["instructions"])}
    for unit, doubt in doubts.items():
        growth = preparation_growth(found[unit])
        met = growth <= PREPARATION_GROWTH_MS
        name = f"preparation, ms for each GiB ({unit})"
        checks.append(_judged(name, growth, f"<= {PREPARATION_GROWTH_MS}", met, doubt))
    return checks


# ---- tracers ----

#: What each load has measured.
TRACED = ("touch_ns", "compile_ns", "request_ns")

#: Beside the events' names in what perf has kept: how often it says that some are missing.
MISSING = "missing"

COUNTS_ALONE = 1.5
REALISTIC = 1.05


def tracing_costs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What loads cost under each tracer on one CPU, the recorder's part of it included: what it
    takes for each fault, and all the time."""
    rows = []
    for run in found["runs"]:
        [idle] = run["idle_share"]
        costs = {}
        for what in TRACED:
            [extra] = run[what.replace("_ns", "_extra_ns")]
            costs[what] = [(value + extra) / (1 - idle) for value in run[what]]
        rows.append({**run, **costs})
    return rows


def not_kept(found: dict[str, Any], tracer: str) -> str:
    """Why what perf costs proves nothing: it has fewer samples of an event than the load has made
    faults, or says itself that some are missing. Empty: neither, or it is another tracer."""
    if not tracer.startswith("perf"):
        return ""
    [run] = [run for run in found["runs"] if run["tracer"] == tracer]
    faults = found["pages"] * len(run["touch_ns"])
    kept = dict(found.get("kept", {}).get(tracer, {}))
    missing = kept.pop(MISSING, 0)
    fewest = min(kept.values(), default=0)
    if missing or fewest < faults:
        return f"{tracer} has {fewest:,} samples of {faults:,} faults or more"
    return ""


def tracing_checks(found: dict[str, Any]) -> list[Check]:
    """All targets of tracing."""
    costs = tracing_costs(found)
    touch, compiler, web = (
        {each.tracer: each for each in overheads(costs, what)} for what in TRACED
    )
    counts, default, events = (
        touch[name] for name in ("livedump counts", "livedump", "livedump events")
    )
    perf, same_data = touch["perf record"], touch["perf record, latencies"]
    funclatency = touch["funclatency"]

    def check(name: str, value: float, target: str, met: bool, *used: Overhead) -> Check:
        drift = max(each.drift for each in used)
        doubts = [f"without a tracer it drifted by {drift:.2f}"] if drift > 1.3 else []
        doubts += filter(None, (not_kept(found, each.tracer) for each in used))
        return _judged(name, value, target, met, ", ".join(doubts))

    peers = min(perf.ratio, funclatency.ratio)
    return [
        check(
            "tracing: counts alone",
            counts.ratio,
            f"<= {COUNTS_ALONE}",
            counts.ratio <= COUNTS_ALONE,
            counts,
        ),
        check(
            "tracing: default against the cheaper peer",
            default.ratio / peers,
            "< 1",
            default.ratio < peers,
            *(default, perf, funclatency),
        ),
        check(
            "tracing: events against perf record with the same data",
            events.ratio / same_data.ratio,
            "< 1",
            events.ratio < same_data.ratio,
            *(events, same_data),
        ),
        *(
            check(
                f"tracing: a {name} under the default",
                load["livedump"].ratio,
                f"<= {REALISTIC}",
                load["livedump"].ratio <= REALISTIC,
                load["livedump"],
            )
            for name, load in (("compiler", compiler), ("web server", web))
        ),
    ]
