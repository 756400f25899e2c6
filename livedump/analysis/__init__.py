"""Analysis of recordings: percentiles, stacks, the receipt. Needs no kernel."""

from livedump.analysis.html import render_html, write_html
from livedump.analysis.latency import Latency, latencies, percentile
from livedump.analysis.stacks import WEIGHTS, folded_lines, write_folded
from livedump.analysis.summary import Summary, summarize

__all__ = [
    "Latency",
    "Summary",
    "WEIGHTS",
    "folded_lines",
    "latencies",
    "percentile",
    "render_html",
    "summarize",
    "write_folded",
    "write_html",
]
