"""The report for a terminal: 80 columns, units in headers, losses first."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from livedump.analysis import Latency, Summary
from livedump.conditions import format_value
from livedump.kinds import kind_order
from livedump.metrics import QUANTILES
from livedump.recording.losses import count_losses, losses_text
from livedump.recording.meta import filter_text
from livedump.recording.schema import Row
from livedump.text import printable
from livedump.units import format_ns


def render(summary: Summary, kinds: Sequence[str] = (), width: int = 80) -> str:
    """The whole report.

    :param kinds: of these only, as *summary* is; empty: all
    :param width: columns
    """
    parts = (
        _head,
        _losses,
        _receipts,
        _triggers,
        _latencies,
        _counters,
        _timeline,
        _stacks,
        _tasks,
        _cpus,
        _pages,
        *([_stops] if not kinds or "stop" in kinds else []),
    )
    return render_parts((item for part in parts for item in part(summary)), width)


def render_parts(items: Iterable[Any], width: int = 80) -> str:
    """Tables and lines as text; *width* in columns."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    for item in items:
        console.print(printable(item) if isinstance(item, str) else item)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def table(title: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> Any:
    """A table; columns are ``(header, numeric)``."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header, numeric in columns:
        made.add_column(
            header, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for row in rows:
        made.add_row(*map(printable, row))
    # A title of Table's own is wrapped where the table ends.
    return Group(printable(title), made) if title else made


#: Rows of a table of stacks, of pages, and of stops; CPUs of each kind.
STACKS, PAGES, STOPS, CPUS = 5, 5, 10, 6


def top_of(shown: int, total: int) -> str:
    """``, 5 of 1,234``; nothing where all are shown."""
    return f", {shown:,} of {total:,}" if shown < total else ""


def us(value_ns: float) -> str:
    """Nanoseconds as microseconds."""
    return f"{value_ns / 1000:,.1f}"


def seconds(value_ns: float) -> str:
    """``1,234.5 s``: a slice is no shorter than that."""
    return f"{value_ns / 1e9:,.1f} s"


def _stalled(value_ns: int) -> str:
    """Some kinds are counted but not timed."""
    return us(value_ns) if value_ns else "-"


def _head(summary: Summary) -> Iterable[Any]:
    meta = summary.meta
    yield f"{meta['host']}, Linux {meta['kernel']['release']}, {format_ns(summary.duration_ns)}"
    if meta["command"]:
        yield f"command: {' '.join(meta['command']['argv'])} (exit {meta['command']['status']})"
    if meta["ended_by"] == "killed":
        yield "the recorder was killed: this is what it had written until then"
    if summary.suspended_ns:
        slept = format_ns(summary.suspended_ns)
        yield f"the machine slept meanwhile, for {slept}: nothing of that is here"
    if chosen := meta["options"].get("filter"):
        yield f"faults of {filter_text(chosen)} only"
    yield ""


def losses_line(losses: Sequence[Row]) -> str:
    """Rows of losses in words; lost events are not to be overlooked."""
    counts = count_losses(losses)
    return f"{'LOST: ' if counts['events_lost'] else ''}{losses_text(counts)}"


def _losses(summary: Summary) -> Iterable[Any]:
    if summary.losses:
        yield losses_line(summary.losses)
        yield table(
            "",
            (("where", False), ("what", False), ("count", True)),
            ((row["probe"], row["what"], f"{row['count']:,}") for row in summary.losses),
        )
    else:
        yield "losses: none counted"
    for text in summary.unmeasured:
        yield f"not countable: {text}"
    for absent in summary.absent:
        yield f"not recorded: {absent['name']}: {absent['reason']}"
    if summary.cow_check:
        check = summary.cow_check
        text = f"CoW faults: module {check['module']:,}, seen by BPF {check['seen']:,}"
        skipped = check["not_traced_by_module"]
        yield text + (f", not traced by the module {skipped:,}" if skipped else "")
    yield ""


def _receipts(summary: Summary) -> Iterable[Any]:
    for receipt in summary.receipts:
        data = receipt.to_dict()
        phases = ", ".join(f"{name} {format_ns(ns)}" for name, ns in receipt.phases_ns.items())
        yield f"downtime: {format_ns(data['stop_ns'])} ({phases})"
        if receipt.stop is None:
            yield "  BPF saw no stop_machine() for it"
        else:
            # Its probes are inside of the module's clock: what they cost is in the above.
            bpf_ns = format_ns(data["bpf_stop_ns"])
            yield f"  by BPF, within that: {bpf_ns} in {data['bpf_stop_symbol']}"
        if data["faults"] is not None:
            yield f"  held: {data['faults']:,} faults, {data['pages_lost']:,} pages lost"
        yield ""


def _measured(fired: Mapping[str, Any]) -> str:
    """The value that made it go off, as it was told then."""
    metric = fired["condition"].partition("(")[0].strip()
    return f" ({format_value(metric, fired['value'])})" if "value" in fired else ""


def _triggers(summary: Summary) -> Iterable[Any]:
    slice_ns = summary.meta["slice_ns"]
    for fired in summary.meta["triggers"]:
        done = fired["done"]
        failed = f"FAILED: {fired['error']}" if fired["error"] else "not finished"
        came = f"{done['file']}, {done['verdict']}" if done else failed
        when = format_ns(fired["slice"] * slice_ns)
        yield f"triggered after {when}: {fired['condition']}{_measured(fired)}: {came}"
    if summary.meta["triggers"]:
        yield ""


#: Names of counters that do not speak for themselves.
_COUNTERS = {
    "events": "exceptions",
    "retry": "retried",
    "error": "failed",
    "write_protect": "write-protected",
    "user_address": "at user addresses",
    "already": "already saved",
    "releasing": "while releasing",
    "other_outcome": "with another outcome",
}


def _latencies(summary: Summary) -> Iterable[Any]:
    timed = [
        (row.kind, row.count, [*_percentiles(row), us(row.max_ns)]) for row in summary.latencies
    ]
    names = (*QUANTILES, "max")
    untimed = [(kind, count, ["-"] * len(names)) for kind, count in summary.untimed.items()]
    if rows := sorted(timed + untimed, key=lambda row: kind_order(row[0])):
        yield table(
            "Latency, us",
            (("kind", False), ("count", True), *((name, True) for name in names)),
            ((kind, f"{count:,}", *times) for kind, count, times in rows),
        )


def _percentiles(row: Latency) -> Iterator[str]:
    """One that nothing lies above is no more than the maximum: ``-``."""
    for name, share in QUANTILES.items():
        yield us(row.percentiles_ns[name]) if row.count * (1 - share) >= 1 else "-"


def _counters(summary: Summary) -> Iterable[Any]:
    """What else was counted, in words."""
    parts = []
    for kind in sorted(summary.counters, key=kind_order):
        words = [
            f"{count:,} {_COUNTERS.get(name, name.replace('_', ' '))}"
            for name, count in summary.counters[kind].items()
            if count
        ]
        if words:
            parts.append(f"{kind} {', '.join(words)}")
    if parts:
        yield f"counted: {'; '.join(parts)}"
        yield ""


def _timeline(summary: Summary) -> Iterable[Any]:
    """Faults over time, each kind against its own busiest step, and what was lost when."""
    steps = summary.timeline
    rows = {kind: steps.counts(kind) for kind in steps.heat}
    if steps.losses.cells:
        rows["losses"] = steps.losses.counts(steps.steps)
    if rows:
        yield table(
            f"Faults, each column {format_ns(steps.step_ns)}",
            (("kind", False), ("most", True), ("over time", False)),
            ((kind, f"{max(counts):,}", sparkline(counts)) for kind, counts in rows.items()),
        )
    yield from _lost_when(summary)


def _lost_when(summary: Summary) -> Iterable[Any]:
    """The span of time in which something was lost, for each probe."""
    slice_ns = summary.meta["slice_ns"]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in summary.loss_slices:
        found.setdefault(f"{row['probe']}, {row['what']}", []).append(row)
    for name, rows in found.items():
        first, last = min(r["start_ns"] for r in rows), max(r["start_ns"] for r in rows)
        worst = max(rows, key=lambda row: int(row["count"]))
        yield (
            f"losses: {name}: {sum(r['count'] for r in rows):,}"
            f" seen from {seconds(first)} to {seconds(last + slice_ns)},"
            f" most ({worst['count']:,}) at {seconds(worst['start_ns'])}"
        )
    if found:
        yield ""


def sparkline(values: Sequence[int]) -> str:
    """Numbers as bars; what is not 0 is seen."""
    bars, most = "▁▂▃▄▅▆▇█", max(values, default=0)
    return "".join(bars[-(-value * 7 // most)] if value else " " for value in values)


def _stacks(summary: Summary) -> Iterable[Any]:
    for kind, stacks in summary.top_stacks.items():
        taken, faults = summary.samples[kind]
        shown = stacks[:STACKS]
        yield table(
            f"Top stacks: {kind}"
            + (f", by {taken:,} samples (±: standard error)" if taken < faults else "")
            + top_of(len(shown), summary.stack_totals[kind]),
            (("count", True), ("stalled us", True), ("innermost functions", False)),
            (
                (
                    f"{row['count']:,}{_error(row['count_error'], row['count'])}",
                    _stalled(row["stalled_ns"])
                    + _error(row["stalled_error_ns"], row["stalled_ns"]),
                    innermost(row["stack"]),
                )
                for row in shown
            ),
        )


def _error(error: float, value: float) -> str:
    """`` ±3%``; nothing where that is less than half a per cent."""
    share = error / value if value else 0.0
    return f" ±{share:.0%}" if share >= 0.005 else ""


def innermost(stack: str, frames: int = 5) -> str:
    """The last functions of a stack, the innermost first."""
    return " < ".join(reversed(stack.split(";")[-frames:]))


def _tasks(summary: Summary) -> Iterable[Any]:
    if summary.tasks:
        yield table(
            "Tasks" + top_of(len(summary.tasks), summary.totals["tasks"]),
            (
                ("kind", False),
                ("task", False),
                ("pid", True),
                ("count", True),
                ("stalled us", True),
                ("cgroup", False),
            ),
            (
                (
                    *(r["kind"], r["comm"], str(r["pid"]), f"{r['count']:,}"),
                    *(_stalled(r["stalled_ns"]), r["cgroup"] or ""),
                )
                for r in summary.tasks
            ),
        )


def _cpus(summary: Summary) -> Iterable[Any]:
    """How faults are spread."""
    found: dict[str, list[Row]] = {}
    for row in summary.cpus:
        found.setdefault(row["kind"], []).append(row)
    if max(map(len, found.values()), default=0) > 1:
        yield table(
            "Faults by CPU",
            (("kind", False), ("CPUs", True), ("busiest first: CPU share", False)),
            ((kind, str(len(rows)), _shares(rows)) for kind, rows in found.items()),
        )


def _shares(rows: Sequence[Row]) -> str:
    total = sum(row["count"] for row in rows)
    parts = [f"{row['cpu']}: {row['count'] / total:.0%}" for row in rows[:CPUS]]
    return ", ".join([*parts, *(["..."] if len(rows) > CPUS else [])])


def _pages(summary: Summary) -> Iterable[Any]:
    if not summary.pages:
        return
    yield pages_table(summary.pages[:PAGES], summary.totals["pages"])
    classes = (f"{count:,} {was}" for was, count in summary.page_classes.items())
    if found := ", ".join(classes):
        yield f"pages by what they were: {found}"
    else:
        yield "what they were: livedump-trace annotate DIR --vmcore FILE"
    yield ""


def pages_table(rows: Sequence[Mapping[str, Any]], total: int) -> Any:
    """Pages, hottest first, of *total*; with their names, where there are any."""
    once = ": one fault each, longest first" if rows and rows[0]["count"] == 1 else ""
    columns = (("page frame", True), ("faults", True), ("stalled us", True), ("was", False))
    shown = len(columns) if any(row["was"] for row in rows) else len(columns) - 1
    return table(
        "Hottest pages" + top_of(len(rows), total) + once,
        columns[:shown],
        (
            (
                f"{row['pfn']:#x}",
                f"{row['count']:,}",
                us(row["stalled_ns"]),
                " ".join(filter(None, (row["was"], row["name"]))),
            )[:shown]
            for row in rows
        ),
    )


def _stops(summary: Summary) -> Iterable[Any]:
    stops = summary.longest_stops
    began_ns = summary.meta["clocks"]["start"]["monotonic_ns"]
    if stops:
        yield table(
            "Stops of the machine"
            + top_of(min(len(stops), STOPS), len(stops))
            + (", longest first" if len(stops) > 1 else ""),
            (
                *(("lasted us", True), ("after s", True)),
                *(("ran", False), ("called by", False), ("from", False)),
            ),
            (
                (
                    us(row["duration_ns"]),
                    f"{(row['start_monotonic_ns'] - began_ns) / 1e9:,.1f}",
                    row["symbol"],
                    f"{row['comm']} ({row['pid']})",
                    "".join((row["stack"] or "").split(";")[-2:-1]),
                )
                for row in stops[:STOPS]
            ),
        )
