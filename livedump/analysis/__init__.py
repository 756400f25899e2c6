"""Analysis of recordings: percentiles, stacks, the receipt. Needs no kernel."""

from livedump.analysis import dataset, export
from livedump.analysis.compare import Change, Comparison, compare
from livedump.analysis.html import render_html, write_diff_html, write_html
from livedump.analysis.judge import Verdict, judge
from livedump.analysis.latency import Latency, latencies
from livedump.analysis.overtime import OverTime, over_time
from livedump.analysis.query import ask
from livedump.analysis.sources import QueryError, expand, readable
from livedump.analysis.stacks import WEIGHTS, folded_lines
from livedump.analysis.summary import Summary, check_kinds, summarize
from livedump.kinds import KINDS

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
    "dataset",
    "expand",
    "export",
    "folded_lines",
    "judge",
    "latencies",
    "over_time",
    "ask",
    "readable",
    "render_html",
    "summarize",
    "write_diff_html",
    "write_html",
]
