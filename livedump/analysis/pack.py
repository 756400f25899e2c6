"""How trees and cells get into a page: as flat lists of whole numbers, which take a fifth of the
bytes that objects would, and are read much faster. ``page/unpack.js`` is the other end."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Stands for all frames under another one for which there was no room.
LEFT_OUT = "(left out)"


class Frame(Protocol):
    """A frame of a tree; it weighs at least what its children weigh together."""

    @property
    def name(self) -> str:
        """Of the function, task or kind."""

    @property
    def weights(self) -> Sequence[float]:
        """As many in all of a tree."""

    @property
    def below(self) -> Iterable[Frame]:
        """The frames that it has called."""

    def count(self) -> int:
        """It and all below."""


class Names:
    """Every function and task once: trees and paths have their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Of a name, which is added if it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def cost(self, name: str) -> int:
        """Bytes that a name takes, 0 if it is there."""
        return 0 if name in self._numbers else len(json.dumps(name)) + 1

    def to_list(self) -> list[str]:
        """By number."""
        return list(self._numbers)


@dataclass(frozen=True)
class Forest:
    """Trees, cut to what there is room for.

    :ivar trees: kind -> depth, number of the name and weights of each frame, in preorder
    :ivar frames: that there are in all, *kept*: those in *trees*
    :ivar share: of its tree that the heaviest frame weighs that was left out; 0: none was
    """

    trees: dict[str, list[float]]
    kept: int
    frames: int
    share: float

    @property
    def cut(self) -> dict[str, Any] | None:
        """What was left out, for JSON; None: nothing."""
        if self.kept == self.frames:
            return None
        return {"kept": self.kept, "frames": self.frames, "share": self.share}


def size(data: object) -> int:
    """Bytes of JSON."""
    return len(json.dumps(data, separators=(",", ":")))


def forest(trees: Mapping[str, Frame], names: Names, limit_bytes: int) -> Forest:
    """The heaviest frames of all trees that fit, by their share of their tree in any weight.

    No frame is heavier than its parent: so one looks at the heaviest of those whose parent is kept
    already, and never at most of the others. Among equals it is the last one, so that whole stacks
    are kept rather than the first frames of all.
    """
    roots = {kind: _Kept(tree, 0, tree.weights) for kind, tree in trees.items()}
    waiting = [(-1.0, -number, root) for number, root in enumerate(roots.values())]
    heapq.heapify(waiting)
    kept, came, share = 0, len(waiting), 0.0
    rest = names.number(LEFT_OUT)
    while waiting:
        negative, _, frame = heapq.heappop(waiting)
        limit_bytes -= frame.cost(names)
        if limit_bytes < 0:
            share = -negative
            break
        kept += 1
        limit_bytes += frame.keep(names)
        for child in frame.below:
            came += 1
            heapq.heappush(waiting, (-child.share, -came, child))
    packed = {
        kind: [part for line in root.preorder(rest) for part in line]
        for kind, root in roots.items()
    }
    frames = kept if not waiting and not share else sum(tree.count() for tree in trees.values())
    return Forest(packed, kept, frames, share)


@dataclass(slots=True)
class _Kept:
    """A frame that is kept, if it has the number of its name, or may be.

    :ivar whole: the weights of its tree
    :ivar missing: how many of those below are not kept
    """

    frame: Frame
    depth: int
    whole: Sequence[float]
    above: _Kept | None = None
    number: int | None = None
    below: list[_Kept] = field(default_factory=list)
    missing: int = 0

    @property
    def share(self) -> float:
        """Of the whole, in any weight."""
        pairs = zip(self.frame.weights, self.whole, strict=True)
        return max([part / whole for part, whole in pairs if whole], default=0.0)

    def cost(self, names: Names) -> int:
        """Bytes for it, and for what might be left out below."""
        return names.cost(self.frame.name) + 2 * self._bytes(names)

    def _bytes(self, names: Names) -> int:
        parts = (self.depth + 1, len(names), *self.frame.weights)
        return sum(len(str(part)) + 1 for part in parts)

    def keep(self, names: Names) -> int:
        """Look at those below; returns bytes that are free, as nothing is left out somewhere."""
        self.number = names.number(self.frame.name)
        self.below = [_Kept(each, self.depth + 1, self.whole, self) for each in self.frame.below]
        self.missing = len(self.below)
        free = 0 if self.below else self._bytes(names)
        if self.above:
            self.above.missing -= 1
            free += 0 if self.above.missing else self.above._bytes(names)
        return free

    def preorder(self, rest: int) -> Iterator[tuple[float, ...]]:
        """Depth, name and weights of what is kept, children by name.

        :param rest: number of :data:`LEFT_OUT`
        """
        waiting = [self]  # no recursion: stacks of user space may be deep
        while waiting:
            kept = waiting.pop()
            if kept.number is None:
                continue
            yield kept.depth, kept.number, *kept.frame.weights
            gone = [child.frame.weights for child in kept.below if child.number is None]
            if gone:
                yield kept.depth + 1, rest, *map(sum, zip(*gone, strict=True))
            waiting += sorted(kept.below, key=lambda child: child.frame.name, reverse=True)


def count(tree: Frame) -> int:
    """Frames of a tree, one by one."""
    found, waiting = 0, [tree]
    while waiting:
        found += 1
        waiting += waiting.pop().below
    return found


def steps(cells: Iterable[Sequence[int]]) -> list[int]:
    """Cells whose first number is a step, in order: each has how many steps after the one before
    it comes."""
    found: list[int] = []
    last = 0
    for step, *rest in cells:
        found += (step - last, *rest)
        last = step
    return found


def paths(sorted_paths: Iterable[Sequence[str]], names: Names) -> list[int]:
    """Each as the number of frames that it shares with the one before, of those that it has more,
    and the names of these."""
    found: list[int] = []
    last: Sequence[str] = ()
    for path in sorted_paths:
        shared = alike(last, path)
        found += (shared, len(path) - shared, *map(names.number, path[shared:]))
        last = path
    return found


def alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many frames two paths have in common."""
    most = min(len(a), len(b))
    return next((place for place in range(most) if a[place] != b[place]), most)
