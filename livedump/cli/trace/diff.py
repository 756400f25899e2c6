"""``livedump-trace diff``: what changed between two recordings, and is it a regression?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from livedump.cli.common import EXIT_USAGE, emit, examples, file_error, json_option, report_error
from livedump.cli.trace.options import kinds_option
from livedump.cli.trace.text import innermost, render_parts, table
from livedump.errors import LivedumpError
from livedump.recording.recover import open_recording

#: As diff(1) has it: 1 is the answer, not trouble.
EXIT_REGRESSION = 1
EXIT_TROUBLE = EXIT_USAGE

#: Stacks shown of each kind.
STACKS = 5


@click.command(
    epilog=examples(
        "livedump-trace diff before after",
        "livedump-trace diff before after --fail-on 'p99(user)>+20%' --fail-on 'max(stop)>5ms'",
        "livedump-trace diff before after --kind cow --html diff.html",
    )
)
@click.argument("before", type=click.Path(path_type=Path), metavar="A")
@click.argument("after", type=click.Path(path_type=Path), metavar="B")
@kinds_option
@click.option(
    "--by",
    type=click.Choice(["count", "stalled"]),
    help="Stacks that changed most: in faults, or in time stalled. "
    "Default: stalled, where that was measured.",
)
@click.option(
    "--fail-on",
    "conditions",
    multiple=True,
    metavar="COND",
    help="Exit status 1 if so: METRIC(KIND)>+N%, or METRIC(KIND)>LIMIT for B alone; repeatable. "
    "Metrics: p50, p99.9 and the like, mean, max, count, rate, stalled.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="Write one self-contained page with differential flame graphs.",
)
@click.option("--strict", is_flag=True, help="Exit status 2 where A and B are not comparable.")
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    before: Path,
    after: Path,
    kinds: tuple[str, ...],
    by: str | None,
    conditions: tuple[str, ...],
    html: Path | None,
    strict: bool,
) -> None:
    """Compare recording B with recording A.

    A change that chance may explain (its 99 % interval holds 0) does not fail a condition on a
    change. Where that cannot be told (maxima, short recordings, few faults) the change alone
    counts. Without faults of a kind its count, rate and stalled are 0, and there is nothing to
    compare for the other metrics.

    Exit status: 0; 1 when a condition fails, and for nothing else; 2 in trouble (bad recording or
    condition, a kind that was not recorded, full disk; with --strict also recordings that are not
    comparable).
    """
    try:
        comparison, verdicts = _compare(before, after, kinds, by, conditions, html)
        data = {**comparison.to_dict(), "conditions": [verdict.to_dict() for verdict in verdicts]}
        text = _text(comparison, verdicts)
        if strict and comparison.grave:
            raise LivedumpError(
                f"not comparable: {'; '.join(comparison.grave)}",
                step="compare",
                remedy="Record both alike, or leave --strict out",
            )
    except Exception as error:  # 1 is a regression's alone
        ctx.exit(_trouble(error))
    emit(data, text)
    ctx.exit(EXIT_REGRESSION if any(verdict.failed for verdict in verdicts) else 0)


def _trouble(error: Exception) -> int:
    """One line for whatever went wrong."""
    if isinstance(error, OSError) and error.filename is not None:
        error = file_error(error)
    if not isinstance(error, LivedumpError):
        cause = f"unexpected {type(error).__name__}: {error}"
        error = LivedumpError(cause, step="compare", remedy="This is a bug: please report it")
    report_error(error, "livedump-trace")
    return EXIT_TROUBLE


def _compare(
    before: Path,
    after: Path,
    kinds: Sequence[str],
    by: str | None,
    conditions: Sequence[str],
    html: Path | None,
) -> tuple[Any, list[Any]]:
    from livedump import analysis
    from livedump.conditions import parse

    parsed = [parse(text, tuple(analysis.KINDS)) for text in conditions]
    comparison = analysis.compare(open_recording(before), open_recording(after), kinds, by=by)
    if html is not None:
        analysis.write_diff_html(comparison, html)
    return comparison, analysis.judge(comparison, parsed)


def _text(comparison: Any, verdicts: Iterable[Any]) -> str:
    return render_parts(
        [
            *_head(comparison),
            *_changes(comparison),
            *_stacks(comparison),
            *_verdicts(verdicts),
        ]
    )


def _head(comparison: Any) -> Iterable[str]:
    for name, recording in (("A", comparison.before), ("B", comparison.after)):
        meta = recording.meta
        command = f": {' '.join(meta['command']['argv'])}" if meta["command"] else ""
        yield f"{name}: {meta['host']}, Linux {meta['kernel']['release']}{command}"
    yield from comparison.differences
    yield from comparison.losses
    for kind, where in comparison.only.items():
        yield f"only in {where}: {kind}"
    yield ""


def _changes(comparison: Any) -> Iterable[Any]:
    from livedump.analysis.compare import percent
    from livedump.conditions import format_value

    yield table(
        "Changes",
        (
            ("kind", False),
            ("metric", False),
            ("A", True),
            ("B", True),
            ("B/A - 1", True),
            ("99 % interval", True),
        ),
        (
            (
                row.kind,
                row.metric,
                format_value(row.metric, row.before),
                format_value(row.metric, row.after),
                "-" if row.change is None else percent(row.change),
                f"{row.interval_text}{' *' if row.significant else ''}",
            )
            for row in comparison.changes
        ),
    )
    yield "*: more than chance (bursts are taken into account)"


def _stacks(comparison: Any) -> Iterable[Any]:
    from livedump.analysis.compare import FEW_SAMPLES
    from livedump.units import format_rate

    few = False
    for kind, rows in comparison.stacks.items():
        if not rows:
            continue
        rows = rows[:STACKS]
        few = few or any(row["few"] for row in rows)
        yield table(
            f"Stacks that changed most: {kind}",
            (
                ("A /s", True),
                ("B /s", True),
                ("A us/s", True),
                ("B us/s", True),
                ("innermost functions", False),
            ),
            (
                (
                    format_rate(row["rate_a"]),
                    format_rate(row["rate_b"]),
                    format_rate(_us(row["stalled_a"])),
                    format_rate(_us(row["stalled_b"])),
                    ("(few) " if row["few"] else "") + innermost(row["stack"]),
                )
                for row in rows
            ),
        )
    if few:
        yield f"(few): fewer than {FEW_SAMPLES} samples; what changed may be chance"


def _us(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / 1000


def _verdicts(verdicts: Iterable[Any]) -> Iterable[str]:
    for verdict in verdicts:
        passed = "ok" if verdict.judged else "not judged"
        word = "REGRESSION" if verdict.failed else passed
        yield f"{word}: {verdict.condition.text} ({verdict.why})"
