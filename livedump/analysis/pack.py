"""How trees and cells get into a page: as flat lists of whole numbers, which take a fifth of the
bytes that objects would, and are read much faster. ``page/unpack.js`` is the other end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A frame of a tree in preorder: how deep (the root: 0), its name and its weights.
Frame = tuple[int, str, tuple[float, ...]]


class Names:
    """Every function and task once: trees and paths have their numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Of a name, which is added if it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

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


def forest(trees: Mapping[str, Iterable[Frame]], names: Names, limit_bytes: int) -> Forest:
    """The heaviest frames of all trees that fit, by their share of their tree in any weight.

    A frame weighs no more than its parent and comes after it, so the parent of whatever is kept
    is kept, too; among equals whole stacks are kept rather than the first frames of all.
    """
    frames, shares, kinds = [], [], []
    for kind, tree in trees.items():
        whole: tuple[float, ...] = ()
        for frame in tree:
            whole = whole or frame[2]
            frames.append(frame)
            shares.append(_share(frame[2], whole))
            kinds.append(kind)
    kept: list[int] = []
    share = 0.0
    for place in sorted(range(len(frames)), key=shares.__getitem__, reverse=True):
        depth, name, weights = frames[place]
        limit_bytes -= names.cost(name)
        number = names.number(name)
        limit_bytes -= sum(len(str(part)) + 1 for part in (depth, number, *weights))
        if limit_bytes < 0:
            share = shares[place]
            break
        kept.append(place)
    found: dict[str, list[float]] = {kind: [] for kind in trees}
    for place in sorted(kept):
        depth, name, weights = frames[place]
        found[kinds[place]] += (depth, names.number(name), *weights)
    return Forest(found, len(kept), len(frames), share)


def _share(weights: Sequence[float], whole: Sequence[float]) -> float:
    return max((part / all_ for part, all_ in zip(weights, whole, strict=True) if all_), default=0)


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
        shared = next(_differing(last, path))
        found += (shared, len(path) - shared, *map(names.number, path[shared:]))
        last = path
    return found


def _differing(a: Sequence[str], b: Sequence[str]) -> Iterator[int]:
    """Where they differ."""
    yield from (place for place, (x, y) in enumerate(zip(a, b)) if x != y)
    yield min(len(a), len(b))
