"""The module that measures (tests/kmod/livedump_bench.c) from Python."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.guest.modules import modules

FOLDER = Path("/proc/livedump_bench")
MODULE = "livedump_bench"


class EmptyStop(NamedTuple):
    """A stop_machine() that does nothing, ns of the time stamp counter."""

    stop_ns: int
    rendezvous_ns: int
    exit_ns: int


class Clock(NamedTuple):
    """The time stamp counter: its rate, and in cycles what reading it twice costs, and a loop of
    2000 instructions."""

    tsc_khz: int
    empty_cycles: int
    loop_cycles: int


class Touch(NamedTuple):
    """A write to a page. *page* is its number in its 2 MiB, 0 is the first one that is touched; the
    last three are of livedump's handler, 0 when it did not act."""

    page: int
    cycles: int
    demote_ns: int
    copy_ns: int
    total_ns: int


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """livedump and the measuring module, both are unloaded on exit."""
    with modules(MODULE):
        yield


def control(command: str) -> None:
    """``blocks NUMBER``, ``vmalloc MIB``, ``touch``, ``copy``; see the module."""
    fd = os.open(FOLDER / "control", os.O_WRONLY)
    try:
        os.write(fd, command.encode())
    finally:
        os.close(fd)


def empty_stop() -> EmptyStop:
    """Run a stop that does nothing."""
    return EmptyStop(*map(int, (FOLDER / "empty_stop").read_text().split()))


def clock() -> Clock:
    """What a cycle is."""
    return Clock(*map(int, (FOLDER / "clock").read_text().split()))


def touch() -> list[Touch]:
    """Write to the pages of all blocks."""
    control("touch")
    lines = (FOLDER / "touches").read_text().splitlines()
    return [Touch(*map(int, line.split())) for line in lines]


def copy() -> list[int]:
    """Copy the same pages to one buffer: the cycles of each."""
    control("copy")
    return [int(line.split()[1]) for line in (FOLDER / "copies").read_text().splitlines()]
