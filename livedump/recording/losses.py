"""What was not recorded, added up and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from livedump.recording.layout import LOSS_NAMES, NO_EVENT, UNLISTED, WITHOUT_STACK
from livedump.recording.schema import Row

#: Losses of the recorder itself, when a disk is full.
NOT_WRITTEN_EVENTS = "event not written"
NOT_WRITTEN_SLICES = "time slice not written"


#: What :func:`count_losses` counts; meta.json has them, too.
LOSSES = ("losses_total", "events_lost", "stacks_lost", "rows_lost")


def count_losses(losses: Sequence[Row]) -> dict[str, int]:
    """What the rows of the table ``losses`` come to.

    :returns: ``losses_total``; of these ``events_lost``, which were not counted or not timed,
        ``stacks_lost``, which were counted, but under no stack, and ``rows_lost``, which were
        counted, but are no row of the table ``events``. What tables of tasks, pages and slices had
        no room for is in the total only.
    """
    without_stack = {LOSS_NAMES[loss] for loss in WITHOUT_STACK}
    no_row = {*(LOSS_NAMES[loss] for loss in NO_EVENT), NOT_WRITTEN_EVENTS}
    counted = without_stack | no_row | {LOSS_NAMES[loss] for loss in UNLISTED}
    counted.add(NOT_WRITTEN_SLICES)
    return {
        "losses_total": sum(int(row["count"]) for row in losses),
        "events_lost": sum(int(row["count"]) for row in losses if row["what"] not in counted),
        "stacks_lost": sum(int(row["count"]) for row in losses if row["what"] in without_stack),
        "rows_lost": sum(int(row["count"]) for row in losses if row["what"] in no_row),
    }


def losses_text(counts: Mapping[str, int]) -> str:
    """:func:`count_losses` in words: ``66 events have no stack; 0 events lost``."""
    stacks, events = counts["stacks_lost"], counts["events_lost"]
    rows = counts.get("rows_lost", 0)
    unlisted = counts["losses_total"] - stacks - events - rows
    parts = [f"{stacks:,} event{' has' if stacks == 1 else 's have'} no stack"]
    if unlisted:
        parts.append(f"{unlisted:,} not listed by task, page or time")
    if rows:
        parts.append(f"{rows:,} not kept as rows of their own")
    parts.append(f"{events:,} event{'' if events == 1 else 's'} lost")
    return "; ".join(parts)
