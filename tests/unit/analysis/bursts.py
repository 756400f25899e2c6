"""Made-up recordings whose faults come in bursts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pyarrow

from livedump.recording import arrow
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.schema import MOST
from livedump.recording.store import Recording

SLICE_S = 0.1

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


def bursty(chance: Any, seconds: int, *, slower: float = 1.0, memory_s: float = 0.5) -> InMemory:
    """Kind `user`: from slice to slice load and latency go up and down and only slowly forget.

    :param chance: a numpy Generator
    :param slower: factor of all latencies
    """
    slices = round(seconds / SLICE_S)
    load = _walk(chance, slices, numpy.exp(-SLICE_S / memory_s))
    number = numpy.repeat(numpy.arange(slices), chance.poisson(20 * numpy.exp(0.5 * load)))
    values = slower * chance.lognormal(9 + 0.2 * load[number], 0.7)
    bucket = LOWS.searchsorted(values.astype("u8"), side="right") - 1
    cells, count = numpy.unique(number * BUCKETS + bucket, return_counts=True)
    number, bucket = numpy.divmod(cells, BUCKETS)
    columns = {
        "slice": number.astype("u4"),
        "start_ns": (number * 100_000_000).astype("u8"),
        "kind": pyarrow.array(["user"]).take(pyarrow.array(numpy.zeros(len(cells), "i4"))),
        "bucket_low_ns": LOWS[bucket],
        "bucket_high_ns": HIGHS[bucket],
        "count": count.astype("u8"),
    }
    clocks = {"start": {"monotonic_ns": 0}, "end": {"monotonic_ns": seconds * 10**9}}
    tables: dict[str, Any] = {"slices": pyarrow.table(columns)}
    return InMemory({"slice_ns": 100_000_000, "clocks": clocks}, tables)


def _walk(chance: Any, steps: int, kept: float) -> Any:
    """An autoregressive process of variance 1."""
    found = chance.normal(size=steps)
    found[1:] *= numpy.sqrt(1 - kept**2)
    for step in range(1, steps):
        found[step] += kept * found[step - 1]
    return found
