"""What the pages of copy-on-write faults were: a recording beside a dump of the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livedump.dump.drgn import open_program
from livedump.dump.image import open_image
from livedump.dump.opened import find_vmlinux
from livedump.dump.pages import Namer
from livedump.errors import LivedumpError
from livedump.recording.losses import count_losses
from livedump.recording.schema import Row
from livedump.recording.store import Recording, replace_table
from livedump.sums import add_up

STEP = "annotate"


class AnnotateError(LivedumpError):
    """The dump says nothing about the recording's pages."""


@dataclass(frozen=True)
class Annotated:
    """The named pages.

    :ivar pages: rows of the table ``pages``, hottest first
    :ivar by_name: ``{was, name, pages, count, stalled_ns}``, most faults first
    :ivar losses: the recording's, see :func:`livedump.recording.losses.count_losses`
    :ivar remark: why names may be wrong; empty: nothing speaks for that
    """

    pages: list[Row]
    by_name: list[dict[str, Any]]
    losses: dict[str, int]
    remark: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"by_name": self.by_name, "pages": self.pages, "remark": self.remark}
        return {**self.losses, **found}


def annotate(recording: Recording, vmcore: Path, vmlinux: Path | None = None) -> Annotated:
    """Name the pages of copy-on-write faults. The names are kept in the recording when there is
    nothing to remark about them.

    :param vmcore: a dump of livedump's, of the same kernel
    :param vmlinux: with debug information; None: looked for
    :raises AnnotateError: another kernel's dump, or there are no pages
    :raises livedump.errors.LivedumpError: one of the files cannot be opened
    """
    remark = _check(recording, vmcore)
    rows = recording.tables["pages"]
    symbols = vmlinux if vmlinux is not None else find_vmlinux(recording.meta["kernel"]["release"])
    namer = Namer(open_program(vmcore, symbols))
    for row in rows:
        found = namer.name(row["pfn"])
        row["was"], row["name"] = found.kind, found.name
    if recording.path is not None and not remark:
        replace_table(recording.path, "pages", rows)
    plain = ("pfn", "count", "stalled_ns", "was", "name")
    pages = [{key: row[key] for key in plain} for row in rows]
    return Annotated(pages, _by_name(rows), count_losses(recording.tables["losses"]), remark)


def _check(recording: Recording, vmcore: Path) -> str:
    """The remark, see :class:`Annotated`."""
    release = recording.meta["kernel"]["release"]
    if not recording.tables["pages"]:
        raise AnnotateError(
            "the recording has no copy-on-write faults", step=STEP, remedy="Record --kind cow"
        )
    with open_image(vmcore) as image:
        if image.release != release:
            raise AnnotateError(
                f"{vmcore} is of Linux {image.release}, the recording of {release}", step=STEP
            )
        instant_ns = int(image.report["instant_monotonic_ns"])
    instants = [row["instant_monotonic_ns"] for row in recording.tables["snapshots"]]
    if instant_ns in instants:
        return ""
    return "the dump is of a snapshot that is not in the recording: pages may have changed hands"


def _by_name(rows: list[Row]) -> list[dict[str, Any]]:
    totals = add_up(
        ((row["was"], row["name"]), (1, row["count"], row["stalled_ns"])) for row in rows
    )
    heaviest = sorted(totals.items(), key=lambda item: (-item[1][1], item[0]))
    return [
        {"was": was, "name": name, "pages": pages, "count": count, "stalled_ns": stalled_ns}
        for (was, name), (pages, count, stalled_ns) in heaviest
    ]
