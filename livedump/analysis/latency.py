"""Percentiles from log-linear histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from livedump.recording.store import Recording

#: Quantiles by their usual name.
QUANTILES = {
    "p50": Fraction(1, 2),
    "p90": Fraction(9, 10),
    "p99": Fraction(99, 100),
    "p99.9": Fraction(999, 1000),
}

#: Order and meaning of kinds.
KINDS = {
    "user": "fault from user mode, inside handle_mm_fault",
    "user_major": "of these, those that had to wait for a disk",
    "uaccess": "kernel touches user memory, inside handle_mm_fault",
    "gup": "pages faulted in without an exception, inside handle_mm_fault",
    "kernel": "any fault in kernel mode",
    "cow": "livedump's copy-on-write fault, probe entry to writable",
    "cow_demote": "of that, until the 4 KiB entry was reached: upper entries opened, tables built",
    "cow_copy": "of that, copying the page",
    "stop": "stop_machine(), call to return",
}


@dataclass(frozen=True)
class Bucket:
    """Values from *low_ns* to below *high_ns*, and how many."""

    low_ns: int
    high_ns: int
    count: int


@dataclass(frozen=True)
class Latency:
    """One kind's latencies, ns. Percentiles are within 3.2 %; count, sum and max are exact."""

    kind: str
    count: int
    sum_ns: int
    max_ns: int
    percentiles_ns: Mapping[str, int]
    buckets: tuple[Bucket, ...]

    @property
    def mean_ns(self) -> float:
        """Exact mean."""
        return self.sum_ns / self.count if self.count else 0.0

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


def percentile(buckets: Sequence[Bucket], quantile: Fraction, max_ns: int | None = None) -> int:
    """The value that *quantile* of all values do not exceed (nearest rank), as its bucket's middle.

    :param buckets: sorted, not empty
    :param quantile: above 0, at most 1
    :param max_ns: the exact maximum, which no result exceeds
    :raises ValueError: no values, or no such quantile
    """
    total = sum(bucket.count for bucket in buckets)
    if not total:
        raise ValueError("no values")
    if not 0 < quantile <= 1:
        raise ValueError(f"no such quantile: {quantile}")
    rank = -(-total * quantile.numerator // quantile.denominator)
    if max_ns is not None and rank == total:
        return max_ns
    seen = 0
    for bucket in buckets:
        seen += bucket.count
        if seen >= rank:
            middle = (bucket.low_ns + bucket.high_ns - 1) // 2
            return middle if max_ns is None else min(middle, max_ns)
    raise AssertionError("unreachable")


def latencies(recording: Recording, kinds: Sequence[str] = ()) -> list[Latency]:
    """Latencies of every kind that was seen, in the order of :data:`KINDS`."""
    counters = {(row["kind"], row["name"]): row["count"] for row in recording.tables["counters"]}
    found: dict[str, list[Bucket]] = {}
    for row in recording.tables["histograms"]:
        bucket = Bucket(row["bucket_low_ns"], row["bucket_high_ns"], row["count"])
        found.setdefault(row["kind"], []).append(bucket)
    result = []
    for kind in sorted(found, key=kind_order):
        if kinds and kind not in kinds:
            continue
        buckets = tuple(sorted(found[kind], key=lambda bucket: bucket.low_ns))
        max_ns = counters.get((kind, "max_ns"), buckets[-1].high_ns - 1)
        middle = sum(b.count * (b.low_ns + b.high_ns - 1) // 2 for b in buckets)
        result.append(
            Latency(
                kind=kind,
                count=sum(bucket.count for bucket in buckets),
                sum_ns=counters.get((kind, "sum_ns"), middle),
                max_ns=max_ns,
                percentiles_ns={
                    name: percentile(buckets, quantile, max_ns)
                    for name, quantile in QUANTILES.items()
                },
                buckets=buckets,
            )
        )
    return result


def kind_order(kind: str) -> tuple[int, str]:
    """Sort key: the order of :data:`KINDS`, unknown ones last."""
    names = list(KINDS)
    return (names.index(kind) if kind in KINDS else len(names), kind)
