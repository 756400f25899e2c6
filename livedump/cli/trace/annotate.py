"""``livedump-trace annotate``: what the pages were that were written to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from livedump.cli.common import emit, examples, json_option, say, spinner
from livedump.cli.trace.text import pages_table, render_parts, table, top_of, us
from livedump.recording.recover import open_recording

#: Names that are listed; all are in --json and in the recording.
NAMES = 20


@click.command(
    epilog=examples(
        "livedump-trace annotate recording --vmcore vmcore",
        "livedump-trace annotate recording --vmcore vmcore --json | jq .by_name",
    )
)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--vmcore",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    metavar="FILE",
    help="A dump of the same machine, best of a snapshot in the recording.",
)
@click.option(
    "--vmlinux",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="The kernel with debug information; default: livedump's cache, then Debian's -dbg "
    "package.",
)
@json_option
def annotate(directory: Path, vmcore: Path, vmlinux: Path | None) -> None:
    """Name what each hot page was at the snapshot: slab cache and object type, stack and task, page
    table, file, vmalloc caller.

    The names stay in the recording when the dump is of a snapshot in it: `report` shows them from
    then on.
    """
    from livedump.analysis.annotate import annotate as name_pages

    recording = open_recording(directory)
    with spinner("naming pages"):
        found = name_pages(recording, vmcore, vmlinux)
    if found.remark:
        say(f"livedump-trace: note: {found.remark}", err=True)
    emit(found.to_dict(), lambda: render_parts(_parts(found)))


def _parts(found: Any) -> Iterable[Any]:
    from livedump.recording.losses import losses_text

    if found.losses["losses_total"]:
        yield ("LOST: " if found.losses["events_lost"] else "") + losses_text(found.losses)
    yield table(
        f"What the {len(found.pages):,} pages were that were written to while a snapshot was held"
        + top_of(min(len(found.by_name), NAMES), len(found.by_name)),
        (
            ("what", False),
            ("name", False),
            ("pages", True),
            ("faults", True),
            ("stalled us", True),
        ),
        (
            (
                row["was"],
                row["name"],
                f"{row['pages']:,}",
                f"{row['count']:,}",
                us(row["stalled_ns"]),
            )
            for row in found.by_name[:NAMES]
        ),
    )
    yield pages_table(found.pages[:10], len(found.pages))
