"""Which machines there are: userlands, kernels, and what else differs between two boots.

For all that sets up, boots, tests and measures: the one table, in :mod:`livedump.tested`, and the
axes beside it; standard library only, as set-up has nothing else. A machine has the userland that
it is started from, whose files it shares: another one than the host's is entered first
(:mod:`tools.userland`), and is the host from there on.
"""

from __future__ import annotations

import itertools
import platform
from dataclasses import dataclass

from livedump.tested import TESTED

USERLANDS = tuple(dict.fromkeys(row.userland for row in TESTED))


def userland() -> str:
    """The userland that this program is of; of one that is not in the table, the newest that is."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return USERLANDS[-1]
    found = release.get("VERSION_ID", "") if release.get("ID") == "debian" else ""
    return found if found in USERLANDS else USERLANDS[-1]


#: The one that `make debian` enters.
OTHER = next(each for each in reversed(USERLANDS) if each != userland())

HERE = tuple(row for row in TESTED if row.userland == userland())
SERIES = tuple(row.series for row in HERE)
HEADERS_META = {row.series: row.headers for row in HERE}

#: Tested in full, measured, shown; the other gets the short run.
FULL = next(row.series for row in HERE if row.full)
SMOKE = next(row.series for row in HERE if not row.full)
#: For the races and the oracle's short form.
DEEP = next(row.series for row in HERE if row.deep)
#: What `preempt=` is there where it is not `full`.
PREEMPT = next(row.preempt for row in HERE if row.deep)

LA57 = (True, False)  # 5-level page tables, and 4
PTI = (True, False)
PREEMPT_FULL = (True, False)
CPUS = (1, 2, 4)


@dataclass(frozen=True)
class Machine:
    """What differs between two boots."""

    kernel: str
    la57: bool
    pti: bool
    preempt_full: bool
    cpus: int

    @property
    def name(self) -> str:
        """Short, for folders: ``6.1-5l-pti-full-4``."""
        levels = "5l" if self.la57 else "4l"
        pti = "pti" if self.pti else "nopti"
        preempt = self.preempt.replace("voluntary", "vol")
        return f"{self.kernel}-{levels}-{pti}-{preempt}-{self.cpus}"

    @property
    def preempt(self) -> str:
        """The kernel's parameter of that name."""
        if self.preempt_full:
            return "full"
        return next(row.preempt for row in TESTED if row.series == self.kernel)

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """For the kernel command line."""
        return (
            f"pti={'on' if self.pti else 'off'}",
            f"preempt={self.preempt}",
        )


_AXES = (SERIES, LA57, PTI, PREEMPT_FULL, CPUS)


def every() -> list[Machine]:
    """All combinations."""
    return [Machine(*values) for values in itertools.product(*_AXES)]


def _pairs(machine: Machine) -> set[tuple[object, ...]]:
    values = (machine.kernel, machine.la57, machine.pti, machine.preempt_full, machine.cpus)
    numbered = list(enumerate(values))
    return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(numbered, 2)}


def pairwise() -> list[Machine]:
    """So few that every two values of two axes still meet on one of them."""
    left = set().union(*(_pairs(machine) for machine in every()))
    chosen: list[Machine] = []
    while left:
        best = max(every(), key=lambda machine: len(_pairs(machine) & left))
        left -= _pairs(best)
        chosen.append(best)
    return chosen
