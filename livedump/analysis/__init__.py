"""Analysis of recordings: percentiles, stacks, the receipt. Needs no kernel."""

from livedump.analysis import export
from livedump.analysis.compare import Change, Comparison, Verdict, compare, judge
from livedump.analysis.html import render_html, write_diff_html, write_html
from livedump.analysis.latency import KINDS, Latency, latencies, percentile
from livedump.analysis.overtime import OverTime, over_time
from livedump.analysis.query import QueryError, expand, query
from livedump.analysis.stacks import WEIGHTS, folded_lines
from livedump.analysis.summary import Summary, check_kinds, summarize

__all__ = [
    "Change",
    "Comparison",
    "KINDS",
    "Latency",
    "OverTime",
    "QueryError",
    "Summary",
    "Verdict",
    "WEIGHTS",
    "check_kinds",
    "compare",
    "expand",
    "export",
    "folded_lines",
    "judge",
    "latencies",
    "over_time",
    "percentile",
    "query",
    "render_html",
    "summarize",
    "write_diff_html",
    "write_html",
]
