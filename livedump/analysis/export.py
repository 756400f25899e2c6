"""Recordings in the formats of other tools: speedscope, and all others' names.

Folded stacks are made in :mod:`livedump.analysis.stacks`, traces in
:mod:`livedump.analysis.perfetto`, metrics in :mod:`livedump.analysis.openmetrics`, data sets in
:mod:`livedump.analysis.dataset`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from livedump.analysis import stacks
from livedump.analysis.files import ExportError, write_file
from livedump.analysis.openmetrics import openmetrics
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
    **{
        (form, "timestamps"): "only openmetrics has them on request"
        for form in ("folded", "speedscope", "perfetto", "parquet")
    },
}


def content(
    form: str, found: Recording, kinds: Sequence[str], weight: str, *, timestamps: bool = False
) -> str | Iterable[bytes]:
    """What a file of one of :data:`FORMATS` has.

    :param timestamps: of format openmetrics: give each value its time
    :raises ExportError: there is nothing to write
    """
    if timestamps:
        return openmetrics(found, kinds, timestamps=True)
    return FORMATS[form](found, kinds, weight)


def write(file: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Write an export; it appears whole or not at all.

    :raises ExportError: it cannot be written
    """
    write_file(file, content, step=STEP)


def _title(found: Recording) -> str:
    return f"{found.meta['host']}, Linux {found.meta['kernel']['release']}"
