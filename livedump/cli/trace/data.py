"""Commands of livedump-trace that take recordings to other tools: ``query``, ``export``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from livedump.cli.common import examples, json_mode, json_option, say
from livedump.cli.trace.options import by_option, kinds_option
from livedump.recording.recover import open_recording
from livedump.text import printable

FORMATS = ("folded", "speedscope", "perfetto", "openmetrics", "parquet")

#: Rows that are shown where not all are asked for.
SHOWN = 50

#: Recordings whose losses are told one by one; of a fleet's there may be thousands.
TOLD = 10


@click.command(
    epilog=examples(
        "livedump-trace query 'SELECT kind, sum(count) FROM stacks GROUP BY kind' recording",
        "livedump-trace query 'SELECT host, max(duration_ns) FROM stops GROUP BY host' fleet/*",
        "livedump-trace query --csv 'SELECT * FROM recordings' 'fleet/*' > recordings.csv",
        "livedump-trace query 'SELECT kind, min(time), sum(count) FROM slices GROUP BY 1' dataset",
    )
)
@click.argument("sql")
@click.argument("directories", nargs=-1, required=True, metavar="DIR...")
@click.option("--csv", "as_csv", is_flag=True, help="Print all rows as comma-separated values.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all rows to FILE, as Parquet, and print none.",
)
@click.option("--strict", is_flag=True, help="Fail when a recording cannot be read.")
@json_option
def query(
    sql: str, directories: tuple[str, ...], as_csv: bool, output: Path | None, strict: bool
) -> None:
    """Ask one or many recordings in SQL (DuckDB's).

    DIR is a recording, a folder of recordings, or a data set that `export --format parquet` has
    made. There is a view for each table, with all recordings given and the column `recording`;
    livedump-trace(1) has the columns. What cannot be read is left out, and counted. Below a folder,
    links to recordings and data sets are followed, others are not; each recording counts once.
    SQL is one SELECT, which reads nothing else and writes nothing; what --output says is written.
    Times are UTC.

    The first rows are shown; --csv, --json and --output have all of them. Whole numbers of more
    than 53 bits are strings in JSON. CSV is exact: a spreadsheet takes a name that begins with
    =, +, - or @ for a formula.
    """
    from livedump import analysis
    from livedump.analysis.query import tables_of, write_parquet

    if sum((as_csv, output is not None, json_mode())) > 1:
        raise click.UsageError("--csv, --json and --output exclude each other")
    found = analysis.expand(directories)
    paths = _recover_most(found.paths, found.skipped)
    sources = analysis.readable(paths, tables_of(sql), strict=strict, skipped=found.skipped)
    if output is not None:
        rows = write_parquet(sql, sources, output)
        say(f"written: {output}, {rows:,} rows", err=True)
    else:
        with analysis.ask(sql, sources) as answer:
            (_print_csv if as_csv else _print_json if json_mode() else _print_table)(answer)
    _tell_skipped(sources)
    _tell_losses(sources.losses())


def _tell_skipped(sources: Any) -> None:
    """Nobody must take a part of the fleet for all of it."""
    if skipped := sources.skipped:
        first = next(iter(skipped.values()))
        of = len(skipped) + sources.used
        what = "recordings, folders or files" if sources.datasets else "recordings or folders"
        say(f"livedump-trace: SKIPPED: {len(skipped):,} of {of:,} {what}, e.g. {first}", err=True)


def _recover_most(folders: Iterable[Path], skipped: dict[Path, Any]) -> list[Path]:
    """As :func:`_recover`; returns those that were no trouble, the others are in *skipped* then."""
    from livedump.recording.errors import RecordingError

    whole = []
    for folder in folders:
        try:
            _recover([folder])
            whole.append(folder)
        except RecordingError as error:
            skipped[folder] = error
    return whole


def _recover(folders: Iterable[Path]) -> None:
    """What killed recorders have left becomes recordings first."""
    from livedump.recording.recover import recover

    for folder in folders:
        recover(folder)


def _tell_losses(losses: Iterable[tuple[str, Mapping[str, int]]]) -> None:
    """What the recordings lack, on standard error: another tool's format has no place for it."""
    from livedump.recording.losses import losses_text

    lossy = [(name, counts) for name, counts in losses if counts["losses_total"]]
    for name, counts in lossy[:TOLD]:
        lost = "LOST" if counts["events_lost"] else "note"
        say(f"livedump-trace: {lost}: {name}: {losses_text(counts)}", err=True)
    if len(lossy) > TOLD:
        more = f"{len(lossy) - TOLD} more have losses: see the table losses"
        say(f"livedump-trace: note: {more}", err=True)


def _print_csv(answer: Any) -> None:
    """Exact, but where a terminal would obey."""
    out = csv.writer(sys.stdout)
    shown = sys.stdout.isatty()
    out.writerow(map(_cell, answer.columns) if shown else answer.columns)
    for row in answer:
        out.writerow(map(_cell, row) if shown else row)


def _print_json(answer: Any) -> None:
    """One object, row by row."""
    from livedump.analysis.query import json_row

    out = sys.stdout
    out.write(f'{{"columns": {json.dumps(list(answer.columns))}, "rows": [')
    for number, row in enumerate(answer):
        out.write(f"{', ' if number else ''}{json.dumps(json_row(row))}")
    out.write("]}\n")


def _print_table(answer: Any) -> None:
    rows = iter(answer)
    first = list(islice(rows, SHOWN))
    total = len(first) + sum(1 for _ in rows)
    click.echo(_table(answer.columns, first))
    if total > len(first):
        say(f"{len(first):,} of {total:,} rows; all of them: --csv, --json or --output FILE")
    else:
        say(f"{total} rows")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    out = io.StringIO()
    width = Console().width if sys.stdout.isatty() else 200
    Console(file=out, width=width, markup=False, highlight=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))


@click.command(
    epilog=examples(
        "livedump-trace export recording --format folded --kind cow --by stalled | flamegraph.pl",
        "livedump-trace export recording --format speedscope -o recording.speedscope.json",
        "livedump-trace export recording --format perfetto -o recording.pftrace",
        "livedump-trace export recording --format openmetrics --timestamps -o recording.om",
        "livedump-trace export rec-* --format parquet -o fleet",
    )
)
@click.argument(
    "directories", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR..."
)
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="Of the export.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, for parquet a folder; default: standard output.",
)
@click.option(
    "--timestamps",
    is_flag=True,
    help="Of openmetrics: give values the time of the recording's end, for promtool.",
)
@kinds_option
@by_option
@click.pass_context
def export(
    ctx: click.Context,
    directories: tuple[Path, ...],
    form: str,
    output: Path | None,
    timestamps: bool,
    kinds: tuple[str, ...],
    by: str,
) -> None:
    """Write a recording in another tool's format.

    folded is for flamegraph.pl and the like, speedscope for speedscope.app, perfetto for
    ui.perfetto.dev, openmetrics for Prometheus; parquet adds recordings to a data set with one
    folder for each table, which DuckDB, pandas or Spark read as it is.
    """
    _refuse_meaningless(ctx, form)
    if form == "parquet":
        _export_parquet(directories, output)
    elif len(directories) > 1:
        raise click.UsageError(f"{form} is of one recording")
    else:
        _export_file(directories[0], form, output, kinds, by, timestamps)


def _refuse_meaningless(ctx: click.Context, form: str) -> None:
    """An option that would be ignored is a mistake."""
    from livedump.analysis.export import MEANINGLESS

    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        if given and (why := MEANINGLESS.get((form, option.name or ""))):
            raise click.UsageError(f"{option.opts[-1]} and {form} exclude each other: {why}")


def _export_parquet(directories: Sequence[Path], output: Path | None) -> None:
    from livedump import analysis

    if output is None:
        raise click.UsageError("parquet needs a folder: -o")
    _recover(directories)
    files = sum(len(analysis.dataset.add(folder, output)) for folder in directories)
    _tell_losses(analysis.readable(directories, ()).losses())
    say(f"exported: {output} ({files} files)", err=True)


def _export_file(
    directory: Path,
    form: str,
    output: Path | None,
    kinds: tuple[str, ...],
    by: str,
    timestamps: bool,
) -> None:
    from livedump import analysis

    recording = open_recording(directory)
    analysis.check_kinds(recording, kinds, "export")
    weight = analysis.WEIGHTS[by]
    content = analysis.export.content(form, recording, kinds, weight, timestamps=timestamps)
    _tell_losses(analysis.readable([directory], ()).losses())
    if output is not None:
        analysis.export.write(output, content)
        say(f"exported: {output}", err=True)
    elif isinstance(content, str):
        click.echo(content, nl=False)
    elif sys.stdout.isatty():
        raise click.UsageError(f"{form} is not text: give a file with -o")
    else:
        for part in content:
            click.echo(part, nl=False)
