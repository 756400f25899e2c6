"""What kinds of fault and stop there are: their question, and what they mean.

A question is what can be asked for (``record --kind``); its programs feed one or more kinds, which
are what is counted and shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: What can be recorded, and the C file in ``bpf/`` that answers it. ``snapshot.c`` goes with both
#: ``cow`` and ``stop``.
QUESTIONS = ("user", "kernel", "cow", "stop")


class Kind(IntEnum):
    """enum ld_kind: what a histogram, stack or task is about."""

    USER = 0
    USER_MAJOR = 1
    UACCESS = 2
    GUP = 3
    KERNEL = 4
    COW = 5
    COW_DEMOTE = 6
    COW_COPY = 7
    STOP = 8


@dataclass(frozen=True)
class About:
    """What there is to say of a kind.

    :ivar question: whose programs feed it
    :ivar text: what is counted
    :ivar part_of: the kind whose events these are, too, or parts of; empty: it is none
    :ivar timed: its events have a latency
    """

    question: str
    text: str
    part_of: str = ""
    timed: bool = True


ABOUT = {
    Kind.USER: About("user", "fault from user mode, inside handle_mm_fault"),
    Kind.USER_MAJOR: About("user", "of these, those that had to wait for a disk", "user"),
    Kind.UACCESS: About("user", "kernel touches user memory, inside handle_mm_fault"),
    Kind.GUP: About("user", "pages faulted in without an exception, inside handle_mm_fault"),
    Kind.KERNEL: About("kernel", "any fault in kernel mode", timed=False),
    Kind.COW: About("cow", "livedump's copy-on-write fault, probe entry to writable"),
    Kind.COW_DEMOTE: About(
        "cow",
        "of that, until the 4 KiB entry was reached: upper entries opened, tables built",
        "cow",
    ),
    Kind.COW_COPY: About("cow", "of that, copying the page", "cow"),
    Kind.STOP: About("stop", "stop_machine(), call to return"),
}

_NAMES = {int(kind): kind.name.lower() for kind in Kind}

#: Names of the kinds in the order in which they are shown, and what they mean.
KINDS = {_NAMES[kind]: about.text for kind, about in ABOUT.items()}

#: Name of a kind -> its question.
QUESTION_OF = {_NAMES[kind]: about.question for kind, about in ABOUT.items()}

#: Kinds without a latency.
UNTIMED = frozenset(_NAMES[kind] for kind, about in ABOUT.items() if not about.timed)


def kind_name(kind: int) -> str:
    """``Kind.COW_COPY`` -> ``"cow_copy"``; an unknown number stays a number."""
    return _NAMES.get(kind) or str(kind)


def kind_order(kind: str) -> tuple[int, str]:
    """Sort key: the order of :data:`KINDS`, unknown ones last."""
    names = list(KINDS)
    return (names.index(kind) if kind in KINDS else len(names), kind)
