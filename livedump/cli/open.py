"""``livedump open``: do crash and drgn make sense of a dump?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import click

from livedump.cli.common import EXIT_ERROR, emit, examples, json_option, spinner
from livedump.dump import kernel_release
from livedump.dump.crash import open_with_crash
from livedump.dump.drgn import open_with_drgn
from livedump.dump.image import check_whole
from livedump.dump.opened import OpenResult, find_vmlinux
from livedump.errors import OpenError

_OPENERS: Mapping[str, Callable[..., OpenResult]] = {
    "crash": open_with_crash,
    "drgn": open_with_drgn,
}


def render(path: str, result: OpenResult) -> str:
    """Release, number of tasks, a backtrace, and what is missing."""
    lines = [
        f"opened   {path} with {result.tool} in {result.seconds:.1f} s",
        f"kernel   {result.release or 'unknown'}, {len(result.tasks):,} tasks",
        f"stack    of pid {result.traced_pid}, {result.frames} frames",
    ]
    if result.backtrace:
        lines.append(result.backtrace)
    return "\n".join([*lines, *(f"PROBLEM  {problem}" for problem in result.problems)])


def _open(tool: str, file: str, symbols: str, pid: int) -> OpenResult:
    with spinner(f"opening with {tool}"):
        return _OPENERS[tool](file, symbols, pid=pid)


def _open_with_any(file: str, symbols: str, pid: int) -> tuple[OpenResult, list[str]]:
    """By crash, or by drgn and why crash could not. What drgn cannot open is left as crash saw it.

    :raises OpenError: neither can; crash's
    """
    try:
        result = _open("crash", file, symbols, pid)
        if result.ok:
            return result, []
    except OpenError as error:
        with contextlib.suppress(OpenError):
            return _open("drgn", file, symbols, pid), [error.cause]
        raise
    with contextlib.suppress(OpenError):
        return _open("drgn", file, symbols, pid), list(result.problems)
    return result, []


@click.command(
    name="open",
    epilog=examples(
        "livedump open vmcore",
        "livedump open vmcore --with drgn --pid 2",
        "livedump open vmcore --vmlinux /usr/lib/debug/boot/vmlinux-$(uname -r)",
        "livedump open vmcore --json | jq '.tasks | length'",
    ),
)
@click.argument("file")
@click.option(
    "--with",
    "tool",
    type=click.Choice(sorted(_OPENERS)),
    help="What opens it; default: crash, and drgn where crash cannot.",
)
@click.option(
    "--vmlinux",
    metavar="PATH",
    help="The kernel with debug information; default: livedump's cache, then Debian's -dbg "
    "package.",
)
@click.option(
    "--pid", type=int, default=1, show_default=True, metavar="PID", help="Whose backtrace to print."
)
@json_option
@click.pass_context
def open_dump(
    ctx: click.Context, file: str, tool: str | None, vmlinux: str | None, pid: int
) -> None:
    """Open FILE with crash or drgn; print release, number of tasks and a backtrace.

    crash is run with the extension that version 8.0.2 needs to list the tasks of current kernels.
    Whether the dump is complete is another question: see `livedump info`.

    Debian's crash is older than some of its kernels: what it did not find drgn is asked for, and
    that is said.

    Exit status 1 when the tool did not find all of them.
    """
    check_whole(file)
    symbols = vmlinux or str(find_vmlinux(kernel_release(file)))
    if tool:
        result, instead = _open(tool, file, symbols, pid), list[str]()
    else:
        result, instead = _open_with_any(file, symbols, pid)
    emit(
        {"path": file, "vmlinux": symbols, **result.to_dict(), "instead_of_crash": instead},
        lambda: "\n".join([render(file, result), *(f"crash    {why}" for why in instead)]),
    )
    if not result.ok:
        ctx.exit(EXIT_ERROR)
