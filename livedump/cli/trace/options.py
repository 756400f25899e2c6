"""Options that several commands of livedump-trace have."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import click

from livedump.kinds import QUESTIONS
from livedump.trace.probe.filters import Filter, find_cgroup

F = TypeVar("F", bound=Callable[..., Any])


def _parts(values: tuple[str, ...]) -> tuple[str, ...]:
    """``("user,cow", "stop")`` -> ``("user", "cow", "stop")``."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _kinds(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    chosen = _parts(values)
    if values and not chosen:
        raise click.BadParameter(f"{','.join(values)!r}: name a kind")
    return chosen


def _questions(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    chosen = _kinds(ctx, param, values)
    if not set(chosen) <= set(QUESTIONS):
        raise click.BadParameter(f"{','.join(values)!r}: choose from {','.join(QUESTIONS)}")
    return chosen


def _kind_option(
    name: str, callback: Callable[..., tuple[str, ...]], text: str
) -> Callable[[F], F]:
    """``--kind`` of every command: ``K,K``, or once for each."""
    return click.option("--kind", name, callback=callback, multiple=True, metavar="K,K", help=text)


#: Which kinds of a recording to show; the command gets ``kinds``, empty when none was chosen.
kinds_option = _kind_option("kinds", _kinds, "Only these kinds; may be repeated.")

#: What to record; the command gets ``questions``, empty when nothing was chosen.
questions_option = _kind_option(
    "questions",
    _questions,
    f"What to record, of {','.join(QUESTIONS)}; may be repeated. Default: all that this kernel "
    "offers now.",
)

by_option = click.option(
    "--by",
    type=click.Choice(["count", "stalled"]),
    default="count",
    show_default=True,
    help="Weight of stacks: faults, or nanoseconds stalled.",
)


def _pids(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    text = repr(",".join(values))
    try:
        pids = tuple(dict.fromkeys(int(part) for part in _parts(values)))
    except ValueError:
        raise click.BadParameter(f"{text}: numbers, with commas between them") from None
    if values and (not pids or min(pids) < 1):
        raise click.BadParameter(f"{text}: there are no such processes")
    return pids


def _once(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> str | None:
    """The last of several would leave the others' faults out without a word."""
    if len(values) > 1:
        raise click.BadParameter(f"{len(values)} of them are given, there can be one")
    return values[0] if values else None


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
            callback=_once,
            multiple=True,
            metavar="PATH",
            help="Only faults of tasks in this cgroup (version 2) or below it.",
        ),
        click.option(
            "--comm",
            callback=_once,
            multiple=True,
            metavar="NAME",
            help="Only faults of tasks with this name.",
        ),
        click.option(
            "-p",
            "--pid",
            "pids",
            callback=_pids,
            multiple=True,
            metavar="P,P",
            help="Only faults of these processes, their threads included; may be repeated.",
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
