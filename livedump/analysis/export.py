"""Recordings in the formats of other tools: speedscope, OpenMetrics.

Folded stacks are made in :mod:`livedump.analysis.stacks`, traces in
:mod:`livedump.analysis.perfetto`, data sets in :mod:`livedump.analysis.dataset`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from livedump.analysis import stacks
from livedump.analysis.files import ExportError, write_file
from livedump.analysis.latency import Latency, latencies
from livedump.analysis.perfetto import perfetto
from livedump.kinds import kind_order
from livedump.recording.store import Recording

STEP = "export"

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"

#: Columns of the table ``stacks`` -> unit of a speedscope profile.
_SPEEDSCOPE_UNITS = {"count": "none", "stalled_ns": "nanoseconds"}


# ---- speedscope ----


def speedscope(found: Recording, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """A file for https://www.speedscope.app: for each kind a profile by count and, where it is
    timed, one by stalled time."""
    frames: dict[str, int] = {}
    profiles = []
    seen = {row["kind"] for row in stacks.rows(found, kinds)}
    for kind in sorted(seen, key=kind_order):
        for weight, unit in _SPEEDSCOPE_UNITS.items():
            profile = _profile(found, kind, weight, frames)
            if profile["weights"]:
                name = f"{kind} by {weight}"
                profiles.append({"type": "sampled", "name": name, "unit": unit, **profile})
    return {
        "$schema": SPEEDSCOPE_SCHEMA,
        "name": _title(found),
        "exporter": f"livedump@{found.meta['versions']['livedump']}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
    }


def _profile(found: Recording, kind: str, weight: str, frames: dict[str, int]) -> dict[str, Any]:
    samples, weights = [], []
    for line in stacks.folded_lines(found, (kind,), weight):
        stack, _, value = line.rpartition(" ")
        samples.append([frames.setdefault(name, len(frames)) for name in stack.split(";")])
        weights.append(int(value))
    return {"startValue": 0, "endValue": sum(weights), "samples": samples, "weights": weights}


# ---- OpenMetrics ----


def openmetrics(found: Recording, kinds: Sequence[str] = ()) -> str:
    """Text of the OpenMetrics format: latencies as histograms, counters, losses."""
    start = found.meta["clocks"]["start"]["realtime_ns"] / 1e9
    lines = [
        "# TYPE livedump_recording info",
        "# HELP livedump_recording What was recorded, and where.",
        _sample(
            "livedump_recording_info",
            {
                "host": found.meta["host"],
                "boot_id": found.meta["boot_id"],
                "kernel": found.meta["kernel"]["release"],
            },
            1,
        ),
        "# TYPE livedump_latency_seconds histogram",
        "# UNIT livedump_latency_seconds seconds",
        "# HELP livedump_latency_seconds Page faults and stops; their kinds are in the manual.",
    ]
    for latency in latencies(found, kinds):
        lines += _histogram(latency, start)
    lines += _counter(
        "livedump_events",
        "Things that were counted.",
        (
            ({"kind": row["kind"], "name": row["name"]}, row["count"])
            for row in found.tables["counters"]
            if row["name"] not in ("sum_ns", "max_ns") and (not kinds or row["kind"] in kinds)
        ),
    )
    lines += _counter(
        "livedump_lost",
        "What was not recorded.",
        (
            ({"probe": row["probe"], "what": row["what"]}, row["count"])
            for row in found.tables["losses"]
        ),
    )
    return "\n".join([*lines, "# EOF", ""])


def _histogram(latency: Latency, created: float) -> Iterator[str]:
    name = "livedump_latency_seconds"
    seen = 0
    for bucket in latency.buckets:
        seen += bucket.count
        # A bucket's upper bound is exclusive; "le" is not, and times are whole nanoseconds.
        labels = {"kind": latency.kind, "le": repr((bucket.high_ns - 1) / 1e9)}
        yield _sample(f"{name}_bucket", labels, seen)
    yield _sample(f"{name}_bucket", {"kind": latency.kind, "le": "+Inf"}, latency.count)
    yield _sample(f"{name}_count", {"kind": latency.kind}, latency.count)
    yield _sample(f"{name}_sum", {"kind": latency.kind}, latency.sum_ns / 1e9)
    yield _sample(f"{name}_created", {"kind": latency.kind}, created)


def _counter(name: str, text: str, samples: Iterable[tuple[dict[str, str], int]]) -> Iterator[str]:
    yield f"# TYPE {name} counter"
    yield f"# HELP {name} {text}"
    for labels, value in samples:
        yield _sample(f"{name}_total", labels, value)


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value!r}"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# ---- all of them ----


def _folded(found: Recording, kinds: Sequence[str], weight: str) -> str:
    return stacks.folded(found, kinds, weight) or _no_stacks(found, kinds, weight)


def _speedscope(found: Recording, kinds: Sequence[str], weight: str) -> str:
    data = speedscope(found, kinds)
    return json.dumps(data) + "\n" if data["profiles"] else _no_stacks(found, kinds, weight)


def _no_stacks(found: Recording, kinds: Sequence[str], weight: str) -> NoReturn:
    """An empty file would look like a load without faults."""
    of = f" of {', '.join(kinds)}" if kinds else ""
    timed = " with stalled time" if weight == "stalled_ns" else ""
    there = {row["kind"] for row in found.tables["stacks"] if row[weight]}
    names = ", ".join(sorted(there, key=kind_order)) or "no kind"
    raise ExportError(
        f"no stacks{of}{timed} in this recording", step=STEP, remedy=f"It has those of {names}"
    )


#: Formats that are one file: what makes its content of a recording, kinds and weight.
FORMATS: dict[str, Callable[[Recording, Sequence[str], str], str | Iterable[bytes]]] = {
    "folded": _folded,
    "speedscope": _speedscope,
    "perfetto": lambda found, kinds, _weight: perfetto(found, kinds),
    "openmetrics": lambda found, kinds, _weight: openmetrics(found, kinds),
}

#: (format, option that says nothing to it) -> why.
MEANINGLESS = {
    ("speedscope", "by"): "the file has a profile for each weight",
    ("perfetto", "by"): "the trace has no stacks",
    ("openmetrics", "by"): "metrics have no stacks",
    ("parquet", "by"): "a data set has whole recordings",
    ("parquet", "kinds"): "a data set has whole recordings",
}


def write(file: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Write an export; it appears whole or not at all.

    :raises ExportError: it cannot be written
    """
    write_file(file, content, step=STEP)


def _title(found: Recording) -> str:
    return f"{found.meta['host']}, Linux {found.meta['kernel']['release']}"
