"""A recording as metrics: for Prometheus, by node_exporter's textfile collector or promtool.

The text is OpenMetrics, and at the same time what parsers of Prometheus's older format take: they
know no type ``info``, and take a counter's ``_total`` for a metric of its own. A recording is over,
nothing in it counts on: what is no histogram is a gauge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

from livedump.analysis.latency import Latency, latencies
from livedump.kinds import ABOUT, kind_name
from livedump.metrics import Bucket
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.meta import suspended_ns
from livedump.recording.store import Recording

#: Buckets of the histograms go from about as long as reading a clock takes to longer than anybody
#: waits for a page.
LOWEST_NS, HIGHEST_NS = 1 << 5, 1 << 35

#: The upper bound of a bucket to its lower one, at most: histogram_quantile() takes values to be
#: spread evenly between them, but they may all lie at one end, as a single one does.
WIDEST = Fraction(11, 10)

_SECOND = 10**9


@cache
def edges_ns() -> tuple[int, ...]:
    """The upper bounds (excluded) of the buckets: the same for every recording, so that the
    histograms of many hosts can be added up.

    Each is a bound of a recording's own buckets, so that counts are exact; and it is the largest
    such that is at most :data:`WIDEST` of the one before, so no shorter list is as exact: ten for
    each power of two, 301 in all.
    """
    found = [LOWEST_NS]
    last = LOWEST_NS
    for low, _high in map(bounds, range(BUCKETS)):
        if low > found[-1] * WIDEST:
            found.append(last)
        if low > HIGHEST_NS:
            break
        last = low
    return tuple(found)


def openmetrics(found: Recording, kinds: Sequence[str] = (), *, timestamps: bool = False) -> str:
    """Latencies as histograms, counters, losses.

    :param kinds: only of these; empty: all. Losses are always there
    :param timestamps: give every value the wall time at which the recording ended, in seconds, as
        promtool wants it; the textfile collector and the Pushgateway refuse that
    """
    from prometheus_client.openmetrics.exposition import generate_latest

    families = _Families(found, timestamps)
    text: bytes = generate_latest(families.of(kinds))  # type: ignore[no-untyped-call]
    return text.decode()


class _Registry:
    """What prometheus_client writes."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        """All of it."""
        return self._families


class _Families:
    """Families of metrics; each has the host as a label, as a file may be of another one than the
    one that it is scraped from."""

    def __init__(self, found: Recording, timestamps: bool) -> None:
        self._found = found
        start_ns = int(found.meta["clocks"]["start"]["realtime_ns"])
        self._start = start_ns / _SECOND
        end_ns = start_ns + found.lasted_ns + suspended_ns(found.meta)
        self._end = _timestamp(end_ns) if timestamps else None

    def of(self, kinds: Sequence[str]) -> _Registry:
        """All families."""
        found = latencies(self._found, kinds)
        return _Registry(
            [*self._recording(), *self._latencies(found), self._events(kinds), self._lost()]
        )

    def _recording(self) -> Iterator[Any]:
        meta = self._found.meta
        labels = {"boot_id": meta["boot_id"], "kernel": meta["kernel"]["release"]}
        about = "What was recorded, and where; always 1."
        yield self._gauge("livedump_recording_info", about, [(labels, 1)])
        about = "When the recording started, since 1970."
        yield self._gauge("livedump_recording_start_seconds", about, [({}, self._start)])
        about = "How long the recording lasted."
        lasted = self._found.lasted_ns / _SECOND
        yield self._gauge("livedump_recording_duration_seconds", about, [({}, lasted)])

    def _latencies(self, found: Sequence[Latency]) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        parts = ", ".join(kind_name(kind) for kind, about in ABOUT.items() if about.part_of)
        about = f"Page faults and stops by kind; {parts} are parts of other kinds."
        name, labels = "livedump_latency_seconds", ["host", "kind"]
        family = HistogramMetricFamily(name, about, labels=labels, unit="seconds")
        for each in found:
            values = [self._found.meta["host"], each.kind]
            buckets = list(_cumulated(each.buckets))
            family.add_metric(values, buckets, each.sum_ns / _SECOND, timestamp=self._end)
        yield family
        longest = [({"kind": each.kind}, each.max_ns / _SECOND) for each in found]
        yield self._gauge("livedump_latency_max_seconds", "The longest of each kind.", longest)

    def _events(self, kinds: Sequence[str]) -> Any:
        rows = (
            ({"kind": row["kind"], "name": row["name"]}, row["count"])
            for row in self._found.tables["counters"]
            if row["name"] not in ("sum_ns", "max_ns") and (not kinds or row["kind"] in kinds)
        )
        return self._gauge("livedump_events", "What was counted.", rows)

    def _lost(self) -> Any:
        rows = (
            ({"probe": row["probe"], "what": row["what"]}, row["count"])
            for row in self._found.tables["losses"]
        )
        return self._gauge("livedump_lost", "What was not recorded.", rows)

    def _gauge(self, name: str, about: str, rows: Iterable[tuple[dict[str, str], float]]) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(name, about)
        for labels, value in rows:
            labels = {"host": self._found.meta["host"], **labels}
            family.add_sample(name, labels, value, timestamp=self._end)
        return family


def _cumulated(buckets: Iterable[Bucket]) -> Iterator[tuple[str, int]]:
    """How many values there are up to each bound."""
    rest = iter(sorted(buckets, key=lambda bucket: bucket.high_ns))
    bucket, seen = next(rest, None), 0
    for edge in edges_ns():
        while bucket is not None and bucket.high_ns <= edge:
            seen += bucket.count
            bucket = next(rest, None)
        # A bucket's upper bound is excluded; "le" is not, and times are whole nanoseconds.
        yield repr((edge - 1) / _SECOND), seen
    seen += bucket.count if bucket is not None else 0
    yield "+Inf", seen + sum(each.count for each in rest)


def _timestamp(time_ns: int) -> Any:
    from prometheus_client.samples import Timestamp

    return Timestamp(*divmod(time_ns, _SECOND))
