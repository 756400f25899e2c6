"""Percentiles from log-linear histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from livedump.kinds import kind_order
from livedump.metrics import QUANTILES, Bucket, Values
from livedump.recording.store import Recording


@dataclass(frozen=True)
class Latency(Values):
    """One kind's latencies, ns. Percentiles are within 3.2 %; count, sum and max are exact."""

    kind: str = ""

    @property
    def percentiles_ns(self) -> dict[str, int]:
        """By the names of :data:`livedump.metrics.QUANTILES`."""
        return {name: self.quantile_ns(share) for name, share in QUANTILES.items()}

    def to_dict(self) -> dict[str, object]:
        """Numbers without the buckets, for JSON."""
        return {
            "kind": self.kind,
            "count": self.count,
            "sum_ns": self.sum_ns,
            "mean_ns": round(self.mean_ns, 1),
            **{f"{name}_ns": value for name, value in self.percentiles_ns.items()},
            "max_ns": self.max_ns,
        }


def latencies(recording: Recording, kinds: Sequence[str] = ()) -> list[Latency]:
    """Latencies of every kind that was seen, in the order of :data:`livedump.kinds.KINDS`."""
    counters = {(row["kind"], row["name"]): row["count"] for row in recording.tables["counters"]}
    found: dict[str, list[Bucket]] = {}
    for row in recording.tables["histograms"]:
        if row["count"] and (not kinds or row["kind"] in kinds):
            bucket = Bucket(row["bucket_low_ns"], row["bucket_high_ns"], row["count"])
            found.setdefault(row["kind"], []).append(bucket)
    return [
        Latency(
            tuple(sorted(found[kind], key=lambda bucket: bucket.low_ns)),
            counters.get((kind, "sum_ns")),
            counters.get((kind, "max_ns")),
            kind,
        )
        for kind in sorted(found, key=kind_order)
    ]
