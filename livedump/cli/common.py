"""What every command shares: errors as one line, ``--json``, progress on a terminal.

::

    @click.group(name="livedump")
    def cli() -> None: ...

    @cli.command()
    @json_option
    def status() -> None:
        emit({"state": "idle"}, "idle")

    def main() -> NoReturn:
        command_main(cli)
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from livedump.errors import LivedumpError
from livedump.text import printable, printable_lines

EXIT_ERROR = 1
EXIT_USAGE = 2
#: Standard output could not be written. Not 1, which is an answer of some commands, as of diff(1).
EXIT_OUTPUT = EXIT_USAGE
EXIT_INTERRUPTED = 130
EXIT_PIPE = 128 + signal.SIGPIPE
EXIT_TERMINATED = 143

#: What writing to an open file can end in, a broken pipe apart.
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Progress = Callable[[int, int], None]

_json: ContextVar[bool] = ContextVar("livedump_json", default=False)


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt so that everything is released."""


def json_mode() -> bool:
    """True when the running command was given ``--json``."""
    return _json.get()


def json_option(function: F) -> F:
    """Give a command ``--json``. The command takes no argument for it: see :func:`emit`."""

    def remember(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        _json.set(value)

    return click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=remember,
        help="Print one JSON object on standard output.",
    )(function)


def emit(data: Mapping[str, Any], text: str | Callable[[], str]) -> None:
    """Print the command's result: *data* with ``--json``, else *text* (or what it returns)."""
    if json_mode():
        click.echo(json.dumps(data))
    else:
        say(text if isinstance(text, str) else text())


def say(text: str, *, err: bool = False) -> None:
    """Print lines, with nothing in them that the terminal would obey: they may hold names that
    others chose."""
    click.echo(printable_lines(text), err=err)


def parsed(parse: Callable[[str], T], text: str) -> T:
    """What a user wrote, read by a function that raises ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def examples(*lines: str) -> str:
    """An ``Examples:`` section for ``epilog=``, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def file_error(error: OSError) -> LivedumpError:
    """Of a file or folder that cannot be looked at, however it came to be named."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    remedy = {
        errno.EACCES: "Run as who may read it, e.g. with sudo",
        errno.EPERM: "Run as who may read it, e.g. with sudo",
        errno.ENAMETOOLONG: "Give a shorter name",
    }.get(error.errno or 0, "")
    return LivedumpError(f"{name}: {error.strerror}", step="look at file", remedy=remedy)


def report_error(error: LivedumpError, program: str) -> None:
    """Write *error* as one line on standard error; with ``--json`` also as an object on stdout."""
    if json_mode():
        click.echo(json.dumps({"error": error.to_dict()}))
    say(printable(f"{program}: error: {error}"), err=True)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into :class:`Terminated` while a command runs (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_signum: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(group: click.Command, program: str, argv: Sequence[str] | None, obj: object) -> int:
    """Run *group*; whatever becomes of standard output is in the status."""
    if sys.stdout is None:  # closed by who called: writing shall fail, not be left out
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    stdout = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that lacks a character is no failure
    try:
        status = _run_group(group, program, argv, obj)
        sys.stdout.flush()
        return status
    except SystemExit:
        if sys.stdout is stdout:
            raise
        # click has met the broken pipe and put something else in its place.
        return _give_output_up(EXIT_PIPE)
    except BrokenPipeError:
        return _give_output_up(EXIT_PIPE)
    except OSError as error:
        if error.filename is not None:
            report_error(file_error(error), program)
            return EXIT_ERROR
        if error.errno not in _OUTPUT_ERRORS:
            raise  # not of standard output
        with suppress(OSError):  # it may be the same full disk
            click.echo(f"{program}: error: write standard output: {error.strerror}", err=True)
        return _give_output_up(EXIT_OUTPUT)


def _give_output_up(status: int) -> int:
    """What is left in buffers goes nowhere, without another word at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
    return status


def _run_group(group: click.Command, program: str, argv: Sequence[str] | None, obj: object) -> int:
    _json.set(False)
    try:
        with _sigterm_raises():
            status = group.main(
                args=None if argv is None else list(argv),
                prog_name=program,
                standalone_mode=False,
                obj=obj,
            )
        return status if isinstance(status, int) else 0
    except LivedumpError as error:
        report_error(error, program)
        return EXIT_ERROR
    except click.ClickException as error:
        if json_mode():
            cause = {"type": "UsageError", "step": "usage", "cause": error.format_message()}
            click.echo(json.dumps({"error": {**cause, "remedy": f"Try: {program} --help"}}))
        shown = io.StringIO()
        error.show(shown)  # it repeats what was typed, or what a pattern stood for
        say(shown.getvalue().rstrip("\n"), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{program}: interrupted", err=True)
        return EXIT_INTERRUPTED
    except Terminated:
        click.echo(f"{program}: terminated", err=True)
        return EXIT_TERMINATED


def command_main(
    group: click.Command, argv: Sequence[str] | None = None, *, obj: object = None
) -> NoReturn:
    """Run *group* (named after itself) and exit.

    Exit status: 0 when everything promised happened, what the command gave to ``ctx.exit()``, 1
    for a :class:`LivedumpError`, 2 for wrong usage and when standard output cannot be written, 130,
    141 and 143 after SIGINT, SIGPIPE and SIGTERM.

    :param argv: arguments without the program's name, default ``sys.argv[1:]``
    :param obj: becomes ``ctx.obj``; tests hand in fakes
    """
    sys.exit(_run(group, group.name or "livedump", argv, obj))


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar in bytes on stderr, only on a terminal; yields ``callback(done, total)``."""
    if json_mode() or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error, only on a terminal; yields what changes its text."""
    if json_mode() or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield status.update
