"""Every page of the image against the dump of the instant, and the verdict."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.oracle.judge.compare import Tables, explain
from tools.oracle.read.core import PAGE, Core, differing, differing_bytes
from tools.oracle.read.devices import Queue, given_later, writable
from tools.oracle.read.footprint import footprint
from tools.oracle.read.kernel import Kernel
from tools.oracle.read.naming import Namer
from tools.oracle.read.pages import NOT_COVERED, Kind, Pages

#: Share of RAM, in covered pages, that must change between the instant and the end of the drain.
MIN_CHANGED = 0.05
_MAX_NAMED = 200
_COUNTERS = ("pages", "changed", "differ", "explained", "not_covered")


@dataclass(frozen=True)
class Difference:
    """A page of the image that differs from the instant, and what nobody can explain."""

    pfn: int
    kind: str
    name: str
    first: int
    last: int
    zeros: bool
    as_after: bool  # the image has what memory held at the end of the drain


@dataclass
class Verdict:
    """What the judge found. Pages are counted by kind of the instant."""

    pages: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    differ: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    not_covered: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    unexplained: list[Difference] = field(default_factory=list)
    unexplained_pages: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ram(self) -> int:
        """Pages that were compared."""
        return self.pages.total()

    @property
    def covered(self) -> int:
        """Pages that must be as they were at the instant."""
        return sum(count for kind, count in self.pages.items() if Kind(kind) not in NOT_COVERED)

    @property
    def changed_covered(self) -> int:
        """Of them, those that memory no longer had at the end of the drain."""
        return sum(count for kind, count in self.changed.items() if Kind(kind) not in NOT_COVERED)

    @property
    def changed_share(self) -> float:
        """Of all RAM."""
        return self.changed_covered / self.ram if self.ram else 0.0

    @property
    def counts(self) -> bool:
        """Enough changed that a difference would have shown."""
        return self.changed_share >= MIN_CHANGED

    @property
    def clean(self) -> bool:
        """Nothing unexplained, nothing lost, nothing else wrong."""
        return not (self.unexplained_pages or self.lost or self.problems)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **{name: dict(getattr(self, name)) for name in _COUNTERS},
            "lost": self.lost,
            "unexplained_pages": self.unexplained_pages,
            "unexplained": [asdict(difference) for difference in self.unexplained],
            "problems": self.problems,
            "ram": self.ram,
            "covered": self.covered,
            "changed_covered": self.changed_covered,
            "changed_share": round(self.changed_share, 4),
            "counts": self.counts,
            "clean": self.clean,
        }


class Judge:
    """Compares one run's files."""

    def __init__(self, folder: Path, strategy: str, guest: Mapping[str, Any]) -> None:
        self._instant = Core(folder / "instant.core")
        self._image = Core(folder / "vmcore")
        self._after = Core(folder / "after.core")
        self._kernel = Kernel(self._instant, folder / "instant.core")
        self._pages = Pages(self._kernel, free_stacks=strategy == "lazy")
        self._namer = Namer(self._kernel, self._pages)
        self._tables = Tables(
            self._instant.page, self._kernel.walk.tables, self._kernel.may_protect
        )
        self._lost = frozenset(guest["lost"])
        queues = [Queue(**queue) for queue in json.loads((folder / "virtio.json").read_text())]
        self._allowed = footprint(self._kernel)
        for queue in queues:
            self._allowed += writable(queue, self._instant.read)
        self._allowed += given_later(guest["given"])
        self.verdict = Verdict()

    def judge(self) -> Verdict:
        """Compare every page."""
        ranges = [range(s.start // PAGE, s.end // PAGE) for s in self._image.segments[:-1]]
        self._check_ranges(ranges)
        self._find_stand_ins()
        for pfns in ranges:
            kinds = self._kinds(pfns)
            self.verdict.pages.update(kind.value for kind in kinds.values())
            for pfn in differing(self._instant, self._after, pfns):
                self.verdict.changed[kinds[pfn].value] += 1
            for pfn in differing(self._instant, self._image, pfns):
                self.verdict.differ[kinds[pfn].value] += 1
                self._difference(pfn, kinds[pfn])
        return self.verdict

    def _check_ranges(self, ranges: list[range]) -> None:
        """The image must have all of the kernel's System RAM."""
        ram = self._kernel.system_ram
        if ranges != ram:
            self.verdict.problems.append(f"the image has {ranges}, the kernel's RAM is {ram}")

    def _find_stand_ins(self) -> None:
        """Compare the kernel's tables once before: who stands for a leaf, its parent says."""
        for pfn, table in self._kernel.walk.tables.items():
            if table.level > 1:
                self._tables.differing(pfn, self._instant.page(pfn), self._image.page(pfn))

    def _kinds(self, pfns: range) -> dict[int, Kind]:
        pages = self._pages
        return {pfn: pages.kind(pfn, page) for pfn, page in zip(pfns, pages.read(pfns))}

    def _difference(self, pfn: int, kind: Kind) -> None:
        instant, image = self._instant.page(pfn), self._image.page(pfn)
        if pfn in self._lost:
            self.verdict.lost += 1
        elif kind in NOT_COVERED:
            self.verdict.not_covered[self._uncovered_name(pfn, kind)] += 1
        elif reason := self._reason(pfn, kind, instant, image):
            self.verdict.explained[reason] += 1
        else:
            self._unexplained(pfn, kind, instant, image)

    def _uncovered_name(self, pfn: int, kind: Kind) -> str:
        if kind is Kind.LIVE:
            return f"{kind.value}: {self._namer.name(pfn, kind, 0)}"
        return str(kind.value)

    def _reason(self, pfn: int, kind: Kind, instant: bytes, image: bytes) -> str | None:
        if kind is Kind.TABLE and not any(image) and pfn in self._tables.stand_ins:
            return "page table: livedump's, for a large leaf"
        if kind is Kind.TABLE and not self._tables.differing(pfn, instant, image):
            return "page table: protection, Accessed, Dirty"
        return explain(pfn, instant, image, self._allowed)

    def _unexplained(self, pfn: int, kind: Kind, instant: bytes, image: bytes) -> None:
        self.verdict.unexplained_pages += 1
        if len(self.verdict.unexplained) == _MAX_NAMED:
            return
        places = differing_bytes(instant, image)
        self.verdict.unexplained.append(
            Difference(
                pfn=pfn,
                kind=kind.value,
                name=self._namer.name(pfn, kind, places.start),
                first=places.start,
                last=places.stop - 1,
                zeros=not any(image),
                as_after=image == self._after.page(pfn),
            )
        )
