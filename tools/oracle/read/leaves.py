"""Large pages come back: the direct map's leaves as QEMU sees them, before and after many rounds.

Neither livedump nor the kernel is asked: `info tlb` of QEMU's monitor walks the page tables from
the CPU's own CR3. Accessed and Dirty are left out; all else, and where each leaf begins, must be
as it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: `ffff888000000000: 0000000000000000 XG-DA---W`, the fourth and fifth flag are Dirty, Accessed.
_LINE = re.compile(r"([0-9a-f]{16}): ([0-9a-f]{16}) (\S{9})")
_GIB = 1 << 30
_2_MIB = 2 << 20
_PAGE = 4096


@dataclass(frozen=True)
class Leaf:
    """An entry of the direct map that maps memory."""

    address: int
    frame: int  # bytes
    flags: str  # QEMU's, without Accessed and Dirty

    @property
    def is_large(self) -> bool:
        """The entry has PSE set."""
        return self.flags[2] == "P"


def parse(text: str) -> list[Leaf]:
    """The direct map in what `info tlb` printed: the leaves with the commonest distance between
    address and frame, large ones first asked."""
    found = []
    for address, frame, flags in _LINE.findall(text):
        found.append(Leaf(int(address, 16), int(frame, 16), flags[:3] + flags[5:]))
    distances = Counter(leaf.address - leaf.frame for leaf in found if leaf.is_large)
    if not distances:
        return []
    base = distances.most_common(1)[0][0]
    return [leaf for leaf in found if leaf.address - leaf.frame == base]


def sizes(leaves: Iterable[Leaf]) -> dict[str, int]:
    """How many leaves of each size: one with PSE is as large as its address and frame are aligned
    and as far as it is to the next leaf."""
    ordered = sorted(leaves, key=lambda leaf: leaf.address)
    counts = Counter[str]()
    for leaf, following in zip(ordered, [*ordered[1:], None]):
        counts[_size(leaf, following)] += 1
    return dict(counts)


def _size(leaf: Leaf, following: Leaf | None) -> str:
    if not leaf.is_large:
        return "4K"
    room = following.address - leaf.address if following else _GIB
    aligned = not (leaf.address | leaf.frame) % _GIB
    return "1G" if aligned and room >= _GIB else "2M"


def split_by_kernel(before: list[Leaf], after: list[Leaf], splits: int) -> list[Leaf]:
    """*before*, with 4 KiB leaves in place of what is large no more, if that is no more than the
    kernel says that it has split itself: before 7.x it does not put them together again."""
    gone = {leaf for leaf in before if leaf.is_large} - set(after)
    if len(gone) > splits:
        return before
    pieces = [
        Leaf(leaf.address + at, leaf.frame + at, leaf.flags[:2] + "-" + leaf.flags[3:])
        for leaf in gone
        for at in range(0, _2_MIB, _PAGE)
    ]
    return [*(leaf for leaf in before if leaf not in gone), *pieces]


def differences(before: list[Leaf], after: list[Leaf]) -> list[str]:
    """What has changed, a line each."""
    old, new = set(before), set(after)
    lines = [f"gone {leaf.address:#x} {leaf.flags}" for leaf in old - new]
    return lines + [f"new  {leaf.address:#x} {leaf.flags}" for leaf in new - old]
