"""``livedump-trace diff``: what changed between two recordings, and is it a regression?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from livedump.cli.common import (
    EXIT_USAGE,
    emit,
    examples,
    file_error,
    json_option,
    report_error,
    say,
)
from livedump.cli.trace.options import kinds_option
from livedump.cli.trace.text import innermost, render_parts, table
from livedump.errors import LivedumpError
from livedump.recording.recover import open_recording

#: As diff(1) has it: 1 is the answer, not trouble.
EXIT_REGRESSION = 1
EXIT_TROUBLE = EXIT_USAGE

#: Stacks shown of each kind.
STACKS = 5


#: Stands in a command line for ``--against``: no argument has it.
_AGAINST = "\0against"


class _Sides(click.Command):
    """Recordings before ``--against`` are A's, those after it B's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """An option that splits arguments, among which it would not stay where it was."""
        end = args.index("--") if "--" in args else len(args)
        marked = [_AGAINST if arg == "--against" else arg for arg in args[:end]]
        return super().parse_args(ctx, marked + args[end:])


def _sides(
    _ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]
) -> tuple[list[Path], list[Path]]:
    """Of A, and of B."""
    count = names.count(_AGAINST)
    if not count and len(names) != 2:
        raise click.UsageError("Name two recordings, A and B, or several: A1 A2 --against B1 B2")
    if count > 1:
        raise click.UsageError("--against stands once, between A's recordings and B's")
    first = names.index(_AGAINST) if count else 1
    sides = [Path(name) for name in names[:first]], [Path(name) for name in names[first + count :]]
    if not all(sides):
        raise click.UsageError("There must be recordings before --against, and after it")
    return sides


@click.command(
    cls=_Sides,
    options_metavar="[OPTIONS]",
    epilog=examples(
        "livedump-trace diff before after",
        "livedump-trace diff before after --fail-on 'p99(user)>+20%' --fail-on 'max(stop)>5ms'",
        "livedump-trace diff a1 a2 a3 --against b1 b2 b3 --fail-on 'max(stop)>+20%' --strict",
        "livedump-trace diff before after --kind cow --html diff.html",
    ),
)
@click.argument("sides", nargs=-1, metavar="A... [--against] B...", callback=_sides)
@click.option(
    "--against",
    is_flag=True,
    expose_value=False,
    help="Between the runs of A and those of B: changes are judged between runs.",
)
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
@click.option(
    "--strict",
    is_flag=True,
    help="Exit status 2 where recordings are not comparable, or a condition cannot be told.",
)
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    sides: tuple[list[Path], list[Path]],
    kinds: tuple[str, ...],
    by: str | None,
    conditions: tuple[str, ...],
    html: Path | None,
    strict: bool,
) -> None:
    """Compare recording B with recording A, or runs of B with runs of A.

    With one run of each, chance is what happens inside these runs; that runs of the same program
    differ, too, only several of each can tell: A1 A2 A3 --against B1 B2 B3. Rows with a * changed
    by more than chance, all rows taken together.

    A condition on a change fails if the change is beyond the limit for certain: its whole 99 %
    interval is, and with several conditions all of them together are wrong no more often. Where
    the interval reaches the limit, and where there is none (a maximum without several runs, short
    recordings, few faults), it "cannot tell", and does not fail. A condition on a value of B fails
    if any run of B is beyond it. Without faults of a kind its count, rate and stalled are 0, and
    there is nothing to compare for the other metrics.

    Exit status: 0; 1 when a condition fails, and for nothing else; 2 in trouble (bad recording or
    condition, a kind that was not recorded, full disk; with --strict also recordings that are not
    comparable, and, where none fails, a condition that cannot be told or has nothing to compare).
    """
    try:
        comparison, verdicts = _compare(sides, kinds, by, conditions, html)
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
    if any(verdict.failed for verdict in verdicts):
        ctx.exit(EXIT_REGRESSION)
    if strict and (untold := [v.condition.text for v in verdicts if not v.judged]):
        say(f"livedump-trace: error: cannot tell: {', '.join(untold)}", err=True)
        ctx.exit(EXIT_TROUBLE)


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
    sides: tuple[list[Path], list[Path]],
    kinds: Sequence[str],
    by: str | None,
    conditions: Sequence[str],
    html: Path | None,
) -> tuple[Any, list[Any]]:
    from livedump import analysis
    from livedump.conditions import parse

    parsed = [parse(text, tuple(analysis.KINDS)) for text in conditions]
    before, after = ([open_recording(path) for path in side] for side in sides)
    comparison = analysis.compare(before, after, kinds, by=by)
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
    for run in comparison.runs:
        meta = run.recording.meta
        command = f": {' '.join(meta['command']['argv'])}" if meta["command"] else ""
        yield f"{run.name}: {meta['host']}, Linux {meta['kernel']['release']}{command}"
    yield from comparison.differences
    yield from comparison.losses
    for kind, where in comparison.only.items():
        yield f"only in {where}: {kind}"
    yield ""


def _changes(comparison: Any) -> Iterable[Any]:
    """What changed for certain comes first."""
    stars = [row for row in comparison.changes if row.significant]
    others = [row for row in comparison.changes if not row.significant]
    if stars:
        yield _rows(f"Changes: more than chance {comparison.scope}", stars)
    if others and not stars:
        yield _rows(f"Changes: none is more than chance {comparison.scope}", others)
    elif others:
        yield _rows("Changes: may be chance, or cannot be told", others)
    yield from comparison.legend
    yield ""


def _rows(title: str, rows: Iterable[Any]) -> Any:
    from livedump.analysis.compare import percent
    from livedump.conditions import format_value

    return table(
        title,
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
            for row in rows
        ),
    )


def _stacks(comparison: Any) -> Iterable[Any]:
    from livedump.analysis.stack_changes import FEW_SAMPLES
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
        yield f"{verdict.outcome}: {verdict.condition.text} ({verdict.why})"
