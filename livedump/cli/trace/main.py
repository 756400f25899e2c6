"""``livedump-trace``: record page faults and stops around a load, and report what was recorded."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import click

from livedump.cli.common import (
    command_main,
    emit,
    examples,
    json_mode,
    json_option,
    parsed,
    report_error,
    say,
    spinner,
)
from livedump.cli.dump import EXIT_INCOMPLETE
from livedump.cli.trace.annotate import annotate
from livedump.cli.trace.bench import bench
from livedump.cli.trace.data import export, query
from livedump.cli.trace.diff import diff
from livedump.cli.trace.options import (
    by_option,
    chosen_options,
    kinds_option,
    questions_option,
    stop_on_signal,
)
from livedump.cli.trace.top import top
from livedump.errors import LivedumpError
from livedump.flight import arm
from livedump.kinds import QUESTIONS
from livedump.recording.losses import LOSSES
from livedump.recording.recover import open_recording
from livedump.text import printable, storable
from livedump.trace.probe.filters import Filter
from livedump.trace.probe.options import Options, Stacks
from livedump.trace.trigger import Trigger
from livedump.units import parse_duration_ms

#: Exit status when recording itself failed, so that it is not taken for the command's: as env(1)
#: has it.
EXIT_RECORD = 125


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    if milliseconds := parsed(parse_duration_ms, value):
        return milliseconds / 1000
    raise click.BadParameter("nothing can be recorded in no time")


def _labels(
    _ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """``NAME=TEXT`` each; text may be any bytes, and may have more of ``=``."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{printable(text)!r} is not NAME=TEXT")
        found[name] = storable(value)
    return found


@click.group(name="livedump-trace")
@click.version_option(package_name="livedump")
def cli() -> None:
    """Page faults and stops of a running kernel: who waited, how long, and where."""


@cli.command(
    context_settings={"allow_interspersed_args": False},  # what follows COMMAND is its own
    epilog=examples(
        "livedump-trace record -- make -j8",
        "livedump-trace record -o before --duration 30",
        "livedump-trace record --kind cow,stop -o hold -- ./load-test",
        "livedump-trace record --duration 10 -p 4711,4712",
        "livedump-trace record --kind user --cgroup system.slice/nginx.service",
        "livedump-trace record --snapshot-when 'p99(user)>2ms for 1s' --dump vmcore",
    ),
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to make; default: by the time."
)
@click.option(
    "--duration",
    callback=_seconds,
    metavar="TIME",
    help="Record for so long: seconds, or e.g. 500ms, 10m.",
)
@questions_option
@chosen_options
@click.option(
    "--slice",
    "slice_ms",
    type=click.IntRange(10, 60_000),
    default=100,
    show_default=True,
    metavar="MS",
    help="Length of a time slice.",
)
@click.option("--events", is_flag=True, help="Keep every fault, too: one row for each.")
@click.option(
    "--all-stacks",
    "stacks",
    flag_value=Stacks.ALL.value,
    help="Take every fault's stack. Default: some hundreds a second and CPU, by chance.",
)
@click.option(
    "--user-stacks",
    is_flag=True,
    help="With user space's part of each stack (programs built with frame pointers).",
)
@click.option("--no-stacks", "stacks", flag_value=Stacks.NONE.value, help="Take none: cheapest.")
@click.option(
    "--snapshot-when",
    "conditions",
    multiple=True,
    metavar="COND",
    help="Take a snapshot and dump it when this holds, e.g. 'p99(user)>2ms for 1s'; may be "
    "repeated. Recording goes on.",
)
@click.option(
    "--dump",
    type=click.Path(path_type=Path),
    help="With --snapshot-when: where to; default: beside the recording, .vmcore.",
)
@click.option(
    "--max-snapshots",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="With --snapshot-when: how often at most. With more than one, FILE-1, FILE-2, ...",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=_labels,
    metavar="NAME=TEXT",
    help="Keep this with the recording, e.g. --label build=412; may be repeated.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Create this file when the probes are attached.",
)
@click.option("--force", is_flag=True, help="Replace an older recording.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def record(
    ctx: click.Context,
    output: Path | None,
    duration: float | None,
    questions: tuple[str, ...],
    chosen: Filter,
    slice_ms: int,
    events: bool,
    user_stacks: bool,
    stacks: str | None,
    conditions: tuple[str, ...],
    dump: Path | None,
    max_snapshots: int,
    labels: dict[str, str],
    ready_file: Path | None,
    force: bool,
    command: tuple[str, ...],
) -> None:
    """Record around COMMAND, for a time, or until Ctrl-C.

    With --pid, --comm or --cgroup only faults of tasks that meet all of them are recorded; stops
    and snapshots always are. Returns the command's exit status; 125 when recording failed, 126 or
    127 when the command could not be run, 3 when all went well but for a dump of --snapshot-when.
    """
    from livedump import trace

    if command and duration is not None:
        raise click.UsageError("a recording ends with the command or after --duration, not both")
    if user_stacks and stacks == Stacks.NONE.value:
        raise click.UsageError("--user-stacks and --no-stacks exclude each other")
    if not conditions and (dump or max_snapshots > 1):
        raise click.UsageError("--dump and --max-snapshots need --snapshot-when")
    output = output if output is not None else _default_output()
    config = trace.RecordConfig(
        output=output,
        questions=questions or QUESTIONS,
        explicit=frozenset(questions),
        command=command,
        duration_s=duration,
        options=Options(
            chosen=chosen,
            slice_ns=slice_ms * 1_000_000,
            events=events,
            stacks=Stacks(stacks) if stacks else Stacks.SAMPLED,
            user_stacks=user_stacks,
        ),
        ready_file=ready_file,
        force=force,
        labels=labels,
    )
    try:
        target = dump if dump is not None else output.with_name(f"{output.name}.vmcore")
        trigger = (
            arm(conditions, config.questions, target, max_snapshots, _tell_trigger)
            if conditions
            else None
        )
        with stop_on_signal() as stop:
            result = _record(config, stop, trigger)
    except LivedumpError as error:
        report_error(error, "livedump-trace")
        ctx.exit(error.status if isinstance(error, trace.CommandError) else EXIT_RECORD)
    else:
        meta = result.meta
        text = f"recorded: {result.output} ({_losses(meta)})"
        if json_mode():
            data = {
                "recording": str(result.output),
                "status": result.status,
                "ended_by": result.ended_by,
                "questions": meta["questions"],
                "absent": meta["absent"],
                "triggers": meta["triggers"],
                **{name: meta[name] for name in LOSSES if name in meta},
            }
            emit(data, text)
        else:
            say(text, err=True)
        whole = all(fired["done"].get("verdict") == "complete" for fired in meta["triggers"])
        ctx.exit(result.status or (0 if whole else EXIT_INCOMPLETE))


def _record(config: Any, stop: threading.Event, trigger: Trigger | None = None) -> Any:
    from livedump import trace
    from livedump.trace.probe.points import Plan

    def tell(text: str) -> None:
        say(f"livedump-trace: warning: {text}", err=True)

    recorder = trace.Recorder(config, trigger=trigger, tell=tell)
    with ExitStack() as attaching:
        attaching.enter_context(spinner("compiling and attaching BPF programs"))

        def ready(plan: Plan) -> None:
            attaching.close()  # before the command prints
            for absent in plan.absent:
                say(f"not recorded: {absent.name}: {absent.reason}", err=True)
            say(f"recording: {', '.join(plan.questions)}", err=True)

        return trace.record(config, stop, ready, recorder=recorder)


def _tell_trigger(text: str) -> None:
    say(f"trigger: {text}", err=True)


def _losses(meta: Mapping[str, Any]) -> str:
    """Losses in words; without a stack, or a row of its own, is not without the event."""
    from livedump.recording.losses import losses_text

    counted = meta.get("stacks_lost") or meta.get("rows_lost")
    return losses_text(meta) if counted else f"{meta['losses_total']:,} losses"


def _default_output() -> Path:
    from datetime import datetime

    return Path(f"recording-{datetime.now():%Y%m%d-%H%M%S}")


@cli.command(
    epilog=examples(
        "livedump-trace report recording",
        "livedump-trace report recording --html report.html",
        "livedump-trace report recording --kind cow --by stalled",
    ),
)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--html", type=click.Path(path_type=Path), help="Write one self-contained page.")
@kinds_option
@by_option
@json_option
def report(directory: Path, html: Path | None, kinds: tuple[str, ...], by: str) -> None:
    """Percentiles, stacks, losses and the downtime receipt of a recording."""
    from livedump import analysis

    recording = open_recording(directory)
    summary = analysis.summarize(recording, kinds=kinds, weight=analysis.WEIGHTS[by])
    if html is not None:
        analysis.write_html(recording, html, kinds=kinds)
    emit(summary.to_dict(), lambda: _text(summary, kinds))


def _text(summary: Any, kinds: tuple[str, ...]) -> str:
    """The report for a terminal."""
    from livedump.cli.trace.text import render

    return render(summary, kinds)


for _command in (top, annotate, diff, query, export, bench):
    cli.add_command(_command)


def main() -> NoReturn:
    """Entry point of ``livedump-trace``."""
    command_main(cli)
