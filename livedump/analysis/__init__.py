"""Analysis of recordings: percentiles, stacks, the receipt. Needs no kernel."""

from livedump.analysis import export
from livedump.analysis.html import render_html, write_html
from livedump.analysis.latency import Latency, latencies, percentile
from livedump.analysis.query import QueryError, expand, query
from livedump.analysis.stacks import WEIGHTS, folded_lines, write_folded
from livedump.analysis.summary import Summary, check_kinds, summarize

__all__ = [
    "Latency",
    "QueryError",
    "Summary",
    "WEIGHTS",
    "check_kinds",
    "expand",
    "export",
    "folded_lines",
    "latencies",
    "percentile",
    "query",
    "render_html",
    "summarize",
    "write_folded",
    "write_html",
]
