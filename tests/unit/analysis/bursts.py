"""Made-up recordings whose faults come in bursts."""

from __future__ import annotations

from typing import Any

from tools.stats.loads import InMemory, Load, run

__all__ = ["InMemory", "bursty"]


def bursty(chance: Any, seconds: int, *, slower: float = 1.0, memory_s: float = 0.5) -> InMemory:
    """Kind `user`: from slice to slice load and latency go up and down and only slowly forget.

    :param chance: a numpy Generator
    :param slower: factor of all latencies
    """
    return run(chance, seconds, Load("bursts", memory_s, slower=slower))
