"""Fault stacks: folded lines, the heaviest ones, and the tree of a flame graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from livedump.analysis import pack
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from livedump.sums import add_up

#: How stacks can be weighed: command line name -> column of the table ``stacks``.
WEIGHTS = {"count": "count", "stalled": "stalled_ns"}

#: The fault machinery's outermost frame. What it interrupted is below; the frames above it are the
#: same in all stacks and say nothing.
FAULT_ENTRY = "asm_exc_page_fault"


#: A number at a frame's end would be read as a count of its own, as in differential stacks: of the
#: innermost frame, and with ``flamegraph.pl --reverse`` of the outermost one.
_SECOND_COUNT = re.compile(r" (?=[0-9]*\.?[0-9]*$)")


def trim(stack: str) -> str:
    """Cut the fault machinery off a stack, so that it ends in the function that faulted.

    Only the innermost fault is cut, and a stack that holds nothing else stays as it is.
    """
    frames = stack.split(";")
    for index in range(len(frames) - 1, 0, -1):
        if frames[index] == FAULT_ENTRY:
            return ";".join(frames[:index])
    return stack


def rows(recording: Recording, kinds: Sequence[str] = ()) -> Iterator[Row]:
    """Rows of the table ``stacks`` with trimmed stacks, only of *kinds* unless that is empty."""
    for row in recording.tables["stacks"]:
        if not kinds or row["kind"] in kinds:
            yield {**row, "stack": trim(row["stack"])}


def folded_lines(
    recording: Recording, kinds: Sequence[str] = (), weight: str = "count"
) -> list[str]:
    """Folded stacks, ``comm;root;...;leaf N`` with integer N, sorted, as flamegraph.pl and inferno
    read them. With more than one kind, the kind comes first.

    :param weight: ``count``, or ``stalled_ns``; stacks that weigh nothing are left out
    """
    prefix = len(kinds) != 1
    totals: dict[str, int] = {}
    for row in rows(recording, kinds):
        frames = [row["comm"], *row["stack"].split(";")]
        names = [row["kind"], *frames] if prefix else frames
        line = ";".join(_SECOND_COUNT.sub("_", _frame(name)) for name in names)
        totals[line] = totals.get(line, 0) + int(row[weight])
    return [f"{line} {total}" for line, total in sorted(totals.items()) if total]


def folded(recording: Recording, kinds: Sequence[str] = (), weight: str = "count") -> str:
    """:func:`folded_lines` as the text of a file."""
    return "".join(f"{line}\n" for line in folded_lines(recording, kinds, weight))


def top(
    recording: Recording, kind: str, weight: str = "count", limit: int = 10
) -> list[dict[str, Any]]:
    """Stacks of a kind over all tasks, heaviest first: ``stack``, ``count``, ``stalled_ns``,
    and the standard errors of these, ``count_error`` and ``stalled_error_ns``."""
    totals = add_up(
        (
            row["stack"],
            (
                *(int(row["count"]), int(row["stalled_ns"])),
                *(row["count_error"] ** 2, row["stalled_error_ns"] ** 2),
            ),
        )
        for row in rows(recording, (kind,))
    )
    found = [
        {
            "stack": stack,
            "count": count,
            "stalled_ns": stalled_ns,
            "count_error": round(math.sqrt(variance), 1),
            "stalled_error_ns": round(math.sqrt(stalled_variance)),
        }
        for stack, (count, stalled_ns, variance, stalled_variance) in totals.items()
    ]
    found.sort(key=lambda row: (-int(str(row[weight])), str(row["stack"])))
    return found[:limit]


@dataclass(slots=True)
class Node:
    """A frame of a flame graph; its weights include its children's."""

    name: str
    count: int = 0
    stalled_ns: int = 0
    children: dict[str, Node] = field(default_factory=dict)


def tree(recording: Recording, kind: str) -> Node:
    """The stacks of a kind as a tree: task, then frames from the root."""
    root = Node(kind)
    for row in rows(recording, (kind,)):
        node, count, stalled_ns = root, int(row["count"]), int(row["stalled_ns"])
        root.count += count
        root.stalled_ns += stalled_ns
        for name in (_frame(row["comm"]), *row["stack"].split(";")):
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = Node(name)
            node = child
            node.count += count
            node.stalled_ns += stalled_ns
    return root


#: A task and its functions, root first, how many faults and for how long.
Weighed = tuple[list[str], int, int]


class Branch:
    """A frame of the same tree, which is known as far as one looks: of hundreds of thousands of
    frames a page has room for some. See :class:`livedump.analysis.pack.Frame`.

    :ivar weights: count, stalled_ns
    """

    def __init__(self, name: str, stacks: list[Weighed], depth: int = 0) -> None:
        self.name = name
        self.weights = sum(row[1] for row in stacks), sum(row[2] for row in stacks)
        self._stacks, self._depth = stacks, depth

    @property
    def below(self) -> list[Branch]:
        """The frames that it has called."""
        found: dict[str, list[Weighed]] = {}
        for row in self._stacks:
            if len(row[0]) > self._depth:
                found.setdefault(row[0][self._depth], []).append(row)
        return [Branch(name, stacks, self._depth + 1) for name, stacks in found.items()]

    def count(self) -> int:
        """It and all below."""
        paths = sorted(row[0][self._depth :] for row in self._stacks)
        pairs = zip([[], *paths], paths)
        return 1 + sum(len(path) - pack.alike(last, path) for last, path in pairs)


def branches(recording: Recording, kind: str) -> Branch:
    """:func:`tree`, as far as one looks."""
    found = [
        ([_frame(row["comm"]), *row["stack"].split(";")], int(row["count"]), int(row["stalled_ns"]))
        for row in rows(recording, (kind,))
    ]
    return Branch(kind, found)


def path(comm: str, stack: str) -> list[str]:
    """A task and its stack, trimmed, as the frames of a flame graph."""
    return [_frame(comm), *trim(stack).split(";")]


def _frame(name: str) -> str:
    """A name as a frame: a task's may hold anything, and a function's nearly so."""
    text = " ".join(name.replace(";", ":").split())
    return "".join(c if c.isprintable() else "?" for c in text) or "?"
