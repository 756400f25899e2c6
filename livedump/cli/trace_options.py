"""Options that several commands of livedump-trace have."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import click

from livedump.trace.filters import Filter, find_cgroup
from livedump.trace.layout import QUESTIONS

F = TypeVar("F", bound=Callable[..., Any])

kinds_option = click.option(
    "--kind", "kinds", multiple=True, metavar="K", help="Only this kind; may be repeated."
)

by_option = click.option(
    "--by",
    type=click.Choice(["count", "stalled"]),
    default="count",
    show_default=True,
    help="Weight of stacks: faults, or nanoseconds stalled.",
)


def _questions(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    chosen = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    unknown = [question for question in chosen if question not in QUESTIONS]
    if unknown or not chosen:
        raise click.BadParameter(f"{value!r}: choose from {','.join(QUESTIONS)}")
    return chosen


def _pids(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        pids = tuple(dict.fromkeys(int(part) for part in (value or "").split(",") if part.strip()))
    except ValueError:
        raise click.BadParameter(f"{value!r}: numbers, with commas between them") from None
    if value is not None and (not pids or min(pids) < 1):
        raise click.BadParameter(f"{value!r}: there are no such processes")
    return pids


#: What to record; the command gets ``questions``, empty when nothing was chosen.
questions_option = click.option(
    "--kind",
    "questions",
    callback=_questions,
    metavar="K,K",
    help=f"What to record, of {','.join(QUESTIONS)}. Default: all that this kernel offers now.",
)


def chosen_options(function: F) -> F:
    """``--pid``, ``--comm`` and ``--cgroup``; the command gets ``chosen``, a :class:`Filter`."""

    @functools.wraps(function)
    def command(
        *args: Any, pids: tuple[int, ...], comm: str | None, cgroup: str | None, **kwargs: Any
    ) -> Any:
        chosen = Filter(pids, comm, find_cgroup(cgroup) if cgroup is not None else None)
        return function(*args, chosen=chosen, **kwargs)

    for option in (
        click.option(
            "--cgroup",
            metavar="PATH",
            help="Only faults of tasks in this cgroup (version 2) or below it.",
        ),
        click.option("--comm", metavar="NAME", help="Only faults of tasks with this name."),
        click.option(
            "-p",
            "--pid",
            "pids",
            callback=_pids,
            metavar="P,P",
            help="Only faults of these processes, their threads included.",
        ),
    ):
        command = option(command)
    return cast(F, command)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
