"""The HTML report: one page that works offline and asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from livedump.analysis import assets, stacks
from livedump.analysis.compare import Comparison
from livedump.analysis.files import write_file
from livedump.analysis.overtime import AROUND_NS, STEPS, close_up
from livedump.analysis.stack_changes import diff_tree
from livedump.analysis.summary import Summary, summarize
from livedump.kinds import KINDS, kind_order
from livedump.recording.schema import Row
from livedump.recording.store import Recording

#: The page must stay below 8 MB; the libraries take 1.4 MB of that.
FLAME_BYTES = 2_800_000
TIME_BYTES = 1_800_000
CLOSE_BYTES = 1_400_000

#: Stops that the page lists and can take as time zero.
STOPS = 20

LIBRARIES = ("d3.min.js", "d3-flamegraph.min.js", "plotly-basic.min.js")
DIFF_LIBRARIES = LIBRARIES[:2]

#: Nothing may be loaded, whatever the page's scripts try.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)

_MARKER = re.compile(r"<!--livedump:(\w+)-->")


def render_html(recording: Recording, kinds: Sequence[str] = ()) -> str:
    """The whole page.

    :param kinds: only these; empty: all that were recorded
    :raises livedump.analysis.assets.AssetMissingError: a library was not fetched
    """
    title = f"livedump trace: {recording.meta['host']}"
    return _render("page", title, page_data(recording, kinds), LIBRARIES, ("heat", "page"))


def write_html(recording: Recording, file: Path, kinds: Sequence[str] = ()) -> None:
    """Write :func:`render_html` to *file*.

    :raises livedump.analysis.files.ExportError: it cannot be written
    """
    write_file(file, render_html(recording, kinds), step="write HTML report")


def render_diff_html(comparison: Comparison) -> str:
    """The page of a comparison, with differential flame graphs.

    :raises livedump.analysis.assets.AssetMissingError: a library was not fetched
    """
    data = comparison.to_dict()
    data["flames"] = {kind: diff_tree(comparison.recordings, kind) for kind in comparison.stacks}
    return _render("diff", "livedump trace: A and B", data, DIFF_LIBRARIES, ("diff",))


def write_diff_html(comparison: Comparison, file: Path) -> None:
    """Write :func:`render_diff_html` to *file*.

    :raises livedump.analysis.files.ExportError: it cannot be written
    """
    write_file(file, render_diff_html(comparison), step="write HTML report")


def _render(
    name: str,
    title: str,
    data: dict[str, Any],
    libraries: Sequence[str],
    scripts: Sequence[str],
) -> str:
    """``shell.html`` around ``NAME.html``, with the scripts and all that they need."""
    parts = {
        "title": _escape_text(title),
        "policy": POLICY,
        "css": _package_text("page.css"),
        "body": _package_text(f"{name}.html"),
        "libraries": "\n".join(
            f"<script>{_escape_script(assets.text(library))}</script>" for library in libraries
        ),
        "data": embed_json(data),
        "scripts": "\n".join(
            f"<script>{_escape_script(_package_text(f'{script}.js'))}</script>"
            for script in ("common", *scripts)
        ),
    }
    return _MARKER.sub(lambda marker: parts[marker[1]], _package_text("shell.html"))


def page_data(recording: Recording, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """What the page's script is given."""
    summary = summarize(recording, kinds, limit=12, steps=STEPS, with_stacks=True)
    data = summary.to_dict()
    data["losses_text"] = summary.losses_text
    data["buckets"] = {
        latency.kind: [[b.low_ns, b.high_ns, b.count] for b in latency.buckets]
        for latency in summary.latencies
    }
    data["flames"], data["flames_cut"] = flames(recording, list(summary.top_stacks))
    summary.timeline.shrink(TIME_BYTES)
    data["over_time"] = summary.timeline.to_dict()
    data["kinds"] = KINDS
    data["stops"] = shown_stops(summary)
    data["totals"]["stops"] = len(summary.longest_stops)
    data["around_ns"] = AROUND_NS
    data["close_up"], data["close_stops"] = None, 0
    if summary.timeline.step_ns > recording.meta["slice_ns"]:
        ends = stop_ends_ns(recording, data["stops"])
        found, data["close_stops"] = close_up(recording, ends, kinds, CLOSE_BYTES)
        data["close_up"] = found.to_dict()
    del data["top_stacks"], data["timeline"], data["loss_slices"]
    return data


def shown_stops(summary: Summary, limit: int = STOPS) -> list[Row]:
    """Stops for the page, with their ``number`` in time: those of snapshots, then the longest."""
    own = {receipt.stop["start_monotonic_ns"] for receipt in summary.receipts if receipt.stop}
    by_time = sorted(row["start_monotonic_ns"] for row in summary.longest_stops)
    numbers = {start: number for number, start in enumerate(by_time, 1)}
    ranked = sorted(summary.longest_stops, key=lambda row: row["start_monotonic_ns"] not in own)
    return [{**row, "number": numbers[row["start_monotonic_ns"]]} for row in ranked[:limit]]


def stop_ends_ns(recording: Recording, stops: Sequence[Row]) -> list[int]:
    """When each stop ended, since the recording began."""
    began = recording.meta["clocks"]["start"]["monotonic_ns"]
    return [row["start_monotonic_ns"] + row["duration_ns"] - began for row in stops]


def flames(
    recording: Recording, kinds: Sequence[str], limit_bytes: int = FLAME_BYTES
) -> tuple[dict[str, Any], float]:
    """Flame graph trees by kind, and the share below which frames were cut (0: none were)."""
    trees = {kind: stacks.tree(recording, kind) for kind in sorted(kinds, key=kind_order)}
    share = 0.0
    while True:
        found = {kind: node.to_dict(share) for kind, node in trees.items()}
        if len(json.dumps(found)) <= limit_bytes:
            return found, share
        share = share * 2 or 1e-6


def embed_json(data: object) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _escape_script(text: str) -> str:
    return re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def _escape_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _package_text(name: str) -> str:
    return (resources.files("livedump.analysis") / name).read_text(encoding="utf-8")
