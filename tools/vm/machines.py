"""Which machines there are: kernels, and what else differs between two boots.

The one table for all that boots: :mod:`tools.vm` itself, the matrix, the oracle, the benchmarks;
and for set-up, so standard library only. All have the userland of the host, whose files they share.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

#: Kernel series of Debian 12's, oldest first, and for those who have no package lists yet what
#: pulls in the newest headers of each. The newest ABI is resolved from apt.
HEADERS_META = {"6.1": "linux-headers-amd64", "6.12": "linux-headers-6.12-amd64"}
SERIES = tuple(HEADERS_META)

#: Tested in full, measured, shown; others get the short run.
FULL = SERIES[0]

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
        preempt = "full" if self.preempt_full else "vol"
        return f"{self.kernel}-{levels}-{pti}-{preempt}-{self.cpus}"

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """For the kernel command line."""
        return (
            f"pti={'on' if self.pti else 'off'}",
            f"preempt={'full' if self.preempt_full else 'voluntary'}",
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
