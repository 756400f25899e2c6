"""The chart: downtime over RAM, one file that needs no network."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from livedump.analysis import assets
from tools.bench.downtime import Row

_KINDS = {"empty": "an empty stop", "lazy": "lazy", "eager": "eager (the 2012 algorithm)"}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>livedump: downtime over RAM</title>
<body style="font: 15px system-ui; margin: 2rem">
<h1 style="font-size: 1.2rem">Downtime of a snapshot over RAM</h1>
<p>Medians, interleaved in one boot a machine; emulated CPUs: the ratios and the growth count.</p>
<div id="chart" style="height: 30rem"></div>
<script>{plotly}</script>
<script>Plotly.newPlot("chart", {traces}, {layout}, {{responsive: true}});</script>
</html>
"""


def write(rows: list[Row], file: Path) -> None:
    """A line for each kind of stop, of the rows that differ in RAM only."""
    plain = sorted(
        (row for row in rows if row["name"].endswith("G, 2 CPUs")), key=lambda row: row["ram_gib"]
    )
    traces = [
        {
            "name": label,
            "mode": "lines+markers",
            "x": [row["ram_gib"] for row in plain],
            "y": [statistics.median(row[f"{kind}_stop_ns"]) / 1e6 for row in plain],
        }
        for kind, label in _KINDS.items()
    ]
    layout = {
        "xaxis": {"title": {"text": "RAM, GiB"}},
        "yaxis": {"title": {"text": "stopped for, ms"}, "type": "log"},
        "legend": {"orientation": "h"},
    }
    file.write_text(
        _PAGE.format(
            plotly=assets.text("plotly-basic.min.js"),
            traces=json.dumps(traces),
            layout=json.dumps(layout),
        )
    )
