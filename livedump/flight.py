"""The flight recorder: a snapshot and a dump when a condition holds, while recording goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livedump import refusals
from livedump.conditions import NOW, Condition, ConditionError, parse
from livedump.control import Control
from livedump.errors import SessionError
from livedump.kinds import QUESTION_OF
from livedump.session import Session
from livedump.trace.trigger import Trigger

STEP = "arm trigger"


def read_conditions(texts: tuple[str, ...], questions: tuple[str, ...]) -> list[Condition]:
    """What users wrote.

    :param questions: that are recorded
    :raises livedump.errors.LivedumpError: a condition cannot be read, or can never hold
    """
    kinds = tuple(kind for kind, question in QUESTION_OF.items() if question in questions)
    conditions = [parse(text, kinds, NOW) for text in texts]
    for condition in conditions:
        if condition.metric == "count":
            raise ConditionError(
                f"{condition.text!r}: there is no total while it goes on",
                step=STEP,
                remedy=f"Use rate({condition.kind}), events a second",
            )
    return conditions


def dump_files(target: Path, most: int) -> list[Path]:
    """``vmcore``, or ``vmcore-1``, ``vmcore-2``, ...; none of them is there yet, or it is a disk.

    :raises SessionError: there is no place for one
    """
    files = (
        [target]
        if most == 1
        else [target.with_name(f"{target.name}-{number}") for number in range(1, most + 1)]
    )
    if most > 1 and target.is_block_device():
        raise SessionError(
            f"{target} has room for one dump", step=STEP, remedy="Give a file's name"
        )
    for file in files:
        if os.path.lexists(file) and not file.is_block_device():
            raise SessionError(f"{file} exists", step=STEP, remedy="Give another --dump")
    if not target.parent.is_dir():
        raise SessionError(f"{target.parent} is not a folder", step=STEP)
    return files


def check_module() -> None:
    """Raise unless a snapshot can be taken now.

    :raises livedump.errors.LivedumpError: the module is not loaded, holds one, or would refuse
    """
    with Control() as control:
        now = control.status()
    if now.state != "idle":
        raise SessionError(
            f"the module is {now.state} already", step=STEP, remedy="Run: livedump release"
        )
    if now.machine != "none":
        raise SessionError(
            f"the module would refuse a snapshot of this machine ({now.machine})",
            step=STEP,
            remedy=refusals.remedy(now.machine),
        )


def take(file: Path) -> dict[str, Any]:
    """Snapshot, dump to *file*, release; what came of it."""
    with Session() as session:
        taken = session.taken
        result, final = session.dump_and_release(file)
    return {
        "file": str(file),
        "verdict": final.verdict,
        "instant_monotonic_ns": taken.report["instant_monotonic_ns"] if taken else None,
        "seconds": round(result.seconds, 3),
    }


def arm(
    texts: tuple[str, ...],
    questions: tuple[str, ...],
    target: Path,
    most: int,
    tell: Callable[[str], None],
) -> Trigger:
    """A trigger that takes a snapshot when one of the conditions holds, if the module could now.

    :param target: see :func:`dump_files`
    :param tell: what it does, in words
    :raises livedump.errors.LivedumpError: it never could
    """
    conditions = read_conditions(texts, questions)
    files = dump_files(target, most)
    check_module()
    return Trigger(
        conditions,
        lambda number: take(files[number - 1]),
        most=most,
        tell=tell,
    )
