"""``livedump snapshot``, ``status`` and ``release``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from livedump import receipt, refusals
from livedump.cli.common import emit, examples, json_option, parsed, progress_bar, spinner
from livedump.cli.dump import EXIT_INCOMPLETE, render_result
from livedump.cli.services import Services
from livedump.control import DEFAULT_STRATEGY, STRATEGIES, Controller, Status
from livedump.errors import SessionError
from livedump.session import Session
from livedump.units import parse_duration_ms, parse_size

DEFAULT_MAX_HOLD = "10m"
_POLL_S = 0.5

#: What the module does before a snapshot is held, in words.
STEPS = {
    "none": "about to begin",
    "reserve": "reserving the pool of copies",
    "hooks": "arming what sees mappings change",
    "survey": "looking at all pages",
    "plan": "copying what stays writable, planning the stop",
    "stop": "stopping the machine",
}


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    return 0 if value is None else parsed(parse_size, value)


def _duration_ms(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parsed(parse_duration_ms, value)


def render_status(status: Status) -> str:
    """State, owner, what is or would be refused and why, then the short receipt."""
    owner = "nobody, it persists" if status.persistent else f"process {status.owner_pid}"
    step = f": {STEPS.get(status.step, status.step)}" if status.state == "prepared" else ""
    lines = [f"state    {status.state}{step}"]
    if status.state != "idle":
        lines.append(f"owner    {owner}")
    elif status.reason not in ("none", "failed"):
        lines.append(f"released {status.reason}")
    if status.error:
        lines += ["no snapshot was taken", *_refusal("refused", status.refusal, status.error)]
    elif status.state != "prepared":
        lines.append(receipt.render(status.report))
    if status.machine != "none":
        lines += _refusal("machine", status.machine, "a snapshot would be refused now")
    return "\n".join(lines)


def _refusal(label: str, name: str, words: str) -> list[str]:
    remedy = refusals.remedy(name)
    return [f"{label:<9}{words} ({name})", *([f"{'':<9}-> {remedy}"] if remedy else [])]


@click.command(epilog=examples("livedump status", "livedump status --json | jq .report.stop_ns"))
@json_option
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show the module's state and the receipt of the snapshot held now or last.

    Where there was none: why it was refused, and what to do about it.
    """
    services: Services = ctx.obj
    with services.control() as control:
        now = control.status()
    emit(now.to_dict(), lambda: render_status(now))


@click.command(epilog=examples("livedump release", "livedump release --json"))
@json_option
@click.pass_context
def release(ctx: click.Context) -> None:
    """Release the snapshot that is held, whoever took it."""
    services: Services = ctx.obj
    with services.control() as control:
        final = control.release()
    emit(final.to_dict(), lambda: "released\n" + render_status(final))


@click.command(
    epilog=examples(
        "livedump snapshot                     take it, print the receipt, keep it",
        "livedump snapshot --dump vmcore       snapshot, dump, release in one go",
        "livedump snapshot --dump /dev/vdb     onto a block device",
        "livedump snapshot --foreground        hold it until Ctrl-C",
        "livedump snapshot --max-hold 2h --pool 1G",
    )
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=DEFAULT_STRATEGY,
    show_default=True,
    metavar="NAME",
    help="lazy: protect the highest page-table entries and split large pages on first writes; a "
    "short stop. eager: protect every 4 KiB entry; the stop grows with RAM.",
)
@click.option(
    "--pool",
    metavar="SIZE",
    callback=_size,
    help="Memory for copies of pages, e.g. 512M; default: chosen by the module.",
)
@click.option(
    "--max-hold",
    metavar="TIME",
    callback=_duration_ms,
    help=f"Released by itself after this time, 0 = never; default: {DEFAULT_MAX_HOLD}, "
    "none with --dump and --foreground.",
)
@click.option("--dump", "target", metavar="FILE", help="Dump to FILE, then release.")
@click.option("--force", is_flag=True, help="With --dump: replace an existing file.")
@click.option("--foreground", is_flag=True, help="Hold the snapshot until Ctrl-C, then release.")
@json_option
@click.pass_context
def snapshot(
    ctx: click.Context,
    strategy: str,
    pool: int,
    max_hold: int | None,
    target: str | None,
    force: bool,
    foreground: bool,
) -> None:
    """Take a snapshot and print its receipt.

    By default the snapshot is kept when this command ends, until `livedump release` or --max-hold.
    With --dump or --foreground it belongs to this process and ends with it, however it ends. What
    release finds out goes into the note of the dump, too.

    Exit status 3 when --dump wrote a dump that is not complete.
    """
    services: Services = ctx.obj
    if target and foreground:
        raise click.UsageError("--dump and --foreground exclude each other")
    if force and not target:
        raise click.UsageError("--force needs --dump")
    persist = not target and not foreground
    if max_hold is None:
        max_hold = parse_duration_ms(DEFAULT_MAX_HOLD) if persist else 0
    with ExitStack() as stack:
        with spinner("preparing the snapshot") as say:
            session = Session(
                strategy=strategy,
                pool_bytes=pool,
                max_hold_ms=max_hold,
                persist=persist,
                preparing=lambda now: say(
                    f"preparing the snapshot: {STEPS.get(now.step, now.step)}"
                ),
                controller=services.control,
                image_path=services.image_path,
            )
            stack.enter_context(session)
        taken = session.taken
        if taken is None:
            raise SessionError("the module gave no receipt", step="take snapshot")
        if target:
            _dump_and_release(ctx, session, target, force)
        elif foreground:
            _hold(services.control, session, taken)
        else:
            emit(
                taken.to_dict(),
                lambda: f"{receipt.render(taken.report)}\n"
                "held until 'livedump release'; dump it with 'livedump dump FILE'",
            )


def _dump_and_release(ctx: click.Context, session: Session, target: str, force: bool) -> None:
    with progress_bar("dumping") as progress:
        result, final = session.dump_and_release(target, progress=progress, force=force)
    text = ""
    if final.verdict != result.verdict:
        text = f"\nrelease made it {final.verdict}; the note in {result.path} says so, too"
    result = replace(result, verdict=final.verdict, report=final.report)
    emit({**result.to_dict(), "final": final.to_dict()}, render_result(result) + text)
    if not result.complete:
        ctx.exit(EXIT_INCOMPLETE)


def _hold(control: Any, session: Session, taken: Status) -> None:
    """Wait for Ctrl-C (or for the snapshot's end), release, and print the final receipt."""
    click.echo(receipt.render(taken.report), err=True)
    click.echo("held by this process; Ctrl-C releases it", err=True)
    instant = taken.report["instant_monotonic_ns"]
    try:
        while _still_held(control, instant):
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        final = session.release()
        emit(final.to_dict(), lambda: "released\n" + render_status(final))
        return
    now = session.status()
    raise SessionError(
        f"the snapshot was released by somebody else ({now.reason})",
        step="hold snapshot",
        remedy="A longer --max-hold may help" if now.reason == "timeout" else "",
    )


def _still_held(control: Any, instant: int) -> bool:
    connection: Controller
    with control() as connection:
        now = connection.status()
    return now.state == "holding" and now.report["instant_monotonic_ns"] == instant
