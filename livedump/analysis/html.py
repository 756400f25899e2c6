"""The HTML report: one page that works offline and asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from livedump.analysis import assets, pack, stacks
from livedump.analysis.compare import Comparison
from livedump.analysis.files import write_file
from livedump.analysis.latency import Latency
from livedump.analysis.overtime import AROUND_NS, STEPS, close_up
from livedump.analysis.stack_changes import diff_tree
from livedump.analysis.summary import Summary, summarize
from livedump.kinds import KINDS, kind_order
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from livedump.sums import add_up

#: The page must stay below 8 MB; the libraries take 1.4 MB of that.
FLAME_BYTES = 2_600_000
TIME_BYTES = 1_900_000
CLOSE_BYTES = 1_200_000

#: Stops that the page marks and can take as time zero.
STOPS = 20

#: Rows of a table that are in the page; of tasks and CPUs for each kind.
MOST_ROWS = 200

LIBRARIES = ("d3.min.js", "plotly-basic.min.js")

#: In this order; each uses those before it.
COMMON = ("common", "table", "state", "unpack", "flamedraw", "flame", "histogram")
SCRIPTS = {
    "page": (*COMMON, "timeline", "heatdraw", "heat", "panels", "page"),
    "diff": (*COMMON, "diff"),
}

#: Nothing may be loaded, whatever the page's scripts try.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)

#: In the body of both pages: the flame graph and its controls.
_FLAME = "<!--livedump:flame-->"

_MARKER = re.compile(r"<!--livedump:(\w+)-->")


def render_html(recording: Recording, kinds: Sequence[str] = ()) -> str:
    """The whole page.

    :param kinds: only these; empty: all that were recorded
    :raises livedump.analysis.assets.AssetMissingError: a library was not fetched
    """
    title = f"livedump trace: {recording.meta['host']}"
    return _render("page", title, page_data(recording, kinds))


def write_html(recording: Recording, file: Path, kinds: Sequence[str] = ()) -> None:
    """Write :func:`render_html` to *file*.

    :raises livedump.analysis.files.ExportError: it cannot be written
    """
    write_file(file, render_html(recording, kinds), step="write HTML report")


def render_diff_html(comparison: Comparison) -> str:
    """The page of a comparison, with differential flame graphs.

    :raises livedump.analysis.assets.AssetMissingError: a library was not fetched
    """
    return _render("diff", "livedump trace: A and B", diff_data(comparison))


def write_diff_html(comparison: Comparison, file: Path) -> None:
    """Write :func:`render_diff_html` to *file*.

    :raises livedump.analysis.files.ExportError: it cannot be written
    """
    write_file(file, render_diff_html(comparison), step="write HTML report")


def _render(name: str, title: str, data: dict[str, Any]) -> str:
    """``shell.html`` around ``NAME.html``, with the scripts and all that they need."""
    parts = {
        "title": _escape_text(title),
        "policy": POLICY,
        "css": _package_text("page.css"),
        "body": _package_text(f"{name}.html").replace(_FLAME, _package_text("flame.html").rstrip()),
        "libraries": "\n".join(
            f"<script>{_escape_script(assets.text(library))}</script>" for library in LIBRARIES
        ),
        "data": embed_json(data),
        "scripts": "\n".join(
            f"<script>{_escape_script(_package_text(f'{script}.js'))}</script>"
            for script in SCRIPTS[name]
        ),
    }
    return _MARKER.sub(lambda marker: parts[marker[1]], _package_text("shell.html"))


def page_data(recording: Recording, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """What the page's script is given."""
    summary = summarize(recording, kinds, limit=MOST_ROWS, steps=STEPS, with_stacks=True)
    data = summary.to_dict()
    data["losses_text"] = summary.losses_text
    data["buckets"] = _buckets({latency.kind: latency for latency in summary.latencies})
    names = pack.Names()
    flames = _flames(recording, list(summary.top_stacks), names)
    data["flames"], data["flames_cut"] = flames.trees, flames.cut
    summary.timeline.shrink(TIME_BYTES, names)
    data["over_time"] = summary.timeline.to_dict(names)
    data["kinds"] = KINDS
    data["around_ns"] = AROUND_NS
    data["stops"] = shown_stops(summary)
    data["stops_marked"] = STOPS
    data["tasks"], task_totals = _tasks(recording, kinds)
    data["cpus"], cpu_totals = _most_of_each_kind(summary.cpus)
    data["totals"] = {
        "tasks": task_totals,
        "cpus": cpu_totals,
        "pages": summary.totals["pages"],
        "stops": len(summary.longest_stops),
    }
    data["close_up"], data["close_stops"] = None, 0
    if summary.timeline.step_ns > recording.meta["slice_ns"]:
        ends = stop_ends_ns(recording, data["stops"][:STOPS])
        found, data["close_stops"] = close_up(recording, ends, kinds, CLOSE_BYTES, names)
        data["close_up"] = found.to_dict(names)
    data["names"] = names.to_list()
    del data["top_stacks"], data["timeline"], data["loss_slices"]
    return data


def diff_data(comparison: Comparison) -> dict[str, Any]:
    """What the script of a comparison's page is given."""
    names = pack.Names()
    trees = {
        kind: _DiffFrame(diff_tree(comparison.recordings, kind))
        for kind in sorted(comparison.stacks, key=kind_order)
    }
    flames = pack.forest(trees, names, FLAME_BYTES)
    data = comparison.to_dict()
    data["buckets"] = [_added([run.latencies for run in side]) for side in comparison.sides]
    data["lasted_ns"] = [
        sum(recording.lasted_ns for recording in side) for side in comparison.recordings
    ]
    data["flames"], data["flames_cut"] = flames.trees, flames.cut
    data["names"] = names.to_list()
    return data


@dataclass(frozen=True)
class _DiffFrame:
    """Of a differential tree; weights: count and stalled of B, then of A, as if A had lasted as
    long."""

    node: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the function."""
        return str(self.node["n"])

    @property
    def weights(self) -> tuple[float, ...]:
        """Without a length that nobody needs."""
        return (*self.node["w"], *(round(weight, 3) for weight in self.node["a"]))

    @property
    def below(self) -> Iterator[_DiffFrame]:
        """Those that it has called."""
        return map(_DiffFrame, self.node.get("c", ()))

    def count(self) -> int:
        """It and all below."""
        return pack.count(self)


def _buckets(latencies: Mapping[str, Latency]) -> dict[str, list[list[int]]]:
    return {
        kind: [[bucket.low_ns, bucket.high_ns, bucket.count] for bucket in latency.buckets]
        for kind, latency in latencies.items()
    }


def _added(runs: Sequence[Mapping[str, Latency]]) -> dict[str, list[list[int]]]:
    """The buckets of several recordings, added up."""
    kinds = dict.fromkeys(kind for run in runs for kind in run)
    found = {}
    for kind in kinds:
        counts = add_up(
            ((bucket.low_ns, bucket.high_ns), [bucket.count])
            for run in runs
            if kind in run
            for bucket in run[kind].buckets
        )
        found[kind] = [[*edges, count] for edges, [count] in sorted(counts.items())]
    return found


def _tasks(recording: Recording, kinds: Sequence[str]) -> tuple[list[Row], dict[str, int]]:
    """Those with the most faults or the longest stalls of each kind, and how many there are."""
    columns = ("kind", "pid", "comm", "cgroup", "count", "stalled_ns")
    rows = [
        {column: row[column] for column in columns}
        for row in recording.tables["tasks"]
        if not kinds or row["kind"] in kinds
    ]
    return _most_of_each_kind(rows)


def _most_of_each_kind(rows: Sequence[Row]) -> tuple[list[Row], dict[str, int]]:
    """:data:`MOST_ROWS` by either weight, most faults first."""
    kept, totals = [], {}
    for kind in sorted({row["kind"] for row in rows}, key=kind_order):
        own = [row for row in rows if row["kind"] == kind]
        totals[kind] = len(own)
        slowest = sorted(own, key=lambda row: -int(row["stalled_ns"] or 0))[: MOST_ROWS // 2]
        most = sorted(own, key=lambda row: -int(row["count"]))
        chosen = {id(row) for row in (*most[: MOST_ROWS - len(slowest)], *slowest)}
        kept += [row for row in most if id(row) in chosen]
    return kept, totals


def shown_stops(summary: Summary, limit: int = MOST_ROWS) -> list[Row]:
    """Stops for the page, with their ``number`` in time: those of snapshots, then the longest."""
    own = {receipt.stop["start_monotonic_ns"] for receipt in summary.receipts if receipt.stop}
    by_time = sorted(row["start_monotonic_ns"] for row in summary.longest_stops)
    numbers = {start: number for number, start in enumerate(by_time, 1)}
    ranked = sorted(summary.longest_stops, key=lambda row: row["start_monotonic_ns"] not in own)
    return [
        {**row, "number": numbers[row["start_monotonic_ns"]], "stack": None}
        for row in ranked[:limit]
    ]


def stop_ends_ns(recording: Recording, stops: Sequence[Row]) -> list[int]:
    """When each stop ended, since the recording began."""
    began = recording.meta["clocks"]["start"]["monotonic_ns"]
    return [row["start_monotonic_ns"] + row["duration_ns"] - began for row in stops]


def _flames(
    recording: Recording,
    kinds: Sequence[str],
    names: pack.Names,
    limit_bytes: int = FLAME_BYTES,
) -> pack.Forest:
    """Flame graph trees by kind."""
    trees = {kind: stacks.branches(recording, kind) for kind in sorted(kinds, key=kind_order)}
    return pack.forest(trees, names, limit_bytes)


def embed_json(data: object) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _escape_script(text: str) -> str:
    return re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def _escape_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _package_text(name: str) -> str:
    return (resources.files("livedump.analysis") / "page" / name).read_text(encoding="utf-8")
