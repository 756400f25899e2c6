"""``livedump-trace bench``: what recording costs here."""

from __future__ import annotations

import platform
from functools import partial
from typing import TYPE_CHECKING

import click

from livedump.cli.common import emit, examples, json_mode, json_option
from livedump.cli.trace.text import render_parts, table

if TYPE_CHECKING:
    from livedump.trace.bench import Overhead

#: As livedump.trace.bench.MODES, which is imported late.
MODES = ("counts", "default", "all stacks", "events")

ROUNDS, COMMAND_ROUNDS = 15, 3

#: Two looks at the untraced load that differ by more tell little.
DRIFT = 1.3


@click.command(
    context_settings={"allow_interspersed_args": False},  # what follows COMMAND is its own
    epilog=examples(
        "livedump-trace bench",
        "livedump-trace bench --mode counts --mode default --json",
        "livedump-trace bench --mode default --rounds 5 -- make -j8",
    ),
)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(MODES),
    multiple=True,
    help="What to record; repeatable. Default: each.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help=f"Of each measure. Default: {ROUNDS}, of a command {COMMAND_ROUNDS}.",
)
@click.option(
    "--pages",
    type=click.IntRange(100, 1_000_000),
    default=4000,
    show_default=True,
    metavar="N",
    help="Pages to touch in a round.",
)
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def bench(modes: tuple[str, ...], rounds: int | None, pages: int, command: tuple[str, ...]) -> None:
    """Measure what recording costs here: first touches of small pages, or COMMAND.

    First touches are the worst case: nothing but page faults. COMMAND is run several times under
    each mode, and under none before and after it; the ratio of elapsed times tells.
    """
    from livedump.trace import bench

    def load() -> dict[str, list[float]]:
        if command:
            return {"ns": bench.durations(command, rounds or COMMAND_ROUNDS)}
        return {"ns": bench.first_touches(pages, rounds or ROUNDS)}

    tracers = [(mode, partial(bench.recorded, bench.MODES[mode])) for mode in modes or MODES]
    rows = bench.measure(load, tracers, _tell)
    found = bench.overheads(rows, "ns")
    data = {
        "kernel": platform.release(),
        "load": list(command) or {"first_touches": pages},
        "overheads": [each._asdict() for each in found],
        "runs": rows,
    }
    emit(data, lambda: _text(found, command))


def _tell(tracer: str) -> None:
    if not json_mode():
        click.echo(f"measuring: {tracer}", err=True)


def _text(found: list[Overhead], command: tuple[str, ...]) -> str:
    what = " ".join(command) if command else "first touch of a small page"
    rows = [
        (each.tracer, f"{each.median_ns:,.0f}", f"{each.ratio:.2f}", f"{each.drift:.2f}")
        for each in found
    ]
    columns = (("recording", False), ("ns", True), ("to none", True), ("drift of none", True))
    parts = [table(f"{what}, medians", columns, rows)]
    if max(each.drift for each in found) > DRIFT:
        parts.append("The machine was not quiet: without a recording it drifted. Try again.")
    return render_parts(parts)
