"""``livedump-trace top``: faults as they happen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from livedump.cli.common import emit, examples, json_mode, json_option, spinner
from livedump.cli.trace.options import by_option, chosen_options, questions_option, stop_on_signal
from livedump.cli.trace.text import innermost, losses_line, render_parts, table, us
from livedump.kinds import QUESTIONS
from livedump.trace.probe.filters import Filter

if TYPE_CHECKING:
    from livedump.trace.top import View


def text(view: View, width: int = 80) -> str:
    """The screen."""
    return render_parts(_parts(view), width)


def _parts(view: View) -> Iterable[Any]:
    if view.losses:
        yield losses_line([{"what": what, "count": n} for what, n in view.losses.items()])
    yield table(
        f"Faults of the last {view.seconds:.1f} s, us",
        (("kind", False), ("per s", True), ("p50", True), ("p99", True), ("max", True)),
        (
            (
                row["kind"],
                f"{row['rate']:,.0f}",
                *("-" if row[name] is None else us(row[name]) for name in _TIMES),
            )
            for row in view.kinds
        ),
    )
    yield table(
        "Stacks",
        (
            ("kind", False),
            ("task", False),
            ("per s", True),
            ("us/s", True),
            ("innermost functions", False),
        ),
        (
            (
                row["kind"],
                row["comm"],
                f"{row['rate']:,.0f}",
                us(row["stalled_ns_per_s"]) if row["stalled_ns_per_s"] else "-",
                innermost(row["stack"], 3),
            )
            for row in view.stacks
        ),
    )


_TIMES = ("p50_ns", "p99_ns", "max_ns")


@contextmanager
def _screen() -> Iterator[Callable[[View], None]]:
    """Where views go: the terminal, over and over; else one after the other."""
    if json_mode() or not sys.stdout.isatty():
        yield lambda view: emit(view.to_dict(), lambda: text(view))
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda view: live.update(Text(text(view, console.width)), refresh=True)


@click.command(
    epilog=examples(
        "livedump-trace top",
        "livedump-trace top --kind user --comm nginx --by stalled",
        "livedump-trace top -n 10 --json | jq .kinds",
    )
)
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks; each shows the time since the last one.",
)
@click.option("-n", "--rounds", type=click.IntRange(1), metavar="N", help="End after N looks.")
@questions_option
@chosen_options
@by_option
@json_option
def top(
    interval: float,
    rounds: int | None,
    questions: tuple[str, ...],
    chosen: Filter,
    by: str,
) -> None:
    """Watch faults live: rates, latencies, stacks, losses. Ends with Ctrl-C; records nothing.

    With --json, one object a line.
    """
    from livedump.trace.probe.options import Options
    from livedump.trace.probe.points import resolve
    from livedump.trace.top import watch

    chosen.check()
    plan = resolve(questions or QUESTIONS, explicit=questions)
    with ExitStack() as attaching, stop_on_signal() as stop, ExitStack() as screen:
        attaching.enter_context(spinner("compiling and attaching BPF programs"))
        shown: list[Callable[[View], None]] = []

        def ready() -> None:
            attaching.close()
            shown.append(screen.enter_context(_screen()))

        watch(
            plan,
            Options(chosen),
            lambda view: shown[0](view),
            stop,
            interval_s=interval,
            rounds=rounds,
            by_stalled=by == "stalled",
            on_ready=ready,
        )
