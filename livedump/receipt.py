"""The receipt of a snapshot as text: pure functions over a report (abi.ReportDict)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from livedump import abi
from livedump.units import format_bytes, format_ns, ns_unit

PAGE_BYTES = 4096

#: Columns of a terminal.
WIDTH = 80

#: Before the stop, as the module times them, in order: ``prepare`` is their sum.
PREPARATION = ("reserve", "hooks", "survey", "plan")
#: Of the stop, as the module times them, in order; ``exit`` follows, see :func:`exit_ns`.
PHASES = ("rendezvous", "save", "protect", "flush", "recopy")

#: Classes of pages by what the image holds, and what each one is: they add up to ``pages_ram``.
CLASSES = {
    "pages_saved_stop": "sensitive memory, copied before or in the stop",
    "pages_saved_fault": "copied on the first write",
    "pages_saved_hook": "copied before a kernel mapping changed",
    "pages_in_place": "not written since, read from memory",
    "pages_own": "livedump's own memory, zeros",
    "pages_unreadable": "offline, poisoned or unmapped, zeros",
    "pages_lost": "no room in the pool, zeros",
    "pages_vanished": "unmapped or poisoned while held, zeros",
}
#: Counted on top of that: what the image holds of them may be newer than the instant.
CAVEATS = {
    "pages_live": "also mapped writable by vmalloc or modules",
    "pages_unguarded": "mapped or pinned by user space: stores unseen",
}

#: Counts that make a verdict, and what each one says.
LOST = {
    "pages_lost": "pages had no room in the pool, zeros instead",
    "pages_vanished": "pages were unmapped or poisoned before they were read, zeros instead",
}
UNPROVEN = {
    "hooks_missed": "hooked kernel calls were not seen",
    "mappings_unseen": "mappings were made in a way that cannot be followed",
    "nmis_late": "NMIs came after the last copy in the stop",
    "nmis_running": "CPUs were inside an NMI at the instant",
    "entries_late": "entries were still tagged after release",
}


class Row(NamedTuple):
    """One line of a table: what, how much, and what it means."""

    name: str
    value: str
    explanation: str


def format_pages(pages: int) -> str:
    """``524288`` -> ``"524,288 (2.0 GiB)"``."""
    return f"{pages:,} ({format_bytes(pages * PAGE_BYTES)})"


def verdict_name(report: abi.ReportDict) -> str:
    """``pending``, ``complete``, ``lost``, ``unproven``, or the number of an unknown verdict."""
    value = int(report["verdict"])
    return abi.Verdict(value).name.lower() if value in list(abi.Verdict) else str(value)


def strategy_name(report: abi.ReportDict) -> str:
    """The strategy's name, or the number of an unknown one."""
    value = int(report["strategy"])
    return abi.Strategy(value).name.lower() if value in list(abi.Strategy) else str(value)


def final_verdict(report: abi.ReportDict) -> abi.Verdict:
    """The verdict that the counters prove, for a report read after the last page was.

    Lost pages weigh more than missed hooks: what is missing is known.
    """
    if any(report[name] for name in LOST):
        return abi.Verdict.LOST
    unproven = any(report[name] for name in UNPROVEN)
    return abi.Verdict.UNPROVEN if unproven else abi.Verdict.COMPLETE


def _reasons(report: abi.ReportDict, counts: Mapping[str, str]) -> str:
    """Those counts that are not zero, in words."""
    return ", ".join(f"{report[name]:,} {words}" for name, words in counts.items() if report[name])


def verdict_line(report: abi.ReportDict) -> str:
    """The verdict and why, in one line."""
    why = {
        abi.Verdict.PENDING: "not known yet, the snapshot is (or was) still held",
        abi.Verdict.COMPLETE: "every covered page is as it was at the instant",
        abi.Verdict.LOST: _reasons(report, LOST),
        abi.Verdict.UNPROVEN: _reasons(report, UNPROVEN),
    }
    value = int(report["verdict"])
    reason = why[abi.Verdict(value)] if value in list(abi.Verdict) else "an unknown verdict"
    if report["flags"] & abi.F_NOT_ZEROED and value == abi.Verdict.COMPLETE:
        reason += ", but for those that a device was handed since, to write (init_on_alloc=0)"
    return f"verdict {verdict_name(report)}: {reason}"


def exit_ns(report: abi.ReportDict) -> int:
    """What the phases leave of the stop: from the instant to stop_machine()'s return."""
    phases = sum(int(report[f"{name}_ns"]) for name in PHASES)
    return max(0, int(report["stop_ns"]) - phases)


def phases_ns(report: abi.ReportDict) -> dict[str, int]:
    """The phases of the stop in order, ns; ``exit`` is the last."""
    return {**{name: int(report[f"{name}_ns"]) for name in PHASES}, "exit": exit_ns(report)}


def preparation_ns(report: abi.ReportDict) -> dict[str, int]:
    """The steps before the stop in order, ns."""
    return {name: int(report[f"{name}_ns"]) for name in PREPARATION}


def is_counted(report: abi.ReportDict) -> bool:
    """Whether all of RAM was looked at for :data:`CAVEATS`, which goes on after the stop."""
    return bool(report["pages_counted"] >= report["pages_ram"])


def _with_parts(whole_ns: int, what: str, parts_ns: Mapping[str, int]) -> str:
    """The whole, and its parts in the same unit."""
    scale, unit = ns_unit(whole_ns)
    digits = 0 if scale == 1 else 1
    shown = {name: f"{value / scale:.{digits}f}" for name, value in parts_ns.items()}
    if "save" in shown and not float(shown["save"]):
        del shown["save"]
    parts = ", ".join(f"{name} {value}" for name, value in shown.items())
    return f"{whole_ns / scale:.{digits}f} {unit}{what} ({parts})"


def downtime_line(report: abi.ReportDict) -> str:
    """The downtime with its phases, in one line, e.g.::

    downtime 3.1 ms (rendezvous 0.3, protect 0.4, flush 0.1, recopy 1.9, exit 0.4) after 1.2 s of
    preparation (reserve 0.8, hooks 0.1, survey 0.1, plan 0.2)

    A save that would show as 0.0 is left out: only strategy ``eager`` saves much inside the stop.
    """
    line = f"downtime {_with_parts(int(report['stop_ns']), '', phases_ns(report))}"
    line += " after "
    line += _with_parts(int(report["prepare_ns"]), " of preparation", preparation_ns(report))
    if report["attempts"] > 1:
        stops = format_ns(int(report["stops_ns"]))
        line += f", {report['attempts']:,} attempts stopped the machine for {stops} together"
    if report["nmis"]:
        line += f", {report['nmis']} NMIs inside the stop"
    return line


def _labelled(label: str, text: str) -> str:
    """*text* beside a label of the short receipt, wrapped."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{label:<9}",
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )


def ns_lines(report: abi.ReportDict) -> str:
    """Preparation, every phase and the whole stop, exact."""
    values = {
        "prepare": int(report["prepare_ns"]),
        **phases_ns(report),
        "stop": int(report["stop_ns"]),
    }
    # A name and its number stay together when the line is wrapped.
    text = ", ".join(f"{name}\0{value}" for name, value in values.items())
    return _labelled("in ns", text).replace("\0", " ")


def _leaves(counts: Sequence[int]) -> str:
    """``[512, 1000, 1]`` -> ``"512 x 4K, 1,000 x 2M, 1 x 1G"``."""
    sizes = zip(("4K", "2M", "1G"), counts, strict=True)
    return ", ".join(f"{count:,} x {size}" for size, count in sizes)


def entries_line(report: abi.ReportDict) -> str:
    """Entries changed by the stop, by level; attempts and NMIs."""
    return _labelled(
        "entries",
        f"{_leaves(report['entries_by_level'])} changed by the stop; "
        f"attempts {report['attempts']:,}, NMIs {report['nmis']:,}",
    )


def _is_released(report: abi.ReportDict) -> bool:
    return bool(report["release_ns"])


def demotions_line(report: abi.ReportDict) -> str:
    """What became of the large pages; the verdict does not depend on it."""
    split = f"{report['demotions']:,} demoted"
    left = int(report["tables_left"])
    if not _is_released(report):
        return f"{split} so far"
    if left:
        return f"{split}, {left:,} NOT given back"
    return f"{split}, all given back"


def leaves_lines(report: abi.ReportDict) -> str:
    """The direct map's leaf sizes before, while held and after release."""
    before, held = _leaves(report["leaves_before"]), _leaves(report["leaves_held"])
    after = _leaves(report["leaves_after"]) if _is_released(report) else "release: not known yet"
    return "\n".join(
        [
            _labelled("leaves", f"before {before}; held {held}"),
            _labelled("", f"after {after}; {demotions_line(report)}"),
        ]
    )


def _ns(report: abi.ReportDict, name: str, explanation: str) -> Row:
    return Row(name, format_ns(int(report[f"{name}_ns"])), explanation)


def _pages(report: abi.ReportDict, key: str, explanation: str) -> Row:
    name = key.removeprefix("pages_").replace("_", " ")
    return Row(name, format_pages(int(report[key])), explanation)


def downtime_rows(report: abi.ReportDict) -> list[Row]:
    """The phases of the stop, and what lies before and after it."""
    return [
        _ns(report, "prepare", "everything before the stop, no downtime"),
        _ns(report, "reserve", "of it: the pool of copies, tables, notes"),
        _ns(report, "hooks", "of it: what sees kernel mappings change, armed"),
        _ns(report, "survey", "of it: which pages there are to be read"),
        _ns(report, "plan", "of it: what stays writable copied, the stop planned"),
        _ns(report, "stop", "the downtime: stop_machine(), call to return"),
        _ns(report, "rendezvous", "until every CPU had reached the stop"),
        _ns(report, "save", "eager: sensitive memory; lazy: what became a stack meanwhile"),
        _ns(report, "protect", "page-table entries changed"),
        _ns(report, "flush", "the leading CPU's whole TLB"),
        _ns(report, "recopy", "the others' TLBs; memory never protected, if written since copied"),
        Row("exit", format_ns(exit_ns(report)), "from the instant to stop_machine()'s return"),
        _ns(report, "release", "permissions restored, no downtime; 0 while held"),
        Row(
            "attempts", f"{report['attempts']:,}", "stops tried; the times above are the last one's"
        ),
        _ns(report, "stops", "the downtime of all attempts together"),
        Row("nmis", f"{report['nmis']:,}", "NMIs seen inside the stop"),
        Row("nmis late", f"{report['nmis_late']:,}", "of them, after the last copy, must be 0"),
        Row("nmis running", f"{report['nmis_running']:,}", "CPUs inside one then, must be 0"),
        Row("recopies", f"{report['recopies']:,}", "how often all was copied again, for NMIs"),
        Row("recopied", f"{report['recopied']:,}", "of saved stop, copied again: written since"),
    ]


def page_rows(report: abi.ReportDict) -> list[Row]:
    """Pages of RAM by what the image holds for them; the first is the sum of those that follow."""
    return [
        _pages(report, "pages_ram", "all RAM, the sum of the classes below"),
        *(_pages(report, name, what) for name, what in CLASSES.items()),
    ]


def caveat_rows(report: abi.ReportDict) -> list[Row]:
    """Pages that the image holds but that may be newer than the instant; counted on top."""
    return [_pages(report, name, what) for name, what in CAVEATS.items()]


def counting(report: abi.ReportDict) -> str:
    """How far the count of :data:`CAVEATS` has come, in words."""
    if is_counted(report):
        return "all counted"
    return "NOT all counted until release" if _is_released(report) else "still counting"


def fault_rows(report: abi.ReportDict) -> list[Row]:
    """Our faults, their cost, and the pool they fill."""
    faults = int(report["faults"])

    def mean(what: str) -> str:
        return format_ns(int(report[f"fault_{what}_ns"]) // faults if faults else 0)

    pool = f"{report['pool_used']:,} of {format_pages(int(report['pool_pages']))}"
    return [
        Row("faults", f"{faults:,}", "first writes to protected pages, and races for them"),
        Row("already", f"{report['faults_already']:,}", "of these: somebody else had saved it"),
        Row("fault mean", mean("total"), "from the probe's entry to a writable page"),
        Row("of it demote", mean("demote"), "until its 4 KiB entry was reached, tables built"),
        Row("of it copy", mean("copy"), "copying the page"),
        Row("fault max", format_ns(int(report["fault_max_ns"])), "the slowest one"),
        Row("untraced", f"{report['trace_skipped']:,}", "faults without a trace event"),
        Row("hooks missed", f"{report['hooks_missed']:,}", "hooked kernel calls not seen"),
        Row(
            "unseen",
            f"{report['mappings_unseen']:,}",
            "mappings that cannot be followed, must be 0",
        ),
        Row("pool used", pool, "pages for copies"),
    ]


def entry_rows(report: abi.ReportDict) -> list[Row]:
    """Page-table entries and the direct map's leaf sizes."""
    after = _leaves(report["leaves_after"]) if _is_released(report) else "not known yet"
    return [
        Row("protected", f"{report['entries_protected']:,}", "entries made read-only in the stop"),
        Row("by level", _leaves(report["entries_by_level"]), "of these"),
        Row("armed", f"{report['entries_armed']:,}", "of vmalloc and modules, before the stop"),
        Row("closed", f"{report['entries_closed']:,}", "in the stop: opened or mapped since"),
        Row("restored", f"{report['entries_restored']:,}", "by release, not by faults"),
        Row("late", f"{report['entries_late']:,}", "found tagged after release, must be 0"),
        Row("cleared", f"{report['marks_cleared']:,}", "left by an earlier snapshot, should be 0"),
        Row("changes", f"{report['changes_logged']:,}", "of mappings, from planning to the stop"),
        Row("demotions", f"{report['demotions']:,}", "large pages split, before the stop or since"),
        Row("tables left", f"{report['tables_left']:,}", "of them, not given back: should be 0"),
        Row("leaves before", _leaves(report["leaves_before"]), "direct map before the snapshot"),
        Row("leaves held", _leaves(report["leaves_held"]), "at the stop; first writes split more"),
        Row("leaves after", after, "after release"),
    ]


def tables(report: abi.ReportDict) -> list[tuple[str, list[Row]]]:
    """All tables of the receipt, each with its title."""
    return [
        ("Downtime", downtime_rows(report)),
        ("Pages, by what the image holds", page_rows(report)),
        (
            "Of these, not guarded: may be newer than the instant",
            [
                *caveat_rows(report),
                _pages(report, "pages_counted", f"looked at: {counting(report)}"),
            ],
        ),
        ("Faults while held", fault_rows(report)),
        ("Page tables", entry_rows(report)),
    ]


def instant(report: abi.ReportDict) -> str:
    """The wall-clock time of the instant, UTC, ISO 8601 to the microsecond."""
    seconds, ns = divmod(int(report["instant_realtime_ns"]), 10**9)
    when = datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=ns // 1000)
    return when.isoformat()


def format_rows(rows: list[Row], *, indent: int = 2) -> str:
    """Rows as aligned text."""
    names = max(len(row.name) for row in rows)
    values = max(len(row.value) for row in rows)
    return "\n".join(
        f"{'':{indent}}{row.name:<{names}}  {row.value:>{values}}  {row.explanation}"
        for row in rows
    )


def render(report: abi.ReportDict) -> str:
    """The short receipt, one screen: instant, downtime, verdict, pages and caveats."""
    if not report["instant_realtime_ns"]:
        return "no snapshot was taken since the module was loaded"
    caveat = "may be newer than the instant"
    if not is_counted(report):
        caveat += f"; {counting(report)}"
    return "\n".join(
        [
            f"instant  {instant(report)} ({strategy_name(report)})",
            downtime_line(report),
            verdict_line(report),
            ns_lines(report),
            entries_line(report),
            leaves_lines(report),
            "pages, by what the image holds:",
            format_rows(page_rows(report)),
            f"of these, not guarded ({caveat}):",
            format_rows(caveat_rows(report)),
            f"pool     {report['pool_used']:,} of {format_pages(int(report['pool_pages']))} used, "
            f"{report['faults']:,} faults",
        ]
    )


def render_full(report: abi.ReportDict) -> str:
    """Every table of the receipt."""
    parts = [f"instant {instant(report)} ({strategy_name(report)})", downtime_line(report)]
    parts.append(verdict_line(report))
    parts.append(f"large pages: {demotions_line(report)}")
    for title, rows in tables(report):
        parts.append(f"\n{title}\n{format_rows(rows)}")
    return "\n".join(parts)
