"""How the BPF programs are made: whose faults, how much room, what is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from livedump.trace.probe.filters import Filter

EVERYBODY = Filter()

SLICE_NS = 100_000_000

#: Map sizes that can be set, as ``-D`` names in bpf/abi.h; the ring's in pages, a power of two.
LIMITS = {
    "stacks": "LD_MAX_STACKS",
    "spilled": "LD_MAX_SPILLED",
    "folds": "LD_MAX_FOLDS",
    "tasks": "LD_MAX_TASKS",
    "inflight": "LD_MAX_INFLIGHT",
    "crowded": "LD_MAX_CROWDED",
    "pages": "LD_MAX_PAGES",
    "events": "LD_MAX_EVENTS",
    "cells": "LD_MAX_CELLS",
    "ring": "LD_RING_PAGES",
}


class Stacks(Enum):
    """Of which faults the stack is taken; LD_STACKS_* in bpf/abi.h.

    SAMPLED: of each kind a few hundred a second on a CPU, by chance.
    """

    NONE = "none"
    SAMPLED = "sampled"
    ALL = "all"


@dataclass(frozen=True)
class Options:
    """What the programs are compiled for.

    :ivar chosen: whose faults are counted
    :ivar limits: sizes of maps by name, see :data:`LIMITS`
    :ivar slice_ns: length of a time slice
    :ivar events: keep every fault, not only sums
    :ivar stacks: of which faults
    :ivar user_stacks: take user space's part of stacks, too
    """

    chosen: Filter = EVERYBODY
    limits: Mapping[str, int] = field(default_factory=dict)
    slice_ns: int = SLICE_NS
    events: bool = False
    stacks: Stacks = Stacks.SAMPLED
    user_stacks: bool = False

    def flags(self) -> list[str]:
        """``-D`` flags for bpf/abi.h."""
        found = [*self.chosen.flags(), f"-DLD_SLICE_NS={self.slice_ns}"]
        # The CPU is in a cell's key.
        limits = {"cells": max(65536, 4096 * (os.cpu_count() or 1)), **self.limits}
        found.append(f"-DLD_STACKS=LD_STACKS_{self.stacks.name}")
        found += [f"-D{LIMITS[name]}={int(size)}" for name, size in sorted(limits.items())]
        switches = {"LD_EVENTS": self.events, "LD_USER_STACKS": self.user_stacks}
        return found + [f"-D{name}" for name, on in switches.items() if on]
