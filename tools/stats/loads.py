"""Made-up recordings of kind `user`, whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow

from livedump.kinds import QUESTIONS
from livedump.recording import arrow
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.schema import MOST, TABLES
from livedump.recording.store import Recording

SLICE_S = 0.1
SLICE_NS = 100_000_000

#: Faults of the load ``one burst``, and how long each takes.
BURST = 30
BURST_NS = 5_000_000

LOWS = numpy.array([bounds(bucket)[0] for bucket in range(BUCKETS)], "u8")
HIGHS = numpy.array([min(bounds(bucket)[1], MOST) for bucket in range(BUCKETS)], "u8")


class InMemory(Recording):
    """With the large tables in memory, too."""

    def columns(self, name: str, only: Sequence[str] | None = None) -> Any:
        table: Any = self.tables[name]
        if isinstance(table, pyarrow.Table):
            return table.select(only) if only else table
        found = arrow.of_rows(name, table)
        return found.select(only) if only else found


@dataclass(frozen=True)
class Load:
    """What faults do.

    :ivar shape: ``even``, ``bursts``, ``two modes`` (1.05 % take 300 times as long: p99 lies
        between), ``gc`` (each 5 s ten times the faults, three times as long), ``on and off`` (long
        memory), ``start`` (20 times the faults, dying down in 3 s), ``one burst`` (even, and 30
        faults of 5 ms in one slice: all that is above p99.9)
    :ivar memory_s: how long bursts go on
    :ivar per_s: faults a second
    :ivar slower: factor of all latencies
    :ivar run_sd: by how much runs differ in rate, and in latency: standard deviation of logs
    """

    shape: str = "bursts"
    memory_s: float = 0.5
    per_s: float = 200.0
    slower: float = 1.0
    run_sd: float = 0.0


def run(chance: Any, seconds: int, load: Load) -> InMemory:
    """A recording of so many seconds.

    :param chance: a numpy Generator
    """
    slices = round(seconds / SLICE_S)
    factors = numpy.exp(load.run_sd * chance.normal(size=2)) if load.run_sd else (1.0, 1.0)
    rate, shift = _SHAPES[load.shape](chance, slices, load)
    per_slice = load.per_s * SLICE_S * factors[0] * rate
    number = numpy.repeat(numpy.arange(slices), chance.poisson(per_slice))
    if load.shape == "two modes":
        slow = chance.random(len(number)) < 0.0105
        means, spread = numpy.where(slow, 13.8, 8.0), 0.3
    else:
        means, spread = 9 + shift[number], 0.7
    values = load.slower * factors[1] * chance.lognormal(means, spread)
    if load.shape == "one burst":
        number = numpy.append(number, [chance.integers(slices)] * BURST)
        values = numpy.append(values, [BURST_NS] * BURST)
    return recording(number, values, seconds)


def recording(number: Any, values: Any, seconds: int) -> InMemory:
    """Of faults.

    :param number: the slice of each
    :param values: the latency of each, ns
    """
    values = values.astype("u8")
    bucket = LOWS.searchsorted(values, side="right") - 1
    cells, cell, count = numpy.unique(
        number * BUCKETS + bucket, return_inverse=True, return_counts=True
    )
    number, place = numpy.divmod(cells, BUCKETS)
    columns = {
        "slice": number.astype("u4"),
        "start_ns": (number * SLICE_NS).astype("u8"),
        "kind": pyarrow.array(["user"]).take(pyarrow.array(numpy.zeros(len(cells), "i4"))),
        "bucket_low_ns": LOWS[place],
        "bucket_high_ns": HIGHS[place],
        "count": count.astype("u8"),
        "stalled_ns": numpy.bincount(cell, values, len(cells)).astype("u8"),
    }
    found, total = numpy.unique(bucket, return_counts=True)
    edges = {"bucket_low_ns": LOWS[found], "bucket_high_ns": HIGHS[found], "count": total}
    histogram = zip(*(column.tolist() for column in edges.values()), strict=True)
    sums = {"sum_ns": int(values.sum()), "max_ns": int(values.max()), "events": len(values)}
    tables: dict[str, Any] = {name: [] for name in TABLES}
    tables["slices"] = pyarrow.table(columns)
    tables["histograms"] = [
        dict(zip(("kind", *edges), ("user", *row), strict=True)) for row in histogram
    ]
    tables["counters"] = [
        {"kind": "user", "name": name, "count": value} for name, value in sums.items()
    ]
    return InMemory(_meta(seconds, values), tables)


def _meta(seconds: int, values: Any) -> dict[str, Any]:
    return {
        "host": "made up",
        "recording_id": str(hash(values.tobytes())),
        "machine_id": "",
        "boot_id": "none",
        "labels": {},
        "kernel": {"release": "none", "machine": "none"},
        "cpus": 1,
        "memory_bytes": 1 << 30,
        "versions": {},
        "clocks": {"start": {"monotonic_ns": 0}, "end": {"monotonic_ns": seconds * 10**9}},
        "slice_ns": SLICE_NS,
        "ended_by": "duration",
        "questions": list(QUESTIONS),
        "probes": [],
        "absent": [],
        "unmeasured": [],
        "options": {},
        "command": None,
    }


# ---- shapes: factor of the rate and addition to the latency's logarithm, by slice ----


def _even(_chance: Any, slices: int, _load: Load) -> tuple[Any, Any]:
    return numpy.ones(slices), numpy.zeros(slices)


def _bursts(chance: Any, slices: int, load: Load) -> tuple[Any, Any]:
    """An autoregressive process of variance 1."""
    kept = math.exp(-SLICE_S / load.memory_s)
    walk = chance.normal(size=slices)
    walk[1:] *= math.sqrt(1 - kept**2)
    for step in range(1, slices):
        walk[step] += kept * walk[step - 1]
    return numpy.exp(0.5 * walk), 0.2 * walk


def _gc(chance: Any, slices: int, _load: Load) -> tuple[Any, Any]:
    busy = (numpy.arange(slices) * SLICE_S + chance.uniform(0, 5)) % 5 < 1
    return numpy.where(busy, 10.0, 1.0), numpy.where(busy, math.log(3), 0.0)


def _on_and_off(chance: Any, slices: int, _load: Load) -> tuple[Any, Any]:
    lengths = numpy.maximum(1, (chance.pareto(1.5, slices) + 1) * 5).astype(int)
    states = (numpy.arange(slices) + chance.integers(2)) % 2
    busy = numpy.repeat(states, lengths)[:slices] > 0
    return numpy.where(busy, 1.8, 0.2), numpy.where(busy, 0.3, -0.3)


def _start(_chance: Any, slices: int, _load: Load) -> tuple[Any, Any]:
    return 1 + 20 * numpy.exp(-numpy.arange(slices) * SLICE_S / 3), numpy.zeros(slices)


_SHAPES = {
    "even": _even,
    "two modes": _even,
    "one burst": _even,
    "bursts": _bursts,
    "gc": _gc,
    "on and off": _on_and_off,
    "start": _start,
}
