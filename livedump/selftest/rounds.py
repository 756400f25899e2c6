"""Rounds of the self-test: a snapshot each, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from livedump import __version__, abi, receipt
from livedump.control import Control, Controller, Status
from livedump.dump import Image, open_image
from livedump.errors import ImageError
from livedump.selftest.host import Host
from livedump.selftest.pages import PAGE_BYTES, TABLE, same
from livedump.selftest.perf import CycleSampler, Unavailable
from livedump.selftest.record import PATHS, Features, Identity, Seen
from livedump.session import Session

MIN_POOL_BYTES = 64 << 20
MAX_POOL_BYTES = 512 << 20
#: The pool is this part of the memory that is available.
_POOL_DIVISOR = 4
#: The module releases by itself when we hang for so long.
_MAX_HOLD_MS = 120_000

#: Counters of the receipt that must be 0, and what it means if one is not.
ZEROS = {**receipt.LOST, **receipt.UNPROVEN, "tables_left": "large pages were not given back"}

#: Of a receipt, what a result keeps.
_KEPT = (
    *("stop_ns", "release_ns", "attempts", "nmis", "recopies", "faults", "fault_max_ns"),
    *("demotions", "pages_saved_stop", "pages_saved_fault", "pages_saved_hook"),
    *("pool_pages", "pool_used", "leaves_before", "leaves_after"),
    *ZEROS,
)


@dataclass(frozen=True)
class Options:
    """How much to test.

    :ivar pool_bytes: 0 = chosen by the memory that is available
    :ivar pages: so many of each kind are compared
    """

    hold_s: float = 2.0
    pool_bytes: int = 0
    pages: int = 4096


@dataclass(frozen=True)
class Compared:
    """Kernel-owned pages that were read from the image twice.

    :ivar changed: they differ: a write got past the protection, or past the CPU
    :ivar newer: live memory had something else in them by then, and the image did not
    """

    pages: int = 0
    tables: int = 0
    changed: tuple[int, ...] = ()
    changed_tables: tuple[int, ...] = ()
    newer: int = 0


@dataclass(frozen=True)
class Round:
    """One snapshot.

    :ivar problems: what is wrong; empty when the round passed
    :ivar remarks: what should be known, but need not be wrong
    """

    verdict: str
    report: abi.ReportDict
    compared: Compared
    nmis_held: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "verdict": self.verdict,
            **{name: self.report[name] for name in _KEPT},
            "nmis_held": self.nmis_held,
            "pages_compared": self.compared.pages,
            "pages_newer": self.compared.newer,
            "pages_changed": list(self.compared.changed),
            "problems": list(self.problems),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Outcome:
    """What the rounds say together."""

    identity: Identity
    features: Features
    sampling: str
    rounds: tuple[Round, ...]
    when: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def problems(self) -> list[str]:
        """Every problem, once, in the order of the rounds."""
        return list(dict.fromkeys(text for item in self.rounds for text in item.problems))

    @property
    def passed(self) -> bool:
        """There were rounds, and nothing was wrong with any of them."""
        return bool(self.rounds) and not self.problems

    def exercised(self) -> dict[str, bool]:
        """Each path of docs/untested.md, and whether it ran here."""
        seen = Seen(
            nmis_held=sum(item.nmis_held for item in self.rounds) if not self.sampling else 0,
            leaves_1g=max((item.report["leaves_before"][2] for item in self.rounds), default=0),
        )
        return {path.name: path.exercised(self.features, seen) for path in PATHS}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, as kept and for ``--json``."""
        return {
            "passed": self.passed,
            "when": self.when.isoformat(timespec="seconds"),
            "livedump": __version__,
            "problems": self.problems,
            "sampling": self.sampling or "cycles",
            "features": self.features.to_dict(),
            "exercised": self.exercised(),
            "rounds": [item.to_dict() for item in self.rounds],
        }


class SelfTest:
    """Takes the snapshots; the module is loaded.

    :param control: makes connections to the module
    """

    def __init__(
        self,
        host: Host,
        options: Options | None = None,
        *,
        control: Callable[[], Controller] = Control,
        image_path: str = abi.IMAGE_PATH,
    ) -> None:
        self._host = host
        self._options = options or Options()
        self._control = control
        self._image_path = image_path
        #: Why there is no cycle counter; empty when there is one.
        self.sampling = ""

    def outcome(self, rounds: list[Round]) -> Outcome:
        """What *rounds* say together."""
        host = self._host
        return Outcome(host.identity(), host.features(), self.sampling, tuple(rounds))

    def _pool_bytes(self) -> int:
        if self._options.pool_bytes:
            return self._options.pool_bytes
        part = self._host.available_bytes() // _POOL_DIVISOR
        return max(MIN_POOL_BYTES, min(MAX_POOL_BYTES, part)) & ~(PAGE_BYTES - 1)

    def round(self) -> Round:
        """Take one snapshot; whatever happens, nothing stays held.

        :raises LivedumpError: it was refused, or the load failed
        """
        host = self._host
        with ExitStack() as stack:
            stack.enter_context(host.load())
            sampler = self._sampler(stack)
            known = host.pages()
            sample = known.sample(self._options.pages)
            session = stack.enter_context(
                Session(
                    strategy="lazy",
                    pool_bytes=self._pool_bytes(),
                    max_hold_ms=_MAX_HOLD_MS,
                    controller=self._control,
                    image_path=self._image_path,
                )
            )
            # What was the kernel's before the instant and is after it was so at the instant.
            sample = known.still(sample)
            before = host.nmis()
            # Not in the stop: it copies again for each NMI, and ends in doubt if they never cease.
            with sampler.running() if sampler else nullcontext():
                compared = self._compare(sample)
            nmis = host.nmis() - before
            final = session.release()
        return _judge(final, compared, nmis)

    def _sampler(self, stack: ExitStack) -> CycleSampler | None:
        try:
            sampler = stack.enter_context(self._host.sampler())
        except Unavailable as error:
            self.sampling = f"not available ({error})"
            return None
        return sampler

    def _compare(self, sample: dict[int, str]) -> Compared:
        with open_image(self._image_path) as image:
            first = {pfn: page for pfn in sample if (page := _read(image, pfn))}
            self._host.sleep(self._options.hold_s)
            changed = [
                pfn
                for pfn, page in first.items()
                if not same(sample[pfn], page, _read(image, pfn) or b"")
            ]
        with self._host.live() as live:
            now = {pfn: data for pfn in first if (data := live.read(pfn))}
        return Compared(
            pages=len(first),
            tables=sum(sample[pfn] == TABLE for pfn in first),
            changed=tuple(changed),
            changed_tables=tuple(pfn for pfn in changed if sample[pfn] == TABLE),
            newer=sum(not same(sample[pfn], first[pfn], data) for pfn, data in now.items()),
        )


def _read(image: Image, pfn: int) -> bytes | None:
    try:
        return image.read(pfn * PAGE_BYTES, PAGE_BYTES)
    except ImageError:
        return None  # not RAM by the image


def _judge(final: Status, compared: Compared, nmis_held: int) -> Round:
    report = final.report
    problems = [
        f"{report[name]:,} {meaning} ({name})" for name, meaning in ZEROS.items() if report[name]
    ]
    if final.verdict != "complete":
        problems.append(f"the verdict is {final.verdict}")
    if not report["faults"]:
        problems.append("not one fault was taken: nothing was protected, or nothing ran")
    if compared.changed_tables:
        problems.append(_changed("page tables", compared.changed_tables))
    remarks: list[str] = []
    slab = [pfn for pfn in compared.changed if pfn not in set(compared.changed_tables)]
    if slab:
        # A device may write into slab memory (DMA); what slips past the TLBs is not that rare.
        many = len(slab) * 1000 > compared.pages - compared.tables
        (problems if many else remarks).append(_changed("slab pages", slab))
    if not compared.pages:
        remarks.append("no kernel-owned pages could be sampled (/proc/kpageflags)")
    if report["leaves_after"] != report["leaves_before"]:
        remarks.append(
            f"the direct map's leaves were {report['leaves_before']}, are {report['leaves_after']}"
        )
    return Round(final.verdict, report, compared, nmis_held, tuple(problems), tuple(remarks))


def _changed(what: str, pfns: list[int] | tuple[int, ...]) -> str:
    some = ", ".join(f"{pfn:#x}" for pfn in pfns[:4])
    return f"{len(pfns):,} {what} of the image changed while held (page frames {some})"
